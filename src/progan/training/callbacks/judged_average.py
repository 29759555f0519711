"""The averages of a generator at a judgement: what the leading measure finds of each, and which one is judged whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from progan.optimization import FIRST_AVERAGE
from progan.runs.average_choice import AverageChoice
from progan.training.callbacks.judged_images import JudgedImages
from progan.training.callbacks.measures import Measured


@dataclass(frozen=True)
class JudgedAverage:
    """An average of the generator with its samples, as the leading measure found it.

    Attributes:
        name: Name of the average.
        images: Images to judge: its samples, and real images.
        leading: Name of the leading measure; None = there is none.
        value: Value of the leading measure; None = it has none.
        found: What the measures that were applied to get the value have found, by their names.
        seconds: Time of sampling and of these measures, without preparation and costly measures.
        is_cheap: Whether the value was found without costly measures.
    """

    name: str
    images: JudgedImages
    leading: str | None
    value: float | None
    found: Mapping[str, Measured]
    seconds: float
    is_cheap: bool

    def is_better_than(self, other: JudgedAverage | None) -> bool:
        """Return whether this average has a value, and a lower one than another has; any value is better than none."""
        if self.value is None:
            return False
        return other is None or other.value is None or self.value < other.value


JudgeAverage = Callable[[str, str | None], JudgedAverage | None]


@dataclass(frozen=True)
class Comparison:
    """What the leading measure has found of all averages.

    Attributes:
        choice: The choice; None = no average has a value.
        judged: The chosen average, or the first one where none is chosen; None = its samples are not finite.
        others_s: Seconds that the others took.
    """

    choice: AverageChoice | None
    judged: JudgedAverage | None
    others_s: float = 0.0


def compare_averages(names: Iterable[str], judge: JudgeAverage, leading: str | None, images_seen: int) -> Comparison:
    """Judge averages by the leading measure, and choose the best; the samples of two are held at a time.

    Args:
        names: Names of the averages.
        judge: Function that judges an average, by its name and that of the leading measure; it returns None where a
            sample is not finite.
        leading: Name of the leading measure; None = the first that is found.
        images_seen: Real images shown.
    """
    values: dict[str, float | None] = {}
    judged: JudgedAverage | None = None
    seconds = 0.0
    for name in names:
        average = judge(name, leading)
        values[name] = None
        if average is None:
            continue
        leading, values[name] = average.leading, average.value
        seconds += average.seconds
        if name == FIRST_AVERAGE or average.is_better_than(judged):
            judged = average
    others_s = seconds if judged is None else seconds - judged.seconds
    if leading is None or all(value is None for value in values.values()):
        return Comparison(None, judged, others_s)
    return Comparison(AverageChoice(images_seen, leading, values), judged, others_s)
