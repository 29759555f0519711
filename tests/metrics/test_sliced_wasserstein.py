"""The sliced Wasserstein distance against a slow NumPy version in float64, and its properties."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math

import numpy as np
import pytest
import torch
from conftest import SHARED
from torch import Tensor
from torch.testing import assert_close

from progan.metrics import sliced_wasserstein
from progan.metrics.pyramid import laplacian_pyramid, pyramid_sizes
from progan.metrics.sliced_wasserstein import RANGE, binning, mean_area, random_corners, random_directions
from progan.randomness import keyed_generator

MODULE = importlib.import_module("progan.metrics.sliced_wasserstein")  # its name in the package is the function's


def pictures(n: int, position: str, size: tuple[int, int] = (32, 32), channels: int = 3) -> Tensor:
    """Random colours behind a random rectangle, with a little noise: (n, C, H, W), uint8."""
    rng = keyed_generator(0, "metrics", position)
    images = np.empty((n, channels, *size))
    for image in images:
        image[:] = rng.uniform(60, 240, (channels, 1, 1))
        top, left = (int(rng.integers(0, side // 2)) for side in size)
        image[:, top : top + size[0] // 2, left : left + size[1] // 2] = rng.uniform(0, 200, (channels, 1, 1))
    return torch.from_numpy((images + rng.normal(0, 3, images.shape)).clip(0, 255).astype(np.uint8))


def slow_distance(real: np.ndarray, fake: np.ndarray, seed: int, *, keyed: bool) -> dict[int, float]:
    """Karras et al. 2018, section 5, patch by patch: with progan's draws, or with independent ones."""
    rng = np.random.default_rng(seed)
    channels = real.shape[1]
    levels = {}
    for level, size in enumerate(pyramid_sizes(*real.shape[2:])):
        differences = []
        for repeat in range(4):
            sides = []
            for name, images in (("real", real), ("fake", fake)):
                pyramid = laplacian_pyramid(torch.from_numpy(images))[level].numpy()
                corners = rng.integers(0, (size[0] - 6, size[1] - 6), (len(images), 128, 2))
                if keyed:
                    corners = random_corners(len(images), size, seed, f"swd patches {name} {size[0]} {repeat}").numpy()
                patches = np.array(
                    [pyramid[index, :, y : y + 7, x : x + 7] for index, places in enumerate(corners) for y, x in places]
                )
                patches -= patches.mean(axis=(0, 2, 3), keepdims=True)
                patches /= patches.std(axis=(0, 2, 3), keepdims=True)
                sides.append(patches.reshape(len(patches), -1))
            directions = rng.standard_normal((49 * channels, 128))
            directions /= np.sqrt((directions**2).sum(axis=0))
            if keyed:
                directions = random_directions(49 * channels, seed, f"swd directions {size[0]} {repeat}")[0].numpy()
            ours, theirs = (np.sort(patches @ directions, axis=0) for patches in sides)
            differences.append(np.abs(ours - theirs).mean())
        levels[size[0]] = 1000 * float(np.mean(differences))
    return levels


def real_and_fake(size=(32, 32), channels=3, n=12):
    real, fake = pictures(n, "real", size, channels), pictures(n, "fake", size, channels)
    return real, (fake.float() * 0.9).to(torch.uint8)


@pytest.mark.parametrize(("size", "channels"), [((32, 32), 3), ((48, 32), 1), ((38, 57), 4)])
def test_distance_is_that_of_the_paper(size, channels):
    real, fake = real_and_fake(size, channels)
    result = sliced_wasserstein(real, fake, seed=3)
    expected = slow_distance(real.double().numpy() / 255, fake.double().numpy() / 255, 3, keyed=True)
    assert list(result.levels) == [size[0] for size in pyramid_sizes(*size)]
    assert result.levels == pytest.approx(expected, rel=1e-3)
    assert result.mean == pytest.approx(np.mean(list(expected.values())), rel=1e-3)


