"""What a file says of itself: sound files are measured right, and none leads a decoder to endless work."""

from __future__ import annotations

import io
import random
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from progan.data import read_image
from progan.data.decoding import decode
from progan.data.decoding.header import read_header
from progan.data.decoding.limits import MAX_PIECES, MAX_PIXELS, MAX_SEGMENTS, MAX_SIDE
from progan.data.decoding.read import Reading

KINDS = {
    "png": ("PNG", {}),
    "apng": ("PNG", {"save_all": True}),
    "baseline": ("JPEG", {}),
    "progressive": ("JPEG", {"progressive": True}),
    "gif": ("GIF", {}),
    "webp": ("WEBP", {}),
    "lossless": ("WEBP", {"lossless": True}),
    "animated": ("WEBP", {"save_all": True}),
    "bmp": ("BMP", {}),
    "dib": ("DIB", {}),
    "ico": ("ICO", {}),
    "icon_of_bmp": ("ICO", {"bitmap_format": "bmp"}),
    "tiff": ("TIFF", {}),
    "lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "deflate": ("TIFF", {"compression": "tiff_deflate"}),
    "jpeg_in_tiff": ("TIFF", {"compression": "jpeg"}),
    "big_tiff": ("TIFF", {"big_tiff": True}),
    "ppm": ("PPM", {}),
}


def encoded(kind: str, size=(48, 40)) -> bytes:
    form, options = KINDS[kind]
    noise = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), np.uint8)
    options = options | ({"append_images": [Image.new("RGB", size)]} if "save_all" in options else {})
    options = options | ({"sizes": [size]} if form == "ICO" else {})
    file = io.BytesIO()
    Image.fromarray(noise).save(file, form, **options)
    return file.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def inserted(data: bytes, place: int, more: bytes) -> bytes:
    return data[:place] + more + data[place:]


