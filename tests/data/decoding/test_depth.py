"""Bits: pictures of 16 bits per channel that use fewer, by a bit depth that is passed or that the file tells."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_read import png_chunk, png_of

from progan import ImageFolder
from progan.data import check, curate, pack, read_image
from progan.data.decoding.depth import _are_scaled
from progan.data.decoding.reading import Reading

SHAPES = {"L": (11, 13), "LA": (11, 13, 2), "RGB": (11, 13, 3), "RGBA": (11, 13, 4)}


def samples(mode: str, depth: int, seed=0) -> np.ndarray:
    """Values of so many bits, the lowest and the highest among them; half of the opacity is full."""
    values = np.random.default_rng([seed, depth]).integers(0, 1 << depth, SHAPES[mode])
    values[0, 0], values[0, 1] = 0, (1 << depth) - 1
    if mode.endswith("A"):
        values[5:, :, -1] = (1 << depth) - 1
    return values


def scaled(values: np.ndarray, depth: int) -> np.ndarray:
    return np.floor(values * 510 / ((1 << depth) - 1) / 2 + 0.5).astype(np.uint8)


def read(path: Path, channels: int, bit_depth: int | None, size=(11, 13)) -> np.ndarray:
    """(H, W, C)."""
    return read_image(path, Reading(size, channels, bit_depth=bit_depth)).permute(1, 2, 0).numpy()


def expected(mode: str, values: np.ndarray, depth: int) -> np.ndarray:
    shades = scaled(values, depth)
    if mode == "LA":
        return np.dstack([shades[..., :1]] * 3 + [shades[..., 1:]])
    return shades[..., None] if mode == "L" else shades


CHANNELS = {"L": 1, "LA": 4, "RGB": 3, "RGBA": 4}


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("mode", SHAPES)
def test_png(mode, interlaced, tmp_path):
    for depth in (8, 10, 12, 14, 15, 16):
        values = samples(mode, depth)
        (tmp_path / "a.png").write_bytes(png_of(values, 16, interlaced=interlaced))
        image = read(tmp_path / "a.png", CHANNELS[mode], depth)
        np.testing.assert_array_equal(image, expected(mode, values, depth))


def tiff_of(values: np.ndarray, order="<", *, deflate=False, photometric=2, extra=(), bits=16, planar=1) -> bytes:
    """A TIFF of one strip, or of one for each channel."""
    count = values.shape[2] if values.ndim == 3 else 1
    planes = np.moveaxis(values, -1, 0) if planar == 2 else [values]
    if bits == 12:
        pairs = values.reshape(len(values), -1, 2)
        strips = [
            np.stack([pairs[..., 0] >> 4, (pairs[..., 0] & 15) << 4 | pairs[..., 1] >> 8, pairs[..., 1] & 255], -1)
        ]
        strips = [strips[0].astype(np.uint8).tobytes()]
    else:
        strips = [np.ascontiguousarray(plane).astype(f"{order}u2").tobytes() for plane in planes]
    strips = [zlib.compress(strip) for strip in strips] if deflate else strips
    tags = {
        256: [values.shape[1]], 257: [values.shape[0]], 258: [bits] * count, 259: [8 if deflate else 1],
        262: [photometric], 273: [], 277: [count], 278: [values.shape[0]], 279: [len(strip) for strip in strips],
        284: [planar], **({338: list(extra)} if extra else {}),
    }  # fmt: skip
    place = 8 + 2 + 12 * len(tags) + 4
    kinds = {tag: "I" if tag in (273, 279) else "H" for tag in tags}
    tags[273] = [0] * len(strips)
    sizes = {tag: struct.calcsize(f"{len(numbers)}{kinds[tag]}") for tag, numbers in tags.items()}
    data_at = place + sum(size for size in sizes.values() if size > 4)
    tags[273] = [data_at + sum(map(len, strips[:k])) for k in range(len(strips))]
    later, entries = b"", b""
    for tag, numbers in sorted(tags.items()):
        body = struct.pack(f"{order}{len(numbers)}{kinds[tag]}", *numbers)
        if len(body) > 4:
            body, later = struct.pack(f"{order}I", place + len(later)), later + body
        entries += struct.pack(f"{order}HHI", tag, 4 if kinds[tag] == "I" else 3, len(numbers)) + body.ljust(4, b"\0")
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return start + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + later + b"".join(strips)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_tiff(mode, deflate, order, tmp_path):
    for depth in (8, 12, 16):
        values = samples(mode, depth)
        extra = (2,) if mode == "RGBA" else ()
        data = tiff_of(values, order, deflate=deflate, photometric=1 if mode == "L" else 2, extra=extra)
        (tmp_path / "a.tif").write_bytes(data)
        image = read(tmp_path / "a.tif", CHANNELS[mode], depth)
        np.testing.assert_array_equal(image, expected(mode, values, depth))


def test_kinds_that_are_rare(tmp_path):
    """A channel that means nothing, colours multiplied by their opacity, inks."""
    values = samples("RGBA", 12)
    (tmp_path / "a.tif").write_bytes(tiff_of(values, extra=(0,)))
    np.testing.assert_array_equal(read(tmp_path / "a.tif", 3, 12), scaled(values, 12)[..., :3])
    values[..., :3] = values[..., :3] * (values[..., 3:] / 4095)
    (tmp_path / "a.tif").write_bytes(tiff_of(values, extra=(1,)))
    image = read(tmp_path / "a.tif", 4, 12)
    divided = np.where(values[..., 3:] > 0, values[..., :3] / np.maximum(values[..., 3:], 1), 0)
    visible = values[..., 3] >= 8  # one resize multiplies 8 bits by the opacity again, and divides
    assert abs(image[..., :3] - np.round(255 * divided))[visible].mean() < 1
    np.testing.assert_array_equal(image[..., 3], scaled(values[..., 3], 12))
    inks = np.zeros((2, 2, 4), int)
    inks[..., 1], inks[..., 3] = 4095, 819  # all of the second, a fifth of the last
    (tmp_path / "a.tif").write_bytes(tiff_of(inks, photometric=5))
    red, green, blue = read(tmp_path / "a.tif", 3, 12, 2)[0, 0].astype(int)
    assert (red, green, blue) == (204, 0, 204)


def test_a_tiff_of_12_bits_says_so(tmp_path):
    """Pillow reads values of 0 to 4,095, which were black of 16 bits."""
    values = samples("L", 12)[:, :12]
    (tmp_path / "a.tif").write_bytes(tiff_of(values, photometric=1, bits=12))
    for bit_depth in (None, 12, 16):
        np.testing.assert_array_equal(read(tmp_path / "a.tif", 1, bit_depth, (11, 12))[..., 0], scaled(values, 12))
    assert check(tmp_path, printed=False).facts[Path("a.tif")].depth == ((0, 4095), 12)


def test_integers_of_32_bits(tmp_path):
    values = samples("L", 10)
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read(tmp_path / "a.tif", 1, 10)[..., 0], scaled(values, 10))


def test_a_value_that_a_png_calls_transparent_is_compared_in_all_bits(tmp_path):
    values = samples("RGB", 12)
    values[3, 3] = values[7, 7] ^ (0, 0, 1)
    (tmp_path / "a.png").write_bytes(png_of(values, 16, values[7, 7].tolist()))
    image = read(tmp_path / "a.png", 4, 12)
    assert image[7, 7, 3] == 0
    assert image[3, 3, 3] == 255
    shown = image[..., 3] == 255
    np.testing.assert_array_equal(image[shown][:, :3], scaled(values, 12)[shown])


def test_opacity_may_use_all_16_bits(tmp_path):
    """Some programs write colours of 12 bits and full opacity."""
    values = samples("RGBA", 12)
    values[..., 3] = 65_535
    values[5, :, 3] = 32_768
    (tmp_path / "a.png").write_bytes(png_of(values, 16))
    image = read(tmp_path / "a.png", 4, 12)
    assert set(image[5, :, 3]) == {128}
    others = np.arange(11) != 5
    np.testing.assert_array_equal(
        image[others], np.dstack([scaled(values[..., :3], 12), values[..., 3] // 257])[others]
    )


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
def test_values_above_the_depth_are_refused(mode, tmp_path):
    values = samples(mode, 12)
    values[..., -1] = 4095
    values[2, 3] = 4096
    (tmp_path / "a.png").write_bytes(png_of(values, 16))
    text = (
        r"cannot be read; .*\n  a.png: values up to 4,096 in a picture of 16 bits per channel, more than the 4,095 of "
        "bit_depth=12; pass bit_depth=13, or leave it out"
    )
    with pytest.raises(ValueError, match=text):
        ImageFolder(tmp_path, 8, bit_depth=12)
    assert len(ImageFolder(tmp_path, 8, bit_depth=13)) == 1


def test_channels_apart_are_refused_with_a_bit_depth(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff_of(samples("RGB", 12), deflate=True, planar=2))
    with pytest.raises(
        ValueError, match="a TIFF of 16 bits that stores each channel for itself cannot be read with bit"
    ):
        read(tmp_path / "a.tif", 3, 12)


def test_channels_apart_that_pillow_misreads_are_refused(tmp_path):
    values = samples("RGB", 16)
    (tmp_path / "a.tif").write_bytes(tiff_of(values, planar=2))
    with pytest.raises(ValueError, match="an uncompressed TIFF of 16 bits that stores each channel for itself cannot"):
        read(tmp_path / "a.tif", 3, None)
    (tmp_path / "a.tif").write_bytes(tiff_of(values, planar=2, deflate=True))
    np.testing.assert_array_equal(read(tmp_path / "a.tif", 3, None), values >> 8)


def test_other_pictures_take_no_notice(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (11, 13, 3), np.uint8)
    for name in ("a.png", "a.jpg", "a.gif", "a.webp", "a.tif"):
        Image.fromarray(noise).save(tmp_path / name)
        np.testing.assert_array_equal(read(tmp_path / name, 3, 12), read(tmp_path / name, 3, None))


def to_16(values: np.ndarray, depth: int, how: str) -> np.ndarray:
    """Scale samples to 16 bits in each of the ways that the PNG specification has."""
    if how == "linear":
        return np.floor(values * 65_535 / ((1 << depth) - 1) + 0.5).astype(int)
    if how == "shifted":
        return values << (16 - depth)
    return values << (16 - depth) | values >> (2 * depth - 16)


@pytest.mark.parametrize("how", ["linear", "shifted", "replicated"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_sbit_of_samples_that_are_scaled_changes_nothing(mode, how, tmp_path):
    """As the specification has it; dark pictures too, all of whose values would fit into the bits."""
    count = len(SHAPES[mode]) * 2 - 3
    for depth, most in ((12, 4096), (12, 256), (10, 16), (14, 4096)):
        values = to_16(np.random.default_rng(0).integers(0, most, SHAPES[mode]), depth, how)
        (tmp_path / "a.png").write_bytes(png_of(values, 16, chunks=png_chunk(b"sBIT", bytes([depth] * count))))
        image = read(tmp_path / "a.png", CHANNELS[mode], None)
        shades = values >> 8 if mode == "RGB" else np.round(values * (255 / 65_535))[..., None]
        np.testing.assert_array_equal(image, shades)


@pytest.mark.parametrize("mode", SHAPES)
def test_sbit_of_samples_that_are_not_scaled_is_a_bit_depth(mode, tmp_path):
    """Written against the specification, and black to everybody who reads it by the specification."""
    counts = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
    for depth in (9, 10, 12, 14):
        values = samples(mode, depth)
        (tmp_path / "a.png").write_bytes(png_of(values, 16, chunks=png_chunk(b"sBIT", bytes([depth] * counts[mode]))))
        image = read(tmp_path / "a.png", CHANNELS[mode], None)
        np.testing.assert_array_equal(image, expected(mode, values, depth))
    assert check(tmp_path, printed=False).facts[Path("a.png")].depth.bits == 14


def test_scaled_samples_are_known():
    for depth in (8, 9, 10, 12, 15):
        every = np.arange(1 << depth)
        for how in ("linear", "shifted", "replicated"):
            assert _are_scaled(to_16(every, depth, how), depth)
        assert not _are_scaled(every, depth)


def test_check_suggests_a_bit_depth_and_every_door_takes_it(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(3):
        (folder / f"{k}.png").write_bytes(png_of(samples("L", 12, k), 16))
    (folder / "3.png").write_bytes(png_of(samples("RGB", 12), 16))
    Image.new("L", (8, 8), 90).save(folder / "8.png")
    check(folder)
    text = " ".join(capsys.readouterr().out.split())
    assert (
        "16 bits 4 pictures, of values 0 to 4,095 values up to 4,095 in 4 16-bit pictures: they look like 12 bits, "
        in text
    )
    assert "and are read too dark; pass bit_depth=12 wherever they are read" in text
    assert "dark 4: 0.png, 1.png, 2.png, 3.png" in text
    report = check(folder, bit_depth=12, printed=False)
    text = " ".join(str(report).split())
    assert "16 bits 4 pictures, of values 0 to 4,095; read with bit_depth=12 " in text
    assert "dark 0" in text
    assert report.curation == curate(folder, bit_depth=12)
    assert report.near_duplicates == []
    images = ImageFolder(folder, 8, bit_depth=12).images
    assert images[0].float().std() > 20
    assert (pack(folder, tmp_path / "a.pack", 8, bit_depth=12, progress=False).images == images).all()
    (folder / "full.png").write_bytes(png_of(samples("L", 16), 16))
    assert "look like" not in str(check(folder, printed=False))


def test_settings_are_checked():
    for wrong in (7, 17, 12.0, True, "12"):
        with pytest.raises(ValueError, match="bit_depth must be an int from 8 to 16, or None, got"):
            Reading(8, bit_depth=wrong)
