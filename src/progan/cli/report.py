"""``progan report``: write the page that shows how a run stands."""

from __future__ import annotations

import argparse

from progan.cli.options import check_folder, positive, user_path
from progan.cli.output import show

HELP = "Write report.html of a run, a page that shows how it stands."
EXAMPLE = "progan report runs/my_icons"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("run_dir", type=user_path, metavar="RUN", help="run directory")
    parser.add_argument("--max-mb", type=positive, default=15, help="largest size of the page (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Write the page."""
    from progan.reports import write_report

    check_folder(options.run_dir, "a run directory")
    show(f"{write_report(options.run_dir, max_mb=options.max_mb)}: open it in a browser.")
    return 0
