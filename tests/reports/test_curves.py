"""Curves: what is drawn of many points, of few, of gaps, and of outliers."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest

from progan.reports.curves import HEIGHT, WIDTH, Axis, Curve, chart
from progan.reports.rows import Band

AXIS = Axis(1000.0, "images", ((0.0, "4x4"), (500.0, "8x8"), (510.0, "16x16"), (2000.0, "32x32")))


def drawn(curve: Curve, axis: Axis = AXIS) -> ET.Element:
    return ET.fromstring(chart(curve, axis, "a <curve>"))


def numbers(element: ET.Element, name: str) -> list[float]:
    return [float(each) for each in re.findall(r"[-\d.]+", element.get(name, ""))]


def test_few_points_are_dots_on_a_line():
    svg = drawn(Curve([(0, 1.0), (500, 3.0), (1000, 2.0)]))
    assert svg.get("aria-label") == "a <curve>"
    (line,) = svg.iter("polyline")
    x1, y1, x2, y2, x3, y3 = numbers(line, "points")
    assert x2 - x1 == pytest.approx(x3 - x2)
    assert y2 < y3 < y1
    assert y1 - y3 == pytest.approx(y3 - y2)
    assert len(list(svg.iter("circle"))) == 3
    assert not list(svg.iter("polygon"))


def test_many_points_are_a_mean_with_its_range():
    svg = drawn(Curve([(x, math.sin(x)) for x in range(1000)]))
    (line,), (area,) = svg.iter("polyline"), svg.iter("polygon")
    assert len(numbers(line, "points")) <= 2 * 242
    assert area.get("class") == "range"
    assert not list(svg.iter("circle"))


def test_a_gap_breaks_the_line():
    svg = drawn(Curve([(0, 1.0), (100, 2.0), (200, None), (300, 2.0), (400, 1.0)]))
    assert [len(numbers(line, "points")) for line in svg.iter("polyline")] == [4, 4]


def test_the_floor_is_a_band_with_its_middle():
    svg = drawn(Curve([(0, 30.0), (1000, 12.0)], [(1000, Band(9.0, 8.0, 10.0))]))
    (band,) = svg.iter("polygon")
    assert band.get("class") == "floor"
    heights = set(numbers(band, "points")[1::2])
    (middle,) = [line for line in svg.iter("polyline") if line.get("class") == "floor"]
    assert min(heights) < numbers(middle, "points")[1] < max(heights)


def test_stages_are_marked_where_there_is_room():
    svg = drawn(Curve([(0, 1.0), (1000, 2.0)]))
    assert len([line for line in svg.iter("line") if line.get("class") == "stage"]) == 2  # not at 0, not beyond the end
    assert [text.text for text in svg.iter("text") if text.get("class") == "stage"] == ["4x4", "8x8"]


def test_axes_have_units():
    svg = drawn(Curve([(0, 0.3), (1000, 0.98)], [(1000, Band(0.97, 0.95, 1.03))], "%"))
    texts = [text.text for text in svg.iter("text") if text.get("class") != "stage"]
    assert texts == ["0 %", "50 %", "100 %", "0", "250", "500", "750", "1k images"]


def test_one_outlier_does_not_flatten_the_curve():
    points = [(x, 1.0 + x / 1000) for x in range(1000)]
    points[500] = (500, 1e6)
    svg = drawn(Curve(points))
    (line,) = svg.iter("polyline")
    heights = numbers(line, "points")[1::2]
    assert abs(heights[0] - heights[-1]) > HEIGHT / 4


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(0, None)],
        [(0, 0.0)],
        [(5, 1e-300), (6, 1e300)],
        [(0, -1e300), (9, 1e300)],
        [(0, 7.0), (9, 7.0)],
        [(0, 5e-324)],
        [(0, 5e-324), (9, -1e-310)],
    ],
)
def test_whatever_the_values_all_is_within_the_drawing(points):
    for axis in (AXIS, Axis(0.0, "hours")):
        svg = drawn(Curve(points, [(0, Band(0.0, 0.0, 0.0))] if points else []), axis)
        for text in svg.iter("text"):
            assert 0 <= float(text.get("x")) <= WIDTH
            assert 0 <= float(text.get("y")) <= HEIGHT
        for line in svg.iter("polyline"):
            assert all(map(math.isfinite, numbers(line, "points")))
