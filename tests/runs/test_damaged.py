"""A thousand damaged files in one folder: no crash, every one named with a reason, within bounds of memory."""

from __future__ import annotations

import contextlib
import io
import os
import random
import socket
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import MEMORY
from PIL import Image

from progan import ImageFolder
from progan.data import check, pack, read_image
from progan.data.decoding.header import webp_bytes
from progan.data.decoding.limits import MAX_PIXELS
from progan.data.decoding.read import Reading

SOUND = {
    "png": {},
    "jpg": {"quality": 90},
    "jpeg": {"progressive": True},
    "gif": {},
    "webp": {"lossless": True},
    "bmp": {},
    "ico": {"sizes": [(48, 48)]},
    "tif": {},
    "tiff": {"compression": "tiff_deflate"},
}


def encoded(suffix: str) -> bytes:
    noise = np.random.default_rng(3).integers(0, 256, (48, 48, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, Image.registered_extensions()[f".{suffix}"], **SOUND[suffix])
    return file.getvalue()


def png_of(width: int, height: int, *, depth=8, colour=2, data=False, transparent=b"") -> bytes:
    """A PNG with this header; its pixels, all 0, only where asked for."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    packed = zlib.compressobj(1)
    row = bytes(1 + width * channels * depth // 8)
    rows = b"".join(packed.compress(row) for _ in range(height)) + packed.flush() if data else zlib.compress(b"")
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    value = chunk(b"tRNS", transparent) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + value + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def icon_of(png: bytes) -> bytes:
    """An ICO that calls a PNG 16x16."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(png), 22) + png


def bombs() -> dict[str, bytes]:
    """Small files of many pixels, and headers of 20,000x20,000."""
    many = {
        "header.png": png_of(20_000, 20_000),
        "header_of_an_icon.ico": icon_of(png_of(20_000, 20_000)),
        "below_the_limit_of_pillow.png": png_of(13_000, 13_000, data=True),
        "icon_below_the_limit_of_pillow.ico": icon_of(png_of(9_000, 9_000, colour=6, data=True)),
        "wide.png": png_of(2**31 - 1, 1),
    }
    bmp, gif, tif, jpg = (bytearray(encoded(suffix)) for suffix in ("bmp", "gif", "tif", "jpg"))
    struct.pack_into("<ii", bmp, 18, 20_000, 20_000)
    struct.pack_into("<HH", gif, 6, 20_000, 20_000)
    start_of_frame = jpg.index(b"\xff\xc0")
    struct.pack_into(">HH", jpg, start_of_frame + 5, 20_000, 20_000)
    for tag in (256, 257):
        place = tif.index(struct.pack("<HH", tag, 4), 8)
        struct.pack_into("<I", tif, place + 8, 20_000)
    return many | {
        "header.bmp": bytes(bmp),
        "header.gif": bytes(gif),
        "header.jpg": bytes(jpg),
        "header.tif": bytes(tif),
    }


def damaged_folder(folder: Path, n: int) -> set[str]:
    """Fill a folder with n files, all called pictures; returns the names of those that must be found unreadable."""
    rng = random.Random(0)
    folder.mkdir()
    hopeless: set[str] = set()

    def put(name: str, contents: bytes) -> None:
        (folder / name).write_bytes(contents)

    for name, contents in bombs().items():
        put(name, contents)
        hopeless.add(name)
    for k in range(5):
        (folder / f"folder_{k}.png").mkdir()
        (folder / f"loop_{k}.png").symlink_to(f"loop_{k}.png")
        (folder / f"gone_{k}.jpg").symlink_to("nowhere.jpg")
        put(f"empty_{k}.gif", b"")
        put(f"zeros_{k}.png", bytes(1000))
        put(f"text_{k}.jpg", b"This is no picture.\n" * (k + 1))
        for name in ("loop_{}.png", "gone_{}.jpg", "empty_{}.gif", "zeros_{}.png", "text_{}.jpg"):
            hopeless.add(name.format(k))
        if hasattr(os, "mkfifo"):
            os.mkfifo(folder / f"pipe_{k}.png")
            hopeless.add(f"pipe_{k}.png")
    if hasattr(socket, "AF_UNIX"):
        with contextlib.chdir(folder), socket.socket(socket.AF_UNIX) as bound:  # a socket's path is short
            bound.bind("socket.webp")
        hopeless.add("socket.webp")
    sound = {suffix: encoded(suffix) for suffix in SOUND}
    number = 0
    while len(list(folder.iterdir())) + 1 < n:
        for suffix, contents in sound.items():
            number += 1
            cut = len(contents) * rng.randrange(1, 90) // 100
            put(f"cut_{number}.{suffix}", contents[:cut])
            hopeless.add(f"cut_{number}.{suffix}")
            flipped = bytearray(contents)
            for _ in range(rng.randrange(1, 30)):
                flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
            put(f"flipped_{number}.{suffix}", bytes(flipped))  # may be a picture still, of other pixels
            put(f"called_{number}.{rng.choice(list(SOUND))}", rng.randbytes(4) + contents)
        if number % 90 == 0:
            put(f"head_{number}.png", sound["png"][:33] + rng.randbytes(200))
    put("good.png", sound["png"])
    return hopeless


MEASURED = """
import sys
import progan
from progan.data import check
before = begin()
report = check(sys.argv[1], printed=False)
print(peak_above(before), len(report.facts), len(report.unreadable))
"""


def test_a_thousand_damaged_files(tmp_path):
    folder = tmp_path / "damaged"
    hopeless = damaged_folder(folder, 1000)
    names = {path.name for path in folder.iterdir() if path.is_symlink() or not path.is_dir()}
    report = check(folder, printed=False)
    named = {name.as_posix() for name in report.unreadable}
    assert len(names) >= 995
    assert {name.as_posix() for name in report.facts} | named == names
    assert hopeless <= named, hopeless - named
    assert all(report.unreadable.values())
    assert Path("good.png") in report.facts
    text = str(report)
    assert all(name in text for name in named)
    with pytest.raises(ValueError, match=f"{len(named)} of {len(names)} files in .* cannot be read") as error:
        ImageFolder(folder, 16)
    assert all(f"  {name}: " in str(error.value) for name in named)
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=f"{len(named)} of {len(names)} files in .* cannot be read"):
        pack(folder, tmp_path / "a.pack", 16, progress=False)
    assert {path.name for path in tmp_path.iterdir()} == before, "half a pack stays behind"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")
