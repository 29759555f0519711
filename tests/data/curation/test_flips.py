"""Whether flips are safe: sets of pictures with a side of their own, without one, and with one that nobody sees."""

from __future__ import annotations

import math
import string
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import draw_icons
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import SHARED
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from progan.data.curation import flips
from progan.data.curation.flips import SIZE, FlipVerdict, flip_verdict

PIXELS = 64
PORTRAITS = SHARED / "data/portraits"
Rng = np.random.Generator


def colours(rng: Rng, contrast: int = 150) -> list[tuple[int, ...]]:
    """Two that differ."""
    while True:
        pair = rng.integers(0, 256, (2, 3))
        if abs(np.subtract(*pair)).sum() >= contrast:
            return [tuple(map(int, colour)) for colour in pair]


def drawn(seed: int, n: int, draw: Callable[[ImageDraw.ImageDraw, Rng, int], None], smooth: int = 3) -> Tensor:
    """Pictures that ``draw`` draws, ``smooth`` times as large as they become."""
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(n):
        image = Image.new("RGB", (PIXELS * smooth, PIXELS * smooth), tuple(map(int, rng.integers(0, 256, 3))))
        draw(ImageDraw.Draw(image), rng, PIXELS * smooth)
        pictures.append(np.asarray(image.reduce(smooth)))
    return stacked(pictures)


def stacked(pictures: list[np.ndarray]) -> Tensor:
    whole = np.clip(np.stack(pictures), 0, 255).astype(np.uint8)
    return torch.from_numpy(whole).permute(0, 3, 1, 2).contiguous()


def symmetric(n: int = 300, offset: float = 0, smooth: int = 3) -> Tensor:
    """Two to six shapes, each about the same upright axis."""

    def draw(canvas: ImageDraw.ImageDraw, rng: Rng, side: int) -> None:
        middle = side / 2 - 0.5 + offset * smooth
        for _ in range(rng.integers(2, 7)):
            y, rx, ry, gap, dot = rng.uniform((0.15, 0.05, 0.05, 0.1, 0.03), (0.85, 0.4, 0.3, 0.4, 0.1)) * side
            fill = tuple(map(int, rng.integers(0, 256, 3)))
            box = (middle - rx, y - ry, middle + rx, y + ry)
            match rng.integers(4):
                case 0:
                    canvas.ellipse(box, fill)
                case 1:
                    canvas.rectangle(box, fill)
                case 2:
                    canvas.polygon([(middle, y - ry), (middle + rx, y + ry), (middle - rx, y + ry)], fill)
                case _:
                    for x in (middle - gap, middle + gap):
                        canvas.ellipse((x - dot, y - dot, x + dot, y + dot), fill)

    return drawn(1, n, draw, smooth)


def arrows(n: int = 150, turns: str = "right", seed: int = 2) -> Tensor:
    """Arrows at many places, about to the right; about to the left or right; or in all directions."""

    def draw(canvas: ImageDraw.ImageDraw, rng: Rng, side: int) -> None:
        length, shaft, head = rng.uniform((0.2, 0.03, 0.1), (0.35, 0.08, 0.2))
        neck = length - head
        points = [(-length, -shaft), (neck, -shaft), (neck, -head), (length, 0)]
        points += [(x, -y) for x, y in points[2::-1]]
        angle = rng.uniform(-math.pi, math.pi) if turns == "all" else rng.uniform(-0.4, 0.4)
        sign = -1 if turns == "both" and rng.random() < 0.5 else 1
        turn = np.array([[sign * math.cos(angle), math.sin(angle)], [-sign * math.sin(angle), math.cos(angle)]])
        place = rng.uniform(0.35, 0.65, 2)
        back, fill = colours(rng)
        canvas.rectangle((0, 0, side, side), back)
        canvas.polygon([tuple(map(float, point)) for point in (np.array(points) @ turn + place) * side], fill)

    return drawn(seed, n, draw)