def tiff_of(*tags: tuple[int, int, int, int]) -> bytes:
    """A TIFF's directory: (tag, type, count, value) each."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def measured(data: bytes, path):
    path.write_bytes(data)
    with path.open("rb") as file:
        return read_header(file)


@pytest.mark.parametrize("size", [(48, 40), (1, 7), (255, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_sound_files_are_measured(kind, size, tmp_path):
    header = measured(encoded(kind, size), tmp_path / "a")
    assert header[:2] == (KINDS[kind][0], size[0] * size[1])
    if KINDS[kind][0] == "JPEG":
        assert header.notes[:3] == (*size, True)
        blocks = -(-size[0] // 16) * -(-size[1] // 16) * 6  # 4 of brightness, 1 of each colour, for 16x16 pixels
        assert header.notes.coefficients == (128 * blocks if kind == "progressive" else 0)
    assert tuple(read_image(tmp_path / "a", Reading(8)).shape) == (3, 8, 8)


def hostile() -> dict[str, tuple[bytes, str]]:
    """Files that lead a decoder to much work, and why they are refused."""
    png, jpg, gif, webp = (encoded(kind) for kind in ("png", "baseline", "gif", "webp"))
    frame, scan = jpg.index(b"\xff\xc0"), jpg.index(b"\xff\xda")
    progressive = encoded("progressive")
    last, end = progressive.rindex(b"\xff\xda"), progressive.rindex(b"\xff\xd9")
    exif = segment(0xE1, b"Exif\0\0" + bytes(10))
    first_block = gif.index(b",", 13 + (3 << (gif[10] & 7) + 1 if gif[10] & 128 else 0))
    run_length = bytearray(encoded("bmp")[:60])
    struct.pack_into("<iiHHI", run_length, 18, 2001, 2000, 1, 8, 1)
    many = MAX_PIECES + 1
    return {
        "png_chunks": (inserted(png, 33, png_chunk(b"IDAT", b"") * many), "50,000 chunks"),
        "png_metadata": (inserted(png, 33, png_chunk(b"abCd", bytes(16_000_001))), "16,000,000 bytes of metadata"),
        "png_texts": (inserted(png, 33, png_chunk(b"zTXt", bytes(16_000)) * 17), "bytes of compressed text"),
        "png_side": (png[:16] + struct.pack(">II", MAX_SIDE + 1, 1) + png[24:], "65536x1 pixels, more than the 65,535"),
        "jpeg_segments": (inserted(jpg, 2, exif * MAX_SEGMENTS), "1,000 segments"),
        "jpeg_metadata": (inserted(jpg, 2, segment(0xE2, bytes(65_000)) * 250), "16,000,000 bytes of metadata"),
        "jpeg_gaps": (inserted(jpg, 20, bytes(many)), "50,000 bytes between segments"),
        "jpeg_hidden": (inserted(jpg, 2, segment(0xF0, exif * 100)), "this JPEG is damaged, or of a rare kind"),
        "jpeg_frames": (inserted(jpg, frame, jpg[frame:scan]), "this JPEG says its size twice"),
        "jpeg_pixels": (
            jpg[: frame + 5] + struct.pack(">HH", 20_001, 20_000) + jpg[frame + 9 :],
            "20000x20001 pixels, more than the 400 million that are read; reduce it, or pass max_pixels=26_000_000",
        ),
        "jpeg_scans_of_a_large_picture": (
            progressive[: progressive.index(b"\xff\xc2") + 5]
            + struct.pack(">HH", 12_000, 12_000)
            + progressive[progressive.index(b"\xff\xc2") + 9 :],
            "7 scans or more, too many for a JPEG of this size",
        ),
        "jpeg_scans_behind_an_end": (
            inserted(progressive, end, segment(0xFE, b"\xff\xd9") + progressive[last:end] * 100),
            "101 scans or more",
        ),
        "gif_blocks": (inserted(gif, first_block, b"!\xfe" + b"\x02ab" * many + b"\0"), "50,000 blocks"),
        "gif_gaps": (inserted(gif, first_block, bytes(many)), "50,000 blocks"),
        "webp_bytes": (webp + struct.pack("<4sI", b"abcd", 3 * 10**7) + bytes(3 * 10**7), "30,000,000 bytes in a WebP"),
        "webp_chunks": (webp + b"abcd\0\0\0\0" * many, "50,000 chunks"),
        "bmp_run_length": (bytes(run_length), "4,000,000 pixels of run-length encoding"),
        "ico_pictures": (struct.pack("<HHH", 0, 1, 257) + bytes(16 * 257), "256 pictures in an ICO"),
        "ico_chunks": (
            struct.pack("<HHH", 0, 1, 2) + b"".join(struct.pack("<12xI", at) for at in (38, 39))
            + inserted(png, 33, png_chunk(b"IDAT", b"") * 25_001),
            "25,000 chunks",
        ),
        "tiff_strips": (tiff_of((256, 3, 1, 8), (257, 3, 1, 8), (273, 4, many, 8)), "50,000 strips or tiles"),
        "tiff_metadata": (tiff_of((256, 3, 1, 8), (257, 3, 1, 8), (270, 2, 16_000_001, 8)), "bytes of metadata"),
        "tiff_tags": (tiff_of(*[(40_000, 3, 1, 8)] * (MAX_SEGMENTS + 1)), "1,000 tags"),
        "tiff_signed": (tiff_of((256, 9, 1, 5001), (257, 9, 1, 5001)), "5001x5001 pixels, more than the 25 million"),
        "pnm_comment": (b"P6\n#" + b"a" * 5_000 + b"\n8 8\n255\n" + bytes(192), "a long comment before its pixels"),
        "pnm_comments": (b"P6\n" + b"#\n" * 5_000 + b"8 8\n255\n" + bytes(192), "a long comment before its pixels"),
        "pnm_pixels": (b"P4\n5001 5000\n" + bytes(626 * 5000), "5001x5000 pixels, more than the 25 million"),
        "pnm_side": (b"P5 100000 1 255\n" + bytes(100_000), "100000x1 pixels, more than the 65,535 on a side"),
        "pnm_slow": (b"P6 1200 1200 254\n" + bytes(4_320_000), "4,000,000 values in a PNM whose highest is 254"),
        "pnm_deep": (b"P6 2 2 65535\n" + bytes(24), "a PPM of more than 8 bits per channel is not read; convert with"),
        "pnm_highest": (b"P5 2 2 65536\n" + bytes(8), "says that its highest value is 65,536, not 1 to 65,535"),
        "pnm_plain": (b"P3 2 2 255\n" + b"1 " * 12, "this file is plain PNM, PAM or PFM, which is none of PNG"),
        "big_tiff_tags": (b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 2**40), "1,000 tags"),
    }  # fmt: skip


@pytest.mark.parametrize("name", hostile())
def test_endless_work_is_refused_before_a_decoder_sees_it(name, tmp_path, monkeypatch):
    data, reason = hostile()[name]
    (tmp_path / "a.png").write_bytes(data)
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(ValueError, match=re.escape(reason)):
        read_image(tmp_path / "a.png", Reading(8))


def test_what_follows_a_jpeg_is_no_part_of_it(tmp_path):
    """A camera's film behind its picture holds what looks like scans, by chance."""
    data = encoded("progressive") + b"\xff\xda\0\0" * 1000
    assert measured(data, tmp_path / "a.jpg") == measured(encoded("progressive"), tmp_path / "b.jpg")
    assert tuple(read_image(tmp_path / "a.jpg", Reading(8)).shape) == (3, 8, 8)


