"""From file to pixels: every kind of file in the table of docs/images.md, pixel by pixel."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from progan.data.decoding.decode import SUFFIXES
from progan.data.decoding.header import FORMATS
from progan.data.decoding.read import Reading, contained, read_image

BLUE = (0, 128, 255)


def save(path, values, mode=None, **options):
    """Save one picture of 2x2 equal pixels, or the array given."""
    picture = Image.fromarray(values) if isinstance(values, np.ndarray) else Image.new(mode or "RGB", (2, 2), values)
    picture.save(path, **options)
    return path


def colour(image: torch.Tensor) -> list[int]:
    assert (image == image[:, :1, :1]).all()
    return image[:, 0, 0].tolist()


def read(path, size=2, channels=3, **settings):
    return read_image(path, Reading(size, channels, background=BLUE, **settings))


@pytest.mark.parametrize(
    ("suffix", "mode", "value", "channels", "expected"),
    [
        ("png", "1", 1, 3, [255] * 3),
        ("png", "1", 0, 1, [0]),
        ("png", "L", 90, 3, [90] * 3),
        ("png", "L", 90, 4, [90, 90, 90, 255]),
        ("png", "LA", (50, 255), 3, [50] * 3),
        ("png", "LA", (50, 0), 3, list(BLUE)),
        ("png", "LA", (50, 51), 4, [50, 50, 50, 51]),
        ("png", "RGB", (10, 20, 30), 3, [10, 20, 30]),
        ("png", "RGB", (255, 0, 0), 1, [76]),
        ("png", "RGBA", (200, 100, 0, 0), 3, list(BLUE)),
        ("png", "RGBA", (200, 100, 0, 128), 3, [100, 114, 127]),
        ("png", "RGBA", (200, 100, 0, 128), 4, [200, 100, 0, 128]),
        ("bmp", "RGB", (10, 20, 30), 3, [10, 20, 30]),
        ("gif", "RGB", (10, 20, 30), 3, [10, 20, 30]),
        ("webp", "RGBA", (10, 20, 30, 255), 4, [10, 20, 30, 255]),
        ("tif", "CMYK", (0, 255, 255, 0), 3, [255, 0, 0]),
        ("tif", "RGB", (10, 20, 30), 3, [10, 20, 30]),
        ("jpg", "L", 90, 3, [90] * 3),
        ("jpg", "CMYK", (0, 0, 0, 0), 3, [255] * 3),
    ],
)
def test_modes(suffix, mode, value, channels, expected, tmp_path):
    options = {"lossless": True} if suffix == "webp" else {}
    assert colour(read(save(tmp_path / f"a.{suffix}", value, mode, **options), channels=channels)) == expected


@pytest.mark.parametrize("transparent", [False, True])
def test_palettes(transparent, tmp_path):
    picture = Image.new("P", (2, 2), 1)
    picture.putpalette([0, 0, 0, 200, 10, 20])
    for name in ("a.png", "a.gif"):
        picture.save(tmp_path / name, **({"transparency": 1} if transparent else {}))
        assert colour(read(tmp_path / name)) == (list(BLUE) if transparent else [200, 10, 20])
        assert colour(read(tmp_path / name, channels=4))[3] == (0 if transparent else 255)


@pytest.mark.parametrize(
    ("values", "suffix", "expected"),
    [
        (np.array([[0, 65_535], [257, 32_768]], np.uint16), "png", [[0, 255], [1, 128]]),
        (np.array([[0, 65_535], [128, 129]], np.uint16), "tif", [[0, 255], [0, 1]]),
        (np.array([[0, 65_535], [257, 514]], np.int32), "tif", [[0, 255], [1, 2]]),
        (np.array([[0.0, 1.0], [0.5, 0.1]], np.float32), "tif", [[0, 255], [128, 26]]),
    ],
)
def test_more_than_8_bits_are_scaled_not_clipped(values, suffix, expected, tmp_path):
    image = read(save(tmp_path / f"a.{suffix}", values))
    assert image.tolist() == [expected] * 3


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.array([[0, 70_000]], np.int32), r"mode I must lie in 0..65535, got 0 to 70000; convert it to 8 bits"),
        (np.array([[-1, 5]], np.int32), "got -1 to 5"),
        (np.array([[0.0, 255.0]], np.float32), r"mode F must lie in 0..1, got 0.0 to 255.0"),
        (np.array([[0.0, np.nan]], np.float32), "nan"),
    ],
)
def test_values_outside_the_range_of_their_kind_are_refused(values, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        read(save(tmp_path / "a.tif", values))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(values: np.ndarray, depth: int, transparent=(), interlaced=False, chunks: bytes = b"") -> bytes:
    """A PNG as its specification has it, of (H, W) or (H, W, C) samples of so many bits; more chunks before them."""

    def rows(part: np.ndarray) -> bytes:
        bits = (part.reshape(len(part), -1, 1) >> np.arange(depth)[::-1]) & 1
        packed = np.packbits(bits.astype(np.uint8).reshape(len(part), -1), axis=1)
        return b"".join(b"\0" + row.tobytes() for row in packed)

    passes = [(0, 0, 1, 1)]
    if interlaced:  # from row, from column, rows apart, columns apart
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    data = b"".join(rows(values[top::down, left::right]) for top, left, down, right in passes)
    size = struct.pack(">II", values.shape[1], values.shape[0])
    colours = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2] if values.ndim == 3 else 1]
    head = size + bytes([depth, colours, 0, 0, interlaced])
    value = png_chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if len(transparent) else b""
    body = chunks + value + png_chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + body + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("with_transparent", [False, True])
@pytest.mark.parametrize(("depth", "colours"), [(1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (8, 3), (16, 3)])
def test_png_of_every_depth(depth, colours, with_transparent, interlaced, tmp_path):
    """Among the samples are ones that differ from the transparent value in one bit, the lowest of 16 too."""
    rng = np.random.default_rng(depth)
    shape = (16, 16) if colours == 1 else (16, 16, 3)
    few = rng.integers(0, 2**depth, 3)
    values = rng.choice(np.concatenate([few, few ^ 1, few ^ (1 << depth - 1)]), shape)
    transparent = np.atleast_1d(values[5, 7])
    values[0, :8] = transparent if colours == 3 else transparent[0]
    (tmp_path / "a.png").write_bytes(png_of(values, depth, transparent.tolist() * with_transparent, interlaced))
    is_transparent = (values.reshape(16, 16, -1) == transparent).all(-1) & with_transparent
    shades = values >> 8 if (depth, colours) == (16, 3) else np.round(values * (255 / (2**depth - 1)))
    expected = np.dstack([shades] * (3 // colours) + [np.where(is_transparent, 0, 255)]).astype(np.uint8)
    image = read(tmp_path / "a.png", 16, channels=4).permute(1, 2, 0).numpy()
    assert (image == expected).all()


def frames() -> list[Image.Image]:
    return [Image.new("RGB", (2, 2), shade) for shade in ((255, 0, 0), (0, 255, 0))]


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_the_first_frame_is_taken(name, tmp_path):
    first, second = frames()
    options = {"lossless": True} if name == "a.webp" else {}
    first.save(tmp_path / name, save_all=True, append_images=[second], **options)
    assert colour(read(tmp_path / name)) == [255, 0, 0]


def test_the_largest_icon_is_taken(tmp_path):
    large = Image.new("RGBA", (32, 32), (255, 0, 0, 255))
    small = Image.new("RGBA", (16, 16), (0, 255, 0, 255))
    large.save(tmp_path / "a.ico", sizes=[(16, 16), (32, 32)], append_images=[small])
    assert colour(read(tmp_path / "a.ico", 32)) == [255, 0, 0]


def test_a_progressive_jpeg_is_read_whole(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    save(tmp_path / "a.jpg", pixels, quality=95)
    save(tmp_path / "b.jpg", pixels, quality=95, progressive=True)
    assert torch.equal(read(tmp_path / "a.jpg", 16), read(tmp_path / "b.jpg", 16))


def swapped_profile() -> bytes:
    """The bytes of an sRGB profile whose red and green primaries are exchanged, under another name."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(data[128:132], "big")
    entries = {bytes(data[132 + 12 * k : 136 + 12 * k]): 136 + 12 * k for k in range(count)}
    red, green = (bytes(data[entries[name] : entries[name] + 8]) for name in (b"rXYZ", b"gXYZ"))
    data[entries[b"rXYZ"] : entries[b"rXYZ"] + 8] = green
    data[entries[b"gXYZ"] : entries[b"gXYZ"] + 8] = red
    return bytes(data).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be")).replace(b"sRGB", b"swap")


