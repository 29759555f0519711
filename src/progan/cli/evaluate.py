"""``progan evaluate``: how good a run's pictures are."""

from __future__ import annotations

import argparse

from progan.cli.folder import open_pictures
from progan.cli.generator import add_sampling, load
from progan.cli.notes import data_of_run
from progan.cli.options import add_choice_of_pictures, add_json, add_source, number_of_pictures, user_path
from progan.cli.output import show_json

HELP = "Judge the pictures that a run draws against real ones, as a table of measures."
EXAMPLE = "progan evaluate runs/my_icons --data my_icons/"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_source(parser)
    parser.add_argument(
        "--data", type=user_path, metavar="PATH", help="folder of real pictures, or pack (default: those of the run)"
    )
    parser.add_argument(
        "--n", type=number_of_pictures, default=640, metavar="N", help="number of samples (default: 640)"
    )
    add_sampling(parser)
    add_choice_of_pictures(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Judge, and print the table."""
    from progan.metrics import evaluate

    data = options.data or data_of_run(options.source, options)
    grown = load(options)
    images = open_pictures(data, options, grown.image_size, grown.generator.architecture.image_channels)
    evaluation = evaluate(grown, images, n=options.n, seed=options.seed, printed=not options.json)
    if options.json:
        show_json(evaluation.to_json())
    return 0
