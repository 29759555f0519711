"""What a PNG's chunks say, before it is decoded."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, NamedTuple

from progan.data.decoding.limits import MAX_METADATA, MAX_PIECES, MAX_PIXELS, at_most, check_size, read_numbers

PNG_START = b"\x89PNG\r\n\x1a\n"


class PngNotes(NamedTuple):
    """What a PNG says of its samples."""

    significant_bits: int | None = None
    """Of a colour sample, the largest number that an sBIT chunk gives."""
    gamma: int | None = None
    """Of a gAMA chunk, times 100,000."""
    chromaticities: tuple[int, ...] | None = None
    """Of a cHRM chunk, times 100,000: white, red, green and blue, x and y of each."""
    code_points: tuple[int, ...] | None = None
    """Of a cICP chunk: primaries, transfer function, matrix, whether the range is full."""
    says_srgb: bool = False
    """Whether there is an sRGB chunk."""
    has_profile: bool = False
    """Whether there is a colour profile."""


def png_header(
    file: BinaryIO, size: int, max_pixels: int = MAX_PIXELS, pieces: int = MAX_PIECES
) -> tuple[int, int, PngNotes]:
    """Walk a PNG's chunks: the last size counts. What is compressed and no pixels is expanded, 1032-fold at most."""
    file.seek(len(PNG_START), os.SEEK_CUR)
    pixels = chunks = metadata = expanded = 0
    notes, describing = PngNotes(), True
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        length, kind = struct.unpack(">I4s", head)
        chunks += 1
        at_most(pieces, chunks, "chunks")
        if kind == b"IHDR":
            width, height = read_numbers(file, ">II")
            pixels = max(pixels, check_size(width, height, max_pixels))
            file.seek(-8, os.SEEK_CUR)
        if kind in (b"iCCP", b"zTXt", b"iTXt"):
            expanded += min(1032 * length, MAX_METADATA)
            at_most(16 * MAX_METADATA, expanded, "bytes of compressed text")
        if kind not in (b"IDAT", b"fdAT"):
            metadata += length
            at_most(MAX_METADATA, metadata, "bytes of metadata")
        describing = describing and kind not in (b"IDAT", b"PLTE")  # what describes the samples comes before them
        if describing and kind in _NOTED:
            body = file.read(min(length, 32))
            notes = _noted(notes, kind, body)
            file.seek(-len(body), os.SEEK_CUR)
        file.seek(length + 4, os.SEEK_CUR)
    return pixels, metadata + expanded, notes


_NOTED = {b"sBIT": "", b"gAMA": ">I", b"cHRM": ">8I", b"cICP": ">4B", b"sRGB": "", b"iCCP": ""}


def _noted(notes: PngNotes, kind: bytes, body: bytes) -> PngNotes:
    """Add what one chunk says."""
    if kind == b"sBIT":
        # Grey, grey and alpha, RGB, RGB and alpha.
        colours = body[:-1] if len(body) in (2, 4) else body
        return notes._replace(significant_bits=max(colours, default=None))
    if kind == b"sRGB":
        return notes._replace(says_srgb=True)
    if kind == b"iCCP":
        return notes._replace(has_profile=True)
    if len(body) != struct.calcsize(_NOTED[kind]):
        return notes
    numbers = struct.unpack(_NOTED[kind], body)
    if kind == b"gAMA":
        return notes._replace(gamma=numbers[0])
    return notes._replace(chromaticities=numbers) if kind == b"cHRM" else notes._replace(code_points=numbers)
