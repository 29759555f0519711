"""The command line of the scripts that draw the figures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent


def parse(description: str | None, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options run_dir, the run of `small_run.py`, and out, the folder for the figure."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/figures"), help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the figure (default: this one)")
    return parser.parse_args(arguments)
