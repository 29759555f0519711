"""The generator of a run, with the options of what it draws."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from progan.cli.options import at_least_1, which

if TYPE_CHECKING:
    from progan import GrownGenerator

_MOST_ENLARGED = 16


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Add how samples are drawn."""
    parser.add_argument("--seed", type=int, default=0, help="random seed of the samples (default: 0)")
    parser.add_argument("--label", metavar="CLASS", help="class of the pictures, by its name or number")
    parser.add_argument(
        "--truncation", type=float, metavar="PSI", help="0 to 1: the lower, the more typical and the more alike"
    )


def add_enlarging(parser: argparse.ArgumentParser) -> None:
    """Add how large pictures are drawn."""
    parser.add_argument(
        "--enlarge", type=_factor, default=1, metavar="K", help="K times as large and as sharp, if colours are flat"
    )


def _factor(text: str) -> int:
    return at_least_1(text, _MOST_ENLARGED)


def load(options: argparse.Namespace, *, enlarged: int = 1) -> GrownGenerator:
    """Load the generator of a run or a checkpoint, of one class, enlarged and truncated as the options say.

    Raises:
        CheckpointError: If there is none.
        ValueError: If there is no such class, its pictures cannot be enlarged, or the truncation is out of range.
    """
    from progan import TruncatedGenerator, load_generator

    grown = load_generator(options.source, options.device, **which(options))
    label = options.label
    if label is not None:
        named = grown.classes is not None and label in (grown.classes.names or ())
        grown = grown.of_class(int(label) if label.isdecimal() and not named else label)
    if enlarged > 1:
        grown = grown.enlarged(enlarged)
    if options.truncation is not None:
        grown = TruncatedGenerator(grown, options.truncation)
    return grown
