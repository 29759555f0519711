"""Which files of a folder are read, and what happens to those that cannot be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from progan.arguments import wrong_type
from progan.data.listing import Listing, check_relative
from progan.errors import warn
from progan.storage.names import matched, shown, sort_key

OnUnreadable = Literal["raise", "skip"]
_LISTED = 20  # names in a warning


class Chosen(NamedTuple):
    """The files of a folder to read."""

    names: list[str]
    """Relative to the folder, in sorted order."""
    closed: dict[str, str]
    """Sub-folders that cannot be read and are skipped, with the reason."""


def picture_paths(
    folder: Path,
    only: Iterable[str | PathLike[str]] | None,
    *,
    hidden: bool = False,
    on_unreadable: OnUnreadable = "raise",
) -> Chosen:
    """List the files to read, and warn of files that are left out.

    Args:
        folder: The folder of pictures.
        only: Names to read, hidden ones too; None = all.
        hidden: Whether to read hidden and system files and folders.
        on_unreadable: Whether to raise for sub-folders that cannot be read, or to skip them.

    Raises:
        ImportError: If Pillow is missing.
        NotADirectoryError: If the path is not a directory.
        OSError: If a sub-folder cannot be read.
        TypeError: If ``only`` is a single name rather than a list.
        ValueError: If there are no pictures, or not all of ``only``.
    """
    listing = Listing.of(folder, hidden=hidden)
    if only is not None:
        return Chosen(_only(listing, only, folder), {})
    if listing.closed and on_unreadable == "raise":
        closed = "; ".join(f"{shown(name)} ({reason})" for name, reason in listing.closed.items())
        raise OSError(
            f"{folder}: these folders cannot be read: {closed}; make them readable, move them elsewhere, or pass "
            'on_unreadable="skip" to leave them out'
        )
    if not listing.pictures:
        raise listing.no_pictures(folder)
    for remark in listing.remarks():
        warn(f"{folder}: {remark}")
    return Chosen(listing.pictures, listing.closed_as_unreadable())


def _only(listing: Listing, wanted: Iterable[str | PathLike[str]], folder: Path) -> list[str]:
    """Return the wanted names as the folder has them, in sorted order."""
    if isinstance(wanted, str | bytes | PathLike):
        raise TypeError(f"only= takes a list of names, got {wanted!r}; pass [{wanted!r}]")
    if not isinstance(wanted, Iterable):
        raise wrong_type("only", "a list of names", wanted, "pass its kept" if hasattr(wanted, "kept") else "")
    wanted = list(wanted)
    for name in wanted:
        if not isinstance(name, str | PathLike):
            raise wrong_type("each name in only", "a str or an os.PathLike", name)
    chosen = set(map(Path, wanted))
    if not chosen:
        raise ValueError(f"the list of pictures to read from {folder} is empty; keep at least one")
    for name in chosen:
        check_relative(name)
    names = sorted((name.as_posix() for name in chosen), key=sort_key)
    found = matched(names, listing.pictures)
    if len(found) < len(names):
        listing = Listing.of(folder, hidden=True)
        found |= matched([name for name in names if name not in found], set(listing.pictures) - set(found.values()))
    if missing := [name for name in names if name not in found]:
        raise ValueError(
            f"{folder} lacks {len(missing):,} of the pictures to read, such as {shown(missing[0])}"
            f"{_why_missing(folder, listing, missing[0])}; correct the list, whose names are relative to the folder"
        )
    return sorted(found.values(), key=sort_key)


def _why_missing(folder: Path, listing: Listing, name: str) -> str:
    if (folder / name).is_dir():
        return ", which is a folder"
    if name in listing.foreign:
        return f", which is {listing.foreign[name].name} and is not read"
    return ", which is not a picture" if name in listing.others else ""


def check_on_unreadable(on_unreadable: str) -> None:
    """Raise ValueError if it is neither ``raise`` nor ``skip``."""
    if on_unreadable not in get_args(OnUnreadable):
        raise ValueError(f"on_unreadable must be 'raise' or 'skip', got {on_unreadable!r}")


def check_unreadable(
    folder: Path, failures: Mapping[str, str], n_read: int, on_unreadable: OnUnreadable
) -> dict[str, str]:
    """Raise ValueError if pictures could not be read and are not to be skipped, or none is left.

    Args:
        folder: The folder of pictures.
        failures: Names of files that could not be read, with the reason.
        n_read: Number of files that could be read.
        on_unreadable: Whether they may be skipped.

    Returns:
        The failures in sorted order.
    """
    failures = {name: failures[name] for name in sorted(failures, key=sort_key)}
    if failures and (on_unreadable == "raise" or not n_read):
        n, reasons = n_read + len(failures), "\n  ".join(["", *_reasons(failures)])
        if n_read:
            raise ValueError(
                f"{len(failures)} of {n} files in {folder} cannot be read; repair or remove them, or pass "
                f'on_unreadable="skip" to leave them out:{reasons}'
            )
        raise ValueError(f"{n} of {n} files in {folder} cannot be read; repair them, or pass another folder:{reasons}")
    return failures


def warn_of_unreadable(folder: Path, failures: Mapping[str, str], n_read: int) -> None:
    """Warn of pictures that could not be read and were skipped.

    Args:
        folder: The folder of pictures.
        failures: Names of files that could not be read, with the reason.
        n_read: Number of files that could be read.
    """
    if failures:
        lines = _reasons(failures)
        if len(lines) > _LISTED:
            lines = [*lines[:_LISTED], f"and {len(lines) - _LISTED:,} more; the attribute unreadable has all of them"]
        found = f"{folder}: {len(failures)} of {n_read + len(failures)} files cannot be read and are skipped:"
        warn("\n  ".join([found, *lines]))


def _reasons(failures: Mapping[str, str]) -> list[str]:
    return [f"{shown(name)}: {reason}" for name, reason in failures.items()]
