"""``progan status``: what a run is doing."""

from __future__ import annotations

import argparse
import textwrap

from progan.cli.options import add_json, check_folder, user_path
from progan.cli.output import show, show_json, shown

HELP = "Say how a run stands, also one that trains now."
EXAMPLE = "progan status runs/my_icons"
_LONGEST = 140  # characters of a warning


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("run_dir", type=user_path, metavar="RUN", help="run directory")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Read the files of the run, and print how it stands."""
    from progan.reports.reading import read_run
    from progan.reports.sentence import standing, time_left

    check_folder(options.run_dir, "a run directory")
    found = read_run(options.run_dir)
    left = time_left(found)
    if options.json:
        level, alpha = found.schedule.reached(found.images_seen)
        judgement = found.judgement
        show_json(
            {
                "run_dir": str(options.run_dir),
                "state": found.state,
                "images_seen": found.images_seen,
                "total_images": found.schedule.total_images,
                "level": level,
                "alpha": alpha,
                "seconds_left": None if left is None else round(left[0]),
                "seconds_left_is_least": None if left is None else not left[1],
                "measures": None if judgement is None else dict(judgement.measures),
                "best": None if found.best is None else found.best.images_seen,
                "warnings": found.n_warnings,
            }
        )
        return 0
    show(f"{options.run_dir}: {standing(found)}")
    if found.n_warnings:
        many = f"{found.n_warnings} warnings, the newest" if found.n_warnings > 1 else "1 warning"
        show(f"  {many}: {textwrap.shorten(found.warnings[-1][1], _LONGEST, placeholder=' ...')}")
    if found.state in ("stopped", "broke off"):
        show(f"  progan resume {shown(options.run_dir)} goes on")
    elif found.state == "finished":
        show(f"  progan generate {shown(options.run_dir)} --out icons draws new pictures")
    return 0
