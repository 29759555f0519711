"""Which pictures of a folder to train on: of near-duplicates only some, and none that is unlike all others.

The rule is that of the Mel Icon article, whose author did it by hand: of icons that are nearly the same at most 4 are
kept, and irregular ones are left out. Nothing is moved or removed: the result is a list, which a person can edit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Self

from torch import Tensor

from progan.data.folder import shown
from progan.data.likeness import IRREGULAR, SIMILAR, irregularity, near_duplicates
from progan.data.survey import Survey, survey
from progan.files import write_file


@dataclass(frozen=True)
class Curation:
    """Hold which pictures of a folder to train on.

    Attributes:
        folder: in which they lie.
        kept: relative to the folder, in order.
        dropped: the others, with the reason.
    """

    folder: Path
    kept: list[Path]
    dropped: dict[Path, str]

    def save(self, path: str | PathLike[str]) -> None:
        """Write the list as text, to be edited: a line per picture, its word, its name and the reason.

        Raises:
            ValueError: if a name holds a tab or a line break.
        """
        lines = ["# keep or drop, a tab, the name, a tab, the reason. Change the first word; then read the list again."]
        reasons = {**dict.fromkeys(self.kept, ""), **self.dropped}
        for name in sorted(reasons):
            if any(character in name.as_posix() for character in "\t\r\n"):
                raise ValueError(f"{name.as_posix()!r} holds a tab or a line break; rename it")
            word = "drop" if name in self.dropped else "keep"
            lines.append(f"{word}\t{name.as_posix()}\t{' '.join(reasons[name].split())}".removesuffix("\t"))
        write_file(Path(path), ("\n".join(lines) + "\n").encode(errors="surrogateescape"))

    @classmethod
    def load(cls, path: str | PathLike[str], folder: str | PathLike[str]) -> Self:
        """Read a list that `save` wrote and a person may have edited.

        Args:
            path: of the list.
            folder: in which the pictures lie.

        Raises:
            ValueError: if a line is none of the list's, or names a picture twice.
        """
        kept: dict[Path, None] = {}
        dropped: dict[Path, str] = {}
        text = Path(path).read_bytes().decode("utf-8-sig", errors="surrogateescape")
        for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):  # names may hold other line breaks
            if not line.strip() or line.startswith("#"):
                continue
            word, name, reason = (*line.split("\t", 2), "", "")[:3]
            if word not in ("keep", "drop") or not name:
                raise ValueError(f"{path}, line {number}: expected keep or drop, a tab, a name; got {line!r}")
            if Path(name) in dropped or Path(name) in kept:
                raise ValueError(f"{path}, line {number}: {name} stands there twice; remove one of the lines")
            if word == "keep":
                kept[Path(name)] = None
            else:
                dropped[Path(name)] = reason or "by hand"
        return cls(Path(folder), list(kept), dropped)


def curate(
    folder: str | PathLike[str],
    max_similar: int = 4,
    *,
    similar: float = SIMILAR,
    irregular: float = IRREGULAR,
) -> Curation:
    """Choose the pictures of a folder to train on.

    In the order of their names, a picture is kept unless it cannot be read; has the same pixels as one before it; is
    irregular (where its edges and its background lie is far from usual in this folder); or ``max_similar`` of those
    kept before it are near-duplicates of it.

    Args:
        folder: with sub-folders.
        max_similar: near-duplicates to keep of each picture, itself included.
        similar: share of equal cells from which two pictures are near-duplicates, in (0, 1].
        irregular: score from which a picture is irregular; ``math.inf`` keeps all.

    Returns:
        The lists. Nothing on disk is changed.

    Raises:
        ImportError: if Pillow is missing.
        NotADirectoryError: if the folder is none.
        ValueError: if it holds no pictures, or a number is out of its range.
    """
    check_limits(max_similar, similar)
    found = survey(folder)
    if not found.facts and not found.unreadable:
        raise ValueError(f"{folder} holds no picture that can be read; pass a folder of pictures")
    alike = near_duplicates(found.descriptors, similar)
    return curation(found, alike, irregularity(found.descriptors).tolist(), max_similar, irregular)


def check_limits(max_similar: int, similar: float) -> None:
    """Raise ValueError where a number is out of its range."""
    if not isinstance(max_similar, int) or max_similar < 1:
        raise ValueError(f"max_similar must be an int of at least 1, got {max_similar!r}")
    if not 0 < similar <= 1:
        raise ValueError(f"similar is a share of equal cells, in (0, 1], got {similar!r}")


def curation(
    found: Survey, alike: Iterable[Tensor], scores: Sequence[float], max_similar: int, irregular: float
) -> Curation:
    """Choose by what is known of a folder; see `curate`.

    Args:
        found: of the folder.
        alike: for each distinct picture, the indices of the near-duplicates before it.
        scores: of each distinct picture, how irregular it is.
        max_similar: as for `curate`.
        irregular: as for `curate`.
    """
    dropped = {name: f"cannot be read: {reason}" for name, reason in found.unreadable.items()}
    dropped |= {name: f"the same pixels as {shown(first)}" for name, first in found.copies.items()}
    kept: dict[int, Path] = {}
    for index, (name, score, earlier) in enumerate(zip(found.distinct, scores, alike, strict=True)):
        before = [kept[other] for other in earlier.tolist() if other in kept]
        if score >= irregular:
            dropped[name] = f"irregular: {score:.1f}, from {irregular:g} on"
        elif len(before) >= max_similar:
            dropped[name] = f"{len(before)} near-duplicates are kept, such as {shown(before[0])}"
        else:
            kept[index] = name
    return Curation(found.folder, list(kept.values()), dict(sorted(dropped.items())))
