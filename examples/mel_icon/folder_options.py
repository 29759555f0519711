"""The options of this example's programs that say how a folder of pictures is read.

progan's messages name the keywords of Python functions, such as ``hidden=True``. Here they name the options instead.
"""

import argparse
import contextlib
import re
import sys
import warnings
from collections.abc import Iterator
from typing import TypedDict

from progan.data import Reading

_ON_OFF = {'on_unreadable="skip"': "--skip-unreadable", "hidden=True": "--hidden"}
_WITH_VALUE = re.compile(r"\b(max_pixels|bit_depth)(?:=(\w+))?\b")


class ReadingOptions(TypedDict):
    """Keywords of `progan.ImageFolder`, `progan.data.check` and `progan.data.curate`."""

    hidden: bool
    max_pixels: int
    bit_depth: int | None


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command line's parser."""
    parser.add_argument(
        "--hidden", action="store_true", help="read hidden and system files and folders of --data like all others"
    )
    parser.add_argument(
        "--max-pixels",
        type=at_least_1,
        default=Reading.max_pixels,
        metavar="N",
        help="largest picture of --data that is read, in pixels; each takes up to 16 bytes of memory "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--bit-depth",
        type=int,
        choices=range(8, 17),
        metavar="BITS",
        help="8 to 16: bits that pictures of 16 bits per channel use (default: all)",
    )


def reading_options(options: argparse.Namespace) -> ReadingOptions:
    """Return what was passed as keywords."""
    return {"hidden": options.hidden, "max_pixels": options.max_pixels, "bit_depth": options.bit_depth}


def reading_arguments(options: argparse.Namespace) -> str:
    """Return what was passed as another command takes it, with a space before each part."""
    parts = [" --hidden"] * options.hidden
    parts += [f" --max-pixels {options.max_pixels}"] * (options.max_pixels != Reading.max_pixels)
    parts += [f" --bit-depth {options.bit_depth}"] * (options.bit_depth is not None)
    return "".join(parts)


def at_least_1(text: str) -> int:
    """Parse a positive whole number."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return number


def in_options(text: str) -> str:
    """Return a message of progan's in which keywords are named by the options that stand for them.

    Example:
        >>> in_options('pass on_unreadable="skip", max_pixels=26_000_000 or hidden=True; leave bit_depth out')
        'pass --skip-unreadable, --max-pixels 26_000_000 or --hidden; leave --bit-depth out'
    """
    for keyword, option in _ON_OFF.items():
        text = text.replace(keyword, option)
    return _WITH_VALUE.sub(_option_with_value, text)


def _option_with_value(found: re.Match[str]) -> str:
    option = "--" + found[1].replace("_", "-")
    return option if found[2] is None else f"{option} {found[2]}"


@contextlib.contextmanager
def warnings_in_options() -> Iterator[None]:
    """Make warnings within this context name options instead of keywords."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            yield
    finally:
        for warning in caught:
            warnings.warn(in_options(str(warning.message)), warning.category, stacklevel=3)


def show(text: str) -> None:
    """Print a text that may hold any file's name; letters that the output cannot show are escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))
