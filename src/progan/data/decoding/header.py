"""Headers of picture files, checked before decoding, so that no file can lead a decoder to endless work.

A decoder trusts what it reads: a billion pixels in a file of a few bytes, or a million pieces before the first one.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from progan.data.decoding.header_jpeg import JpegNotes, jpeg_header
from progan.data.decoding.header_png import PNG_START, PngNotes, png_header
from progan.data.decoding.header_pnm import PNM_START, PNM_WHOLE_START, pnm_header
from progan.data.decoding.kinds import HEAD, RAW, kind_by_bytes
from progan.data.decoding.limits import (
    BYTES_PER_PIXEL,
    CUT_OFF,
    MAX_IN_PYTHON,
    MAX_METADATA,
    MAX_PIECES,
    MAX_PIXELS,
    MAX_SEGMENTS,
    MAX_WEBP,
    CutOffError,
    RefusedError,
    at_most,
    check_size,
    read_numbers,
)


class Header(NamedTuple):
    """The cost of decoding a file."""

    format: str
    pixels: int
    """Of its largest picture, where there are several."""
    held: int
    """Bytes that are kept in memory besides the pixels."""
    notes: PngNotes | JpegNotes | None = None


def read_header(file: BinaryIO, max_pixels: int = MAX_PIXELS) -> Header:
    """Read and check the header of a file, and seek back to its start.

    Args:
        file: File open for reading, at its start.
        max_pixels: Largest number of pixels; a JPEG may have `MAX_REDUCED` times as many.

    Raises:
        OSError: If the file ends too early.
        RefusedError: If it has none of the formats, or exceeds a limit.
    """
    size = os.fstat(file.fileno()).st_size
    start = file.read(HEAD)
    if (name := picture_format(start)) is None:
        raise _not_read(start, size)
    file.seek(0)
    try:
        header = Header(name, *FORMATS[name][1](file, size, max_pixels))
    except CutOffError:
        raise OSError(CUT_OFF.format(name)) from None
    file.seek(0)
    return header


def picture_format(start: bytes, *, named: bool = True) -> str | None:
    """Return the format that a file's first bytes belong to.

    Args:
        start: The first 512 bytes, or fewer.
        named: Whether the file's name says that it is a picture. If not, a few bytes that a text may begin with as well
            are not enough: a BMP begins with the letters BM.

    Returns:
        The format's name in `FORMATS`; None where it is none of them, or is a camera's RAW file, some of which begin
        as a TIFF does.
    """
    name = next((name for name, (magic, _) in FORMATS.items() if re.match(magic, start, re.DOTALL)), None)
    if name == "TIFF" and kind_by_bytes(start) is RAW:
        return None
    if not named and name in _WHOLE_START and not re.match(_WHOLE_START[name], start, re.DOTALL):
        return None
    return name


def _not_read(start: bytes, size: int) -> RefusedError:
    """Return the error for a file of another kind, named where it is recognised."""
    if not size:
        return RefusedError("an empty file")
    kind = kind_by_bytes(start)
    if kind is None:
        return RefusedError(f"a file of {size} bytes that is none of {_NAMES}")
    return RefusedError(f"this file is {kind.name}, which is none of {_NAMES}; {kind.remedy}")


def _gif(file: BinaryIO, size: int, max_pixels: int) -> tuple[int, int]:
    """Walk a GIF's blocks, up to its first picture."""
    pieces = 0

    def block() -> bytes:
        nonlocal pieces
        pieces += 1
        at_most(MAX_PIECES, pieces, "blocks")
        return file.read(length[0]) if (length := file.read(1)) else b""

    width, height, flags = read_numbers(file, "<6xHHBxx")
    file.seek(3 << (flags & 7) + 1 if flags & 128 else 0, os.SEEK_CUR)
    while (kind := file.read(1)) not in (b"", b";", b","):
        pieces += 1
        at_most(MAX_PIECES, pieces, "blocks")
        if kind == b"!":
            label, first = file.read(1), block()
            if label == b"\xff" and first.startswith(b"NETSCAPE2.0"):
                block()
            if label != b"\xfe" or first:
                while block():
                    pass
    if kind == b",":
        left, top, inner_width, inner_height = read_numbers(file, "<HHHH")
        width, height = max(width, left + inner_width), max(height, top + inner_height)
    return check_size(width, height, max_pixels), 500 * pieces


