"""Contrast: about every image's own mean, opacity left alone. Flips and shifts: whole images, opacity too."""

import math
import re

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from progan.augment.augmentation import augment
from progan.augment.colour import Colour
from progan.augment.geometric import HorizontalFlip, Translate
from progan.augment.photometric import Contrast, adjust_contrast
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
    x, draws = images(3), torch.tensor([[0.0, 0.3, 1.0]], dtype=torch.float64)
    assert_close(Contrast()(x, draws), adjust_contrast(x, torch.tensor([1.0, 1.3, 2.0])), rtol=1e-6, atol=1e-6)
    factors = torch.tensor([0.5, 0.95, 2.0])
    assert_close(Contrast(0.5, 2.0)(x, draws), adjust_contrast(x, factors), rtol=1e-6, atol=1e-6)


def test_dtype_is_kept():
    for dtype in (torch.float32, torch.float64):
        assert Contrast()(images(3).to(dtype), torch.zeros(1, 3)).dtype == dtype


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
    shown = HorizontalFlip(0.5)(x, torch.tensor([[0.49, 0.5, 0.0]], dtype=dtype))
    assert shown.dtype == dtype
    for image, original, mirrored in zip(shown, x, (True, False, True), strict=True):
        for ours, channel in zip(image, original, strict=True):  # the opacity goes with its colours
            by_hand = [row[::-1] if mirrored else row for row in channel.tolist()]
            assert ours.tolist() == by_hand


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_flip_never_and_always(dtype):
    draws = torch.tensor([[0.0, 0.5, 1 - 2**-24]]).to(dtype)  # the last is the greatest draw, 1 as a half type
    x = images(3).to(dtype)
    assert torch.equal(HorizontalFlip(0)(x, draws), x)
    assert torch.equal(HorizontalFlip(1)(x, draws), x.flip(-1))
    assert torch.equal(HorizontalFlip(1)(HorizontalFlip(1)(x, draws), draws), x)


def test_flips_are_keyed_and_of_each_image_about_half():
    x = torch.tensor([0.0, 1.0]).expand(8, 3, 1, 2)
    draws = [uniform((1, 8), 3, "augment", position) for position in range(0, 8 * 500, 8)]
    shown = torch.stack([HorizontalFlip()(x, row) for row in draws])
    again = torch.stack([HorizontalFlip()(x, uniform((1, 8), 3, "augment", 8 * step)) for step in range(500)])
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


# Shifts


def slow_translate(image, down, right):
    """Move one image, (C, H, W), and repeat its edges: each pixel from where it was."""
    _, height, width = image.shape
    moved = np.empty_like(image)
    for row in range(height):
        for column in range(width):
            moved[:, row, column] = image[
                :, min(max(row - down, 0), height - 1), min(max(column - right, 0), width - 1)
            ]
    return moved


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("strength", [1.0, 0.5, 0.0])
def test_translate(channels, dtype, strength):
    x = images(channels).to(dtype)  # 4x5: half a side is 2 pixels of both
    draws = torch.tensor([[0.2, 0.3, 0.999], [0.0, 0.5, 0.999], [0.7, 0.999, 0.1]], dtype=dtype)
    down, right = (
        [
            (min(math.floor(5 * draw), 4) - 2) * (decides < strength or strength == 1)
            for decides, draw in zip(draws[0].tolist(), row.tolist(), strict=True)
        ]
        for row in draws[1:]
    )
    expected = [slow_translate(image.float().numpy(), *by) for image, *by in zip(x, down, right, strict=True)]
    for given in (strength, torch.tensor(strength)):
        ours = Translate(0.5)(x, draws, given)
        assert ours.dtype == dtype
        assert torch.equal(ours.float(), torch.from_numpy(np.stack(expected)))


def test_shifts_are_equally_likely_in_all_directions():
    x = torch.zeros(2000, 1, 8, 8)
    x[:, :, 4, 4] = 1
    shown = Translate(0.25)(x, uniform((3, 2000), 5, "augment", 0))
    places = shown.mean(0)[0][2:7, 2:7]
    assert_close(places.sum(), torch.tensor(1.0))
    assert ((places - 1 / 25).abs() < 0.02).all(), places  # 4.6 standard deviations


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
@pytest.mark.parametrize(
    ("kind", "name"),
    [(Translate, name) for name in ("fraction", "probability")]
    + [(Colour, name) for name in ("brightness", "contrast", "saturation", "probability")],
)
def test_refusals_of_shares(kind, name, value):
    text = f"{kind.__name__} takes 0 <= {name} <= 1, got {name}={value!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        kind(**{name: value})


