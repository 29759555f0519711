"""The noise floor: which sets are compared, its interval, and the words."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from progan.metrics import Floor, compare_with_floor, noise_floor
from progan.metrics.floor import prediction_interval, student_quantile


def numbered(n: int) -> Tensor:
    """Images whose first pixel is their number / 1000."""
    images = torch.zeros(n, 1, 16, 16)
    images[:, 0, 0, 0] = torch.arange(n) / 1000
    return images


@pytest.mark.parametrize(("n", "each"), [(None, 10), (4, 4), (30, 10)])
@pytest.mark.parametrize("kind", ["tensor", "data set"])
def test_disjoint_sets_of_equal_size(n, each, kind):
    images = numbered(21)
    seen = []

    def distance(a, b):
        sides = [{round(1000 * float(image[0, 0, 0])) for image in side} for side in (a, b)]
        assert isinstance(a, Tensor) == (kind == "tensor")
        assert len(a) == len(b) == len(sides[0]) == len(sides[1]) == each
        assert not sides[0] & sides[1]
        seen.append(sides)
        return len(seen)

    floor = noise_floor(images if kind == "tensor" else list(images), distance, n=n, splits=5)
    assert floor.images == each
    assert len(seen) == 5
    assert seen[0] != seen[1]
    assert floor.value == 3


def test_interval_by_hand():
    mean, low, high = prediction_interval([1.0, 2.0, 3.0, 4.0])
    reach = 3.182 * math.sqrt(5 / 3) * math.sqrt(1 + 1 / 4)
    assert mean == 2.5
    assert (mean - low, high - mean) == pytest.approx((reach, reach), rel=0.01)


@pytest.mark.parametrize(("freedom", "quantile"), [(3, 3.182), (7, 2.365), (15, 2.131), (100, 1.984)])
def test_quantiles_of_student(freedom, quantile):
    assert student_quantile(freedom) == pytest.approx(quantile, rel=0.01)


def test_fresh_sets_fall_into_the_interval():
    """As promised, in about 95 of 100 cases: 200 populations, each with a floor and a fresh pair of sets."""
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(200):
        images = torch.from_numpy(rng.random((40, 1, 16, 16), dtype=np.float32))
        images[:, 0, 0, 0] = torch.from_numpy(rng.random(40, dtype=np.float32))

        def distance(a, b):
            return float(a[:, 0, 0, 0].mean() - b[:, 0, 0, 0].mean())

        floor = noise_floor(images, distance, n=20, seed=seed)
        fresh = rng.random(20).mean() - rng.random(20).mean()
        inside += floor.low <= fresh <= floor.high
    assert 180 <= inside <= 199


@pytest.mark.parametrize(
    ("images", "given", "kind", "words"),
    [
        (numbered(3), {}, ValueError, "real must be at least 4 images, got 3"),
        (numbered(8), {"n": 1}, ValueError, "n must be at least 2"),
        (numbered(8), {"splits": 3}, ValueError, "splits must be at least 4"),
        (numbered(8), {"distance": 3}, TypeError, "distance must be a function"),
        (numbered(8), {"distance": lambda a, b: a}, TypeError, r"distance\(a, b\) must be a number, got a tensor"),
    ],
)
def test_bad_input(images, given, kind, words):
    with pytest.raises(kind, match=words):
        noise_floor(images, **{"distance": lambda a, b: 0.0} | given)


FLOOR = Floor(9.45, 7.9, 11.0, images=640)


@pytest.mark.parametrize(
    ("value", "floor", "given", "words"),
    [
        (9.9, FLOOR, {}, "as good as the data allows"),
        (28.1, FLOOR, {}, "3.0 times the floor"),
        (7.0, FLOOR, {}, "nearer to the data than real images are"),
        (9.9, FLOOR, {"images": 1280}, "compare 640 with 640 images"),
        (60, Floor(52, 31, 73, images=20), {"images": 40}, "this number means nothing with 40 images"),
        (300, Floor(52, 31, 73, images=20), {"images": 40}, "40 images give a rough number"),
        (5, Floor(0.1, -1, 1, images=640), {}, "above the floor"),
        (0.5, Floor(0.1, -1, 1, images=640), {}, "as good as the data allows"),
        (0.4, Floor(0.87, 0.8, 0.93, images=640), {"higher_is_better": True}, "below the floor"),
        (0.85, Floor(0.87, 0.8, 0.93, images=640), {"higher_is_better": True}, "as good as the data allows"),
        (math.nan, FLOOR, {}, "no number"),
        (9.9, Floor(9.45, 7.9, 11.0), {}, "two sets of real images are at 9.45 (7.9 to 11)"),
    ],
)
def test_words(value, floor, given, words):
    assert words in compare_with_floor(value, floor, **given)
