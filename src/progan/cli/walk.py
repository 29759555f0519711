"""``progan walk``: film a closed walk through what a generator can draw."""

from __future__ import annotations

import argparse

from progan.cli.generator import add_enlarging, add_sampling, load
from progan.cli.options import add_source, at_least_1, positive, user_path
from progan.cli.output import show

HELP = "Film a closed walk through the pictures that a run can draw, as .png, .gif, .webp or .mp4."
EXAMPLE = "progan walk runs/my_icons walk.webp"
_MOST_STOPS = 1000
_MOST_SECONDS = 3600


def stops(text: str) -> int:
    """Parse a number of stops."""
    return at_least_1(text, _MOST_STOPS)


def seconds(text: str) -> float:
    """Parse a duration."""
    return positive(text, _MOST_SECONDS)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_source(parser)
    parser.add_argument("file", type=user_path, metavar="FILE", help="film to write; its suffix names the kind")
    add_sampling(parser)
    add_enlarging(parser)
    parser.add_argument("--stops", type=stops, default=7, metavar="N", help="pictures on the way (default: 7)")
    parser.add_argument("--seconds", type=seconds, default=8.0, metavar="S", help="duration (default: 8)")


def run(options: argparse.Namespace) -> int:
    """Write the film."""
    from progan.reports import walk_film

    grown = load(options, enlarged=options.enlarge)
    film = walk_film(grown, options.file, through=options.stops, seed=options.seed, duration_s=options.seconds)
    show(str(film))
    return 0
