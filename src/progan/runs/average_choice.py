"""The choice among several averages of a generator: part of a run's state, so that each checkpoint holds its own."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from progan.errors import CheckpointError
from progan.optimization import FIRST_AVERAGE
from progan.runs.checkpoint import read_entries
from progan.runs.record import RunRecord

_NAME = re.compile(r"ema(_[1-9])?")
_LONGEST_NAME = 200  # characters of a measure's name


@dataclass(frozen=True)
class AverageChoice:
    """The averages of a generator, as a measure found them, and the best one.

    Attributes:
        images_seen: Real images shown when they were judged.
        measure: Name of the measure; the lower, the better.
        values: Value of each average by its name, ``ema`` for the first one; None = it has none.

    Example:
        >>> AverageChoice(960, "swd", {"ema": 9.5, "ema_1": 8.0, "ema_2": None}).chosen
        'ema_1'
    """

    images_seen: int
    measure: str
    values: Mapping[str, float | None]

    @property
    def chosen(self) -> str:
        """Name of the best average; of several that are equally good, the first one."""
        known = {name: value for name, value in self.values.items() if value is not None}
        return min(known, key=known.__getitem__)

    def describe(self, multiples: Sequence[float]) -> str:
        """Return the choice in words.

        Args:
            multiples: Half-lives of the averages, in the order of the values, as multiples of the first one's.

        Example:
            >>> AverageChoice(960, "swd", {"ema": 9.5, "ema_1": 8.0}).describe((1, 0.5))
            'average ema_1 (half-life x 0.5) is the best of 2 by swd after 960 real images: ema_1 8, ema 9.5'
        """
        multiple = dict(zip(self.values, multiples, strict=True))[self.chosen]
        ranked = sorted(self.values.items(), key=lambda each: math.inf if each[1] is None else each[1])
        values = ", ".join(f"{name} {'none' if value is None else f'{value:.4g}'}" for name, value in ranked)
        return (
            f"average {self.chosen} (half-life x {multiple:.3g}) is the best of {len(self.values)} by {self.measure} "
            f"after {self.images_seen:,} real images: {values}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return a dict that `json.dump` accepts."""
        return {
            "images_seen": self.images_seen,
            "measure": self.measure,
            "values": dict(self.values),
            "chosen": self.chosen,
        }

    @classmethod
    def from_json(cls, data: Any) -> AverageChoice | None:
        """Rebuild a choice from what `to_json` returned, None from None.

        Raises:
            ValueError: If the data is not a choice.
        """
        if data is None:
            return None
        if not isinstance(data, Mapping) or set(data) != {"images_seen", "measure", "values", "chosen"}:
            raise ValueError("a choice among averages must have images_seen, measure, values and chosen")
        images_seen, measure, values = data["images_seen"], data["measure"], data["values"]
        if type(images_seen) is not int or images_seen < 0:
            raise ValueError(f"images_seen of a choice must be an int of at least 0, got {images_seen!r}")
        if not isinstance(measure, str) or len(measure) > _LONGEST_NAME:
            raise ValueError(f"the measure of a choice must be a text of at most {_LONGEST_NAME} characters")
        if not isinstance(values, Mapping) or not values or not all(map(_NAME.fullmatch, values)):
            raise ValueError("the values of a choice must be by name: ema, ema_1, ema_2, ...")
        for value in values.values():
            if value is not None and (type(value) not in (int, float) or not math.isfinite(value)):
                raise ValueError("the values of a choice must be finite numbers or null")
        if all(value is None for value in values.values()):
            raise ValueError("a choice must have a value")
        choice = cls(images_seen, measure, dict(values))
        if choice.chosen != data["chosen"]:
            raise ValueError(f"the chosen average must be the best one, {choice.chosen}")
        return choice


def recorded_choice(record: RunRecord) -> AverageChoice | None:
    """Return the choice that a checkpoint records of its own averages, if any.

    Raises:
        CheckpointError: If it is not recorded as it should be.
    """
    numbers = record.contents.get("numbers")
    try:
        choice = AverageChoice.from_json(numbers.get("average_choice") if isinstance(numbers, Mapping) else None)
    except ValueError as error:
        raise CheckpointError(f"{record.file} does not describe a run: {error}") from None
    return choice if choice is not None and choice.images_seen == record.images_seen else None


def recorded_averages(record: RunRecord) -> list[str]:
    """Return the names of the averages that a checkpoint holds: ``ema``, then ``ema_1`` and so on.

    Raises:
        CheckpointError: If its tensors cannot be read.
    """
    return sorted({name.partition("/")[0] for name in read_entries(record.path) if name.startswith(FIRST_AVERAGE)})


def average_in_use(record: RunRecord) -> str:
    """Return the name of the average that stands for a checkpoint: the chosen one, or the first one.

    Raises:
        CheckpointError: If the choice is not recorded as it should be, or is of an average that is not there.
    """
    choice = recorded_choice(record)
    if choice is None:
        return FIRST_AVERAGE
    if choice.chosen not in recorded_averages(record):
        raise CheckpointError(f"{record.path} has no average {choice.chosen}, which it says was chosen")
    return choice.chosen
