"""Curves as inline SVG: a line, what it was drawn from, the floor of a measure, and where the stages begin."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from progan.reports.measures import digits
from progan.reports.rows import Band
from progan.reports.text import escaped

WIDTH, HEIGHT = 360, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 352, 20, 176  # of the plot
_MOST_POINTS = 240  # of a line; more are drawn as their mean, and their range
_FEW_POINTS = 40  # that are drawn as dots too
_OUTLIERS = 0.005  # share of the values that may lie beyond either end of the axis
_NEARLY_0 = 0.05  # of the axis: what lies so little beyond its natural end is cut off
_LEAST_GAP = 3  # between lines of stages
_TINY = 1e-300  # below which a difference counts as none
_CHARACTER = 6.2  # width of a digit


@dataclass(frozen=True)
class Axis:
    """The axis from left to right.

    Attributes:
        end: Its last value; it begins at 0.
        unit: What it counts.
        stages: Where each stage begins, and its name; an empty name where the resolution stays.
    """

    end: float
    unit: str
    stages: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Curve:
    """One curve.

    Attributes:
        points: (x, y) by rising x; y is None where there is a gap.
        floor: (x, floor) by rising x.
        unit: ``%`` where the values are shares, else empty.
    """

    points: Sequence[tuple[float, float | None]]
    floor: Sequence[tuple[float, Band]] = ()
    unit: str = ""


@dataclass(frozen=True)
class _Bin:
    """Points that are drawn as one: their mean, and their range."""

    x: float
    mean: float
    low: float
    high: float


def chart(curve: Curve, axis: Axis, label: str) -> str:
    """Return the SVG of a curve; its text has a size of its own, and the drawing scales with the page.

    Args:
        curve: Curve to draw.
        axis: Axis from left to right.
        label: What the curve shows, for those who do not see it.
    """
    runs = [list(_binned(run, axis.end)) for run in _runs(curve.points)]
    low, high, ticks = _scale(curve)

    def across(x: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * min(1.0, max(0.0, x / axis.end if axis.end else 0.0))

    def up(y: float) -> float:
        share = (y - low) / (high - low)
        return _BOTTOM - (_BOTTOM - _TOP) * min(2.0, max(-1.0, share))  # what lies beyond is cut off

    drawn = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(label)}">',
        *_grid(ticks, up, curve.unit),
        *_stages(axis, across),
        *_x_labels(axis, across),
        # A nested svg cuts off what is outside of it.
        f'<svg x="{_LEFT}" y="{_TOP - 4}" width="{_RIGHT - _LEFT + 4}" height="{_BOTTOM - _TOP + 8}" '
        f'viewBox="{_LEFT} {_TOP - 4} {_RIGHT - _LEFT + 4} {_BOTTOM - _TOP + 8}">',
        *_floor(curve.floor, across, up),
    ]
    for run in runs:
        if any(each.high > each.low for each in run):
            there = [(across(each.x), up(each.high)) for each in run]
            back = [(across(each.x), up(each.low)) for each in reversed(run)]
            drawn.append(f'<polygon class="range" points="{_points(there + back)}"/>')
        line = [(across(each.x), up(each.mean)) for each in run]
        drawn.append(f'<polyline class="line" points="{_points(line)}"/>')
        if sum(map(len, runs)) <= _FEW_POINTS:
            drawn += [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in line]
    return "".join([*drawn, "</svg></svg>"])


def _runs(points: Sequence[tuple[float, float | None]]) -> Iterator[list[tuple[float, float]]]:
    """Yield the parts of a curve between its gaps."""
    for is_known, run in groupby(points, key=lambda point: point[1] is not None):
        if is_known:
            yield [(x, y) for x, y in run if y is not None]


def _binned(points: Sequence[tuple[float, float]], end: float) -> Iterator[_Bin]:
    """Yield as many points as can be told apart."""
    if len(points) <= _MOST_POINTS:
        yield from (_Bin(x, y, y, y) for x, y in points)
        return
    width = end / _MOST_POINTS or 1.0
    for _, group in groupby(points, key=lambda point: int(point[0] / width)):
        inside = list(group)
        values = [y for _, y in inside]
        x = sum(x for x, _ in inside) / len(inside)
        yield _Bin(x, sum(values) / len(values), min(values), max(values))


def _scale(curve: Curve) -> tuple[float, float, list[float]]:
    """Return the ends of the axis upwards, and its ticks; a few outliers lie beyond."""
    values = sorted(y for _, y in curve.points if y is not None)
    cut = int(len(values) * _OUTLIERS)
    shown = values[cut : len(values) - cut] + [end for _, band in curve.floor for end in (band.low, band.high)]
    low, high = min(shown, default=0.0), max(shown, default=1.0)
    if -_NEARLY_0 * high < low < 0.5 * high or low == high >= 0:
        low = 0.0  # a distance is seen in proportion
    if curve.unit and 1 < high < 1 + _NEARLY_0:
        high = 1.0  # the end of an interval around a share
    if high - low <= max(_TINY, 1e-9 * max(abs(low), abs(high))):
        low, high = low - abs(low) / 2, high + (abs(high) / 2 if abs(high) > _TINY else (0.1 if curve.unit else 1.0))
    step = _nice((high - low) / 3)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return first * step, last * step, [index * step for index in range(first, last + 1)]


def _nice(step: float) -> float:
    """Return the round number nearest above.

    Example:
        >>> _nice(0.7), _nice(3.0), _nice(21.0)
        (1.0, 5.0, 25.0)
    """
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if power * factor >= step * (1 - 1e-9))


def _grid(ticks: Sequence[float], up: Callable[[float], float], unit: str) -> Iterator[str]:
    span = ticks[-1] - ticks[0]
    for tick in ticks:
        y = up(tick)
        value = 0.0 if abs(tick) < span * 1e-9 else tick
        text = f"{digits(value * 100)} %" if unit == "%" else digits(value)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{escaped(text)}</text>'


def _stages(axis: Axis, across: Callable[[float], float]) -> Iterator[str]:
    drawn = labelled = -math.inf
    for begin, name in axis.stages:
        x = across(begin)
        if begin > axis.end:
            return
        if begin > 0 and x >= drawn + _LEAST_GAP:
            drawn = x
            yield f'<line class="stage" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{_BOTTOM}"/>'
        if name and x >= labelled and x + len(name) * _CHARACTER <= WIDTH:
            labelled = x + len(name) * _CHARACTER + 8
            yield f'<text class="stage" x="{x + 3:.1f}" y="{_TOP - 9}">{escaped(name)}</text>'


def _x_labels(axis: Axis, across: Callable[[float], float]) -> Iterator[str]:
    if axis.end <= 0:
        return
    step = _nice(axis.end / 4)
    values = [index * step for index in range(int(axis.end / step + 1e-9) + 1)]
    for index, value in enumerate(values):
        text = short(value)
        is_last = index == len(values) - 1
        if is_last:
            text += f" {axis.unit}"
        x = across(value)
        anchor = "start" if index == 0 else "middle"
        if is_last and x + len(text) * _CHARACTER / 2 > WIDTH:
            x, anchor = float(WIDTH - 2), "end"
        yield f'<text x="{x:.1f}" y="{HEIGHT - 7}" text-anchor="{anchor}">{escaped(text)}</text>'


def _floor(
    floor: Sequence[tuple[float, Band]], across: Callable[[float], float], up: Callable[[float], float]
) -> Iterator[str]:
    """Yield the band of the floor, and its middle as a dashed line."""
    if not floor:
        return
    points = [(across(x), band) for x, band in floor]
    if len(points) == 1:
        points = [(float(_LEFT), points[0][1]), (float(_RIGHT), points[0][1])]
    there = [(x, up(band.high)) for x, band in points]
    back = [(x, up(band.low)) for x, band in reversed(points)]
    yield f'<polygon class="floor" points="{_points(there + back)}"/>'
    middle = [(x, up(band.value)) for x, band in points]
    yield f'<polyline class="floor" points="{_points(middle)}"/>'


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def short(value: float) -> str:
    """Return a count with as few characters as an axis has room for.

    Example:
        >>> [short(value) for value in (0, 2.5, 400, 60_000, 1_250_000)]
        ['0', '2.5', '400', '60k', '1.25M']
    """
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"
