"""What a folder offers: which files are read as pictures, what is left out, and what is said of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from progan.arguments import check_flag
from progan.data.decoding.decode import SUFFIXES, require_pillow
from progan.data.decoding.header import picture_format
from progan.data.decoding.kinds import (
    ARCHIVE,
    Kind,
    first_bytes,
    has_suffix,
    is_compressed,
    kind_by_bytes,
    kind_by_suffix,
    without_compression,
)
from progan.data.leftovers import APPLE_DOUBLE, hidden_folder, is_leftover, is_system_file, may_be_apple_double
from progan.storage.names import shown, sort_key

_MOST_HIDDEN_OPENED = 2_000  # files: a cache may hold a million


@dataclass(frozen=True)
class Listing:
    """The contents of a folder and its sub-folders, by names relative to it, in sorted order.

    Attributes:
        pictures: Files to read: those whose first bytes are a picture's, and whatever is named like a picture.
        others: Files of other kinds: texts, programs, data.
        linked: Links to folders, which are not followed.
        closed: Sub-folders that cannot be read, with the reason.
        foreign: Files of kinds that are not read but may be data, such as HEIC, with the kind.
        unopened: Files that are not named like pictures and could not be opened, with the reason.
        hidden: Pictures that are skipped because they or a folder above them are hidden or a system's.
        hidden_foreign: Files of kinds that are not read but may be data, skipped for that reason, with the kind.
        hidden_unopened: Number of files skipped for that reason that were not opened to see what they are: they are not
            named like pictures, and too many.
        leftovers: Number of other files that are skipped for that reason.
    """

    pictures: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    linked: list[str] = field(default_factory=list)
    closed: dict[str, str] = field(default_factory=dict)
    foreign: dict[str, Kind] = field(default_factory=dict)
    unopened: dict[str, str] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    hidden_foreign: dict[str, Kind] = field(default_factory=dict)
    hidden_unopened: int = 0
    leftovers: int = 0

    @classmethod
    def of(cls, folder: Path, *, hidden: bool = False) -> Listing:
        """List a folder.

        Args:
            folder: The folder. Its own name, and those of the folders above it, do not matter.
            hidden: Whether to list hidden and system files and folders like all others.

        Raises:
            ImportError: If Pillow is missing.
            NotADirectoryError: If the path is not a directory.
            TypeError: If ``hidden`` is not True or False.
        """
        check_flag("hidden", hidden)
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is not a directory; pass a folder of pictures")
        require_pillow()
        walk = _Walk(folder, hidden=hidden)
        walk.run()
        for names in (walk.pictures, walk.others, walk.linked, walk.hidden):
            names.sort(key=sort_key)
        return cls(
            walk.pictures,
            walk.others,
            walk.linked,
            _sorted(walk.closed),
            _sorted(walk.foreign),
            _sorted(walk.unopened),
            walk.hidden,
            _sorted(walk.hidden_foreign),
            walk.hidden_unopened,
            walk.leftovers,
        )

    def closed_as_unreadable(self) -> dict[str, str]:
        """Return the sub-folders that cannot be read, with the reason in words that fit among those of files."""
        return {name: f"a folder that cannot be read ({reason})" for name, reason in self.closed.items()}

    def no_pictures(self, folder: Path) -> ValueError:
        """Return the error for a folder without pictures, which lists what it contains instead."""
        remarks = self.remarks()
        if self.closed:
            name, reason = next(iter(self.closed.items()))
            remarks.append(f"folders that cannot be read: {len(self.closed):,}, such as {shown(name)} ({reason})")
        if self.others:
            remarks.append(f"files of other kinds: {len(self.others):,}, such as {shown(self.others[0])}")
        if self.leftovers:
            remarks.append(f"hidden or system files: {self.leftovers:,}")
        what = "; ".join(remarks) or "it is empty"
        return ValueError(
            f"{folder} holds no picture that can be read: {what}. Pass a folder with PNG, JPEG, GIF, WebP, BMP, ICO, "
            "TIFF or binary PNM files"
        )

    def remarks(self) -> list[str]:
        """Return a sentence for each kind of files left out that may belong to the data."""
        remarks = []
        if self.foreign:
            remarks.append(f"files of kinds that are not read were left out: {self._foreign_kinds()}")
        if self.hidden or self.hidden_foreign or self.hidden_unopened:
            remarks.append(self._skipped())
        if self.linked:
            remarks.append(
                f"links to folders were not followed: {len(self.linked):,}, such as {shown(self.linked[0])}; copy the "
                "folders in if they belong to the data"
            )
        if self.unopened:
            name, reason = next(iter(self.unopened.items()))
            remarks.append(
                "files without a picture's suffix could not be opened to see what they are: "
                f"{len(self.unopened):,}, such as {shown(name)} ({reason})"
            )
        return remarks

    def _foreign_kinds(self) -> str:
        """Describe each kind that is not read: how many files, an example, what converts them."""
        examples: dict[Kind, str] = {}
        for name, kind in self.foreign.items():
            examples.setdefault(kind, name)
        counts = Counter(self.foreign.values()).most_common()
        return "; ".join(
            f"{count:,} {kind.name}, such as {shown(examples[kind])} ({kind.remedy})" for kind, count in counts
        )

    def _skipped(self) -> str:
        """Return a sentence on the files skipped because they are hidden or a system's."""
        names = [*self.hidden, *self.hidden_foreign]
        unopened = f"{self.hidden_unopened:,} files in them were not opened to see what they are"
        if not names:
            return f"hidden or system folders were skipped, and {unopened}; pass hidden=True to read them"
        what, remedy = "pictures", "pass hidden=True to read them"
        details = [f"such as {shown(names[0])}"]
        if self.hidden_foreign:
            what, remedy = "possible pictures", f"{remedy}, and to see what converts the others"
            kinds = Counter(kind.name for kind in self.hidden_foreign.values()).most_common()
            listed = ", ".join(f"{count:,} {kind}" for kind, count in kinds)
            details.append(f"; of kinds that are not read: {listed}, such as {shown(next(iter(self.hidden_foreign)))}")
        if self.hidden_unopened:
            details.append(f"; {unopened}")
        return (
            f"{what} in hidden or system files and folders were skipped: {len(names):,} ({_hidden_places(names)}), "
            f"{''.join(details)}; {remedy}"
        )


