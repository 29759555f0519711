"""Features and the feature distance, against plain NumPy."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import MEMORY
from torch.testing import assert_close

from progan.metrics import feature_distance
from progan.metrics.feature_distance import energy_distance
from progan.metrics.features import (
    FAINT,
    RandomFilters,
    bands,
    built_in_features,
    features_of,
    features_of_both,
    random_filters,
)
from progan.metrics.images import ImageSet


def pictures(n=20, size=16, channels=3, seed=0):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


def blurred(image):
    """The binomial 5x5 filter with reflected edges: (H, W) -> (H, W)."""
    taps = np.array([1, 4, 6, 4, 1]) / 16
    padded = np.pad(image, 2, mode="reflect")
    height, width = image.shape
    rows = sum(tap * padded[k : k + height] for k, tap in enumerate(taps))
    return sum(tap * rows[:, k : k + width] for k, tap in enumerate(taps))


def plain_response(band, filters, biases):
    """One layer of filters, with stride 2, rectified and averaged over 3x3 parts: (C, H, W) -> (F * 9,)."""
    compressed = np.pad(np.arcsinh(band / FAINT), ((0, 0), (1, 1), (1, 1)), mode="reflect")
    height, width = band.shape[1] // 2, band.shape[2] // 2
    response = np.zeros((len(filters), height, width))
    for y in range(height):
        for x in range(width):
            window = compressed[:, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3]
            response[:, y, x] = np.maximum(0, (filters * window).sum((1, 2, 3)) + biases)
    edges = [(int(np.floor(k * height / 3)), int(np.ceil((k + 1) * height / 3))) for k in range(3)]
    parts = [[response[:, a:b, c:d].mean((1, 2)) for c, d in edges] for a, b in edges]
    return np.moveaxis(np.array(parts), 2, 0).reshape(-1)


def test_a_band_is_what_blurring_takes_away():
    image = pictures(1, 32).double()
    fine, coarse = bands(image)
    assert (fine.shape, coarse.shape) == ((1, 3, 32, 32), (1, 3, 16, 16))
    plain = image[0, 0].numpy()
    small = blurred(plain)[::2, ::2]
    spread = np.zeros_like(plain)
    spread[::2, ::2] = small
    # Far from the edges, where padding of the small image and of the spread one differ.
    assert_close(fine[0, 0].numpy()[8:-8, 8:-8], (plain - 4 * blurred(spread))[8:-8, 8:-8])


def test_random_filters_against_numpy():
    images = pictures(2).double()
    filters, biases = random_filters(3)
    found = RandomFilters(3)(images)
    assert_close(filters.flatten(1).norm(dim=1), torch.ones(64))
    for image, features in zip(bands(images)[0], found, strict=True):
        assert_close(features.numpy(), plain_response(image.numpy(), filters.double().numpy(), biases.double().numpy()))


def test_the_built_in_features_are_centred_and_scaled_by_the_real_images():
    real = ImageSet("real", pictures(40, 32))
    features = features_of(real, built_in_features(real))
    assert_close(features.double().mean(dim=0), torch.zeros(features.shape[1], dtype=torch.float64), atol=1e-5, rtol=0)
    assert_close(features.square().mean().item(), 1.0, atol=1e-5, rtol=0)
    filters, colours = features.split((1152, 192), dim=1)
    ratio = (colours.square().sum() / filters.square().sum()).item()
    assert_close(ratio, 0.49, atol=1e-4, rtol=0)


def test_the_energy_distance_against_numpy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 4)), rng.normal(1, 2, size=(9, 4))

    def mean(a, b, *, own):
        pairs = [np.sqrt(((p - q) ** 2).sum()) for i, p in enumerate(a) for j, q in enumerate(b) if not own or i != j]
        return np.mean(pairs)

    expected = (2 * mean(x, y, own=False) - mean(x, x, own=True) - mean(y, y, own=True)) / 2
    assert_close(energy_distance(torch.from_numpy(x), torch.from_numpy(y)), expected, atol=1e-7, rtol=1e-7)


def test_a_pinned_feature_distance():
    assert_close(feature_distance(pictures(), pictures(seed=1) * 0.9), 31.886, atol=0.01, rtol=0)


def test_alike_sets_are_at_0_in_the_mean():
    values = [feature_distance(pictures(seed=2 * k), pictures(seed=2 * k + 1)) for k in range(20)]
    assert abs(np.mean(values)) < 2 * np.std(values) / 20**0.5 + 1e-3
    assert min(values) < 0 < max(values)


def test_faint_dirt_in_flat_colours_counts():
    flat = torch.rand(40, 3, 1, 1, generator=torch.Generator().manual_seed(0)).expand(40, 3, 32, 32).clone()
    dirty = (flat[20:] + 0.01 * torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    flat[:, :, 10:20, 10:20] = 0
    dirty[:, :, 10:20, 10:20] = 0
    assert feature_distance(flat[:20], flat[20:]) < 100 < feature_distance(flat[:20], dirty)


@pytest.mark.parametrize(("channels", "size"), [(1, (16, 16)), (4, (16, 24)), (3, (20, 33))])
def test_grey_rgba_and_other_shapes(channels, size):
    images = torch.rand(12, channels, *size, generator=torch.Generator().manual_seed(0))
    assert feature_distance(images[:6], images[6:] * 0) > feature_distance(images[:6], images[6:])


def test_equal_images_have_no_spread_and_no_distance():
    one = pictures(1).expand(10, -1, -1, -1)
    assert feature_distance(one, one) == 0
    assert feature_distance(one, pictures(10)) > 0


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (3, TypeError, "features must be a function of images"),
        (lambda images: 3, TypeError, "features\\(images\\) must be a tensor"),
        (lambda images: images, ValueError, "one row per image, \\(B, D\\), got \\(20, 3, 16, 16\\)"),
        (lambda images: images.flatten(1) / 0, ValueError, "finite numbers, got NaN or infinity for real"),
    ],
)
def test_wrong_extractors(features, error, message):
    with pytest.raises(error, match=message):
        features_of_both(pictures(), pictures(), features)


def test_ones_own_features():
    def colour(images):
        return images.mean((2, 3))

    assert feature_distance(pictures(), pictures() * 0.5, features=colour) > 100


def test_features_keep_the_precision_of_their_extractor():
    images = ImageSet("real", pictures())
    for precision in (torch.float16, torch.float32, torch.float64):
        assert features_of(images, lambda batch, to=precision: batch.flatten(1).to(to)).dtype == precision
    counts = features_of(images, lambda batch: (255 * batch).flatten(1).int())
    assert counts.dtype == torch.float64
    assert_close(counts[:, 0], (255 * pictures()[:, 0, 0, 0]).int().double())


MEASURED = """
import torch
from progan.metrics import density_coverage, feature_distance, kernel_distance
images = torch.randint(256, (2, 3000, 1, 16, 16), dtype=torch.uint8)
projection = torch.randn(256, 2000)
def features(batch): return batch.flatten(1) @ projection
before = begin()
for measure in (feature_distance, kernel_distance, density_coverage):
    measure(*images, features=features)
print(peak_above(before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")
def test_the_features_of_large_sets_take_little_memory():
    """They are kept as the extractor returns them, 24 MB of each set, and made float64 a block at a time."""
    found = subprocess.run([sys.executable, "-c", MEMORY + MEASURED], capture_output=True, text=True, check=True)
    assert 40 < float(found.stdout) < 330
