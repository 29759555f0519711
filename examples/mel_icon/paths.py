"""Read the paths on the command lines of this example."""

import argparse
import os
from pathlib import Path


def user_path(text: str) -> Path:
    """Read a path, in which a leading ~ stands for a home directory: shells leave that of --out=~/icons as it is."""
    expanded = os.path.expanduser(text)  # noqa: PTH111 (Path("./~x") is the same as Path("~x"))
    if expanded.startswith("~"):
        raise argparse.ArgumentTypeError(f"{Path(text).parts[0]} is not a user with a home directory here")
    found = Path(expanded)
    return found.absolute() if str(found).startswith("~") else found
