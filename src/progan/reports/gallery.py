"""The pictures of one report: which of them it has, and how many bytes each may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from progan.reports.pictures import (
    Picture,
    chosen,
    class_of,
    load_picture,
    makes_webp,
    previous_pictures,
    sheet_key,
)
from progan.reports.reading import RunFiles

_MOST_SHEETS, _MOST_SHEETS_PNG = 256, 64
_SMALL = 32  # pixels of a side of a sample that takes few bytes
_SMALL_BYTES = 24_000
_SHEETS_SHARE, _OTHER_SHARE = 0.8, 0.02  # of a page's bytes: of all sheets, of each other picture


@dataclass(frozen=True)
class Sheet:
    """A sample grid in a page.

    Attributes:
        key: Key by which the next report finds it.
        picture: The picture.
    """

    key: str
    picture: Picture


@dataclass(frozen=True)
class Gallery:
    """The pictures of a report.

    Attributes:
        sheets: Sample grids by count of images.
        rows: Newest row of samples by level.
        progress: Progress strip, where there are no rows.
        closest: Sheet of the closest training images.
        n_sheets: Number of sample grids of the run.
        unreadable: Names of files that are not pictures of progan's, or damaged.
        makes_webp: Whether the pictures are as good as with Pillow.
    """

    sheets: dict[int, Sheet] = field(default_factory=dict)
    rows: dict[int, Picture] = field(default_factory=dict)
    progress: Picture | None = None
    closest: Picture | None = None
    n_sheets: int = 0
    unreadable: tuple[str, ...] = ()
    makes_webp: bool = True

    def fitting(self, room: int) -> dict[int, Sheet]:
        """Return the sheets that fit into a number of bytes, evenly spread."""
        counts = list(self.sheets)
        most = len(counts)
        while most > 2 and sum(_size(self.sheets[count]) for count in counts) > room:
            most = most * 3 // 4
            counts = chosen(list(self.sheets), (), max(2, most))
        return {count: self.sheets[count] for count in counts}


def read_gallery(run: RunFiles, previous: Path, max_bytes: int) -> Gallery:
    """Read and encode the pictures of a run; those in an earlier report are not encoded again.

    Args:
        run: Files of the run.
        previous: Path of an earlier report, which need not exist.
        max_bytes: Bytes of the whole page.
    """
    unreadable: list[str] = []

    def loaded(path: Path | None, most_bytes: int) -> Picture | None:
        picture = None if path is None else load_picture(path, most_bytes)
        if path is not None and picture is None:
            unreadable.append(path.name)
        return picture

    other = int(max_bytes * _OTHER_SHARE)
    rows = {level: picture for level, path in run.level_rows.items() if (picture := loaded(path, other)) is not None}
    progress = None if rows else loaded(run.progress, other)
    closest = loaded(run.closest, other)
    sheets: dict[int, Sheet] = {}
    earlier = previous_pictures(previous) if run.sheets else {}
    for count, most_bytes in _allowed(run, max_bytes).items():
        path = run.sheets[count]
        key = sheet_key(path, most_bytes)
        picture = earlier[key] if key in earlier else loaded(path, most_bytes)
        if key is not None and picture is not None:
            sheets[count] = Sheet(key, picture)
    return Gallery(sheets, rows, progress, closest, len(run.sheets), tuple(unreadable), makes_webp())


def _allowed(run: RunFiles, max_bytes: int) -> dict[int, int]:
    """Return the sheets of a page by their counts, and the bytes that each may take.

    Bytes change only when the number of sheets passes a power of two, so that most pictures are encoded once.
    """
    schedule = run.schedule
    ends = [schedule.end(stage) for stage in range(len(schedule.stages))]
    counts = list(run.sheets)
    kept = {min((count for count in counts if count >= end), default=-1) for end in ends}
    shown = chosen(counts, kept, _MOST_SHEETS if makes_webp() else _MOST_SHEETS_PNG)
    sides = {count: max(run.architecture.size(schedule.reached(count)[0])) for count in shown}
    n_small = sum(side <= _SMALL for side in sides.values())
    n_large = class_of(len(shown) - n_small, 32)
    room = _SHEETS_SHARE * max_bytes
    small = int(min(_SMALL_BYTES, room / 2 / class_of(n_small, 32)))
    large = int((room - small * (class_of(n_small, 32) if n_small else 0)) / n_large)
    return {count: small if side <= _SMALL else large for count, side in sides.items()}


def _size(sheet: Sheet) -> int:
    return len(sheet.picture.uri) + len(sheet.key) + 400  # with its labels
