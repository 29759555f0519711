"""Check a folder of pictures and select those to train on, which the article's author did by hand.

    python examples/mel_icon/curate.py --data DIR --out report

This prints the report, draws sheets of near-duplicates and irregular pictures, and writes list.txt with a line per
picture: keep or drop, its name, the reason. Look at the sheets, edit the list, and train on the pictures it keeps:

    python examples/mel_icon/train.py --data DIR --only report/list.txt
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from progan.cli.command import UsageError
from progan.cli.curate import add_list_options, write_list
from progan.cli.options import reading_arguments, user_path
from progan.cli.output import in_options, show, warnings_as_lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=user_path, required=True, metavar="DIR", help="folder of pictures")
    add_list_options(parser)
    options = parser.parse_args(arguments)
    try:
        with warnings_as_lines():
            path = write_list(options.data, options)
    except (UsageError, ValueError, OSError, ImportError) as error:
        parser.exit(2, f"{parser.prog}: {in_options(str(error))}\n")
    show(
        f"python {Path(__file__).with_name('train.py')} --data {options.data}{reading_arguments(options)} --only {path}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
