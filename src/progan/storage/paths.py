"""Paths from users, as every public function reads them."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path

from progan.arguments import wrong_type


def user_path(path: str | PathLike[str], name: str = "path") -> Path:
    """Return a path from a user, in which a leading ``~`` or ``~user`` stands for a home directory.

    Args:
        path: Path from the user. A relative one stays relative.
        name: Name of the argument, for errors.

    Raises:
        TypeError: If it is not a path.
        ValueError: If it is empty, or there is no such home directory.

    Example:
        >>> user_path("runs/icons").parts, user_path("~/icons") == Path.home() / "icons"
        (('runs', 'icons'), True)
    """
    text = os.fspath(path) if isinstance(path, PathLike) else path
    if not isinstance(text, str):
        raise wrong_type(name, "a path, a str or an os.PathLike of str", path)
    if not text:
        raise ValueError(f"{name} is an empty path; pass '.' for the current directory")
    expanded = os.path.expanduser(text)  # noqa: PTH111 (Path("./~x") is the same as Path("~x"))
    if expanded.startswith("~"):
        first = Path(text).parts[0]
        raise ValueError(
            f"{name}: {first} is not a user with a home directory here; write the path out, or ./{first} for a "
            "directory of that name"
        )
    found = Path(expanded)
    # One that would be expanded if it were read again.
    return found.absolute() if str(found).startswith("~") else found


def check_replaceable(folder: Path) -> None:
    """Raise where no folder can be put in the place of another one: links are followed.

    Raises:
        FileExistsError: If it is the current directory, which the user's shell would lose, or a symlink loop.
    """
    real = Path(os.path.realpath(folder))
    if real.is_symlink():
        raise FileExistsError(f"{folder} is a symlink loop; remove it")
    if real == Path.cwd():
        raise FileExistsError(f"{folder} is the current directory, which a new folder would replace; pass another path")
