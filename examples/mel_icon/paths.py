"""Parse the paths on this example's command lines."""

import argparse
import os
from pathlib import Path


def user_path(text: str) -> Path:
    """Parse a path and expand a leading ~ to a home directory, since shells do not expand the one in --out=~/icons."""
    expanded = os.path.expanduser(text)  # noqa: PTH111 (Path("./~x") is the same as Path("~x"))
    if expanded.startswith("~"):
        raise argparse.ArgumentTypeError(f"{Path(text).parts[0]} is not a user with a home directory here")
    found = Path(expanded)
    return found.absolute() if str(found).startswith("~") else found