def letters(n: int = 200, same_size: bool = False) -> Tensor:
    signs = string.ascii_uppercase + string.digits

    def draw(canvas: ImageDraw.ImageDraw, rng: Rng, side: int) -> None:
        back, fill = ((255,) * 3, (0,) * 3) if same_size else colours(rng)
        canvas.rectangle((0, 0, side, side), back)
        font = ImageFont.load_default(size=side * (0.7 if same_size else rng.uniform(0.5, 0.9)))
        place = (side / 2, side / 2) if same_size else tuple(rng.uniform(0.42, 0.58, 2) * side)
        canvas.text(place, signs[rng.integers(len(signs))], fill, font, anchor="mm")

    return drawn(3, n, draw)


def balls(n: int = 150, from_left: bool = True) -> Tensor:
    """Shaded balls at many places, the light from the left or from anywhere."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:PIXELS, :PIXELS] / PIXELS
    pictures = []
    for _ in range(n):
        picture = np.ones((PIXELS, PIXELS, 1)) * rng.integers(0, 256, 3)
        for _ in range(rng.integers(1, 5)):
            cx, cy, radius = rng.uniform((0.15, 0.15, 0.08), (0.85, 0.85, 0.25))
            angle = math.pi + (rng.uniform(-0.5, 0.5) if from_left else rng.uniform(-math.pi, math.pi))
            light = ((x - cx) * math.cos(angle) + (y - cy) * math.sin(angle)) / radius * 30
            inside = np.hypot(x - cx, y - cy) < radius
            picture = np.where(inside[..., None], rng.integers(40, 216, 3) + light[..., None], picture)
        pictures.append(picture)
    return stacked(pictures)


def textures(n: int = 120) -> Tensor:
    rng = np.random.default_rng(5)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(PIXELS), np.fft.fftfreq(PIXELS))) + 1 / PIXELS
    pictures = []
    for _ in range(n):
        texture = np.fft.ifft2(
            np.fft.fft2(rng.normal(size=(3, PIXELS, PIXELS))) / frequency ** rng.uniform(0.5, 2)
        ).real
        texture = texture / texture.std() * rng.uniform(10, 60) + rng.uniform(60, 190, (3, 1, 1))
        pictures.append(texture.transpose(1, 2, 0))
    return stacked(pictures)


def landscapes(n: int = 120) -> Tensor:
    rng = np.random.default_rng(6)
    y, x = np.mgrid[:PIXELS, :PIXELS] / PIXELS
    pictures = []
    for _ in range(n):
        picture = rng.integers(120, 256, 3) * (0.7 + 0.3 * y[..., None])
        sun = np.hypot(x - rng.uniform(0.1, 0.9), y - rng.uniform(0.05, 0.35)) < rng.uniform(0.03, 0.1)
        picture = np.where(sun[..., None], (255, 240, 150), picture)
        for ridge in (0.4, 0.6, 0.8):
            waves = [rng.normal() * 0.08 / k * np.sin(2 * math.pi * (0.7 * k * x + rng.random())) for k in range(1, 5)]
            picture = np.where((y > ridge + sum(waves))[..., None], rng.integers(0, 160, 3), picture)
        pictures.append(picture)
    return stacked(pictures)


def gradients(n: int = 120) -> Tensor:
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:PIXELS, :PIXELS] / PIXELS - 0.5
    angles, pairs = rng.uniform(0, 2 * math.pi, n), rng.integers(0, 256, (n, 2, 3))
    share = [(x * math.cos(angle) + y * math.sin(angle) + 0.5)[..., None] for angle in angles]
    return stacked([s * one + (1 - s) * other for s, (one, other) in zip(share, pairs, strict=True)])


def flipped(images: Tensor, *seed: int) -> Tensor:
    """A random half of them flipped."""
    return flipped_where(images, np.random.default_rng(seed).random(len(images)) < 0.5)


def flipped_where(images: Tensor, mask: np.ndarray) -> Tensor:
    return torch.where(torch.from_numpy(mask)[:, None, None, None], images.flip(-1), images)


@pytest.fixture(scope="module")
def icons() -> Tensor:
    return draw_icons.draw_icons(100, size=PIXELS)


@pytest.fixture(scope="module")
def portraits() -> Tensor:
    if not PORTRAITS.exists():
        pytest.skip("the portraits are not here (../shared)")
    files = sorted(PORTRAITS.glob("*.png"))
    return stacked([np.asarray(Image.open(file).convert("RGB").reduce(4)) for file in files])


def test_portraits_look_to_one_side(portraits):
    verdict = flip_verdict(portraits)
    assert verdict.safe is False
    assert verdict.told_apart > 0.95
    assert flip_verdict(portraits[::16]).safe is False


@pytest.mark.parametrize("seed", range(2))
def test_half_of_the_portraits_flipped(portraits, seed):
    verdict = flip_verdict(flipped(portraits, seed))
    assert verdict.safe is True
    assert verdict.told_apart < 0.6


def test_icons_look_to_one_side_in_any_number_of_channels(icons):
    grey = icons.float().mean(dim=1, keepdim=True).byte()
    see_through = torch.cat([icons, torch.full_like(grey, 255)], dim=1)
    for images in (icons, icons[:40], grey, see_through):
        verdict = flip_verdict(images)
        assert verdict.safe is False
        assert verdict.told_apart > 0.9
    assert flip_verdict(see_through * (see_through[:, 3:] < 255)).told_apart == 0.5


def test_shapes_in_the_opacity_alone_count_and_hidden_colours_do_not():
    shape = arrows(100).float().mean(dim=1, keepdim=True).byte()
    black = torch.zeros(100, 3, PIXELS, PIXELS, dtype=torch.uint8)
    assert flip_verdict(torch.cat([black, shape], dim=1)).safe is False
    assert flip_verdict(torch.cat([arrows(100), black[:, :1]], dim=1)) == FlipVerdict(True, 0.5)


@pytest.mark.parametrize("images", [arrows, letters, balls], ids=lambda images: images.__name__)
def test_a_side_that_is_not_in_the_mean(images):
    pictures = images()
    assert flip_verdict(pictures).safe is False
    for seed in range(3):
        assert flip_verdict(flipped(pictures, seed)).safe is not False


def test_the_same_few_signs_many_times():
    assert flip_verdict(letters(300, same_size=True)).safe is False


@pytest.mark.parametrize(
    "images",
    [
        lambda: arrows(turns="both"),
        lambda: arrows(turns="all"),
        lambda: balls(from_left=False),
        textures,
        landscapes,
        gradients,
        lambda: torch.from_numpy(np.random.default_rng(8).integers(0, 256, (120, 3, 32, 32), dtype=np.uint8)),
        lambda: torch.from_numpy(np.random.default_rng(9).integers(0, 256, (100, 1, 7, 13), dtype=np.uint8)),
    ],
    ids=["arrows-both", "arrows-all", "balls", "textures", "landscapes", "gradients", "noise", "small"],
)
def test_no_preferred_side(images):
    pictures = images()
    for few in (40, 70):
        assert flip_verdict(pictures[:few]).safe is not False
    assert flip_verdict(pictures).safe is True


@pytest.mark.parametrize(("offset", "smooth", "noise"), [(0, 3, 0), (0.5, 4, 1), (-0.5, 4, 0), (0, 1, 1)])
def test_symmetric_drawings(offset, smooth, noise):
    images = symmetric(offset=offset, smooth=smooth)
    grey = images + torch.randint(-noise, noise + 1, images.shape, generator=torch.Generator().manual_seed(0))
    grey[..., PIXELS // 2 :] += noise
    verdict = flip_verdict(grey.clamp(0, 255).byte())
    assert verdict.safe is True
    assert verdict.told_apart < 0.55


def test_a_mark_in_the_corner_of_symmetric_drawings():
    images = symmetric(150)
    images[:, :, 56:60, 50:60] = 255 - images[:, :, 56:60, 50:60]
    assert flip_verdict(images).safe is False


def test_a_minority_with_a_side(portraits):
    some = np.random.default_rng(10).random(300) < 0.3
    among = torch.where(torch.from_numpy(some)[:, None, None, None], arrows(300), symmetric())
    assert flip_verdict(among).safe is False
    mixed = flipped_where(portraits, (np.random.default_rng(11).random(640) < 0.5) & (np.arange(640) % 10 >= 3))
    assert flip_verdict(mixed).safe is False


def test_constant_pictures():
    rng = np.random.default_rng(12)
    colour = torch.from_numpy(rng.integers(0, 256, (100, 3, 1, 1), dtype=np.uint8)).expand(-1, -1, 8, 8)
    for images in (colour, torch.zeros_like(colour), colour[:1].expand(100, -1, -1, -1)):
        assert flip_verdict(images) == FlipVerdict(True, 0.5)


def test_one_picture_over_and_over():
    images = arrows(1).expand(100, -1, -1, -1)
    assert flip_verdict(images).safe is False
    assert flip_verdict(flipped_where(images, np.arange(100) % 2 == 0)).safe is True
    assert flip_verdict(symmetric(1).expand(100, -1, -1, -1)) == FlipVerdict(True, 0.5)


def test_near_duplicates(icons):
    rng = np.random.default_rng(13)
    which = rng.permutation(np.repeat(np.arange(60), 4))
    patches = torch.from_numpy(rng.normal(size=(240, 3, 8, 8)) * 6).float()
    images = (icons[which] + F.interpolate(patches, PIXELS)).clamp(0, 255).byte()
    assert flip_verdict(images).safe is False
    for seed in range(3):
        assert flip_verdict(flipped(images, seed)).safe is True
        verdict = flip_verdict(flipped_where(images, (np.random.default_rng(seed).random(60) < 0.5)[which]))
        assert verdict.safe is not False
        assert verdict.told_apart < 0.75


def test_thumbnails_do_as_well(icons):
    small = F.avg_pool2d(icons.float(), PIXELS // SIZE).round().byte()
    for images in (small, small[..., :28, :], icons[..., 3:]):
        assert flip_verdict(images).safe is False


def test_of_many_some_are_taken_at_even_distances(icons, monkeypatch):
    monkeypatch.setattr(flips, "_MOST", 50)
    assert flip_verdict(icons) == flip_verdict(icons[::2])
    assert flip_verdict(icons[:99]).safe is False


def test_the_same_every_time_without_a_random_state_touched(icons):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    images = flipped(icons, 14)
    before = images.clone()
    verdict = flip_verdict(images)
    assert verdict == flip_verdict(images)
    assert verdict.told_apart == pytest.approx(flip_verdict(images.flip(-1)).told_apart, abs=0.02)
    assert torch.equal(images, before)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert all(np.array_equal(*states) for states in zip(numpy_state, np.random.get_state(), strict=True))


def test_too_few(icons):
    for images in (icons[:39], icons[:0]):
        verdict = flip_verdict(images)
        assert verdict == FlipVerdict(None, 0.5)
    assert str(verdict) == "left-right flips: too few different pictures to tell whether they are safe"


def test_a_line_for_people():
    told = "{} of 100 pictures can be told from their mirror images (chance: 50)"
    assert str(FlipVerdict(False, 0.934)) == f"left-right flips look unsafe: {told.format(93)}"
    assert str(FlipVerdict(True, 0.51)) == f"left-right flips look safe: {told.format(51)}"
    with pytest.raises(FrozenInstanceError):
        FlipVerdict(True, 0.5).safe = False  # type: ignore[misc]


def test_what_is_no_set_of_pictures():
    with pytest.raises(TypeError, match="must be uint8"):
        flip_verdict(torch.zeros(50, 3, 8, 8))
    for shape in ((50, 8, 8), (50, 2, 8, 8), (50, 3, 0, 8)):
        with pytest.raises(ValueError, match="1, 3 or 4 channels, got"):
            flip_verdict(torch.zeros(shape, dtype=torch.uint8))
