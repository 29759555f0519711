"""MS-SSIM against a slow NumPy version in float64, and its properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from progan.metrics import ms_ssim
from progan.metrics.ms_ssim import five_scales, random_ring, similarity, window_means


def pictures(n: int, size: tuple[int, int], channels: int = 3) -> Tensor:
    """Smooth random images: (n, C, H, W), values in [0, 1]."""
    coarse = torch.rand(n + 1, channels, 6, 6, generator=torch.Generator().manual_seed(0))
    coarse = (coarse[:-1] + coarse[-1:]) / 2  # which they share
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear")


def slow_windows(image: np.ndarray) -> np.ndarray:
    """Weighted mean of each window of (h, w)."""
    size = min(11, *image.shape)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    window = np.exp(-(x**2 + y**2) / (2 * (1.5 * size / 11) ** 2))
    window /= window.sum()
    rows, columns = (side - size + 1 for side in image.shape)
    return np.array([[(image[i : i + size, j : j + size] * window).sum() for j in range(columns)] for i in range(rows)])


def slow_similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Wang et al. 2003, for (C, H, W) in 0..255, as the paper's program shrinks the windows."""
    result = 1.0
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    for index, weight in enumerate(weights):
        terms = []
        for a, b in zip(first, second, strict=True):
            mean_a, mean_b = slow_windows(a), slow_windows(b)
            variances = slow_windows(a * a) - mean_a**2 + slow_windows(b * b) - mean_b**2
            covariance = slow_windows(a * b) - mean_a * mean_b
            term = (2 * covariance + (0.03 * 255) ** 2) / (variances + (0.03 * 255) ** 2)
            if index == 4:
                term *= (2 * mean_a * mean_b + (0.01 * 255) ** 2) / (mean_a**2 + mean_b**2 + (0.01 * 255) ** 2)
            terms.append(term)
        result *= max(0.0, float(np.mean(terms))) ** weight
        even = [2 * (side // 2) for side in first.shape[1:]]
        first, second = (
            image[:, : even[0], : even[1]].reshape(len(image), even[0] // 2, 2, even[1] // 2, 2).mean(axis=(2, 4))
            for image in (first, second)
        )
    return result


@pytest.mark.parametrize(("size", "channels"), [((64, 64), 3), ((16, 24), 1), ((37, 50), 4)])
def test_similarity_is_that_of_the_paper(size, channels):
    images = pictures(4, size, channels).double()
    first, second = images[:2], images[2:] * 0.7 + images[:2] * 0.3
    expected = [slow_similarity(a.numpy() * 255, b.numpy() * 255) for a, b in zip(first, second, strict=True)]
    found = similarity(five_scales(first), five_scales(second))
    assert min(expected) > 0.01
    assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_a_window_that_stays():
    """A single bright pixel shows the window's weights."""
    image = torch.zeros(1, 1, 21, 21, dtype=torch.float64)
    image[0, 0, 10, 10] = 1
    window = window_means(image)[0, 0]
    assert_close(window.sum(), torch.tensor(1.0, dtype=torch.float64))
    assert float(window[5, 5] / window[5, 6]) == pytest.approx(math.exp(0.5 / 1.5**2))


def test_a_number_that_stays():
    assert ms_ssim(pictures(30, (48, 32))) == pytest.approx(0.546545, rel=1e-4)


def test_all_pairs_of_an_odd_number_are_the_mean_over_all():
    images = pictures(7, (32, 32))
    scales = five_scales(images)
    every = [
        float(
            similarity(
                [type(s)(*(t[i : i + 1] for t in s)) for s in scales],
                [type(s)(*(t[j : j + 1] for t in s)) for s in scales],
            )[0]
        )
        for i in range(7)
        for j in range(i)
    ]
    assert ms_ssim(images, pairs=21) == pytest.approx(np.mean(every), rel=1e-5)


@pytest.mark.parametrize(
    ("n", "pairs", "expected"),
    [(10, 20, (10, 2)), (10, 25, (10, 3)), (10, 999, (10, 4)), (99, 20, (20, 1)), (2, 5, (2, 1)), (5, 1, (2, 1))],
)
def test_ring(n, pairs, expected):
    order, partners = random_ring(n, pairs, 0)
    assert (len(order), partners) == expected
    assert len(set(order.tolist())) == len(order)


def test_what_does_not_change_the_number(monkeypatch):
    images = (pictures(20, (32, 32)) * 255).round().to(torch.uint8)
    expected = ms_ssim(images, pairs=60)
    assert ms_ssim([(image / 255,) for image in images], pairs=60) == pytest.approx(expected, rel=1e-6)
    monkeypatch.setitem(ms_ssim.__globals__, "_BATCH", 1)
    assert ms_ssim(images, pairs=60) == pytest.approx(expected, rel=1e-6)
    assert ms_ssim(images, pairs=60, seed=1) != expected


def test_a_picture_and_its_negative_have_nothing_in_common():
    noise = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert ms_ssim(torch.cat((noise, 1 - noise))) == 0


def test_less_variety_is_more_alike():
    images = pictures(40, (32, 32))
    few = images[:4].repeat(10, 1, 1, 1)
    assert ms_ssim(images) < ms_ssim(few) < ms_ssim(images[:1].expand(10, -1, -1, -1))
    assert ms_ssim(images[:1].expand(10, -1, -1, -1)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("images", "pairs", "kind", "words"),
    [
        (torch.rand(1, 3, 32, 32), None, ValueError, "at least 2 images"),
        (torch.rand(4, 2, 32, 32), None, ValueError, "channels"),
        (torch.rand(4, 3, 32, 8), None, ValueError, "at least 16 px"),
        (torch.rand(4, 3, 32, 32), 0, ValueError, "pairs must be at least 1"),
        (torch.rand(4, 3, 32, 32), 1.5, TypeError, "pairs must be an int"),
        (torch.zeros(4, 3, 32, 32, dtype=torch.int64), None, TypeError, "uint8 or floats"),
    ],
)
def test_bad_input(images, pairs, kind, words):
    with pytest.raises(kind, match=words):
        ms_ssim(images, pairs=pairs)
