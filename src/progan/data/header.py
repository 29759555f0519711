"""What a picture's file says of itself: read here first, so that no file leads a decoder to endless work.

A decoder believes what it reads: a billion pixels in a file of a few bytes, or a million pieces before the first one.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from progan.data.kinds import HEAD, RAW, kind_by_bytes

MAX_PIXELS = 25_000_000
MAX_SIDE = 65_535  # each row and column costs memory besides its pixels
MAX_METADATA = 16_000_000  # bytes of a file that are no pixels
MAX_PIECES = 50_000  # of a file: chunks, blocks, strips
MAX_SEGMENTS = 1_000  # of a JPEG: each is joined to all before it; tags of a TIFF
MAX_SCANS = 100  # of a JPEG: each goes over all pixels; usual are 1 to 18, and a few bytes make one more
MAX_WEBP = 30_000_000  # bytes, of a small picture: the decoder holds the file three times
MAX_RUN_LENGTH = 4_000_000  # pixels of a BMP of that compression, which Pillow decodes in Python

_PNG = b"\x89PNG\r\n\x1a\n"


CUT_OFF = "this {} is cut off; fetch or save it anew"


class Header(NamedTuple):
    """Hold what decoding a file will take."""

    format: str
    pixels: int
    """Of its largest picture, where there are several."""
    held: int
    """Bytes that are kept in memory besides the pixels."""


class RefusedError(ValueError):
    """A file that is not read, in words a person can act on."""


class _CutOffError(Exception):
    """A file that ends before what it announces."""


def read_header(file: BinaryIO) -> Header:
    """Read and check what a file says of itself, and go back to its start.

    Raises:
        OSError: if the file ends too early.
        RefusedError: if it is of none of the formats, or takes more than is given to one.
    """
    size = os.fstat(file.fileno()).st_size
    start = file.read(HEAD)
    if (name := picture_format(start)) is None:
        raise _not_read(start, size)
    file.seek(0)
    try:
        pixels, held = FORMATS[name][1](file, size)
    except _CutOffError:
        raise OSError(CUT_OFF.format(name)) from None
    file.seek(0)
    return Header(name, pixels, held)


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


def _size(width: int, height: int) -> int:
    """Check the size of a picture, and return the number of its pixels."""
    if width * height > MAX_PIXELS:
        raise RefusedError(
            f"{width}x{height} pixels, more than the {MAX_PIXELS // 10**6} million that are read; reduce it"
        )
    if max(width, height) > MAX_SIDE:
        raise RefusedError(f"{width}x{height} pixels, more than the {MAX_SIDE:,} on a side that are read; reduce it")
    return width * height


def _at_most(limit: int, number: int, what: str) -> None:
    if number > limit:
        raise RefusedError(f"more than {limit:,} {what}, which is more than is read; save it anew, the picture only")


def _read(file: BinaryIO, form: str) -> tuple[int, ...]:
    """Read whole numbers."""
    data = file.read(struct.calcsize(form))
    if len(data) < struct.calcsize(form):
        raise _CutOffError
    return struct.unpack(form, data)


def _png(file: BinaryIO, size: int, pieces: int = MAX_PIECES) -> tuple[int, int]:
    """Walk a PNG's chunks: the last size counts. What is compressed and no pixels is expanded, 1032-fold at most."""
    file.seek(len(_PNG), os.SEEK_CUR)
    pixels = chunks = metadata = expanded = 0
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        length, kind = struct.unpack(">I4s", head)
        chunks += 1
        _at_most(pieces, chunks, "chunks")
        if kind == b"IHDR":
            pixels = max(pixels, _size(*_read(file, ">II")))
            file.seek(-8, os.SEEK_CUR)
        if kind in (b"iCCP", b"zTXt", b"iTXt"):
            expanded += min(1032 * length, MAX_METADATA)
            _at_most(16 * MAX_METADATA, expanded, "bytes of compressed text")
        if kind not in (b"IDAT", b"fdAT"):
            metadata += length
            _at_most(MAX_METADATA, metadata, "bytes of metadata")
        file.seek(length + 4, os.SEEK_CUR)
    return pixels, metadata + expanded


