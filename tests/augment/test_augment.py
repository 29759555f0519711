"""Contrast: about every image's own mean, within [0, 1], opacity left alone. Flips: whole images, opacity too."""

import math
import re

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from progan.augment.augmentations import Contrast, HorizontalFlip, adjust_contrast
from progan.randomness import uniform

FACTORS = torch.tensor([1.0, 1.3, 2.0], dtype=torch.float64)


def images(channels):
    return torch.rand(3, channels, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def slow_contrast(image, factor):
    colours = image[:3]
    return np.concatenate([np.clip(colours.mean() + factor * (colours - colours.mean()), 0, 1), image[3:]])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_contrast(channels):
    x = images(channels)
    expected = np.stack(
        [slow_contrast(image, factor) for image, factor in zip(x.numpy(), FACTORS.numpy(), strict=True)]
    )
    ours = adjust_contrast(x, FACTORS)
    assert_close(ours, torch.from_numpy(expected))
    assert_close(ours[0], x[0])
    assert 0 <= ours.min() < ours.max() <= 1
    if channels == 4:
        assert_close(ours[:, 3], x[:, 3], rtol=0, atol=0)


def test_contrast_is_stretched():
    x = 0.4 + 0.2 * images(3)  # nothing to clamp
    spread = adjust_contrast(x, FACTORS).flatten(1).std(1) / x.flatten(1).std(1)
    assert_close(spread, FACTORS)
    assert_close(adjust_contrast(x, FACTORS).mean((1, 2, 3)), x.mean((1, 2, 3)))


def test_draws_go_from_low_to_high():
    x, draws = images(3), torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    assert_close(Contrast()(x, draws), adjust_contrast(x, torch.tensor([1.0, 1.3, 2.0])), rtol=1e-6, atol=1e-6)
    factors = torch.tensor([0.5, 0.95, 2.0])
    assert_close(Contrast(0.5, 2.0)(x, draws), adjust_contrast(x, factors), rtol=1e-6, atol=1e-6)


def test_dtype_is_kept():
    for dtype in (torch.float32, torch.float64):
        assert Contrast()(images(3).to(dtype), torch.zeros(3)).dtype == dtype


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0, math.inf), (math.nan, 2.0), (1.0, math.nan), (math.inf, math.inf)],
)
def test_refusals(low, high):
    with pytest.raises(
        ValueError, match=f"^{re.escape(f'Contrast takes 0 < low <= high, both finite, got {low=}, {high=}')}$"
    ):
        Contrast(low, high)


# Flips


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_flip(channels, dtype):
    x = images(channels).to(dtype)
    shown = HorizontalFlip(0.5)(x, torch.tensor([0.49, 0.5, 0.0], dtype=dtype))
    assert shown.dtype == dtype
    for image, original, mirrored in zip(shown, x, (True, False, True), strict=True):
        for ours, channel in zip(image, original, strict=True):  # the opacity goes with its colours
            by_hand = [row[::-1] if mirrored else row for row in channel.tolist()]
            assert ours.tolist() == by_hand


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_flip_never_and_always(dtype):
    draws = torch.tensor([0.0, 0.5, 1 - 2**-24]).to(dtype)  # the last is the greatest draw, 1 as a half type
    x = images(3).to(dtype)
    assert torch.equal(HorizontalFlip(0)(x, draws), x)
    assert torch.equal(HorizontalFlip(1)(x, draws), x.flip(-1))
    assert torch.equal(HorizontalFlip(1)(HorizontalFlip(1)(x, draws), draws), x)


def test_flips_are_keyed_and_of_each_image_about_half():
    x = torch.tensor([0.0, 1.0]).expand(8, 3, 1, 2)
    draws = [uniform((8,), 3, "augment", position) for position in range(0, 8 * 500, 8)]
    shown = torch.stack([HorizontalFlip()(x, row) for row in draws])
    again = torch.stack([HorizontalFlip()(x, uniform((8,), 3, "augment", 8 * step)) for step in range(500)])
    assert torch.equal(shown, again)
    share = shown[:, :, 0, 0, 0].mean(dim=0)
    assert ((share - 0.5).abs() < 0.1).all(), share  # 4.5 standard deviations
    assert len(set(shown[:, :, 0, 0, 0].unbind(1))) == 8
    rare = torch.stack([HorizontalFlip(0.1)(x, row) for row in draws])[..., 0].mean()
    assert_close(rare, torch.tensor(0.1), rtol=0, atol=0.02)


@pytest.mark.parametrize("probability", [-0.1, 1.5, float("nan")])
def test_flip_refusals(probability):
    text = f"HorizontalFlip takes 0 <= probability <= 1, got {probability=}"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        HorizontalFlip(probability)
