"""The rows of metrics.jsonl as plain data: losses, judgements, and the time that training took.

The file may have been written by an older progan, cut off in the middle of a line, or crafted: a line that is not a
row is counted and left out, and what is read is bounded.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from progan.optimization import FIRST_AVERAGE
from progan.storage.untrusted import open_file

_MOST_BYTES, _MOST_LINES = 32_000_000, 100_000  # of the file; of a longer one the end is read
_LONGEST_LINE = 100_000  # bytes
_LARGEST_COUNT = 10**15
_MOST_NAMES = 60  # of losses, and of measures
_LONGEST_NAME = 60  # characters
_MOST_REMARKS = 30
_LONGEST_TEXT = 1000  # characters
_LONGEST_TIME_S = 1e10  # three centuries
_NOT_LOSSES = {"images_seen", "stage", "level", "alpha", "learning_rate"}


@dataclass(frozen=True)
class LossRow:
    """The losses at one count of images.

    Attributes:
        images_seen: Real images shown.
        stage: Index of the stage; None = not recorded.
        losses: Losses by name; None where a loss is not finite.
        elapsed_s: Seconds since training was last started or resumed; None = not recorded.
        trained_s: Seconds of training, over all resumes; None = not known.
        segment: Number of resumes before this row.
    """

    images_seen: int
    stage: int | None
    losses: dict[str, float | None]
    elapsed_s: float | None
    trained_s: float | None = None
    segment: int = 0


@dataclass(frozen=True)
class Band:
    """What a measure gives for the data itself: its floor.

    Attributes:
        value: The value.
        low: Lower end of its interval.
        high: Upper end of its interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Judgement:
    """The measures at one count of images.

    Attributes:
        images_seen: Real images shown.
        measures: Measures by name; None where one could not be computed.
        floors: What the same measure gives for the data, by name of the measure.
        leading: Name of the measure that chooses the best checkpoint, if any.
        remarks: What the judgement says in sentences.
        average: Name of the average of the generator that was judged.
    """

    images_seen: int
    measures: dict[str, float | None]
    floors: dict[str, Band]
    leading: str | None = None
    remarks: tuple[str, ...] = ()
    average: str = FIRST_AVERAGE


@dataclass(frozen=True)
class Rows:
    """What a metrics.jsonl holds.

    Attributes:
        losses: Rows of losses, by rising count.
        judgements: Judgements, by rising count.
        choice: (images_seen, text) of the newest choice among averages, if there is one.
        skipped: Number of lines that are not rows.
        is_whole: Whether the whole file was read.
    """

    losses: tuple[LossRow, ...] = ()
    judgements: tuple[Judgement, ...] = ()
    choice: tuple[int, str] | None = None
    skipped: int = 0
    is_whole: bool = True


def read_rows(path: Path) -> Rows:
    """Read a metrics.jsonl; one that is not there, or cannot be opened, has no rows."""
    try:
        with open_file(path) as file:
            size = file.seek(0, 2)
            begin = max(0, size - _MOST_BYTES)
            file.seek(begin)
            data = file.read(_MOST_BYTES)
    except (OSError, ValueError):
        return Rows()
    lines = data.split(b"\n")[bool(begin) :]
    return parse_rows(lines[-_MOST_LINES:], is_whole=not begin and len(lines) <= _MOST_LINES)


def parse_rows(lines: Iterable[bytes], *, is_whole: bool = True) -> Rows:
    """Return the rows that lines hold.

    Example:
        >>> lines = [b'{"images_seen": 8, "stage": 0, "critic_loss": -1.5, "elapsed_s": 2}', b'{"images_seen": 1']
        >>> rows = parse_rows(lines)
        >>> rows.losses[0].losses, rows.losses[0].trained_s, rows.skipped
        ({'critic_loss': -1.5}, 2.0, 1)
    """
    losses: list[LossRow] = []
    judgements: list[Judgement] = []
    choice: tuple[int, str] | None = None
    skipped = 0
    for line in lines:
        if not line.strip():
            continue
        row = _parse_row(line)
        if row is None:
            skipped += 1
        elif isinstance(row, dict):  # a setback, or a change of the data, which are among the warnings
            if "average_choice" in row and texts([row.get("text")]):
                choice = row["images_seen"], *texts([row["text"]])
        elif isinstance(row, Judgement):
            _append(judgements, row)
        else:
            _append(losses, row)
    return Rows(tuple(_with_time(losses)), tuple(judgements), choice, skipped, is_whole)