def _jpeg(file: BinaryIO, size: int) -> tuple[int, int]:
    """Walk a JPEG's segments, up to the end of its first picture."""
    file.seek(2)
    pixels = scans = between = before = 0
    for segments, (gap, marker) in enumerate(_markers(file)):
        if marker == 0xD9 and scans:
            break
        _at_most(MAX_SEGMENTS, segments, "segments")
        if marker in (0xC8, 0xD9, 0xDE, 0xDF) or 0xF0 <= marker <= 0xFD:
            raise RefusedError("this JPEG is damaged, or of a rare kind; save it anew")
        (length,) = _read(file, ">H")
        if marker == 0xDA:
            scans += 1
            if scans > MAX_SCANS or scans * pixels > 20 * MAX_PIXELS:
                raise RefusedError(f"{scans} scans or more, too many for a JPEG of this size; save it anew")
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xCC):
            _, height, width = _read(file, ">BHH")
            if pixels or length > 20:
                raise RefusedError("this JPEG says its size twice; save it anew")
            pixels = _size(width, height)
            file.seek(-5, os.SEEK_CUR)
        file.seek(max(0, length - 2), os.SEEK_CUR)
        if scans == 0:
            between, before = between + gap, file.tell()
            _at_most(MAX_PIECES, between, "bytes between segments")
            _at_most(MAX_METADATA, before, "bytes of metadata")
    return pixels, 2 * before


_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])")


