"""Whether colours are flat: drawings, as PNG and JPEG files, with gradients; and what photographs are like."""

from __future__ import annotations

import io
from collections import Counter

import draw_icons
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import SHARED
from PIL import Image
from torch import Tensor

from progan import ImageFolder
from progan.data import check
from progan.data.curation import flat_colours
from progan.data.curation.flat_colours import ColourVerdict, colour_verdict, reduced

PORTRAITS = SHARED / "data/portraits"


def icons(size: int, n: int = 60) -> Tensor:
    return draw_icons.draw_icons(n, size=size)


def as_jpeg(images: Tensor, side: int, quality: int = 75) -> Tensor:
    """Pictures that were JPEG files, then reduced to a side."""
    out = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        out.append(np.asarray(Image.open(file).resize((side, side), Image.Resampling.BOX)))
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).contiguous()


def textures(side: int, n: int = 60, power: float = 1.5) -> Tensor:
    """Noise with a spectrum like that of photographs, which have amplitudes of about 1 / frequency."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side))) + 1 / side
    pictures = []
    for _ in range(n):
        noise = np.fft.fft2(rng.normal(size=(3, side, side))) / frequency**power
        picture = np.fft.ifft2(noise).real
        pictures.append(128 + 50 * picture / picture.std())
    return torch.from_numpy(np.clip(np.stack(pictures), 0, 255).astype(np.uint8))


def inside_circles(images: Tensor, background: int) -> Tensor:
    """Return what a circle shows of images, on a background, with the circle as opacity."""
    side = images.shape[-1]
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, side)] * 2, indexing="ij")
    shown = (x**2 + y**2 < 0.6).expand(len(images), 1, side, side)
    return torch.cat([torch.where(shown, images, background), 255 * shown], 1).to(torch.uint8)


def gradients(side: int) -> Tensor:
    """Pictures of one gradient each."""
    ends = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (60, 3, 2))).float()
    ramp = torch.linspace(0, 1, side)
    rows = ends[..., :1] + (ends[..., 1:] - ends[..., :1]) * ramp
    return rows.round().to(torch.uint8)[..., None].expand(-1, -1, -1, side).contiguous()


@pytest.mark.parametrize("size", [32, 64, 128])
def test_drawings_are_of_flat_colours(size):
    verdict = colour_verdict(icons(size))
    assert verdict.flat is True
    assert 0.15 < verdict.share < 0.45
    grey = icons(size).float().mean(1, keepdim=True).round().to(torch.uint8)
    assert colour_verdict(grey).flat is True


@pytest.mark.parametrize("side", [32, 64, 128])
def test_drawings_that_were_large_jpeg_files_are_of_flat_colours(side):
    verdict = colour_verdict(as_jpeg(icons(256, 40), side))
    assert verdict.flat is True
    assert verdict.share > 1.5 * flat_colours._LEAST


@pytest.mark.parametrize("size", [32, 64, 256])
def test_portraits_are_of_flat_colours(size):
    if not PORTRAITS.is_dir():
        pytest.skip("needs ../shared/data/portraits")
    assert colour_verdict(ImageFolder(PORTRAITS, size).images).flat is True


@pytest.mark.parametrize("side", [32, 64, 128])
@pytest.mark.parametrize("background", [None, 255, 0])
def test_what_is_like_photographs_is_shaded_on_any_background(side, background):
    images = textures(side)
    if background is not None:
        with_opacity = inside_circles(images, background)
        assert colour_verdict(with_opacity).flat is False
        images = with_opacity[:, :3]
    verdict = colour_verdict(images)
    assert verdict.flat is False
    assert verdict.share < 0.6 * flat_colours._LEAST


def test_an_enlarged_photograph_is_shaded():
    large = F.interpolate(textures(64).float(), scale_factor=4, mode="bilinear").round().to(torch.uint8)
    assert colour_verdict(large).flat is False


def test_a_gradient_is_shaded_and_so_is_grain():
    assert colour_verdict(gradients(64)).flat is False
    noise = torch.from_numpy(np.random.default_rng(2).normal(0, 4, (60, 3, 64, 64)))
    assert colour_verdict((icons(64) + noise).clamp(0, 255).to(torch.uint8)).flat is False


def test_the_share_is_that_of_a_count_by_hand():
    images = icons(32, 45)
    shares = []
    for image in images.tolist():
        flat = []
        for y in range(31):
            for x in range(31):
                places = [[channel[y + dy][x + dx] for dy in (0, 1) for dx in (0, 1)] for channel in image]
                if all(max(place) - min(place) <= 1 for place in places):
                    flat.append(tuple((place[0] + 4) // 8 for place in places))
        most = Counter(flat).most_common(1)[0][1]
        shares.append((len(flat) - most) / (31 * 31 - most))
    assert colour_verdict(images).share == pytest.approx(sorted(shares)[22], abs=1e-4)


@pytest.mark.parametrize("images", [icons(32, 39), icons(16)], ids=["few", "small"])
def test_there_is_no_verdict_on_few_or_small_pictures(images):
    verdict = colour_verdict(images)
    assert verdict == ColourVerdict(None, 0.0)
    assert str(verdict) == "colours: too few or too small pictures to tell whether they are flat"


def test_pictures_of_one_colour_are_flat_and_do_not_count_beside_others():
    plain = torch.full((40, 3, 32, 32), 200, dtype=torch.uint8)
    assert colour_verdict(plain) == ColourVerdict(True, 1.0)
    assert colour_verdict(torch.cat([plain, textures(32)])).flat is False


def test_of_many_pictures_some_are_taken_at_even_distances():
    many = torch.cat([textures(32, 150), *[icons(32, 50)] * 9])
    assert colour_verdict(many) == colour_verdict(many[torch.arange(200) * 600 // 200])
    assert colour_verdict(many).flat is True


def test_a_verdict_on_reduced_pictures_is_the_same():
    images = icons(256, 40)
    assert reduced(images).shape == (40, 3, 64, 64)
    assert colour_verdict(reduced(images)).share == pytest.approx(colour_verdict(images).share, abs=0.01)
    assert torch.equal(reduced(images / 255), reduced(images))
    assert reduced(icons(32, 2)).shape == (2, 3, 32, 32)


def test_a_verdict_says_in_words_what_it_is():
    assert str(colour_verdict(textures(32))) == (
        "colours look shaded: 0 % of all places, beside the most frequent colour's, have one colour"
    )
    assert str(ColourVerdict(True, 0.407)).startswith("colours look flat: 41 % of all places")


def test_it_refuses_what_is_no_batch_of_images():
    with pytest.raises(TypeError, match=r"images must be uint8, got torch\.float32"):
        colour_verdict(torch.rand(40, 3, 32, 32))
    for shape in ((40, 2, 32, 32), (40, 32, 32), (40, 3, 0, 32)):
        with pytest.raises(ValueError, match=r"images must be \(N, C, H, W\) with 1, 3 or 4 channels, got \(40, "):
            colour_verdict(torch.zeros(shape, dtype=torch.uint8))


@pytest.mark.parametrize(("side", "flat"), [(16, None), (32, True), (48, True), (128, True), (200, True)])
def test_a_check_of_a_folder_looks_at_pictures_in_their_size(tmp_path, side, flat):
    drawn = icons(side)
    for i, image in enumerate(drawn):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
    found = check(tmp_path, printed=False).colours
    assert found.flat is flat
    if side <= 128:  # larger ones are reduced by another filter
        assert found == colour_verdict(drawn)


def test_a_check_of_a_folder_tells_shaded_pictures(tmp_path):
    for i, image in enumerate(textures(40)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
    report = check(tmp_path, printed=False)
    assert report.colours.flat is False
    assert " ".join(str(report).split()).count("colours colours look shaded: ") == 1