class Clock:
    """The hours of training at a count of images, between the rows that have a time.

    Args:
        rows: Rows of losses, by rising count.
    """

    def __init__(self, rows: Sequence[LossRow]) -> None:
        known = [(row.images_seen, row.trained_s) for row in rows if row.trained_s is not None and row.images_seen > 0]
        self._counts: list[int] = [0, *(images_seen for images_seen, _ in known)]
        self._seconds: list[float] = [0.0, *(seconds for _, seconds in known)]

    @property
    def is_known(self) -> bool:
        """Whether any row has a time."""
        return len(self._counts) > 1

    def hours(self, images_seen: float) -> float:
        """Return the hours of training; beyond the last row that has them, those of that row."""
        index = bisect_right(self._counts, images_seen)
        if index == len(self._counts):
            return self._seconds[-1] / 3600
        before, after = self._counts[index - 1], self._counts[index]
        share = (images_seen - before) / (after - before)
        return (self._seconds[index - 1] + (self._seconds[index] - self._seconds[index - 1]) * share) / 3600


def seconds_per_image(rows: Sequence[LossRow], stage: int) -> float | None:
    """Return the seconds per image of a stage since training was last resumed; None if no two rows tell them."""
    last = rows[-1].segment if rows else 0
    own = [
        (row.images_seen, row.elapsed_s)
        for row in rows
        if row.stage == stage and row.segment == last and row.elapsed_s is not None
    ]
    if len(own) < 2:
        return None
    (first, begin), (newest, end) = own[0], own[-1]
    return (end - begin) / (newest - first)


def count(value: object) -> int | None:
    """Return a value that is a count; None where it is something else."""
    return value if type(value) is int and 0 <= value <= _LARGEST_COUNT else None


def number(value: object) -> float | None:
    """Return a value that is a finite number as a float; None where it is something else."""
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > 1e300 or not math.isfinite(value):
        return None
    return float(value)


def texts(value: object, most: int = _MOST_REMARKS) -> tuple[str, ...]:
    """Return the texts in a list, as many and as long as are shown."""
    found = value[:most] if isinstance(value, list) else []
    return tuple(text[:_LONGEST_TEXT] for text in found if isinstance(text, str))


def parse_line(line: bytes) -> dict[str, Any]:
    """Return the JSON object in a line, with None for NaN and Infinity; an empty one where there is none."""
    if len(line) > _LONGEST_LINE:
        return {}
    try:
        row = json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _parse_row(line: bytes) -> LossRow | Judgement | dict[str, Any] | None:
    row = parse_line(line)
    images_seen = count(row.get("images_seen"))
    if images_seen is None:
        return None
    if any(kind in row for kind in ("setback", "average_choice", "data_change")):
        return row
    if "measures" not in row:
        others = {name: value for name, value in row.items() if name not in _NOT_LOSSES and not name.endswith("_s")}
        elapsed_s = number(row.get("elapsed_s"))
        if elapsed_s is not None and not 0 <= elapsed_s <= _LONGEST_TIME_S:
            elapsed_s = None
        return LossRow(images_seen, count(row.get("stage")), _numbers(others), elapsed_s)
    measures, floors, leading = row["measures"], row.get("floors"), row.get("leading")
    if not isinstance(measures, dict):
        return None
    bands = {name: _band(value) for name, value in floors.items()} if isinstance(floors, dict) else {}
    return Judgement(
        images_seen,
        _numbers(measures),
        {name: band for name, band in bands.items() if band is not None},
        leading if isinstance(leading, str) and leading in measures else None,
        texts(row.get("remarks")),
        next(iter(texts([row.get("average")])), FIRST_AVERAGE),  # judgements of earlier versions name none
    )


def _numbers(values: Mapping[str, object]) -> dict[str, float | None]:
    """Return the numbers among values, and None where one is null."""
    named = {name: value for name, value in values.items() if len(name) <= _LONGEST_NAME}
    numbers = {name: number(value) for name, value in named.items() if value is None or number(value) is not None}
    return dict(list(numbers.items())[:_MOST_NAMES])


def _band(value: object) -> Band | None:
    if not isinstance(value, dict):
        return None
    middle = number(value.get("value"))
    if middle is None:
        return None
    ends = [number(value.get(name)) for name in ("low", "high")]
    low, high = (middle if end is None else end for end in ends)
    return Band(middle, min(low, middle), max(high, middle))


def _append(rows: list[Any], row: Any) -> None:
    """Append a row; those at its count or beyond were written before the run was resumed from an earlier one."""
    while rows and rows[-1].images_seen >= row.images_seen:
        rows.pop()
    rows.append(row)


def _with_time(rows: Iterable[LossRow]) -> Iterator[LossRow]:
    """Yield rows with the seconds of all training, since ``elapsed_s`` restarts whenever a run is resumed."""
    before, last, segment = 0.0, 0.0, 0
    for row in rows:
        if row.elapsed_s is None:
            yield replace(row, segment=segment)
            continue
        if row.elapsed_s < last:
            before, segment = before + last, segment + 1
        last = row.elapsed_s
        yield replace(row, segment=segment, trained_s=before + last)
