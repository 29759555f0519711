"""What is measured at a judgement: the interface of a measure, and how measures are applied."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any

from torch import Tensor

from progan.arguments import wrong_type
from progan.errors import warn
from progan.training.callbacks.judged_images import JudgedImages

_LINE = "\n"


@dataclass(frozen=True)
class Measured:
    """What a measure has found, where it is more than one number.

    Attributes:
        values: Numbers by name; None = it could not be computed.
        floors: What the same measure gives for real images: its value, and the interval that it lies in, by the name
            of the value: an object with value, low and high.
        remarks: Sentences that a person understands.
        alarms: Remarks that are also given as warnings, such as that the generator has collapsed.
        sheet: Image of the closest pairs, (C, H, W), uint8, which becomes samples/closest.png; None = there is none.

    Example:
        >>> Measured({"brightness": 0.4}, remarks=("The samples are darker than the data.",)).values
        {'brightness': 0.4}
    """

    values: Mapping[str, float | None]
    floors: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()
    sheet: Tensor | None = None


Measure = Callable[[JudgedImages], "float | Measured | None"]


def judge(
    images: JudgedImages,
    measures: Mapping[str, Measure],
    failed: set[str],
    known: Mapping[str, Measured] | None = None,
) -> Measured:
    """Apply measures, and return what all of them have found; a measure that fails is reported, and its value is None.

    Args:
        images: Images to judge.
        measures: Measures by name.
        failed: Names of the measures whose failure has been reported; changed in place.
        known: What measures have found of these images already, by their names; these are not applied again.
    """
    values: dict[str, float | None] = {}
    floors: dict[str, Mapping[str, float | None]] = {}
    remarks: list[str] = []
    alarms: list[str] = []
    sheet = None
    known = known or {}
    for name, measure in measures.items():
        found = known[name] if name in known else _apply(images, name, measure, failed)
        values |= found.values
        floors |= found.floors
        remarks += [*found.remarks, *found.alarms]
        alarms += found.alarms
        sheet = found.sheet if found.sheet is not None else sheet
    return Measured(values, floors, tuple(remarks), tuple(alarms), sheet)


def leading_value(
    images: JudgedImages, measures: Mapping[str, Measure], leading: str | None, failed: set[str]
) -> tuple[str | None, float | None, dict[str, Measured]]:
    """Return the name of the leading measure, its value, and what the measures applied until then have found.

    Args:
        images: Images to judge.
        measures: Measures by name; they are applied until one has the leading value.
        leading: Name of the leading measure; None = the first that is found.
        failed: As for `judge`.
    """
    applied: dict[str, Measured] = {}
    for name in sorted(measures, key=lambda name: name != leading):
        applied[name] = _apply(images, name, measures[name], failed)
        found = applied[name].values
        if found and leading is None:
            leading = next(iter(found))
        if leading is not None and leading in found:
            return leading, found[leading], applied
    return leading, None, applied


def check_measures(measures: object) -> dict[str, Measure]:
    """Return measures of a user's own as a dict.

    Raises:
        TypeError: If they are not functions by name.
    """
    if not isinstance(measures, Mapping):
        raise wrong_type("measures", "a dict of functions by name", measures)
    for name, measure in measures.items():
        if not isinstance(name, str):
            raise wrong_type("each name in measures", "a str", name)
        if not callable(measure):
            raise wrong_type(f"measures[{name!r}]", "a function of JudgedImages", measure)
    return dict(measures)


def _apply(images: JudgedImages, name: str, measure: Measure, failed: set[str]) -> Measured:
    """Return what one measure has found, as JSON can hold it; None as its value where it fails."""
    try:
        found = _checked(name, measure(images))
        floors = {each: _as_floor(floor) for each, floor in found.floors.items()}
    except Exception as error:
        if name not in failed:
            failed.add(name)
            warn(
                f"the measure {name} failed, and its value is null from now on where it fails; training continues: "
                f"{type(error).__name__}: {str(error).partition(_LINE)[0]}"
            )
        return Measured({name: None})
    return replace(found, values={each: _finite(value) for each, value in found.values.items()}, floors=floors)


def _checked(name: str, found: object) -> Measured:
    """Return what a measure has returned as `Measured`."""
    if isinstance(found, Measured):
        return found
    if found is not None and not hasattr(found, "__float__"):
        raise wrong_type("what a measure returns", "a number, None or a Measured", found)
    return Measured({name: None if found is None else float(found)})


def _as_floor(floor: Any) -> dict[str, float | None]:
    values = asdict(floor) if is_dataclass(floor) and not isinstance(floor, type) else floor
    return {part: _finite(values[part]) for part in ("value", "low", "high")}


def _finite(value: float | None) -> float | None:
    """Return a number that JSON can hold."""
    return None if value is None or not math.isfinite(value) else float(value)
