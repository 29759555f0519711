"""``progan curate``: propose which pictures of a folder to train on."""

from __future__ import annotations

import argparse
from pathlib import Path

from progan.cli.command import UsageError
from progan.cli.folder import check_some
from progan.cli.options import add_reading, at_least_1, check_folder, reading, reading_arguments, user_path
from progan.cli.output import in_options, show, shown

HELP = "Propose which pictures of a folder to train on, in a list that you can edit, with sheets to look at."
EXAMPLE = "progan curate my_icons/ --out report"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("folder", type=user_path, metavar="FOLDER", help="folder of pictures, with its sub-folders")
    add_list_options(parser)


def add_list_options(parser: argparse.ArgumentParser) -> None:
    """Add all but the folder."""
    parser.add_argument("--out", type=user_path, required=True, metavar="DIR", help="folder for sheets and list.txt")
    parser.add_argument(
        "--max-similar",
        type=at_least_1,
        default=4,
        metavar="N",
        help="near-duplicates to keep per group (default: %(default)s)",
    )
    add_reading(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing list, even if it was edited")


def run(options: argparse.Namespace) -> int:
    """Check, draw the sheets and write the list."""
    path = write_list(options.folder, options)
    show(f"progan train {shown(options.folder)}{reading_arguments(options)} --only {shown(path)}")
    return 0


def write_list(folder: Path, options: argparse.Namespace) -> Path:
    """Check a folder, print the report, draw the sheets and return the list that was written.

    Args:
        folder: Folder of pictures.
        options: What `add_list_options` parsed.

    Raises:
        UsageError: If it is not a folder, or there is a list already.
        ValueError: If nothing can be read.
    """
    from progan.data import check

    check_folder(folder)
    path: Path = options.out / "list.txt"
    if path.exists() and not options.overwrite:
        raise UsageError(f"{path} is there already, perhaps edited; pass --overwrite or another --out")
    report = check(folder, options.max_similar, printed=False, **reading(options))
    check_some(folder, report.facts, report.unreadable)
    show(in_options(str(report)))
    report.save_sheets(options.out)
    report.curation.save(path)
    show(f"\nThe sheets and the list are in {options.out}. Edit {path}, then:")
    return path