def test_orthogonal_directions_and_own_patches_leave_the_mean_as_it_is():
    real, fake = real_and_fake((24, 24), n=50)
    floats = real.double().numpy() / 255, fake.double().numpy() / 255
    ours = [sliced_wasserstein(real, fake, seed=seed).mean for seed in range(5)]
    theirs = [slow_distance(*floats, seed, keyed=False)[24] for seed in range(5)]
    assert np.std(ours) < np.std(theirs)
    assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=0.02)


def test_a_number_that_stays():
    result = sliced_wasserstein(*real_and_fake())
    assert dict(result.levels) == pytest.approx({32: 65.687, 16: 189.393}, rel=1e-3)


def test_what_does_not_change_the_number(monkeypatch):
    """Neither the kind of images, nor how many are read, projected and sorted at once."""
    real, fake = real_and_fake()
    result = sliced_wasserstein(real, fake)
    floats = sliced_wasserstein((real / 255).requires_grad_(), [(image, 0) for image in fake])
    assert floats == result
    for name in ("_BATCH", "_ROWS"):
        monkeypatch.setattr(MODULE, name, 5000)
    assert sliced_wasserstein(real, fake).levels == pytest.approx(result.levels, rel=1e-5)


def test_large_sets_draw_their_patches_once(monkeypatch):
    real, fake = real_and_fake()
    result = sliced_wasserstein(real, fake)
    drawn = []
    monkeypatch.setattr(MODULE, "_PATCH_BYTES", 1000)
    monkeypatch.setattr(MODULE, "random_corners", lambda *given: drawn.append(given) or random_corners(*given))
    once = sliced_wasserstein(real, fake)
    assert len(drawn) == 2 * 2  # two levels of two sets
    assert once != result
    assert once.levels == pytest.approx(result.levels, rel=0.2)


def test_seeds():
    real, fake = real_and_fake()
    assert sliced_wasserstein(real, fake, seed=1) == sliced_wasserstein(real, fake, seed=1)
    assert sliced_wasserstein(real, fake, seed=1) != sliced_wasserstein(real, fake, seed=2)


def test_sets_of_different_numbers():
    real, fake = real_and_fake(n=40)
    whole = sliced_wasserstein(real, fake)
    fewer = sliced_wasserstein(real, fake[:30])
    assert fewer.levels == pytest.approx(whole.levels, rel=0.3)
    assert fewer.levels == pytest.approx(sliced_wasserstein(fake[:30], real).levels, rel=0.3)


