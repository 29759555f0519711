"""``progan train``: train on a folder of pictures."""

from __future__ import annotations

import argparse
import contextlib
import sys

from progan.cli.config import add_config
from progan.cli.finish import fit_and_finish
from progan.cli.notes import notes_of
from progan.cli.options import add_json
from progan.cli.output import show, show_json
from progan.cli.plan import show_plan
from progan.cli.settings import add_settings, prepare

HELP = "Train on a folder of pictures; the same command again resumes the run."
EXAMPLE = "progan train my_icons/ --hours 1"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_settings(parser)
    add_config(parser)
    parser.add_argument("--dry-run", action="store_true", help="stop after the plan; nothing is written")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Prepare, show the plan, train, and show what came out."""
    prepared = prepare(options, notes=notes_of(options))
    trainer = prepared.trainer
    if trainer.images_seen >= prepared.recipe.schedule.total_images:
        if options.json:
            show_json(prepared.decisions | {"seconds": 0, "stage_seconds": []})
        else:
            show(f"The run in {prepared.run_dir} is finished; --overwrite replaces it.")
        return 0
    show_plan(prepared, json=options.json, rough=options.dry_run)
    if options.dry_run:
        return 0
    with contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext():
        return fit_and_finish(trainer, prepared.images, prepared.run_dir)
