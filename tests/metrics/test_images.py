"""Sets of images: what every measure refuses, and what it takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn import drawings

from progan.metrics import copying, defects, evaluate, ms_ssim, sliced_wasserstein
from progan.metrics.images import ImageSet

FLOATS = drawings(20) / 255


def with_value(value: float) -> torch.Tensor:
    """Images of which one value of the last one is another."""
    images = FLOATS.clone()
    images[-1, 0, 0, 0] = value
    return images


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        (with_value(float("nan")), ValueError, r"images must be floats in \[0, 1\], got NaN"),
        (with_value(float("inf")), ValueError, r"got values from 0 to inf; clamp or scale them, or pass uint8"),
        (with_value(1.01), ValueError, r"got values from 0 to 1.01; clamp or scale them"),
        (with_value(-0.01), ValueError, r"got values from -0.01 to 1; clamp or scale them"),
        (FLOATS.long(), TypeError, "images must be uint8 or floats in .0, 1., got torch.int64"),
        (FLOATS[0], ValueError, r"images must be images \(N, C, H, W\), got \(3, 32, 32\)"),
        (FLOATS[:1], ValueError, "images must be at least 2 images, got 1"),
        (FLOATS[:, :2], ValueError, r"images must have 1 \(grey\), 3 \(RGB\) or 4 \(RGBA\) channels"),
        (FLOATS[:, :, :, :15], ValueError, "images must be at least 16 px high and wide, got 32x15; enlarge them"),
        (FLOATS[:, :, :15], ValueError, "images must be at least 16 px high and wide, got 15x32; enlarge them"),
        (FLOATS.numpy(), TypeError, "got a numpy array .* of float32; pass torch.from_numpy"),
        ([*FLOATS[:19], FLOATS[19, :, :20]], ValueError, r"one size, got \(3, 32, 32\) and \(3, 20, 32\)"),
        ([*FLOATS[:19], drawings(1)[0]], TypeError, "images of one dtype, got torch.float32 and torch.uint8"),
        ([*FLOATS[:19], with_value(2)[19]], ValueError, "got values from 0 to 2"),
        ("folder", TypeError, "images must be a tensor .* or a map-style data set of images, got 'folder'"),
    ],
)
def test_what_is_refused(images, error, words):
    with pytest.raises(error, match=words):
        ms_ssim(images)


def test_sets_of_different_kinds():
    with pytest.raises(
        ValueError, match=r"must have one size .* got \(3, 32, 32\) and \(3, 16, 16\) .*; resize one of"
    ):
        sliced_wasserstein(FLOATS, FLOATS[..., :16, :16])
    for found in (lambda: sliced_wasserstein(FLOATS, FLOATS[:, :1]), lambda: evaluate(FLOATS[:, :1], FLOATS)):
        with pytest.raises(ValueError, match="; read both with the same channels= of"):
            found()


def test_batches_are_floats_in_order():
    pixels = drawings(9)
    for images in (pixels, [*pixels], [(image, 3) for image in pixels], pixels.permute(0, 1, 3, 2).mT):
        image_set = ImageSet("images", images)
        batches = [*image_set.batches(4)]
        assert [len(batch) for batch in batches] == [4, 4, 1]
        assert torch.equal(torch.cat(batches), pixels / 255)
        chosen = torch.cat([*image_set.batches(2, range(1, 8, 3))])
        assert torch.equal(chosen, pixels[[1, 4, 7]] / 255)
        assert torch.equal(torch.cat([*image_set.batches(2, torch.tensor([8, 0, 8]))]), pixels[[8, 0, 8]] / 255)


@pytest.mark.filterwarnings("error")
def test_images_that_need_gradients_are_measured_without():
    for images in (FLOATS.clone().requires_grad_(), [image.clone().requires_grad_() for image in FLOATS]):
        assert defects(images, FLOATS) == defects(FLOATS, FLOATS)
        assert copying(images, images) == copying(FLOATS, FLOATS)
        assert ms_ssim(images) == ms_ssim(FLOATS)


def test_grey_and_transparent_images_are_measured():
    for channels in (1, 4):
        images = drawings(20, channels=channels)
        found = evaluate(images, images, printed=False)
        assert all(value is not None and np.isfinite(value) for value in found.values.values())
