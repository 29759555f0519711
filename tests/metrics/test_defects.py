"""Fixed patterns and uneven backgrounds, against an oracle and on judged sheets."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from conftest import SHARED
from drawn import drawings
from PIL import Image

from progan.metrics.defects import defects


def oracle(images: np.ndarray, box: tuple[slice, slice] = (slice(None), slice(None))) -> float:
    """The share of energy in common of images (N, C, H, W): the mean product of two different ones, by loops."""
    kernel = np.array([1, 4, 6, 4, 1]) / 16
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    height, width = images.shape[2:]
    low = sum(
        kernel[y] * kernel[x] * padded[:, :, y : y + height, x : x + width] for y in range(5) for x in range(5)
    )  # fmt: skip
    details = (images - low)[:, :, *box].reshape(len(images), -1)
    products = [a @ b for i, a in enumerate(details) for j, b in enumerate(details) if i != j]
    return np.mean(products) / np.mean([a @ a for a in details])


def striped(images: torch.Tensor, levels: int = 12) -> torch.Tensor:
    darker = images.clone().int()
    darker[:, :, ::3] -= levels
    return darker.clamp(min=0).byte()


@pytest.mark.parametrize(("height", "width", "channels"), [(32, 32, 3), (48, 32, 1)])
def test_defects_are_the_oracles(height, width, channels):
    images = drawings(24, height, width, channels, seed=1)
    samples, real = striped(images[:10]), images[10:]
    found = defects(samples, real, region=(4, 8, 30, 20))
    for value, chosen in ((found.fixed_pattern, samples), (found.fixed_pattern_real, real)):
        assert value == pytest.approx(oracle(chosen.double().numpy() / 255, (slice(4, 30), slice(8, 20))), rel=1e-4)
    assert defects(samples, real).fixed_pattern == pytest.approx(oracle(samples.double().numpy()), rel=1e-4)
    corners = samples.double().numpy()[:, :, :2, :]
    differences = np.abs(corners[..., :2].mean(axis=(2, 3)) - corners[..., -2:].mean(axis=(2, 3))).mean(axis=1)
    assert found.corners == pytest.approx(np.median(differences), rel=1e-4)


def test_pinned():
    images = drawings(64, seed=2)
    found = defects(striped(images), images)
    assert (found.fixed_pattern, found.fixed_pattern_real, found.corners) == pytest.approx(
        (0.056095, 0.000968357, 0), rel=1e-4
    )


def test_the_number_of_pictures_does_not_matter():
    images = striped(drawings(256, seed=3))
    whole = defects(images, images).fixed_pattern
    parts = [defects(part, part).fixed_pattern for part in images.split(8)]
    assert abs(np.mean(parts) - whole) < 3 * np.std(parts) / len(parts) ** 0.5
    assert np.std(parts) / len(parts) ** 0.5 < 0.25 / 8  # which 1 / n would add


def test_stripes_dots_and_uneven_backgrounds_are_seen():
    images = drawings(80, seed=4)
    clean = defects(images[:40], images[40:])
    assert clean.fixed_pattern == pytest.approx(clean.fixed_pattern_real, abs=0.03)
    assert defects(striped(images[:40], 24), images[40:]).fixed_pattern > 0.1 + clean.fixed_pattern
    flat = torch.full((40, 3, 32, 32), 90, dtype=torch.uint8)
    shaded = flat + torch.arange(32, dtype=torch.uint8)
    assert defects(shaded, flat).corners == pytest.approx(30)  # of corners of 2 px
    assert defects(shaded, flat).corners_real == 0
    assert defects(flat, flat).fixed_pattern == 0  # where there are no details at all


def test_what_cannot_be_seen_does_not_count():
    images = torch.cat((drawings(8).repeat(1, 1, 1, 1), torch.zeros(8, 1, 32, 32, dtype=torch.uint8)), dim=1)
    found = defects(images, images)
    assert (found.fixed_pattern, found.corners) == (0, 0)


def test_batches_do_not_matter(monkeypatch):
    images = drawings(11, seed=5)
    images[:, :, :2, :2] = torch.randint(0, 256, (11, 3, 1, 1), generator=torch.Generator().manual_seed(0))
    whole = defects(images, images)
    monkeypatch.setattr(sys.modules["progan.metrics.defects"], "BATCH", 4 * 3 * 32 * 32)
    parts = defects(images, images)
    assert parts.corners == whole.corners > 0
    assert parts.fixed_pattern == pytest.approx(whole.fixed_pattern, rel=1e-6)


def test_bad_input():
    images = drawings(8)
    for region in ((0, 0, 33, 8), (4, 0, 4, 8), (0, 0, 8)):
        with pytest.raises(ValueError, match=r"region must be \(top, left, bottom, right\) in pixels, within 32x32"):
            defects(images, images, region=region)
    with pytest.raises(TypeError, match="region must be a sequence of ints, got 'face'"):
        defects(images, images, region="face")
    with pytest.raises(ValueError, match="samples and real must have one size"):
        defects(images, drawings(8, 64, 64))


@pytest.mark.skipif(not (SHARED / "data/judged").exists(), reason="no judged sheets here")
def test_judged_sheets():
    """What a person sees in them, as another program measured it."""
    face_box = (16, 20, 48, 52)
    for sheet, whole, face, corners in (
        ("mel_icon", 0.43, 0.31, 18.0),
        ("try_a", 0.47, 0.36, 8.0),
        ("try_b", 0.45, 0.37, 10.2),
    ):
        with Image.open(SHARED / f"data/judged/{sheet}.png") as opened:
            grid = torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1)
        samples = grid.unflatten(2, (32, 64)).unflatten(1, (20, 64)).permute(1, 3, 0, 2, 4).flatten(0, 1)
        found, faces = defects(samples, samples), defects(samples, samples, region=face_box)
        assert (found.fixed_pattern, faces.fixed_pattern) == pytest.approx((whole, face), abs=0.01)
        assert found.corners == pytest.approx(corners, abs=0.1)
    paths = sorted((SHARED / "data/portraits").iterdir())[:160]
    reduced = [np.array(Image.open(path).convert("RGB").reduce(4)) for path in paths]
    real = torch.from_numpy(np.stack(reduced)).permute(0, 3, 1, 2)
    found, faces = defects(real, real), defects(real, real, region=face_box)
    assert (found.fixed_pattern_real, faces.fixed_pattern_real) == pytest.approx((0.33, 0.11), abs=0.02)
    assert found.corners_real == 0
