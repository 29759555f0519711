"""The generator of a run, with the options of what it draws."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from progan.cli.options import which

if TYPE_CHECKING:
    from progan import GrownGenerator


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Add how samples are drawn."""
    parser.add_argument("--seed", type=int, default=0, help="random seed of the samples (default: 0)")
    parser.add_argument("--label", metavar="CLASS", help="class of the pictures, by its name or number")
    parser.add_argument(
        "--truncation", type=float, metavar="PSI", help="0 to 1: the lower, the more typical and the more alike"
    )


def load(options: argparse.Namespace) -> GrownGenerator:
    """Load the generator of a run or a checkpoint, of one class and truncated as the options say.

    Raises:
        CheckpointError: If there is none.
        ValueError: If there is no such class, or the truncation is out of range.
    """
    from progan import TruncatedGenerator, load_generator

    grown = load_generator(options.source, options.device, **which(options))
    label = options.label
    if label is not None:
        named = grown.classes is not None and label in (grown.classes.names or ())
        grown = grown.of_class(int(label) if label.isdecimal() and not named else label)
    if options.truncation is not None:
        grown = TruncatedGenerator(grown, options.truncation)
    return grown
