"""Check a folder of pictures and select those to train on, which the article's author did by hand.

    python examples/mel_icon/curate.py --data DIR --out report

This prints the report, draws sheets of near-duplicates and irregular pictures, and writes list.txt with a line per
picture: keep or drop, its name, the reason. Look at the sheets, edit the list, and train on the pictures it keeps:

    python examples/mel_icon/train.py --data DIR --only report/list.txt
"""

import argparse
import contextlib
import io
import sys
from collections.abc import Sequence

from folder_options import add_reading_options, in_options, reading_arguments, reading_options, show
from paths import user_path

from progan.data import check


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=user_path, required=True, metavar="DIR", help="folder of pictures")
    parser.add_argument(
        "--out", type=user_path, required=True, metavar="DIR", help="folder for the sheets and the list"
    )
    parser.add_argument(
        "--max-similar",
        type=int,
        default=4,
        metavar="N",
        help="near-duplicates to keep per group (default: %(default)s)",
    )
    add_reading_options(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing list, even if it was edited")
    options = parser.parse_args(arguments)
    path = options.out / "list.txt"
    try:
        if path.exists() and not options.overwrite:
            raise FileExistsError(f"{path} is there already, perhaps edited; pass --overwrite or another --out")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            report = check(options.data, options.max_similar, sheets=options.out, **reading_options(options))
        show(in_options(printed.getvalue()).rstrip())
        report.curation.save(path)
    except (ValueError, OSError, ImportError) as error:
        parser.exit(2, f"{parser.prog}: {in_options(str(error))}\n")
    show(f"Edit {path}, then train with --data {options.data}{reading_arguments(options)} --only {path}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