@pytest.mark.parametrize(("mode", "value"), [("RGB", (255, 0, 0)), ("RGBA", (255, 0, 0, 128))])
def test_another_colour_profile_is_converted_to_srgb(mode, value, tmp_path):
    """In the swapped profile full red is what sRGB calls full green."""
    profile = swapped_profile()
    path = save(tmp_path / "a.png", value, mode, icc_profile=profile)
    image = colour(read(path, channels=4))
    assert image[0] <= 2, image
    assert image[1] >= 253, image
    assert image[3] == (128 if mode == "RGBA" else 255), "transparency stays"


@pytest.mark.parametrize("profile", ["srgb", b"broken"])
def test_srgb_and_broken_profiles_change_nothing(profile, tmp_path):
    if profile == "srgb":
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert colour(read(save(tmp_path / "a.png", (10, 20, 30), icc_profile=profile))) == [10, 20, 30]


@pytest.mark.parametrize("size", [1_500_000, 10_000_000])
def test_large_colour_profiles_of_a_png_are_read(size, tmp_path):
    """Those of printers take megabytes; Pillow refuses more than one."""
    profile = swapped_profile()
    profile = (size).to_bytes(4, "big") + profile[4:] + bytes(size - len(profile))
    image = colour(read(save(tmp_path / "a.png", (255, 0, 0), icc_profile=profile)))
    assert image[0] <= 2, image
    assert image[1] >= 253, image