@pytest.mark.parametrize(("n", "m"), [(6, 4), (1, 5), (7, 7), (9, 3)])
def test_the_area_is_the_difference_of_sorted_samples(n, m):
    """Of samples in the middle of bins, of which the larger common multiple is sorted."""
    rng = np.random.default_rng(0)
    a, b = np.sort(rng.integers(0, 512, (3, n))), np.sort(rng.integers(0, 512, (3, m)))
    common = math.lcm(n, m)
    expected = np.abs(np.repeat(a, common // n, axis=1) - np.repeat(b, common // m, axis=1)).mean() * 2 * RANGE / 512
    differences = torch.zeros(3, 512, dtype=torch.float64)
    for samples, weight in ((a, 1 / n), (b, -1 / m)):
        for row, places in zip(differences, samples, strict=True):
            for place in places:
                row[place] += weight
    assert mean_area(differences) == pytest.approx(expected)


@pytest.mark.parametrize("numbers", [49, 98, 147, 196])
def test_directions_are_orthogonal(numbers):
    directions, shifts = random_directions(numbers, 0, "directions")
    assert 0 <= shifts.min() < shifts.max() < 1
    assert directions.shape == (numbers, 128)
    block = directions[:, : min(numbers, 128)]
    assert_close(block.T @ block, torch.eye(block.shape[1], dtype=torch.float64))
    assert_close(directions.norm(dim=0), torch.ones(128, dtype=torch.float64))


def test_bins_begin_where_they_are_drawn():
    patches = torch.rand(50, 49, generator=torch.Generator().manual_seed(0)).half()
    directions, shifts = random_directions(49, 0, "here")
    weights, offsets = binning(patches, 1, directions, shifts, 4096)
    unshifted = binning(patches, 1, directions, torch.zeros(128), 4096)
    assert torch.equal(weights, unshifted[0])
    assert_close(offsets - unshifted[1], shifts.float(), atol=1e-3, rtol=0)
    assert shifts.unique().numel() == 128


def test_flat_images_have_no_distance():
    """Channels without variance, whose normalised values would be rounding errors."""
    flat = torch.full((4, 4, 32, 32), 0.7)
    assert sliced_wasserstein(flat, torch.full((4, 4, 32, 32), 0.3)).mean == 0
    real, fake = real_and_fake()
    opaque = [torch.cat((images, torch.full_like(images[:, :1], 255)), dim=1) for images in (real, fake)]
    assert 0 < sliced_wasserstein(*opaque).mean < math.inf


def test_each_level_sees_its_scale():
    real, fake = pictures(60, "real", (64, 64)), pictures(60, "fake", (64, 64))
    floor = sliced_wasserstein(real, fake).levels
    noise = torch.from_numpy(keyed_generator(0, "metrics", "noise").normal(0, 0.04, fake.shape)).float()
    noisy = sliced_wasserstein(real, (fake / 255 + noise).clamp(0, 1)).levels
    assert noisy[64] > 2 * floor[64]
    assert noisy[16] < 1.2 * floor[16]
    one = sliced_wasserstein(real, fake[:1].expand(60, -1, -1, -1)).levels
    assert one[16] > 3 * floor[16]


def test_the_result_is_plain():
    result = sliced_wasserstein(*real_and_fake())
    assert json.loads(json.dumps(dataclasses.asdict(result)))["mean"] == result.mean


@pytest.mark.parametrize(
    ("real", "fake", "words"),
    [
        (torch.rand(4, 3, 32, 32), torch.rand(4, 3, 64, 64), "one size"),
        (torch.rand(4, 3, 32, 32), torch.rand(4, 1, 32, 32), "as many channels"),
        (torch.rand(4, 3, 15, 32), torch.rand(4, 3, 15, 32), "at least 16 px"),
        (torch.rand(1, 3, 32, 32), torch.rand(4, 3, 32, 32), "real must be at least 2 images"),
        (torch.rand(4, 3, 32, 32), torch.rand(4, 3, 32, 32) * 2 - 1, r"fake must be floats in \[0, 1\]"),
        (torch.rand(4, 3, 32, 32), torch.full((4, 3, 32, 32), math.nan), "got NaN"),
    ],
)
def test_bad_images(real, fake, words):
    with pytest.raises(ValueError, match=words):
        sliced_wasserstein(real, fake)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sheet", "expected"),
    [
        ("mel_icon", {64: 35.1, 32: 22.4, 16: 26.9}),
        ("try_a", {64: 32.0, 32: 16.3, 16: 36.4}),
        ("try_b", {64: 29.5, 32: 13.7, 16: 31.8}),
    ],
)
def test_judged_sheets(sheet, expected):
    """An independent implementation's numbers, one seed each, which are a few percent apart between seeds."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"there are no pictures to judge at {folder}")
    from PIL import Image

    portraits = [np.array(Image.open(path).convert("RGB")) for path in sorted((folder / "portraits").glob("*.png"))]
    real = torch.from_numpy(np.stack(portraits)).permute(0, 3, 1, 2).float()
    real = torch.nn.functional.avg_pool2d(real, 4).round() / 255
    pixels = torch.from_numpy(np.array(Image.open(folder / "judged" / f"{sheet}.png")))
    fake = pixels.view(20, 64, 32, 64, 3).permute(0, 2, 4, 1, 3).reshape(640, 3, 64, 64)
    assert sliced_wasserstein(real, fake).levels == pytest.approx(expected, rel=0.08)