def _hidden_places(names: Sequence[str]) -> str:
    """Count skipped files by the hidden folder that they lie in."""
    places = Counter(hidden_folder(name) for name in names).most_common()
    listed = [f"{shown(place)}: {count:,}" for place, count in places[:5]]
    return ", ".join(listed + [f"and {len(places) - 5} more"] * (len(places) > 5))


class _Walk:
    """Sort the entries of a folder and its sub-folders by what they are."""

    def __init__(self, folder: Path, *, hidden: bool) -> None:
        self.folder = folder
        self.takes_hidden = hidden
        self.pictures: list[str] = []
        self.others: list[str] = []
        self.linked: list[str] = []
        self.hidden: list[str] = []
        self.closed: dict[str, str] = {}
        self.foreign: dict[str, Kind] = {}
        self.unopened: dict[str, str] = {}
        self.hidden_foreign: dict[str, Kind] = {}
        self.hidden_opened = self.hidden_unopened = self.leftovers = 0

    def run(self) -> None:
        """Walk through the folders, with a list instead of recursion, so that no depth is too much."""
        waiting = [("", False)]
        while waiting:
            above, skipped = waiting.pop()
            try:
                with os.scandir(self.folder / above) as entries:
                    for entry in entries:
                        name = above + entry.name
                        is_folder = _is_folder(entry)
                        skip = skipped or (not self.takes_hidden and is_leftover(entry, is_folder=is_folder))
                        if is_folder:
                            waiting.append((f"{name}/", skip))
                        elif skip:
                            self._skip(name)
                        elif _is_link_to_a_folder(entry):
                            self.linked.append(name)
                        else:
                            self._file(name)
            except OSError as error:
                if not skipped:
                    self.closed[above.removesuffix("/") or "."] = error.strerror or str(error)

    def _file(self, name: str) -> None:
        """Take in a file that is not skipped; those that are named like pictures are not opened yet."""
        if _is_named_like_a_picture(name) and not may_be_apple_double(name):
            self.pictures.append(name)
            return
        try:
            found = self._look(name)
        except OSError as error:
            self.unopened[name] = error.strerror or str(error)
            return
        if isinstance(found, Kind):
            self.foreign[name] = found
        else:
            (self.pictures if found == "picture" else self.others).append(name)

    def _skip(self, name: str) -> None:
        """Count a file that is skipped by what it is; of those that no name describes only some are opened."""
        found: Kind | Literal["picture", "other", "unknown"] = "other"
        if _is_named_like_a_picture(name) and not may_be_apple_double(name):
            found = "picture"
        elif not is_system_file(name):
            found = self._look_while_few(name)
        if isinstance(found, Kind):
            self.hidden_foreign[name] = found
        elif found == "picture":
            self.hidden.append(name)
        else:
            self.leftovers += 1
            self.hidden_unopened += found == "unknown"

    def _look_while_few(self, name: str) -> Kind | Literal["picture", "other", "unknown"]:
        """Return what a hidden file is; of very many, those behind the first are not opened."""
        # What macOS keeps beside pictures is opened in any case: the names of pictures tell nothing there.
        self.hidden_opened += not may_be_apple_double(name)
        if self.hidden_opened > _MOST_HIDDEN_OPENED:
            return kind_by_suffix(name) or "unknown"
        try:
            return self._look(name)
        except OSError:
            return "other"

    def _look(self, name: str) -> Kind | Literal["picture", "other"]:
        """Return what a file is, by its first bytes, and by its name where these do not identify it.

        Raises:
            OSError: If it cannot be opened, and its name does not say what it is either.
        """
        try:
            head = first_bytes(self.folder / name)
        except OSError:
            if kind := kind_by_suffix(name):
                return kind
            raise
        if may_be_apple_double(name) and (head.startswith(APPLE_DOUBLE) or _is_named_like_a_picture(name)):
            return "other" if head.startswith(APPLE_DOUBLE) else "picture"
        form = picture_format(head, named=False)
        # Some camera RAW files begin as a TIFF does; their names tell.
        kind = kind_by_bytes(head) or (kind_by_suffix(name) if form in (None, "TIFF") else None)
        if kind is None and form is None and _is_packed(name, head):
            kind = ARCHIVE
        return kind or ("picture" if form else "other")


