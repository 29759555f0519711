"""Laplacian pyramids against zero insertion and a full 5x5 filter in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from progan.metrics.pyramid import (
    enlarge,
    laplacian_level,
    laplacian_pyramid,
    pyramid_descriptors,
    pyramid_sizes,
    shrink,
)

BINOMIAL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


def blurred(image: np.ndarray) -> np.ndarray:
    """Filter (H, W) with the binomial filter, edges reflected and not repeated."""
    padded = np.pad(image, 2, mode="reflect")
    result = np.zeros_like(image)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            result[y, x] = (padded[y : y + 5, x : x + 5] * BINOMIAL).sum()
    return result


def slow_pyramid(image: np.ndarray, levels: int) -> list[np.ndarray]:
    """The Laplacian pyramid of (H, W) as Burt and Adelson describe it."""
    pyramid = [image]
    for _ in range(levels - 1):
        pyramid.append(blurred(pyramid[-1])[::2, ::2])
        spread = np.zeros_like(pyramid[-2])
        spread[::2, ::2] = pyramid[-1]
        pyramid[-2] = pyramid[-2] - 4 * blurred(spread)
    return pyramid


@pytest.mark.parametrize("size", [(64, 64), (48, 32), (75, 50), (33, 70), (16, 31)])
def test_pyramid_is_that_of_the_paper(size):
    images = torch.rand(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sizes = pyramid_sizes(*size)
    pyramid = laplacian_pyramid(images)
    assert [tuple(level.shape[2:]) for level in pyramid] == sizes
    for image in range(2):
        for channel in range(3):
            expected = slow_pyramid(images[image, channel].numpy(), len(sizes))
            for level, slow in zip(pyramid, expected, strict=True):
                assert_close(level[image, channel], torch.from_numpy(slow))
    for index, level in enumerate(pyramid):
        assert_close(laplacian_level(images, index), level)


def test_pyramid_adds_up_to_the_image():
    images = torch.rand(1, 1, 70, 52, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    *fine, image = laplacian_pyramid(images)
    for level in reversed(fine):
        image = level + enlarge(image, tuple(level.shape[2:]))
    assert_close(image, images)


def test_flat_images_have_nothing_but_their_colour():
    *fine, coarsest = laplacian_pyramid(torch.full((1, 1, 64, 64), 0.7))
    assert_close(coarsest, torch.full((1, 1, 16, 16), 0.7))
    for level in fine:
        assert_close(level, torch.zeros_like(level))


def test_shrink_keeps_the_memory_of_its_input():
    images = torch.rand(1, 1, 20, 20)
    before = images.clone()
    enlarge(shrink(images), (20, 20))
    assert torch.equal(images, before)


def test_descriptors_tell_blur_and_colour():
    images = torch.rand(4, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    plain = pyramid_descriptors(images)
    assert plain.shape == (4, 2 * 3 * 16)
    blurry = pyramid_descriptors(enlarge(shrink(images), (64, 48)))
    assert (blurry[:, :48] < plain[:, :48]).all()
    bright = pyramid_descriptors(images * 0.5 + 0.5)
    assert (bright[:, 48:] > plain[:, 48:]).all()
