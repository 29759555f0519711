"""What a JPEG's segments say, before it is decoded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from progan.data.decoding.limits import (
    MAX_METADATA,
    MAX_PIECES,
    MAX_PIXELS,
    MAX_REDUCED,
    MAX_SCANS,
    MAX_SEGMENTS,
    CutOffError,
    RefusedError,
    at_most,
    check_size,
    read_numbers,
    too_large,
)


class JpegNotes(NamedTuple):
    """What a JPEG says of its decoding."""

    width: int
    height: int
    scalable: bool
    """Whether its decoder can reduce it."""
    coefficients: int
    """Bytes that its decoder needs for them: those of the whole picture where it has several scans."""


def jpeg_header(file: BinaryIO, size: int, max_pixels: int) -> tuple[int, int, JpegNotes]:
    """Walk a JPEG's segments, up to the end of its first picture."""
    file.seek(2)
    pixels = scans = between = before = 0
    width = height = process = coefficients = 0
    channels: list[int] = []
    for segments, (gap, marker) in enumerate(_markers(file)):
        if marker == 0xD9 and scans:
            break
        at_most(MAX_SEGMENTS, segments, "segments")
        if marker in (0xC8, 0xD9, 0xDE, 0xDF) or 0xF0 <= marker <= 0xFD:
            raise RefusedError("this JPEG is damaged, or of a rare kind; save it anew")
        (length,) = read_numbers(file, ">H")
        if marker == 0xDA:
            scans += 1
            usual = max(max_pixels, MAX_PIXELS)
            most = 20 * usual if pixels <= usual else 40 * usual
            if scans > MAX_SCANS or scans * pixels > most:
                remedy = "" if pixels <= usual else " as a baseline JPEG, or pass a larger max_pixels"
                raise RefusedError(f"{scans} scans or more, too many for a JPEG of this size; save it anew{remedy}")
            (together,) = read_numbers(file, ">B")
            file.seek(-1, os.SEEK_CUR)
            if together < len(channels) or process in _PROGRESSIVE:
                coefficients = _coefficients(width, height, channels)
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xCC):
            _, height, width = read_numbers(file, ">BHH")
            if pixels or length > 20:
                raise RefusedError("this JPEG says its size twice; save it anew")
            pixels, process = _jpeg_size(width, height, max_pixels), marker
            body = file.read(length - 7) if length > 7 else b""
            channels = list(body[2::3])
            file.seek(-5 - len(body), os.SEEK_CUR)
        file.seek(max(0, length - 2), os.SEEK_CUR)
        if scans == 0:
            between, before = between + gap, file.tell()
            at_most(MAX_PIECES, between, "bytes between segments")
            at_most(MAX_METADATA, before, "bytes of metadata")
    if pixels > max(max_pixels, MAX_PIXELS) and process in _HUFFMAN and 8 * size < pixels // 64:
        raise CutOffError  # every block of 8x8 pixels takes a bit at least; a decoder would go on with grey
    return pixels, 2 * before, JpegNotes(width, height, process in _SCALABLE, coefficients)


_HUFFMAN = (0xC0, 0xC1, 0xC2)
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_SCALABLE = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)  # neither lossless nor hierarchical


def _jpeg_size(width: int, height: int, max_pixels: int) -> int:
    """Check the size of a JPEG, which may be read reduced, and return the number of its pixels."""
    most = MAX_REDUCED * max(max_pixels, MAX_PIXELS)
    if width * height > most:
        raise too_large(width, height, most, "reduce it,", width * height // MAX_REDUCED)
    return check_size(width, height, most)


def _coefficients(width: int, height: int, channels: list[int]) -> int:
    """Return the bytes of all coefficients, 2 each, of channels of these sampling factors."""
    factors = [(max(1, channel >> 4), max(1, channel & 15)) for channel in channels]
    across, down = (max((pair[k] for pair in factors), default=1) for k in range(2))
    units = -(-width // (8 * across)) * -(-height // (8 * down))
    return units * sum(one * other for one, other in factors) * 128


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
