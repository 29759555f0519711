"""Density and coverage against loops in NumPy, and their properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from progan.metrics import DensityCoverage, density_coverage


def first_pixels(images: Tensor) -> Tensor:
    return images[:, 0, 0, :4]


def images(n: int, seed: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def slow(x: np.ndarray, y: np.ndarray, k: int) -> tuple[float, float]:
    """Naeem et al. 2020, equations 5 and 6, pair by pair."""
    radii = []
    for i, row in enumerate(x):
        distances = sorted(float(np.linalg.norm(row - other)) for j, other in enumerate(x) if j != i)
        radii.append(distances[k - 1])
    inside = [[np.linalg.norm(sample - row) < radius for row, radius in zip(x, radii, strict=True)] for sample in y]
    return float(np.sum(inside)) / (k * len(y)), float(np.any(inside, axis=0).mean())


@pytest.mark.parametrize(("k", "m"), [(1, 30), (3, 20), (5, 45)])
def test_they_are_those_of_the_paper(k, m, monkeypatch):
    real, fake = images(30, 0), images(m, 1, 0.2, 0.9)
    expected = slow(first_pixels(real).double().numpy(), first_pixels(fake).double().numpy(), k)
    result = density_coverage(real, fake, k=k, features=first_pixels)
    assert (result.density, result.coverage) == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr("progan.metrics.pairs.BLOCK", 7)
    assert density_coverage(real, fake, k=k, features=first_pixels) == result


def test_numbers_that_stay():
    result = density_coverage(images(30, 0), images(30, 1, 0.2, 0.9), features=first_pixels)
    assert result == DensityCoverage(density=203 / 150, coverage=23 / 30)


def test_real_images_are_dense_and_cover():
    result = density_coverage(images(300, 0), images(300, 1), k=5, features=first_pixels)
    assert result.density == pytest.approx(1, abs=0.15)
    assert result.coverage == pytest.approx(1 - 1 / 2**5, abs=0.03)


def test_a_missing_half_is_dense_and_does_not_cover():
    result = density_coverage(images(300, 0), images(300, 1, 0.0, 0.6), k=5, features=first_pixels)
    assert result.density > 0.9
    assert result.coverage < 0.6


def test_a_sample_on_the_edge_of_a_ball_is_outside():
    grey = torch.tensor([0.0, 0.25, 0.5, 0.75]).view(4, 1, 1, 1).expand(4, 1, 16, 16)
    on_edge = torch.full((2, 1, 16, 16), 1.0)  # 0.25 from the last one, whose nearest neighbour is as far

    def brightness(images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))

    assert density_coverage(grey, on_edge, k=1, features=brightness) == DensityCoverage(0.0, 0.0)
    assert density_coverage(grey, on_edge - 0.125, k=1, features=brightness) == DensityCoverage(1.0, 0.25)


def test_one_image_repeated():
    real = images(50, 0)
    result = density_coverage(real, real[:1].expand(50, -1, -1, -1), k=5, features=first_pixels)
    assert result.coverage < 0.3


@pytest.mark.parametrize(
    ("k", "kind", "words"),
    [
        (0, ValueError, "k must be at least 1"),
        (5, ValueError, "k must be below the number of real images, 5, got 5"),
        (2.0, TypeError, "k must be an int"),
    ],
)
def test_bad_neighbours(k, kind, words):
    with pytest.raises(kind, match=words):
        density_coverage(images(5, 0), images(9, 1), k=k)
