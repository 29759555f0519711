"""``progan check``: what is wrong with a folder of pictures."""

from __future__ import annotations

import argparse

from progan.cli.options import add_json, add_reading, check_folder, reading, user_path
from progan.cli.output import in_options, show, show_json

HELP = "Say what is wrong with a folder of pictures."
EXAMPLE = "progan check my_icons/"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("folder", type=user_path, metavar="FOLDER", help="folder of pictures, with its sub-folders")
    add_reading(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Check, and print the report."""
    from progan.data import check

    check_folder(options.folder)
    report = check(options.folder, printed=False, **reading(options))
    if not options.json:
        show(in_options(str(report)))
        return 0
    show_json(
        {
            "folder": str(report.folder),
            "pictures": len(report.facts),
            "unreadable": {str(name): reason for name, reason in report.unreadable.items()},
            "duplicates": [[str(name) for name in group] for group in report.duplicates],
            "near_duplicates": [[str(name) for name in group] for group in report.near_duplicates],
            "irregular": {str(name): round(report.scores[name], 2) for name in report.irregular},
            "flips": str(report.flips),
            "colours": str(report.colours),
            "kept": [str(name) for name in report.curation.kept],
            "remarks": report.remarks,
        }
    )
    return 0