def _webp(file: BinaryIO, size: int, max_pixels: int) -> tuple[int, int]:
    """Walk a WebP's chunks."""
    (length,) = read_numbers(file, "<4xI4x")
    if length + 7 > size:  # some leave out the last byte, of padding
        raise CutOffError
    kind, body = file.read(4), file.read(14)
    if kind == b"VP8X":
        width, height = (int.from_bytes(body[k : k + 3], "little") + 1 for k in (8, 11))
    elif kind == b"VP8L":
        sides = int.from_bytes(body[5:9], "little")
        width, height = (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1
    else:
        width, height = (int.from_bytes(body[k : k + 2], "little") & 0x3FFF for k in (10, 12))
    file.seek(12)
    chunks = 0
    while len(head := file.read(8)) == 8:
        chunks += 1
        at_most(MAX_PIECES, chunks, "chunks")
        length = int.from_bytes(head[4:], "little")
        file.seek(length + length % 2, os.SEEK_CUR)
    pixels = check_size(width, height, max_pixels)
    if size > webp_bytes(pixels, max_pixels):
        raise RefusedError(
            f"more than {webp_bytes(pixels, max_pixels):,} bytes in a WebP of this size, which is more than is read; "
            "save it as a PNG, or pass a larger max_pixels"
        )
    return pixels, 3 * size


def webp_bytes(pixels: int, max_pixels: int = MAX_PIXELS) -> int:
    """Return how large a WebP may be: its decoder takes 16 bytes for each pixel, and keeps the file in pieces."""
    most = MAX_WEBP * max(max_pixels, MAX_PIXELS) // MAX_PIXELS
    return min(most, (BYTES_PER_PIXEL * (max_pixels - pixels) + 15_000_000) // 6)


def _bmp(file: BinaryIO, size: int, max_pixels: int) -> tuple[int, int]:
    file.seek(14)
    return _bitmap(file, size, max_pixels), 0


def _dib(file: BinaryIO, size: int, max_pixels: int) -> tuple[int, int]:
    return _bitmap(file, size, max_pixels), 0


def _bitmap(file: BinaryIO, size: int, max_pixels: int, times: int = 1) -> int:
    """Return the number of pixels by a BMP's second header; an icon's header has twice the height."""
    (length,) = read_numbers(file, "<I")
    width, height, compression = (*read_numbers(file, "<HH"), 0) if length == 12 else read_numbers(file, "<Ii4xI")
    pixels = check_size(width, abs(height) // times, max_pixels)
    if compression in (1, 2):
        at_most(MAX_IN_PYTHON, max(pixels, size // 2), "pixels of run-length encoding")
    return pixels


def _ico(file: BinaryIO, size: int, max_pixels: int) -> tuple[int, int]:
    """Measure every picture of an ICO: Pillow decodes one as it opens the file, whatever the list says."""
    (count,) = read_numbers(file, "<4xH")
    at_most(256, count, "pictures in an ICO")
    places = {read_numbers(file, "<12xI")[0] for _ in range(count)}
    pixels = held = 0
    for place in places:
        file.seek(place)
        is_png = file.read(len(PNG_START)) == PNG_START
        file.seek(place)
        if is_png:
            inner, more, _ = png_header(file, size, max_pixels, MAX_PIECES // len(places))
        else:
            inner, more = _bitmap(file, size, max_pixels, times=2), 0
        pixels, held = max(pixels, inner), max(held, more)
    return pixels, held


def _tiff(file: BinaryIO, size: int, max_pixels: int) -> tuple[int, int]:
    """Read the first directory of a TIFF. Its tiles may be larger than itself."""
    start = file.read(4)
    order, is_big = "<" if start[:2] == b"II" else ">", start[2] == 43
    (place,) = read_numbers(file, order + ("4xQ" if is_big else "I"))
    file.seek(min(place, size))
    (count,) = read_numbers(file, order + ("Q" if is_big else "H"))
    at_most(MAX_SEGMENTS, count, "tags")
    held = strips = 0
    raw = {_SUBFILE: 0, _SUB_FILES: 0, _DNG: 0}
    sides = {256: 1, 257: 1, 322: 1, 323: 1}  # width and height, of the picture and of its tiles
    for _ in range(count):
        entry = file.read(20 if is_big else 12)
        if len(entry) < (20 if is_big else 12):
            raise CutOffError
        tag, kind, number = struct.unpack_from(order + ("HHQ" if is_big else "HHI"), entry)
        held += number * _TIFF_SIZES.get(kind, 0)
        at_most(MAX_METADATA, held, "bytes of metadata")
        if tag in sides and kind in _TIFF_NUMBERS:
            (side,) = struct.unpack_from(order + _TIFF_NUMBERS[kind], entry, 12 if is_big else 8)
            sides[tag] = max(sides[tag], side)
            at_most(1, number, "widths or heights")
        if tag in raw:
            (value,) = struct.unpack_from(order + "I", entry, 12 if is_big else 8)
            raw[tag] = value if tag == _SUBFILE else 1
        if tag in (273, 279, 324, 325):
            strips = max(strips, number)
            at_most(MAX_PIECES, strips, "strips or tiles")
    _refuse_raw(raw)
    check_size(sides[322], sides[323], max_pixels)
    return check_size(sides[256], sides[257], max_pixels), 3 * held + 1000 * strips


_SUBFILE, _SUB_FILES, _DNG = 254, 330, 50_706  # tags of a TIFF


def _refuse_raw(tags: dict[int, int]) -> None:
    """Refuse a camera's RAW file: the first picture of such a TIFF is a small preview."""
    if tags[_DNG] or (tags[_SUBFILE] & 1 and tags[_SUB_FILES]):
        raise RefusedError(f"a {RAW.name} file, in which only a small preview is a TIFF; {RAW.remedy}")


_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TIFF_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q"}

# Only these are opened, whatever a file is called: each decoder more is one more that a crafted file can reach.
Measure = Callable[[BinaryIO, int, int], tuple[int, int] | tuple[int, int, PngNotes | JpegNotes]]
FORMATS: dict[str, tuple[bytes, Measure]] = {
    "PNG": (re.escape(PNG_START), png_header),
    "JPEG": (rb"\xff\xd8\xff", jpeg_header),
    "GIF": (rb"GIF8[79]a", _gif),
    "WEBP": (rb"RIFF....WEBPVP8[ LX]", _webp),
    "BMP": (rb"BM", _bmp),
    "ICO": (rb"\x00\x00\x01\x00", _ico),
    "TIFF": (rb"II[*+]\x00|MM\x00[*+]|II\x00\*|MM\*\x00", _tiff),
    "DIB": (rb"[\x28\x34\x38\x40\x6c\x7c]\x00{3}.{8}\x01\x00[\x01\x04\x08\x10\x18\x20]\x00", _dib),
    "PPM": (PNM_START, pnm_header),
}
_NAMES = ", ".join(name for name in FORMATS if name != "DIB")  # which is a BMP without its file header
# Where these begin a file, more of it must fit before it is a picture whatever its name.
_WHOLE_START = {
    "BMP": rb"BM....\x00{4}....(?:\x0c|\x10|\x28|\x34|\x38|\x40|\x6c|\x7c)\x00{3}",
    "ICO": rb"\x00\x00\x01\x00[^\x00]\x00...\x00",
    "PPM": PNM_WHOLE_START,
}
