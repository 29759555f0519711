"""What a command of the command line is."""

from __future__ import annotations

import argparse
from typing import Protocol


class Command(Protocol):
    """A command: a module of this package with these names."""

    HELP: str
    """What it does, in one line."""
    EXAMPLE: str
    """One call, as typed."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add its options to its parser."""

    def run(self, options: argparse.Namespace) -> int:
        """Run it and return the exit status."""
        ...


class UsageError(Exception):
    """Options that do not go together, or not with what is there; the program exits with status 2."""