def _markers(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield what lies before each of a JPEG's markers, in bytes, and the marker, with the file behind it."""
    gap = 0
    while len(block := file.read(1 << 16)) > 1:
        if found := _MARKER.search(block):
            file.seek(found.end() - len(block), os.SEEK_CUR)
            yield gap + found.start(), found[1][0]
            gap = 0
        else:
            gap += len(block) - 1
            file.seek(-1, os.SEEK_CUR)  # the block may end within a marker


def _gif(file: BinaryIO, size: int) -> tuple[int, int]:
    """Walk a GIF's blocks, up to its first picture."""
    pieces = 0

    def block() -> bytes:
        nonlocal pieces
        pieces += 1
        _at_most(MAX_PIECES, pieces, "blocks")
        return file.read(length[0]) if (length := file.read(1)) else b""

    width, height, flags = _read(file, "<6xHHBxx")
    file.seek(3 << (flags & 7) + 1 if flags & 128 else 0, os.SEEK_CUR)
    while (kind := file.read(1)) not in (b"", b";", b","):
        pieces += 1
        _at_most(MAX_PIECES, pieces, "blocks")
        if kind == b"!":
            label, first = file.read(1), block()
            if label == b"\xff" and first.startswith(b"NETSCAPE2.0"):
                block()
            if label != b"\xfe" or first:
                while block():
                    pass
    if kind == b",":
        left, top, inner_width, inner_height = _read(file, "<HHHH")
        width, height = max(width, left + inner_width), max(height, top + inner_height)
    return _size(width, height), 500 * pieces


def _webp(file: BinaryIO, size: int) -> tuple[int, int]:
    """Walk a WebP's chunks."""
    (length,) = _read(file, "<4xI4x")
    if length + 7 > size:  # some leave out the last byte, of padding
        raise _CutOffError
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
        _at_most(MAX_PIECES, chunks, "chunks")
        length = int.from_bytes(head[4:], "little")
        file.seek(length + length % 2, os.SEEK_CUR)
    pixels = _size(width, height)
    _at_most(webp_bytes(pixels), size, "bytes in a WebP of this size")
    return pixels, 3 * size


def webp_bytes(pixels: int) -> int:
    """Return how large a WebP may be: its decoder takes 16 bytes for each pixel, and keeps the file in pieces."""
    return min(MAX_WEBP, (415_000_000 - 16 * pixels) // 6)


def _bmp(file: BinaryIO, size: int) -> tuple[int, int]:
    file.seek(14)
    return _bitmap(file, size), 0


def _dib(file: BinaryIO, size: int) -> tuple[int, int]:
    return _bitmap(file, size), 0


def _bitmap(file: BinaryIO, size: int, times: int = 1) -> int:
    """Return the pixels that a BMP's second header tells; an icon's says two times the height."""
    (length,) = _read(file, "<I")
    width, height, compression = (*_read(file, "<HH"), 0) if length == 12 else _read(file, "<Ii4xI")
    pixels = _size(width, abs(height) // times)
    if compression in (1, 2):
        _at_most(MAX_RUN_LENGTH, max(pixels, size // 2), "pixels of run-length encoding")
    return pixels


def _ico(file: BinaryIO, size: int) -> tuple[int, int]:
    """Measure every picture of an ICO: Pillow decodes one as it opens the file, whatever the list says."""
    (count,) = _read(file, "<4xH")
    _at_most(256, count, "pictures in an ICO")
    places = {_read(file, "<12xI")[0] for _ in range(count)}
    pixels = held = 0
    for place in places:
        file.seek(place)
        is_png = file.read(len(_PNG)) == _PNG
        file.seek(place)
        one = _png(file, size, MAX_PIECES // len(places)) if is_png else (_bitmap(file, size, times=2), 0)
        pixels, held = max(pixels, one[0]), max(held, one[1])
    return pixels, held


def _tiff(file: BinaryIO, size: int) -> tuple[int, int]:
    """Read the first directory of a TIFF. Its tiles may be larger than itself."""
    start = file.read(4)
    order, is_big = "<" if start[:2] == b"II" else ">", start[2] == 43
    (place,) = _read(file, order + ("4xQ" if is_big else "I"))
    file.seek(min(place, size))
    (count,) = _read(file, order + ("Q" if is_big else "H"))
    _at_most(MAX_SEGMENTS, count, "tags")
    held = strips = 0
    raw = {_SUBFILE: 0, _SUB_FILES: 0, _DNG: 0}
    sides = {256: 1, 257: 1, 322: 1, 323: 1}  # width and height, of the picture and of its tiles
    for _ in range(count):
        entry = file.read(20 if is_big else 12)
        if len(entry) < (20 if is_big else 12):
            raise _CutOffError
        tag, kind, number = struct.unpack_from(order + ("HHQ" if is_big else "HHI"), entry)
        held += number * _TIFF_SIZES.get(kind, 0)
        _at_most(MAX_METADATA, held, "bytes of metadata")
        if tag in sides and kind in _TIFF_NUMBERS:
            (side,) = struct.unpack_from(order + _TIFF_NUMBERS[kind], entry, 12 if is_big else 8)
            sides[tag] = max(sides[tag], side)
            _at_most(1, number, "widths or heights")
        if tag in raw:
            (value,) = struct.unpack_from(order + "I", entry, 12 if is_big else 8)
            raw[tag] = value if tag == _SUBFILE else 1
        if tag in (273, 279, 324, 325):
            strips = max(strips, number)
            _at_most(MAX_PIECES, strips, "strips or tiles")
    _refuse_raw(raw)
    _size(sides[322], sides[323])
    return _size(sides[256], sides[257]), 3 * held + 1000 * strips


_SUBFILE, _SUB_FILES, _DNG = 254, 330, 50_706  # tags of a TIFF


def _refuse_raw(tags: dict[int, int]) -> None:
    """Refuse a camera's RAW file: the first picture of such a TIFF is a small preview."""
    if tags[_DNG] or (tags[_SUBFILE] & 1 and tags[_SUB_FILES]):
        raise RefusedError(f"a {RAW.name} file, in which only a small preview is a TIFF; {RAW.remedy}")


_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TIFF_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q"}

# Only these are opened, whatever a file is called: each decoder more is one more that a crafted file can reach.
FORMATS: dict[str, tuple[bytes, Callable[[BinaryIO, int], tuple[int, int]]]] = {
    "PNG": (re.escape(_PNG), _png),
    "JPEG": (rb"\xff\xd8\xff", _jpeg),
    "GIF": (rb"GIF8[79]a", _gif),
    "WEBP": (rb"RIFF....WEBPVP8[ LX]", _webp),
    "BMP": (rb"BM", _bmp),
    "ICO": (rb"\x00\x00\x01\x00", _ico),
    "TIFF": (rb"II[*+]\x00|MM\x00[*+]|II\x00\*|MM\*\x00", _tiff),
    "DIB": (rb"[\x28\x34\x38\x40\x6c\x7c]\x00{3}.{8}\x01\x00[\x01\x04\x08\x10\x18\x20]\x00", _dib),
}
_NAMES = ", ".join(name for name in FORMATS if name != "DIB")  # which is a BMP without its file header
# Where these begin a file, more of it must fit before it is a picture whatever its name.
_WHOLE_START = {
    "BMP": rb"BM....\x00{4}....(?:\x0c|\x10|\x28|\x34|\x38|\x40|\x6c|\x7c)\x00{3}",
    "ICO": rb"\x00\x00\x01\x00[^\x00]\x00...\x00",
}