# Colours


def slow_colour(image, draws, settings, strength):
    """Change one image, (C, H, W), in float64, number by number."""
    colours = image[:3].copy()
    amounts = [
        settings[name] * (2 * amount - 1) if decides < settings["probability"] * strength else 0.0
        for name, decides, amount in zip(("brightness", "contrast", "saturation"), draws[::2], draws[1::2], strict=True)
    ]
    colours = colours + amounts[0]
    colours = colours.mean() + (1 + amounts[1]) * (colours - colours.mean())
    grey = colours.mean(axis=0, keepdims=True)
    return np.concatenate([grey + (1 + amounts[2]) * (colours - grey), image[3:]])


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("strength", [1.0, 0.5, 0.0])
def test_colour(channels, strength):
    settings = {"brightness": 0.3, "contrast": 0.4, "saturation": 0.9, "probability": 0.6}
    x, draws = images(channels), uniform((6, 3), 4, "augment", 0).double()
    expected = [
        slow_colour(image, row, settings, strength) for image, row in zip(x.numpy(), draws.T.numpy(), strict=True)
    ]
    for given in (strength, torch.tensor(strength)):
        assert_close(Colour(**settings)(x, draws, given), torch.from_numpy(np.stack(expected)), rtol=0, atol=1e-7)
    assert Colour()(x.bfloat16(), draws.bfloat16()).dtype == torch.bfloat16


def test_colour_changes_each_part_with_its_probability_and_nothing_is_cut_off():
    x = torch.tensor([0.9, 0.6, 0.0]).reshape(1, 3, 1, 1).repeat(4000, 1, 2, 2)
    x[:, :, 0] /= 2
    draws = uniform((6, 4000), 7, "augment", 0)
    for name in ("brightness", "contrast", "saturation"):
        off = {other: 0.0 for other in ("brightness", "contrast", "saturation") if other != name}
        shown = Colour(**off, probability=0.2)(x, draws)
        share = (shown != x).flatten(1).any(1).double().mean().item()
        assert abs(share - 0.2) < 0.03, (name, share)  # 4.7 standard deviations
    shown = Colour()(x, draws)
    assert shown.min() < -0.2
    assert shown.max() > 1.2


# All of them

ALL = [Contrast(0.5, 2.0), HorizontalFlip(), Translate(0.5), Colour()]


@pytest.mark.parametrize("augmentation", ALL, ids=str)
def test_strength_0_changes_nothing_and_no_strength_is_the_full_one(augmentation):
    x, draws = images(4), uniform((augmentation.draws_per_image, 3), 1, "augment", 0)
    for zero in (0.0, torch.tensor(0.0)):
        assert_close(augmentation(x, draws, zero), x, rtol=0, atol=1e-15)
    assert not torch.equal(augmentation(x, draws), x)
    for one in (1, torch.tensor(1.0)):
        assert torch.equal(augmentation(x, draws, one), augmentation(x, draws))


@pytest.mark.parametrize("augmentation", ALL, ids=str)
def test_augmentations_differentiate_twice(augmentation):
    x = (0.4 + 0.2 * images(3)[:, :, :3, :3]).requires_grad_()  # where a contrast has nothing to clamp
    draws = uniform((augmentation.draws_per_image, 3), 1, "augment", 0).double()

    def score(x):
        return augmentation(x, draws, torch.tensor(0.9)).pow(3).sum((1, 2, 3))

    assert gradcheck(score, x)
    assert gradgradcheck(score, x)


def test_batches_one_after_another_get_the_same_numbers():
    draws = {"Translate": uniform((3, 3), 1, "augment", 0), "HorizontalFlip": torch.tensor([[0.1, 0.9, 0.1]])}
    x = images(3)
    both = augment(ALL[1:3], torch.cat([x, 1 - x]), draws)
    expected = Translate(0.5)(HorizontalFlip()(x, draws["HorizontalFlip"]), draws["Translate"])
    assert torch.equal(both[:3], expected)
    assert_close(both[3:], 1 - expected)