def test_larger_ones_are_refused_in_plain_words(tmp_path):
    path = save(tmp_path / "a.png", (255, 0, 0), icc_profile=bytes(17_000_000))
    with pytest.raises(OSError, match="this PNG has more text, or a larger colour profile, than is read; save it anew"):
        read(path)


def test_a_text_may_have_any_name(tmp_path):
    """Pillow keeps what a PNG says of itself and its texts in one dictionary."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("icc_profile", "of the printer")
    assert colour(read(save(tmp_path / "a.png", (10, 20, 30), pnginfo=texts))) == [10, 20, 30]


def test_invisible_colours_do_not_bleed(tmp_path):
    """A red pixel beside an invisible green one: what is between them is red, half transparent."""
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4] = (255, 0, 0, 255)
    pixels[:, 4:] = (0, 255, 0, 0)
    image = read(save(tmp_path / "a.png", pixels), 1, channels=4)[:, 0, 0].tolist()
    assert image[:3] == [255, 0, 0]
    assert image[3] == pytest.approx(128, abs=1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, 2)])
@pytest.mark.parametrize("squaring", ["crop", "pad", "edge"])
def test_odd_shapes(shape, squaring, tmp_path):
    pixels = np.full((*shape, 3), (10, 20, 30), np.uint8)
    image = read(save(tmp_path / "a.png", pixels), 16, squaring=squaring)
    shades = {tuple(pixel) for pixel in image.flatten(1).T.tolist()}
    square = shape == (1, 1)
    assert shades == ({(10, 20, 30)} if squaring != "pad" or square else {(10, 20, 30), BLUE})


@pytest.mark.parametrize("squaring", ["crop", "pad", "edge", "refuse"])
@pytest.mark.parametrize("side", [64, 48, 23])
def test_flat_colours_stay_flat_beside_an_outline(side, squaring, tmp_path):
    """Reduced, a black line on grey makes no pixel brighter than the grey, and those two pixels away are the grey."""
    pixels = np.full((96, 96, 3), 200, np.uint8)
    pixels[:, 47:49] = 0
    image = read(save(tmp_path / "a.png", pixels), side, squaring=squaring)
    assert int(image.max()) == 200
    assert int(image.min()) < 200
    middle = side // 2
    apart = torch.cat([image[..., : middle - 2], image[..., middle + 3 :]], dim=2)
    assert (apart == 200).all()


def test_squaring(tmp_path):
    pixels = np.zeros((2, 6, 3), np.uint8)
    pixels[:, :2, 0] = pixels[:, 2:4, 1] = pixels[:, 4:, 2] = 255
    path = save(tmp_path / "a.png", pixels)
    whole = torch.from_numpy(pixels).permute(2, 0, 1)
    assert torch.equal(read(path, 2), whole[:, :, 2:4])
    padded, edged = read(path, 6, squaring="pad"), read(path, 6, squaring="edge")
    assert torch.equal(padded[:, 2:4], whole)
    assert torch.equal(edged[:, 2:4], whole)
    assert colour(padded[:, :2]) == colour(padded[:, 4:]) == list(BLUE)
    assert torch.equal(edged, whole[:, :1].expand(3, 6, 6))
    with pytest.raises(ValueError, match=r"6x2 is not of the shape 2x2 \(width x height\); crop it, or read with"):
        read(path, 2, squaring="refuse")
    assert torch.equal(read(path, (2, 6), squaring="refuse"), whole)


@settings(max_examples=200, deadline=None)
@given(*[st.integers(1, 300)] * 4)
def test_padded_pictures_have_pillows_size(width, height, frame_width, frame_height):
    try:
        expected = ImageOps.contain(Image.new("1", (width, height)), (frame_width, frame_height)).size
    except ValueError:  # older Pillows, on a sliver whose side rounds to 0
        assert min(contained((width, height), (frame_width, frame_height))) == 1
        return
    assert contained((width, height), (frame_width, frame_height)) == tuple(max(1, side) for side in expected)


@pytest.mark.parametrize(
    ("contents", "text"),
    [
        (b"", "an empty file"),
        (b"no picture", r"a file of 10 bytes that is none of PNG, JPEG, GIF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\n", "none of PNG"),
    ],
)
def test_what_is_no_picture_is_refused(contents, text, tmp_path):
    (tmp_path / "a.png").write_bytes(contents)
    with pytest.raises(ValueError, match=text):
        read(tmp_path / "a.png")


def test_formats_that_pillow_knows_and_we_do_not_open(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "PCX")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="none of PNG"):
        read(tmp_path / "a.png")


def test_a_name_does_not_tell_the_format(tmp_path):
    assert colour(read(save(tmp_path / "a.png", (10, 20, 30), format="BMP"))) == [10, 20, 30]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"size": 0}, r"size must be a side or \(height, width\) in pixels, got 0"),
        ({"size": (4, 4, 4)}, "size must be a side"),
        ({"size": 4, "channels": 2}, "channels must be 1 .*, got 2"),
        ({"size": 4, "squaring": "squash"}, "squaring must be one of crop, pad, edge, refuse, got 'squash'"),
        ({"size": 4, "background": (0, 0, 256)}, "background must be three ints of 0..255"),
    ],
)
def test_settings_are_checked_once(arguments, text):
    with pytest.raises(ValueError, match=text):
        Reading(**arguments)


def test_the_table_in_the_docs_names_every_format():
    text = (ROOT / "docs/images.md").read_text()
    for name in (*FORMATS, *SUFFIXES):
        assert name in text, name


def pnm(kind: int, values: NDArray[np.int64], highest: int, comment: bytes = b"") -> bytes:
    """A binary PNM of values (H, W) or (H, W, 3)."""
    height, width = values.shape[:2]
    head = b"P%d\n%s%d %d\n" % (kind, comment, width, height)
    if kind == 4:
        return head + np.packbits(values.astype(bool), axis=1).tobytes()
    return head + b"%d\n" % highest + values.astype(">u2" if highest > 255 else "u1").tobytes()


@pytest.mark.parametrize("comment", [b"", b"# by a program\n#\r "])
@pytest.mark.parametrize(
    ("kind", "highest"), [(4, 1), (5, 255), (5, 15), (5, 1023), (5, 65_535), (6, 255), (6, 31), (6, 1)]
)
def test_a_binary_pnm_is_scaled_by_its_highest_value(kind, highest, comment, tmp_path):
    values = np.random.default_rng(kind).integers(0, highest + 1, (5, 11, 3) if kind == 6 else (5, 11))
    values.flat[:2] = 0, highest
    (tmp_path / "a.pnm").write_bytes(pnm(kind, values, highest, comment))
    exact = values * (255 / highest)
    if kind == 4:
        exact = 255 - exact  # ones are black
    image = read_image(tmp_path / "a.pnm", Reading((5, 11), 3 if kind == 6 else 1)).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(image.reshape(values.shape), exact, atol=0.51)
    if highest in (1023, 65_535):  # 16 bits that say what they are, and that do not
        again = read_image(tmp_path / "a.pnm", Reading((5, 11), 1, bit_depth=16)).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(image, again)
        reading = Reading((5, 11), 1, bit_depth=12)
        if highest == 1023:
            np.testing.assert_array_equal(image, read_image(tmp_path / "a.pnm", reading).permute(1, 2, 0).numpy())
        else:
            with pytest.raises(ValueError, match="more than the 4,095 of bit_depth=12"):
                read_image(tmp_path / "a.pnm", reading)


def test_a_pnm_that_is_cut_off_says_so(tmp_path):
    for kind, highest in ((4, 1), (5, 255), (5, 1023), (6, 255)):
        data = pnm(kind, np.ones((5, 11, 3) if kind == 6 else (5, 11), np.int64), highest)
        for end in (3, 6, len(data) - 1):
            (tmp_path / "a.ppm").write_bytes(data[:end])
            with pytest.raises(OSError, match=r"^this PPM is cut off; fetch or save it anew$"):
                read_image(tmp_path / "a.ppm", Reading(8))
