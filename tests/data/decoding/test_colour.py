"""Colours of a PNG that are said by gAMA, cHRM, sRGB and cICP, against a plain version of the specification."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from test_read import png_chunk, png_of

from progan.data import read_image
from progan.data.decoding.colour import Encoding, encoding_of
from progan.data.decoding.header_png import PngNotes
from progan.data.decoding.reading import Reading

SRGB = (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
P3 = (31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000)
ADOBE = (31_270, 32_900, 64_000, 33_000, 21_000, 71_000, 15_000, 6_000)
D50 = (34_567, 35_850, 73_470, 26_530, 15_960, 84_040, 3_660, 10)  # ProPhoto, whose white is another


def gama(gamma: int) -> bytes:
    return png_chunk(b"gAMA", struct.pack(">I", gamma))


def chrm(*numbers: int) -> bytes:
    return png_chunk(b"cHRM", struct.pack(">8I", *numbers))


def cicp(*numbers: int) -> bytes:
    return png_chunk(b"cICP", bytes(numbers))


def srgb_encode(light: float) -> float:
    return 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055


def srgb_decode(number: float) -> float:
    return number / 12.92 if number <= 0.04045 else ((number + 0.055) / 1.055) ** 2.4


def from_primaries(numbers) -> np.ndarray:
    """Light in some primaries to CIE XYZ, its white adapted to that of sRGB (Lindbloom's equations)."""
    x, y = np.array(numbers[::2]) / 1e5, np.array(numbers[1::2]) / 1e5
    columns = np.array([x / y, np.ones(4), (1 - x - y) / y])
    matrix = columns[:, 1:] @ np.diag(np.linalg.inv(columns[:, 1:]) @ columns[:, 0])
    cones = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    return np.linalg.inv(cones) @ np.diag((cones @ white) / (cones @ columns[:, 0])) @ cones @ matrix


def oracle(values: np.ndarray, most: int, decode, primaries=None) -> np.ndarray:
    """Each colour by itself: to light, to the primaries of sRGB, to numbers of 8 bits."""
    matrix = np.eye(3) if primaries is None else np.linalg.inv(from_primaries(SRGB)) @ from_primaries(primaries)
    result = np.zeros(values.shape, np.uint8)
    for place in np.ndindex(values.shape[:2]):
        colour = np.atleast_1d(values[place])
        light = np.array([decode(number / most) for number in colour])
        light = matrix @ light if len(light) == 3 else light
        result[place] = np.array([np.floor(255 * srgb_encode(min(max(one, 0), 1)) + 0.5) for one in light]).reshape(
            values[place].shape
        )
    return result


def every(depth: int, channels: int) -> np.ndarray:
    """Colours of all numbers, or some of them, (H, 16, C) or (H, 16)."""
    rng = np.random.default_rng(depth)
    numbers = np.arange(256) * ((1 << depth) - 1) // 255
    if channels == 1:
        return numbers.reshape(16, 16)
    return np.stack([rng.permutation(numbers) for _ in range(channels)], -1).reshape(16, 16, channels)


def read(path: Path, channels: int) -> np.ndarray:
    return read_image(path, Reading(16, channels)).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("gamma", [100_000, 55_556, 40_000, 22_222])
@pytest.mark.parametrize(("depth", "channels"), [(1, 1), (2, 1), (8, 1), (16, 1), (8, 3), (16, 3)])
def test_gamma(gamma, depth, channels, tmp_path):
    """Of 16 bits all are used: in linear light the upper 8 would leave gaps between dark shades."""
    values = every(depth, channels)
    (tmp_path / "a.png").write_bytes(png_of(values, depth, chunks=gama(gamma)))
    expected = oracle(values, (1 << depth) - 1, lambda number: number ** (100_000 / gamma))
    np.testing.assert_array_equal(read(tmp_path / "a.png", channels), expected.reshape(16, 16, channels))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("primaries", [P3, ADOBE, D50])
def test_primaries(primaries, depth, tmp_path):
    values = every(depth, 3)
    (tmp_path / "a.png").write_bytes(png_of(values, depth, chunks=gama(45_455) + chrm(*primaries)))
    np.testing.assert_array_equal(read(tmp_path / "a.png", 3), oracle(values, (1 << depth) - 1, srgb_decode, primaries))
    (tmp_path / "a.png").write_bytes(png_of(values, depth, chunks=gama(100_000) + chrm(*primaries)))
    expected = oracle(values, (1 << depth) - 1, lambda number: number, primaries)
    np.testing.assert_array_equal(read(tmp_path / "a.png", 3), expected)
    grey = np.repeat(values[..., :1], 3, -1)
    (tmp_path / "a.png").write_bytes(png_of(grey, depth, chunks=chrm(*primaries)))
    np.testing.assert_array_equal(
        read(tmp_path / "a.png", 3), np.round(grey * (255 / ((1 << depth) - 1))), "stays grey"
    )


@pytest.mark.parametrize(
    ("chunks", "decode", "primaries"),
    [
        (cicp(12, 13, 0, 1), srgb_decode, P3),
        (cicp(1, 8, 0, 1), lambda number: number, None),
        (cicp(9, 4, 0, 1), lambda number: number**2.2, (31_270, 32_900, 70_800, 29_200, 17_000, 79_700, 13_100, 4_600)),
        (cicp(1, 5, 0, 1), lambda number: number**2.8, None),
        (cicp(12, 13, 0, 1) + gama(100_000) + png_chunk(b"sRGB", b"\0"), srgb_decode, P3),
    ],
)
def test_code_points(chunks, decode, primaries, tmp_path):
    values = every(8, 3)
    (tmp_path / "a.png").write_bytes(png_of(values, 8, chunks=chunks))
    np.testing.assert_array_equal(read(tmp_path / "a.png", 3), oracle(values, 255, decode, primaries))


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


NOTHING = {
    "sRGB as gamma": gama(45_455),
    "within the threshold": gama(43_500),
    "within it, above": gama(47_600),
    "as most programs write it": gama(45_455) + chrm(*SRGB),
    "sRGB wins": gama(100_000) + chrm(*P3) + png_chunk(b"sRGB", b"\0"),
    "sRGB by code points wins": cicp(1, 13, 0, 1) + gama(100_000),
    "no gamma": gama(0),
    "a gamma that is none": gama(2**32 - 1),
    "no colours": chrm(*[0] * 8),
    "one colour": chrm(*[31_270, 32_900] * 4),
    "a transfer function for bright displays": cicp(9, 16, 0, 1),
    "behind the pixels": b"",
}


@pytest.mark.parametrize("kind", NOTHING)
@pytest.mark.parametrize("depth", [8, 16])
def test_what_changes_nothing(kind, depth, tmp_path):
    values = every(depth, 3)
    (tmp_path / "a.png").write_bytes(png_of(values, depth))
    before = read(tmp_path / "a.png", 3)
    data = png_of(values, depth, chunks=NOTHING[kind])
    if kind == "behind the pixels":
        data = data[:-12] + gama(100_000) + data[-12:]
    (tmp_path / "a.png").write_bytes(data)
    np.testing.assert_array_equal(read(tmp_path / "a.png", 3), before)


def test_a_profile_wins_over_gamma_and_code_points_over_a_profile(tmp_path):
    values = every(8, 3).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png", icc_profile=profile())
    data = (tmp_path / "a.png").read_bytes()
    for chunks, expected in (
        (gama(100_000), values),
        (cicp(1, 8, 0, 1), oracle(values, 255, lambda number: number)),
    ):
        (tmp_path / "b.png").write_bytes(data[:33] + chunks + data[33:])
        np.testing.assert_array_equal(read(tmp_path / "b.png", 3), expected)


@pytest.mark.parametrize("depth", [8, 16])
def test_opacity_is_left_as_it_is(depth, tmp_path):
    most = (1 << depth) - 1
    for channels in (2, 4):
        values = every(depth, channels)
        values[..., -1] = np.where(np.arange(16) < 8, most, most // 2)
        (tmp_path / "a.png").write_bytes(png_of(values, depth, chunks=gama(100_000)))
        image = read(tmp_path / "a.png", 4)
        np.testing.assert_array_equal(image[..., 3], np.round(values[..., -1] * (255 / most)))
        expected = oracle(values[:, :8, :-1], most, lambda number: number)
        np.testing.assert_array_equal(image[:, :8, :3], np.broadcast_to(expected, (16, 8, 3)))


@pytest.mark.parametrize(("depth", "channels"), [(8, 1), (16, 1), (8, 3), (16, 3)])
def test_a_transparent_value_is_that_of_the_file(depth, channels, tmp_path):
    values = every(depth, channels)
    transparent = np.atleast_1d(values[3, 4])
    (tmp_path / "a.png").write_bytes(png_of(values, depth, transparent.tolist(), chunks=gama(100_000)))
    image = read(tmp_path / "a.png", 4)
    same = (values.reshape(16, 16, -1) == transparent).all(-1)
    np.testing.assert_array_equal(image[..., 3] == 0, same)
    expected = oracle(values, (1 << depth) - 1, lambda number: number).reshape(16, 16, -1)
    np.testing.assert_array_equal(image[~same][:, :3], np.broadcast_to(expected, (16, 16, 3))[~same])


def test_palettes(tmp_path):
    picture = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("P")
    colours = every(8, 3)
    picture.putpalette(colours.astype(np.uint8).tobytes())
    picture.save(tmp_path / "a.png", transparency=7)
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[:33] + gama(100_000) + data[33:])
    image = read(tmp_path / "a.png", 4)
    seen = np.arange(256).reshape(16, 16) != 7
    np.testing.assert_array_equal(image[seen][:, :3], oracle(colours, 255, lambda number: number)[seen])
    np.testing.assert_array_equal(image[..., 3] == 255, seen)


def test_a_bit_depth_and_a_gamma_go_together(tmp_path):
    values = every(12, 3)
    (tmp_path / "a.png").write_bytes(png_of(values, 16, chunks=gama(100_000)))
    image = read_image(tmp_path / "a.png", Reading(16, bit_depth=12)).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(image, oracle(values, 4095, lambda number: number))


def test_white_stays_white_and_grey_stays_grey():
    for primaries in (P3, ADOBE, D50):
        encoding = encoding_of(PngNotes(gamma=55_556, chromaticities=primaries))
        assert encoding is not None
        grey = np.linspace(0, 1, 11)[:, None].repeat(3, 1)
        converted = encoding.to_srgb(grey)
        np.testing.assert_allclose(converted, converted[:, :1].repeat(3, 1), atol=1e-6)
        np.testing.assert_allclose(converted[[0, -1]], [[0] * 3, [1] * 3], atol=1e-6)
    assert Encoding().is_srgb