def test_our_own_reading_is_no_endless_work(tmp_path):
    """A megabyte of what may be the start of a marker is looked at once, not once for each of its bytes."""
    data = encoded("baseline")
    assert measured(data[:-2] + b"\xff" * 1_000_000 + data[-2:], tmp_path / "a.jpg").pixels == 48 * 40


@pytest.mark.parametrize("kind", ["icon_of_bmp", "ico", "webp", "png"])
def test_files_are_opened_within_the_budget(kind, tmp_path, monkeypatch):
    """Icons are decoded as they are opened, and a WebP is read whole."""
    really_open, left = Image.open, []

    def opened(*arguments, **keywords):
        left.append(decode._BUDGET._left)
        return really_open(*arguments, **keywords)

    monkeypatch.setattr(Image, "open", opened)
    (tmp_path / "a").write_bytes(encoded(kind))
    read_image(tmp_path / "a", Reading(8))
    assert left[0] <= MAX_PIXELS - 48 * 40
    assert decode._BUDGET._left == MAX_PIXELS


def mutated(n: int):
    """Files that are cut off or have some bits flipped, in the whole file or in what comes first."""
    rng = random.Random(0)
    for kind in KINDS:
        sound = encoded(kind)
        for k in range(n):
            data = bytearray(sound)
            if k % 3 == 0:
                del data[rng.randrange(len(data)) :]
            else:
                for _ in range(rng.choice((1, 2, 5, 20)) if data else 0):
                    data[rng.randrange(len(data) if k % 3 == 1 else min(400, len(data)))] ^= 1 << rng.randrange(8)
            yield kind, bytes(data)


PLAIN = re.compile(
    "an empty file|a file of [0-9]+ bytes that is none of PNG, JPEG, GIF, WEBP, BMP, ICO, TIFF, PPM"
    "|this file is plain PNM, PAM or PFM, which is none of .*, PPM; convert with ImageMagick: .*"
    "|this PNM is damaged, or has a long comment before its pixels; save it anew"
    "|a PPM of more than 8 bits per channel is not read; convert with ImageMagick: .*"
    "|this (PNG|JPEG|GIF|WEBP|BMP|DIB|ICO|TIFF|PPM) "
    "(is cut off; fetch or save it anew"
    "|is damaged; fetch or save it anew"
    "|is damaged, or of a rare kind; save it anew"
    "|says its size twice; save it anew)"
    "|[0-9]+x[0-9]+ pixels, more than the 65,535 on a side that are read; reduce it"
    "|[0-9]+x[0-9]+ pixels, more than the (25|400) million that are read; reduce it,"
    "( save it as a JPEG, which is read reduced,)? or pass max_pixels=[0-9]+_000_000, which takes up to .* of memory"
    "|[0-9]+ scans or more, too many for a JPEG of this size; save it anew"
    "|more than [0-9,]+ [a-zA-Z -]+, which is more than is read; save it anew, the picture only"
    "|values of mode (I|F|I;16) must lie in .*; convert it to 8 bits"
)


def reason(path) -> str:
    """Why a file is not read, or nothing."""
    try:
        read_image(path, Reading(8))
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def test_every_damaged_file_has_a_reason_in_plain_words(tmp_path):
    """A person can act on it; Pillow's own words are its cause, and nothing is printed beside."""
    reasons = set()
    for kind, data in mutated(40):
        (tmp_path / "a").write_bytes(data)
        name, _, words = reason(tmp_path / "a").partition(": ")
        assert name in ("", "OSError", "RefusedError"), (kind, name)
        assert not name or PLAIN.fullmatch(words), (kind, words)
        reasons.add(words.partition(" is ")[2])
    assert {"cut off; fetch or save it anew", "damaged; fetch or save it anew"} <= reasons


def test_pillows_words_are_the_cause(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded("png")[:-100])
    with pytest.raises(OSError, match=r"^this PNG is cut off; fetch or save it anew$") as error:
        read_image(tmp_path / "a.png", Reading(8))
    assert "truncated" in str(error.value.__cause__)
