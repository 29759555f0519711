"""Everything that changes the disk. A file is complete or absent. No other module writes or removes files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# Windows cannot open a folder, some network file systems cannot sync one.
_CANNOT_SYNC = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EISDIR)

_LONGEST_NAME = 255  # bytes that systems allow

OWNER = ".owner"
_held: set[Path] = set()


def write_file(
    path: Path, data: bytes | Iterable[bytes | memoryview], *, beginning: Callable[[], bytes] | None = None
) -> None:
    """Write a file beside its final name, sync it, and rename it.

    Args:
        path: Final path; its folder must exist.
        data: Contents, whole or in pieces.
        beginning: Function, called once all pieces are written, that returns bytes to replace the first ones with;
            None = the pieces are final.

    Raises:
        OSError: If it cannot be written; the message says how many bytes were. An existing file is kept.
    """
    beside = partial_of(path)
    written = 0
    try:
        with open(beside, "wb") as file:  # noqa: PTH123 (tests stand in for open and os)
            for piece in [data] if isinstance(data, bytes) else data:
                file.write(piece)
                written += len(piece)
            if beginning is not None:
                file.seek(0)
                file.write(beginning())
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


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Let another program write a file: it is synced and gets its final name when the context ends without an error.

    Args:
        path: Final name; its folder must exist.

    Yields:
        Where to write the file; it is removed if an error ends the context.
    """
    beside = partial_of(path)
    try:
        yield beside
        with open(beside, "r+b") as file:  # noqa: PTH123
            os.fsync(file.fileno())
        move(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            remove(beside)
        raise


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Let a folder be filled beside its final name, which it gets when the context ends without an error.

    Args:
        path: Final name, with links followed; the folder that it lies in must exist. An existing folder is replaced.

    Yields:
        The folder to fill; it is removed, and an existing one kept, if an error ends the context.
    """
    place = Path(os.path.realpath(path))
    beside, old = partial_of(place), _hidden(place, "replaced")
    remove(beside)  # of one that was killed
    try:
        make_folder(beside)
        yield beside
        remove(old)
        if place.exists():
            move(place, old)
        move(beside, place)
        remove(old)
    except BaseException:
        remove(beside)
        if old.exists() and not place.exists():
            move(old, place)
        raise


def partial_of(path: Path) -> Path:
    """Return the path at which `write_file` keeps a file until it is complete."""
    return _hidden(path, "partial")


def _hidden(path: Path, ending: str) -> Path:
    """Return a hidden path beside one, of its name and an ending; of a hash where that would be too long."""
    name = f".{path.name}.{ending}"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()}.{ending}"
    return path.with_name(name)


def append_line(path: Path, line: str) -> None:
    """Append one line to a text file, and sync it."""
    with open(path, "ab") as file:  # noqa: PTH123
        file.write(f"{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def make_folder(path: Path) -> None:
    """Create a folder and its parents, if they are missing."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was faster; where it is a file, all else fails
            os.mkdir(folder)  # noqa: PTH102
        sync_folder(folder.parent)


def move(path: Path, target: Path) -> None:
    """Rename a file or a folder within its folder; an existing file is replaced."""
    os.replace(path, target)  # noqa: PTH105
    sync_folder(target.parent)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with its contents, if it exists. Links are not followed."""
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
    """Make renames in a folder survive a power cut, where the system can."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


@contextmanager
def owned(folder: Path, name: str = OWNER, what: Path | None = None) -> Iterator[None]:
    """Lock a folder for this process; the system releases the lock however the process ends.

    Args:
        folder: Folder to write in.
        name: Name of the lock file; another one to lock only a part of the folder.
        what: Path for the error message; None = the folder.

    Raises:
        BlockingIOError: If another process, or another part of this one, has locked it.
    """
    path, what = folder.resolve() / name, what or folder
    if path in _held:  # not to be opened: to close it would let go of the lock
        raise BlockingIOError(f"{what} is being written to by this process; wait for its end, or pass another path")
    while True:
        file = open(path, "ab+")  # noqa: PTH123, SIM115
        if not _lock(file):
            file.seek(0)
            owner = file.read(200).decode(errors="replace").strip() or "another process"
            file.close()
            raise BlockingIOError(f"{what} is being written to by {owner}; wait for its end, or pass another path")
        if _is_at(file, path):
            break
        file.close()  # its owner removed it meanwhile
    _held.add(path)
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n".encode())
        file.flush()
        yield
    finally:
        _held.discard(path)
        with contextlib.suppress(OSError):
            remove(path)
        file.close()
        if sys.platform == "win32":  # which removes no file that is open
            with contextlib.suppress(OSError):
                remove(path)


def is_owned(folder: Path, name: str = OWNER) -> bool:
    """Return whether a process holds a folder now; False too where that cannot be found out.

    Args:
        folder: The folder.
        name: Name of the file that is locked.
    """
    path = folder.resolve() / name
    if path in _held:  # not to be opened: to close it would release the lock
        return True
    try:
        with open(path, "rb+") as file:  # noqa: PTH123
            return not _lock(file)  # a lock that is taken here ends with the file's closing, at once
    except OSError:
        return False


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock(file: BinaryIO) -> bool:
    """Lock a file without waiting; if the file system has no locks, treat it as locked."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(1 << 30)  # beyond the text, which others read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            # Of the process, not of the open file: workers that it forked do not hold it when it has died.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True


def forget_peak_memory() -> None:
    """Reset this process's peak of memory on Linux; elsewhere, do nothing."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123
        file.write("5")