def _is_packed(name: str, head: bytes) -> bool:
    """Return whether a file is an archive, or compressed, and may contain pictures, unlike many documents and models.

    Without the compressor's suffix, its name is that of a picture or of another archive, or has no suffix.
    """
    if not is_compressed(head):
        return False
    inner = without_compression(name)
    return not has_suffix(inner) or _is_named_like_a_picture(inner) or kind_by_suffix(inner) is not None


def _is_named_like_a_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder to walk through: neither a link nor a junction of Windows."""
    try:
        return entry.is_dir(follow_symlinks=False) and not _is_junction(entry)
    except OSError:
        return False


def _is_link_to_a_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return (entry.is_symlink() or _is_junction(entry)) and entry.is_dir()
    except OSError:  # a link in a loop
        return False


def _is_junction(entry: os.DirEntry[str]) -> bool:
    is_junction = getattr(entry, "is_junction", None)  # from Python 3.12 on
    return is_junction is not None and is_junction()


Value = TypeVar("Value")


def in_order(named: Mapping[Path, Value]) -> dict[Path, Value]:
    """Return a mapping sorted by its names, as in `Listing`."""
    return {name: named[name] for name in sorted(named, key=lambda name: sort_key(name.as_posix()))}


def _sorted(named: Mapping[str, Value]) -> dict[str, Value]:
    return {name: named[name] for name in sorted(named, key=sort_key)}


def check_relative(name: Path) -> None:
    """Raise ValueError if a name leads out of its folder."""
    if name.is_absolute() or name.drive or ".." in name.parts:
        raise ValueError(f"{shown(name)} leads out of the folder; pass names relative to the folder, without ..")


def require_file(path: Path, what: str) -> None:
    """Raise ValueError if there is something other than a file: opening a named pipe would wait forever."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a file, and so not a {what}")
