"""Options that several commands have, and how their values are parsed."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from progan.cli.command import UsageError

_MOST_NUMBERS = 1_000_000
_MOST_DIGITS = 60  # of a range of numbers


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_DIGITS else f"{text[:_MOST_DIGITS]}..."


def user_path(text: str) -> Path:
    """Parse a path; a leading ~ is expanded, since shells do not expand the one in ``--out=~/icons``."""
    if not text:
        raise argparse.ArgumentTypeError("is an empty path; pass . for the current directory")
    expanded = os.path.expanduser(text)  # noqa: PTH111 (Path("./~x") is the same as Path("~x"))
    if expanded.startswith("~"):
        raise argparse.ArgumentTypeError(f"{Path(text).parts[0]} is not a user with a home directory here")
    found = Path(expanded)
    return found.absolute() if str(found).startswith("~") else found


def at_least_1(text: str, most: int = 10**12) -> int:
    """Parse a positive whole number."""
    try:
        number = int(text.replace(",", ""))
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {_cut(text)!r}")
    if number > most:
        raise argparse.ArgumentTypeError(f"must be at most {most:,}, got {_cut(text)!r}")
    return number


def number_of_pictures(text: str) -> int:
    """Parse a number of pictures to draw."""
    return at_least_1(text, _MOST_NUMBERS)


def at_least_0(text: str) -> int:
    """Parse a whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 on, got {text!r}")
    return int(text)


def positive(text: str, most: float = sys.float_info.max) -> float:
    """Parse a positive number."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    if number > most:
        raise argparse.ArgumentTypeError(f"must be at most {most:,.0f}, got {text!r}")
    return number


def share(text: str) -> float:
    """Parse a share."""
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = -1.0
    if not 0 < number < 0.5:
        raise argparse.ArgumentTypeError(f"must be a share above 0 and below 0.5, such as 0.1 or 10%, got {text!r}")
    return number


def resolution(text: str, most: int = 1024) -> int:
    """Parse a side of images in pixels."""
    known = [4 << level for level in range((most // 4).bit_length())]
    if text not in map(str, known):
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(map(str, known))}, got {text!r}")
    return int(text)


def whole_numbers(text: str) -> list[int]:
    """Parse whole numbers and ranges of them, such as ``0-7,12``."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()) or len(part) > _MOST_DIGITS:
            raise argparse.ArgumentTypeError(f"must be numbers and ranges such as 0-7,12, got {_cut(text)!r}")
        found = range(int(first), int(last or first) + 1)
        if len(numbers) + found.stop - found.start > _MOST_NUMBERS:
            raise argparse.ArgumentTypeError(f"must be at most {_MOST_NUMBERS:,} numbers, got {_cut(text)!r}")
        numbers += found
    if not numbers:
        raise argparse.ArgumentTypeError(f"{text!r} names no number")
    return numbers


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the run or checkpoint whose generator is used."""
    parser.add_argument("source", type=user_path, metavar="RUN", help="run directory, checkpoint, or exported file")
    add_which(parser)
    parser.add_argument("--device", help="cpu, cuda or mps (default: cpu)")


def add_which(parser: argparse.ArgumentParser) -> None:
    """Add which of a run's generators is taken."""
    parser.add_argument(
        "--best", action="store_true", help="take the best checkpoint by the judgements, not the newest"
    )
    parser.add_argument(
        "--average", metavar="NAME", help="take this average of the run, such as ema_1 (default: the chosen one)"
    )


def which(options: argparse.Namespace) -> dict[str, Any]:
    """Return what `add_which` parsed as keywords of ``load_generator`` and of export."""
    return {"best": options.best, "average": options.average}


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add how pictures of a folder are read."""
    group = parser.add_argument_group("how the folder is read")
    group.add_argument("--hidden", action="store_true", help="read hidden and system files and folders like all others")
    group.add_argument(
        "--max-pixels",
        type=at_least_1,
        metavar="N",
        help="largest picture that is read, in pixels; each takes up to 16 bytes of memory",
    )
    group.add_argument(
        "--bit-depth",
        type=int,
        choices=range(8, 17),
        metavar="BITS",
        help="8 to 16: bits that pictures of 16 bits per channel use (default: all)",
    )


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add which pictures of a folder are read, and how."""
    add_reading(parser)
    parser.add_argument("--only", type=user_path, metavar="LIST", help="only the pictures that a list of curate keeps")
    parser.add_argument("--skip-unreadable", action="store_true", help="skip files that cannot be read")


# What they set, which has no meaning for a pack. Its classes are those of --labels, which training may ask for again.
FOLDERS_ONLY = ("bit_depth", "channels", "hidden", "max_pixels", "only", "skip_unreadable")


def add_choice_of_pictures(parser: argparse.ArgumentParser) -> None:
    """Add which pictures of a folder are read, and as what."""
    add_choice(parser)
    parser.add_argument("--labels", action="store_true", help="the first sub-folder names the class of a picture")
    parser.add_argument(
        "--channels",
        type=int,
        choices=(1, 3, 4),
        help="1 grey, 3 colour, 4 colour and transparency (default: as found)",
    )


def reading(options: argparse.Namespace) -> dict[str, Any]:
    """Return the keywords of ``progan.data.check`` for what was passed."""
    given = {"hidden": options.hidden, "max_pixels": options.max_pixels, "bit_depth": options.bit_depth}
    return {name: value for name, value in given.items() if value is not None}


def reading_arguments(options: argparse.Namespace) -> str:
    """Return what was passed as another command takes it, with a space before each part."""
    parts = [" --hidden"] * options.hidden
    parts += [f" --max-pixels {options.max_pixels}"] * (options.max_pixels is not None)
    parts += [f" --bit-depth {options.bit_depth}"] * (options.bit_depth is not None)
    return "".join(parts)


def check_folder(path: Path, what: str = "a folder of pictures") -> None:
    """Raise UsageError if a path is not a folder."""
    if not path.exists():
        raise UsageError(f"there is no {path}; pass {what}")
    if not path.is_dir():
        raise UsageError(f"{path} is a file; pass {what}")


def check_new_folder(path: Path, option: str = "--out") -> None:
    """Raise UsageError if a folder for results exists and is not empty."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{option} {path} exists and is not an empty folder; pass a new one")
