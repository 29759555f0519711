"""All that changes the disk: a file is whole under its name, or not there. Nothing else in progan writes or removes."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

# Windows cannot open a folder, some network file systems cannot sync one.
_CANNOT_SYNC = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EISDIR)


def write_file(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file beside its final name, sync it, and rename it.

    Args:
        path: the final name; its folder must exist.
        data: the contents, whole or in pieces.

    Raises:
        OSError: if it cannot be written; the message tells how many bytes were. What was there before stays.
    """
    beside = path.with_name(f".{path.name}.partial")
    written = 0
    try:
        with open(beside, "wb") as file:  # noqa: PTH123 (tests stand in for open and os)
            for piece in [data] if isinstance(data, bytes) else data:
                file.write(piece)
                written += len(piece)
            file.flush()
            os.fsync(file.fileno())
        move(beside, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            remove(beside)
        if isinstance(error, OSError) and error.errno is not None:
            message = f"{error.strerror}, after {written:,} bytes; what was there before is as it was"
            raise OSError(error.errno, message, str(path)) from error
        raise


def append_line(path: Path, line: str) -> None:
    """Append one line to a text file, and sync it."""
    with open(path, "ab") as file:  # noqa: PTH123
        file.write(f"{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was faster; where it is a file, all else fails
            os.mkdir(folder)  # noqa: PTH102
        sync_folder(folder.parent)


def move(path: Path, target: Path) -> None:
    """Rename a file or a folder within its folder; a file that is there is replaced."""
    os.replace(path, target)  # noqa: PTH105
    sync_folder(target.parent)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it, if it is there. Links are not followed."""
    try:
        is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
        if is_folder:
            for name in os.listdir(path):  # noqa: PTH208
                remove(path / name)
            os.rmdir(path)  # noqa: PTH106
        else:
            os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        pass


def sync_folder(path: Path) -> None:
    """Make renames in a folder last through a power cut, where the system can."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