def test_they_take_little_memory(tmp_path):
    damaged_folder(tmp_path / "damaged", 120)
    # The largest that are read, of the kinds that take most.
    side = int(MAX_PIXELS**0.5)
    largest = png_of(side, side, colour=6, data=True)
    for name, contents in (
        ("1.png", largest),
        ("2.png", largest[:-1000]),
        ("3.png", png_of(4000, 5000, colour=6, data=True)),
    ):
        (tmp_path / "damaged" / name).write_bytes(contents)
    command = [sys.executable, "-c", MEMORY + MEASURED, str(tmp_path / "damaged")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert float(printed[0]) < 500, f"{printed[0]} MB above import"
    assert int(printed[1]) >= 4


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")
def test_the_kinds_that_take_most_memory(tmp_path):
    """A WebP's decoder keeps two pictures besides its own and the file, a progressive JPEG all its coefficients."""
    side = int(MAX_PIXELS**0.5)
    picture = Image.new("RGBA", (side, side), (200, 3, 90, 100))
    folder = tmp_path / "large"
    folder.mkdir()
    picture.save(folder / "lossless.webp", lossless=True, method=0, quality=0)
    picture.save(folder / "lossy.webp", method=0)
    picture.convert("CMYK").save(folder / "progressive.jpg", progressive=True, subsampling=0)
    larger = picture.convert("RGB").resize((9500, 6300))  # read reduced, with the coefficients of all its pixels
    larger.save(folder / "larger.jpg", progressive=True, subsampling=0, quality=50)
    larger.close()
    (folder / "transparent.png").write_bytes(png_of(side, side, depth=16, data=True, transparent=bytes(6)))
    for name in ("lossless.webp", "lossy.webp"):
        data = (folder / name).read_bytes()
        length = webp_bytes(side**2) - len(data) - 8
        (folder / name).write_bytes(data + b"abcd" + struct.pack("<I", length) + bytes(length))
        (folder / f"again_{name}").write_bytes((folder / name).read_bytes())
    command = [sys.executable, "-c", MEMORY + MEASURED, str(folder)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert float(printed[0]) < 500, f"{printed[0]} MB above import"
    assert printed[1:] == ["7", "0"]


def test_what_vanishes_or_cannot_be_opened_is_named(tmp_path, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (4, 4), name.encode()[0]).save(tmp_path / name)
    really_open = os.open

    def opened(path, *arguments, **keywords):
        if str(path).endswith("a.png"):
            Path(path).unlink()
        if str(path).endswith("b.png"):
            raise PermissionError(13, "Permission denied", str(path))
        return really_open(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", opened)
    report = check(tmp_path, printed=False)
    assert report.unreadable == {Path("a.png"): "No such file or directory", Path("b.png"): "Permission denied"}
    assert list(report.facts) == [Path("c.png")]


def test_a_tiff_cannot_hide_the_size_of_its_tiles(tmp_path):
    tags = {256: 1, 257: 1, 258: 8, 259: 5, 262: 1, 277: 1, 322: 40_000, 323: 40_000, 324: 200, 325: 10}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(head.ljust(200, b"\0") + bytes(10))
    with pytest.raises(ValueError, match="40000x40000 pixels, more than the 25 million"):
        read_image(tmp_path / "a.tif", Reading(8))


def test_threads_that_read_leave_warnings_as_they_were(tmp_path):
    Image.new("L", (64, 64)).save(tmp_path / "a.png")
    before = list(warnings.filters), Image.core.get_block_size()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: read_image(tmp_path / "a.png", Reading(8)), range(200)))
    assert (list(warnings.filters), Image.core.get_block_size()) == before


def test_jpegs_of_endless_scans_are_refused(tmp_path):
    data = encoded("jpeg")
    last = data.rindex(b"\xff\xda")
    end = data.rindex(b"\xff\xd9")
    (tmp_path / "a.jpg").write_bytes(data[:end] + data[last:end] * 200 + data[end:])
    with pytest.raises(ValueError, match="101 scans or more, too many for a JPEG of this size; save it anew"):
        read_image(tmp_path / "a.jpg", Reading(8))
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_image(tmp_path / "a.jpg", Reading(8)).shape == (3, 8, 8)


@pytest.mark.parametrize("kind", ["another chunk first", "two headers"])
def test_an_icon_cannot_hide_the_size_of_its_picture(kind, tmp_path):
    small, large = png_of(16, 16), png_of(9000, 9000)
    start, header = large[:8], slice(8, 33)
    hidden = b"\0\0\0\0abcd" + struct.pack(">I", zlib.crc32(b"abcd"))
    before = hidden if kind == "another chunk first" else small[header]
    (tmp_path / "a.ico").write_bytes(icon_of(start + before + large[header] + large[33:]))
    with pytest.raises(ValueError, match="9000x9000 pixels, more than the 25 million"):
        read_image(tmp_path / "a.ico", Reading(8))


def test_pictures_beyond_the_limit_are_refused_before_they_are_decoded(tmp_path):
    (tmp_path / "a.png").write_bytes(png_of(5_000, 5_001))
    with pytest.raises(ValueError, match="5000x5001 pixels, more than the 25 million that are read; reduce it"):
        read_image(tmp_path / "a.png", Reading(8))
    (tmp_path / "a.png").write_bytes(png_of(5_000, 5_000))
    with pytest.raises(OSError, match="this PNG is cut off; fetch or save it anew"):
        read_image(tmp_path / "a.png", Reading(8))
