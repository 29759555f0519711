"""Which pictures of a folder to train on: of near-duplicates only some, and none that is unlike all others.

The rule is that of the Mel Icon article, whose author did it by hand: of icons that are nearly the same at most 4 are
kept, and irregular ones are left out. Nothing is moved or removed: the result is a list, which a person can edit.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import NamedTuple, Self

import torch

from progan.data.curation.likeness import SIMILAR, Groups, near_duplicates, possible_duplicates
from progan.data.curation.oddness import IRREGULAR, irregularity
from progan.data.curation.survey import Survey, survey
from progan.data.decoding.limits import MAX_PIXELS
from progan.data.listing import Listing, check_relative, in_order, require_file
from progan.errors import warn
from progan.runtime.contention import watched_cores
from progan.runtime.progress import counted
from progan.storage.files import write_file
from progan.storage.names import matched, shown, sort_key
from progan.storage.paths import user_path

_UNLISTABLE = re.compile(r'^"|[\t\r\n\ud800-\udfff]')  # tabs, line breaks, bytes that are no character


@dataclass(frozen=True)
class Curation:
    """The pictures of a folder to train on.

    Attributes:
        folder: Folder of the pictures.
        kept: Pictures to train on, relative to the folder, in order.
        dropped: All other pictures, with the reason.
    """

    folder: Path
    kept: list[Path]
    dropped: dict[Path, str]

    def save(self, path: str | PathLike[str]) -> None:
        """Write the list as a text file to edit: one line per picture, with keep or drop, its name and the reason.

        A name that does not fit on a line, such as one with a tab, is written in double quotes, as in JSON.
        """
        lines = ["# keep or drop, a tab, the name, a tab, the reason. Change the first word; then read the list again."]
        for name, reason in in_order({**dict.fromkeys(self.kept, ""), **self.dropped}).items():
            word = "drop" if name in self.dropped else "keep"
            lines.append(f"{word}\t{_quoted(name.as_posix())}\t{' '.join(reason.split())}".removesuffix("\t"))
        write_file(user_path(path), ("\n".join(lines) + "\n").encode(errors="backslashreplace"))

    @classmethod
    def load(cls, path: str | PathLike[str], folder: str | PathLike[str], *, hidden: bool = False) -> Self:
        """Read a list that `save` wrote and a person may have edited.

        A warning reports pictures of the folder that the list does not name, because they were added later: they are
        neither kept nor dropped. A list from another system can be used: names that differ only in their Unicode
        normalisation are returned as they are in this folder.

        Args:
            path: File with the list.
            folder: Folder of the pictures.
            hidden: Whether to warn of hidden pictures that the list does not name, too. Those that it names are in the
                result in any case.

        Raises:
            ImportError: If Pillow is missing.
            NotADirectoryError: If the folder is not a directory.
            ValueError: If the path is not a file; or a line is malformed, names a picture twice, or names one that is
                outside the folder.
        """
        kept: dict[Path, None] = {}
        dropped: dict[Path, str] = {}
        path, folder = user_path(path), user_path(folder, "folder")
        require_file(path, "list of pictures")
        text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
        # Not splitlines: names may hold other line breaks.
        for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
            if not line.strip() or line.startswith("#"):
                continue
            word, written, reason = (*line.split("\t", 2), "", "")[:3]
            try:
                if word not in ("keep", "drop") or not written:
                    raise ValueError(f"expected keep or drop, a tab, a name; got {line[:60]!r}")
                name = Path(_unquoted(written))
                check_relative(name)
                if name in dropped or name in kept:
                    raise ValueError(f"{shown(name)} is listed twice; remove one of the lines")
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
            if word == "keep":
                kept[name] = None
            else:
                dropped[name] = reason or "by hand"
        listing = Listing.of(folder, hidden=hidden)
        theirs = matched([name.as_posix() for name in (*kept, *dropped)], listing.pictures)
        here = {Path(name): Path(found) for name, found in theirs.items()}
        if later := sorted(set(listing.pictures) - set(theirs.values()), key=sort_key):
            warn(
                f"{path} does not name {len(later)} of the {len(listing.pictures)} pictures in {folder}, such as "
                f"{shown(later[0])}, so they are left out; add lines for them, or write the list anew"
            )
        return cls(
            folder,
            [here.get(name, name) for name in kept],
            {here.get(name, name): reason for name, reason in dropped.items()},
        )


def _quoted(name: str) -> str:
    """Return a name as it is written in a list."""
    return json.dumps(name) if _UNLISTABLE.search(name) else name


def _unquoted(name: str) -> str:
    """Return a name from a list."""
    if not name.startswith('"'):
        return name
    try:
        return str(json.loads(name))
    except ValueError:
        raise ValueError(f"{name} begins with a double quote and is not a JSON string") from None


def curate(
    folder: str | PathLike[str],
    max_similar: int = 4,
    *,
    similar: float = SIMILAR,
    irregular: float = IRREGULAR,
    hidden: bool = False,
    max_pixels: int = MAX_PIXELS,
    bit_depth: int | None = None,
) -> Curation:
    """Choose the pictures of a folder to train on, and warn of files left out that may belong to the data.

    In the order of their names, a picture is kept unless it cannot be read; has the same pixels as one before it; is
    irregular (its edges, its tones or where its edges are differ from what is usual in this folder); or ``max_similar``
    of those kept before it are near-duplicates of it.

    Args:
        folder: Folder of pictures, with its sub-folders.
        max_similar: Number of near-duplicates to keep of each picture, itself included.
        similar: Share of equal cells from which two pictures are near-duplicates, in (0, 1].
        irregular: Score from which a picture is irregular; ``math.inf`` keeps all.
        hidden: Whether to read hidden and system files and folders too, as for `progan.ImageFolder`.
        max_pixels: Largest number of pixels that are decoded at once, as in `progan.data.Reading`.
        bit_depth: Number of bits that pictures of 16 bits per channel use, as in `progan.data.Reading`; None = all.

    Returns:
        The lists. Nothing on disk is changed.

    Raises:
        ImportError: If Pillow is missing.
        NotADirectoryError: If the folder is not a directory.
        ValueError: If it contains no pictures, or a number is out of its range.
    """
    check_limits(max_similar, similar, irregular)
    found = survey(folder, hidden=hidden, max_pixels=max_pixels, bit_depth=bit_depth)
    if not found.facts and not found.unreadable:
        raise found.listing.no_pictures(found.folder)
    for remark in found.listing.remarks():
        warn(f"{found.folder}: {remark}")
    return compare(found, max_similar, similar, irregular).curation


def check_limits(max_similar: int, similar: float, irregular: float) -> None:
    """Raise ValueError if a number is out of its range."""
    if type(max_similar) is not int or max_similar < 1:
        raise ValueError(f"max_similar must be an int of at least 1, got {max_similar!r}")
    if not isinstance(similar, int | float) or not 0 < similar <= 1:
        raise ValueError(f"similar is a share of equal cells, in (0, 1], got {similar!r}")
    if not isinstance(irregular, int | float) or not irregular > 0:  # neither is NaN
        raise ValueError(f"irregular is a score, above 0 (math.inf keeps all), got {irregular!r}")


class Compared(NamedTuple):
    """How the pictures of a folder compare with each other."""

    curation: Curation
    groups: list[list[Path]]
    """Near-duplicates, linked from one to the next, the largest group first."""
    scores: dict[Path, float]
    """How irregular each is; copies are not scored."""


@watched_cores()
def compare(
    found: Survey,
    max_similar: int = 4,
    similar: float = SIMILAR,
    irregular: float = IRREGULAR,
    *,
    progress: bool = False,
) -> Compared:
    """Compare the pictures of a folder, and choose as `curate` does.

    Args:
        found: Survey of the folder.
        max_similar: Number of near-duplicates to keep of each picture, as for `curate`.
        similar: Share of equal cells from which two pictures are near-duplicates.
        irregular: Score from which a picture is irregular.
        progress: Whether to show how long it will take.
    """
    names, pictures = found.distinct, found.descriptors
    scores = irregularity(pictures.appearance).tolist()
    dropped = {name: f"cannot be read: {reason}" for name, reason in found.unreadable.items()}
    dropped |= {name: f"the same pixels as {shown(first)}" for name, first in found.copies.items()}
    kept = torch.zeros(len(names), dtype=torch.bool)
    groups = Groups(len(names))
    candidates = possible_duplicates(pictures, similar)
    if progress:
        candidates = counted(candidates, len(names), "comparing pictures")
    for index, (name, possible) in enumerate(zip(names, candidates, strict=True)):
        alike = partial(near_duplicates, pictures, index, similar=similar)
        groups.add(index, possible, alike)
        before = possible[kept[possible]]
        if len(before) >= max_similar:  # fewer need not be looked at
            before = alike(before)
        if scores[index] >= irregular:
            dropped[name] = f"irregular: {scores[index]:.1f}, from {irregular:g} on"
        elif len(before) >= max_similar:
            dropped[name] = f"{len(before)} near-duplicates are kept, such as {shown(names[int(before[0])])}"
        else:
            kept[index] = True
    return Compared(
        Curation(found.folder, [name for name, is_kept in zip(names, kept, strict=True) if is_kept], in_order(dropped)),
        [[names[index] for index in group] for group in groups.found()],
        dict(zip(names, scores, strict=True)),
    )
