"""The kernel distance against plain sums in NumPy, and its properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from progan.metrics import kernel_distance


def colours(images: Tensor) -> Tensor:
    """Mean and spread of each channel."""
    return torch.cat((images.mean(dim=(2, 3)), images.std(dim=(2, 3))), dim=1)


def images(n: int, seed: int, strength: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 1, 1, generator=generator) * strength * torch.rand(n, 3, 16, 16, generator=generator)


def slow_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Binkowski et al. 2018, equation 4, pair by pair."""

    def kernel(a, b):
        return (a @ b / len(a) + 1) ** 3

    n, m = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


@pytest.mark.parametrize("m", [9, 14])
def test_distance_is_that_of_the_paper(m, monkeypatch):
    real, fake = images(9, 0), images(m, 1, 0.5)
    expected = 1000 * slow_distance(colours(real).double().numpy(), colours(fake).double().numpy())
    assert kernel_distance(real, fake, features=colours) == pytest.approx(expected, rel=1e-9)
    monkeypatch.setattr("progan.metrics.pairs.BLOCK", 4)
    assert kernel_distance(real, fake, features=colours) == pytest.approx(expected, rel=1e-9)


def test_a_number_that_stays():
    assert kernel_distance(images(9, 0), images(9, 1, 0.5), features=colours) == pytest.approx(30.80579, rel=1e-6)


def test_it_is_unbiased():
    """Two sets of one kind are at 0 in the mean, however small."""
    values = [kernel_distance(images(8, 2 * seed), images(8, 2 * seed + 1), features=colours) for seed in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0 < max(values)


def test_subsets_are_the_same_in_the_mean():
    real, fake = images(60, 0), images(50, 1, 0.5)
    whole = kernel_distance(real, fake, features=colours)
    subsets = kernel_distance(real, fake, features=colours, subsets=100, subset_size=20)
    assert subsets == pytest.approx(whole, rel=0.1)
    assert subsets == kernel_distance(real, fake, features=colours, subsets=100, subset_size=20)
    assert subsets != kernel_distance(real, fake, features=colours, subsets=100, subset_size=20, seed=1)
    assert kernel_distance(real[:50], fake, features=colours, subsets=1, subset_size=50) == pytest.approx(
        kernel_distance(real[:50], fake, features=colours)
    )


def test_built_in_features_see_noise_and_colour():
    real, other = images(80, 0), images(80, 1)
    floor = kernel_distance(real, other)
    noisy = (other + 0.1 * torch.rand(other.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    assert kernel_distance(real, noisy) > 10 * abs(floor)
    assert kernel_distance(real, other * 0.5) > 10 * abs(floor)


@pytest.mark.parametrize(
    ("features", "kind", "words"),
    [
        ("inception", TypeError, "features must be a function of images"),
        (lambda batch: batch, ValueError, r"one row per image, \(B, D\), got \(8, 3, 16, 16\) for 8 images"),
        (lambda batch: batch.flatten(1)[:2], ValueError, "one row per image"),
        (lambda batch: batch.flatten(1).numpy(), TypeError, r"features\(images\) must be a tensor"),
        (lambda batch: batch.flatten(1) / 0, ValueError, "finite numbers, got NaN or infinity for real"),
    ],
)
def test_bad_features(features, kind, words):
    with pytest.raises(kind, match=words):
        kernel_distance(images(8, 0), images(8, 1), features=features)


def test_bad_subsets():
    with pytest.raises(ValueError, match="at most the number of images of either set, 8, got 1000"):
        kernel_distance(images(8, 0), images(9, 1), subsets=3)
    with pytest.raises(ValueError, match="subsets must be at least 1"):
        kernel_distance(images(8, 0), images(9, 1), subsets=0)


def test_bad_images():
    with pytest.raises(ValueError, match="one size"):
        kernel_distance(images(8, 0), images(8, 1)[:, :1])
    with pytest.raises(ValueError, match="fake must be at least 2 images"):
        kernel_distance(images(8, 0), images(1, 1))
