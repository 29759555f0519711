"""The record of a run's judgements, ``judging.json``: when it is judged, and which checkpoint is the best so far.

The best checkpoint is derived from the judgements and from the checkpoints that exist, each time anew. So it is right
whenever the process was killed, whatever a person has removed, and wherever the run resumes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from progan.errors import CheckpointError, warn
from progan.runs.checkpoint import checkpoints, is_checkpoint, verify
from progan.storage.files import write_file
from progan.storage.untrusted import read_json

JUDGING = "judging.json"
_FORMAT, _VERSION = "progan judging", 1
_LIMIT = 20_000_000  # bytes; a judgement has 100


@dataclass(frozen=True)
class StageInterval:
    """When a stage is judged, as far as that has been decided.

    Attributes:
        stage: Index of the stage.
        first: Count of images of its first judgement before its end; None = not decided.
        every: Number of real images between the judgements that follow; 0 = there are none before the stage's end.
        at_end: Whether the end of the stage is judged; None = not decided.
        thorough: Whether costly measures are taken there; None = not decided.
    """

    stage: int
    first: int | None = None
    every: int | None = None
    at_end: bool | None = None
    thorough: bool | None = None


@dataclass(frozen=True)
class Judged:
    """One judgement by the leading measure.

    Attributes:
        images_seen: Count of images.
        level: Level that was judged.
        alpha: Weight of the level; None = fully grown.
        measure: Name of the leading measure; the lower, the better.
        value: Its value.
    """

    images_seen: int
    level: int
    alpha: float | None
    measure: str
    value: float

    @property
    def rank(self) -> tuple[int, bool, float]:
        """The place among all judgements, highest = best: a higher level first, then fully grown, then the value."""
        return self.level, self.alpha is None, -self.value


@dataclass
class JudgingRecord:
    """The contents of a run's judging.json.

    Attributes:
        intervals: When each stage is judged, by its index.
        judged: Judgements by count of images, in rising order.
        best: The best judgement whose checkpoint exists, as it was last written.
    """

    intervals: dict[int, StageInterval] = field(default_factory=dict)
    judged: dict[int, Judged] = field(default_factory=dict)
    best: Judged | None = None

    @classmethod
    def read(cls, run_dir: Path) -> JudgingRecord:
        """Read the record of a run; an empty one where there is none, or where it is damaged."""
        try:
            contents, _ = read_json(run_dir / JUDGING, _LIMIT)
            if contents["format"] != _FORMAT or contents["version"] != _VERSION:
                return cls()
            intervals = [_interval(each) for each in contents["intervals"]]
            judged = [_judged(each) for each in contents["judged"]]
            best = None if contents["best"] is None else _best(contents["best"])
        except (OSError, ValueError, KeyError, TypeError):
            return cls()
        judged.sort(key=lambda each: each.images_seen)
        return cls({each.stage: each for each in intervals}, {each.images_seen: each for each in judged}, best)

    def write(self, run_dir: Path) -> None:
        """Write the record.

        Raises:
            OSError: If it cannot be written; what was there before stays.
        """
        best = self.best
        contents = {
            "format": _FORMAT,
            "version": _VERSION,
            "best": None if best is None else {name: value for name, value in asdict(best).items() if name != "alpha"},
            "intervals": [asdict(each) for _, each in sorted(self.intervals.items())],
            "judged": [asdict(each) for each in self.judged.values()],
        }
        write_file(run_dir / JUDGING, (json.dumps(contents, indent=1) + "\n").encode())

    def forget_after(self, images_seen: int) -> bool:
        """Forget the judgements past a count, and return whether there were any; decided intervals stay."""
        past = [count for count in self.judged if count > images_seen]
        for count in past:
            del self.judged[count]
        return bool(past)

    def ranked(self, images_seen: float = math.inf) -> list[Judged]:
        """Return the judgements up to a count, best first; only those by the newest one's measure compare."""
        found = [each for each in self.judged.values() if each.images_seen <= images_seen]
        comparable = [each for each in found if each.measure == found[-1].measure]
        return sorted(comparable, key=lambda each: (each.rank, each.images_seen), reverse=True)


def update_best(run_dir: Path, images_seen: int) -> Path | None:
    """Find the best checkpoint up to a count, and record it in judging.json if it is another one.

    Returns:
        Folder of the checkpoint; None where no checkpoint was judged.
    """
    record = JudgingRecord.read(run_dir)
    folders = {int(folder.name): folder for folder in checkpoints(run_dir)}
    best = next((each for each in record.ranked(images_seen) if each.images_seen in folders), None)
    if _shown(best) != _shown(record.best):
        record.best = best
        try:
            record.write(run_dir)
        except OSError as error:
            warn(f"the best checkpoint could not be recorded; training continues: {error}")
    return None if best is None else folders[best.images_seen]


def best_checkpoint(run_dir: Path) -> Path:
    """Return the folder of a run's best sound checkpoint; a warning lists better ones that are damaged.

    Raises:
        CheckpointError: If none was judged, or all that were are damaged.
    """
    if is_checkpoint(run_dir):
        raise CheckpointError(f"{run_dir} is one checkpoint; pass the run directory to get its best one")
    folders = {int(folder.name): folder for folder in checkpoints(run_dir)}
    if not folders:
        raise CheckpointError(f"{run_dir} is not a run with a checkpoint")
    reasons: list[str] = []
    for judged in JudgingRecord.read(run_dir).ranked():
        if folder := folders.get(judged.images_seen):
            try:
                verify(folder)
            except CheckpointError as error:
                reasons.append(str(error))
                continue
            if reasons:
                warn(f"{folder} is used; better checkpoints were skipped: {'; '.join(reasons)}")
            return folder
    why = f"all that were judged are damaged: {'; '.join(reasons)}" if reasons else "none was judged"
    raise CheckpointError(f"{run_dir} has no best checkpoint: {why}; the newest one loads without best=True")


def _shown(judged: Judged | None) -> tuple[int, int, str, float] | None:
    return None if judged is None else (judged.images_seen, judged.level, judged.measure, judged.value)


def _interval(data: Mapping[str, Any]) -> StageInterval:
    if set(data) != {"stage", "first", "every", "at_end", "thorough"}:
        raise ValueError(f"an interval has other entries, got {sorted(data)}")
    counts = [data["stage"], data["first"] or 0, data["every"] or 0]
    if any(type(count) is not int or count < 0 for count in counts):
        raise ValueError("an interval's counts are not valid")
    if any(data[name] is not None and type(data[name]) is not bool for name in ("at_end", "thorough")):
        raise ValueError("an interval's decisions are not valid")
    return StageInterval(**data)


def _judged(data: Mapping[str, Any]) -> Judged:
    counts, alpha, measure, value = (data["images_seen"], data["level"]), data["alpha"], data["measure"], data["value"]
    numbers = [value] if alpha is None else [value, alpha]
    if any(type(count) is not int or count < 0 for count in counts) or not isinstance(measure, str):
        raise ValueError("a judgement is not valid")
    if any(type(number) not in (int, float) or not math.isfinite(number) for number in numbers):
        raise ValueError("a judgement's numbers are not valid")
    return Judged(*counts, alpha, measure, value)


def _best(data: Mapping[str, Any]) -> Judged:
    return _judged({**data, "alpha": None})
