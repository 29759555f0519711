"""The curves of a run: of every loss and every measure, over images and over hours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from progan.reports.curves import Axis, Curve, chart
from progan.reports.measures import amount, digits, measure_of, verdict
from progan.reports.reading import RunFiles
from progan.reports.rows import Clock
from progan.reports.text import escaped

_MOST_LOSSES, _MOST_MEASURES = 12, 16
_ABOUT = {
    "critic_loss": "What the critic minimises, penalties included.",
    "generator_loss": "What the generator minimises.",
    "wasserstein": "The critic's estimate with its sign: nearer to 0 is closer to the data.",
    "penalty": "Gradient penalty before its weight.",
    "gradient_penalty": "Gradient penalty before its weight.",
    "reconstruction": "How far images drawn from the codes of real ones are from these: mean absolute difference.",
    "drift": "Mean square of the scores of real images, before its weight.",
}


_MOST_ROWS = 5000  # that curves are drawn from; of more, every n-th
_Row = TypeVar("_Row")


class Figures:
    """The figures of a run.

    Args:
        run: Files of the run.

    Attributes:
        has_hours: Whether the rows tell how long training took; there are two drawings of each curve then.
    """

    def __init__(self, run: RunFiles) -> None:
        self._run = run
        self._clock = Clock(run.rows.losses)
        self.has_hours: bool = self._clock.is_known
        last = self._clock.hours(run.images_seen)
        self._scale, self._unit = (1.0, "hours") if last >= 2 else (60.0, "minutes")
        stages = list(_stages(run))
        reached = tuple((self._time(begin), name) for begin, name in stages if begin <= run.images_seen)
        self._by_images = Axis(float(max(run.images_seen, 1)), "images", tuple(stages))
        self._by_hours = Axis(last * self._scale, self._unit, reached)

    def losses(self) -> str:
        """Return a figure per loss; empty if there are none."""
        rows = _some(self._run.rows.losses)
        names = list(dict.fromkeys(name for row in rows for name in row.losses))[:_MOST_LOSSES]
        figures = []
        for name in names:
            points = [(row.images_seen, row.losses[name]) for row in rows if name in row.losses]
            title = name[:1].upper() + name[1:].replace("_", " ")
            newest = _newest(points)
            shown = "" if newest is None else digits(newest)
            figures.append(self._figure(title, shown, _ABOUT.get(name, ""), Curve(points)))
        return _all(figures)

    def measures(self) -> str:
        """Return a figure per measure, with the floor behind its curve; empty if there are no judgements."""
        judgements = _some(self._run.rows.judgements)
        names = list(dict.fromkeys(name for judgement in reversed(judgements) for name in judgement.measures))
        figures = []
        for name in names[:_MOST_MEASURES]:
            points = [(each.images_seen, each.measures[name]) for each in judgements if name in each.measures]
            floor = [(each.images_seen, each.floors[name]) for each in judgements if name in each.floors]
            newest, band = _newest(points), floor[-1][1] if floor else None
            said, measure = verdict(name, newest, band), measure_of(name)
            under = f"{said[:1].upper()}{said[1:]}. {measure.about}" if said else measure.about
            curve = Curve(points, floor, measure.unit)
            figures.append(self._figure(measure.title, amount(name, newest), under, curve))
        return _all(figures)

    def _figure(self, title: str, newest: str, about: str, curve: Curve) -> str:
        points, floor = curve.points, curve.floor
        label = f"{title}: {_trend(points)}" + (f" Floor: {digits(floor[-1][1].value)}." if floor else "")
        drawn = f'<div class="by-images">{chart(curve, self._by_images, label)}</div>'
        if self.has_hours:
            times = [(self._time(x), y) for x, y in points]
            timed = Curve(times, [(self._time(x), band) for x, band in floor], curve.unit)
            drawn += f'<div class="by-hours">{chart(timed, self._by_hours, label)}</div>'
        under = f'<p class="about">{escaped(about)}</p>' if about else ""
        return (
            f'<figure class="curve"><figcaption><h4>{escaped(title)}</h4><span class="newest">{escaped(newest)}</span>'
            f"{under}</figcaption>{drawn}</figure>"
        )

    def _time(self, images_seen: float) -> float:
        return self._clock.hours(images_seen) * self._scale


def _some(rows: Sequence[_Row]) -> Sequence[_Row]:
    """Return every n-th of many rows, the newest among them."""
    every = -(-len(rows) // _MOST_ROWS) or 1
    return rows[::-every][::-1]


def _newest(points: Sequence[tuple[float, float | None]]) -> float | None:
    return next((value for _, value in reversed(points) if value is not None), None)


def _trend(points: Sequence[tuple[float, float | None]]) -> str:
    """Return the course of a curve in words.

    Example:
        >>> _trend([(0, 30.0), (10, None), (20, 12.5)]), _trend([])
        ('from 30 at 0 images to 12.5 at 20 images.', 'no values.')
    """
    known = [(x, y) for x, y in points if y is not None]
    if not known:
        return "no values."
    (first, begin), (last, end) = known[0], known[-1]
    return f"from {digits(begin)} at {first:,.0f} images to {digits(end)} at {last:,.0f} images."


def _stages(run: RunFiles) -> Iterator[tuple[float, str]]:
    """Yield where stages begin, named by their resolution where that is new."""
    before = -1
    for begin, stage in zip(run.schedule.starts, run.schedule.stages, strict=True):
        yield begin, "" if stage.level == before else run.short_size(stage.level)
        before = stage.level


def _all(figures: list[str]) -> str:
    return f'<div class="curves">{"".join(figures)}</div>' if figures else ""
