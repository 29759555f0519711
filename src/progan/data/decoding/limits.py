"""Limits on what is read from a picture's file, and the errors for files that exceed them."""

from __future__ import annotations

import struct
from typing import BinaryIO

MAX_PIXELS = 25_000_000  # unless the caller passes another limit
MAX_SIDE = 65_535  # each row and column costs memory besides its pixels
MAX_METADATA = 16_000_000  # bytes of a file that are not pixels
MAX_PIECES = 50_000  # of a file: chunks, blocks, strips
MAX_SEGMENTS = 1_000  # of a JPEG: each is joined to all before it; tags of a TIFF
MAX_SCANS = 100  # of a JPEG: each goes over all pixels; usual are 1 to 18, and a few bytes make one more
MAX_WEBP = 30_000_000  # bytes, of a small picture: the decoder holds the file three times
MAX_REDUCED = 16  # times as many pixels has the largest JPEG that is read reduced
BYTES_PER_PIXEL = 16  # at most, of a picture that is being decoded
MAX_IN_PYTHON = 4_000_000  # pixels that Pillow decodes in Python: of a run-length encoded BMP, of some PNM

CUT_OFF = "this {} is cut off; fetch or save it anew"


class RefusedError(ValueError):
    """A file that is not read; the message says why, and what to do."""


class CutOffError(Exception):
    """A file that ends too early."""


def check_size(width: int, height: int, max_pixels: int) -> int:
    """Check the size of a picture, and return the number of its pixels."""
    if max(width, height) > MAX_SIDE:
        raise RefusedError(f"{width}x{height} pixels, more than the {MAX_SIDE:,} on a side that are read; reduce it")
    if width * height > max_pixels:
        remedy = "reduce it, save it as a JPEG, which is read reduced,"
        raise too_large(width, height, max_pixels, remedy, width * height)
    return width * height


def too_large(width: int, height: int, limit: int, remedy: str, needed: int) -> RefusedError:
    """Return the error for a picture of more pixels than a limit, for which ``max_pixels`` must be so large."""
    read = f"{limit // 10**6} million" if limit % 10**6 == 0 else f"{limit:,}"
    millions = -(-needed // 10**6)
    return RefusedError(
        f"{width}x{height} pixels, more than the {read} that are read; {remedy} or pass "
        f"max_pixels={millions}_000_000, which takes up to {millions * BYTES_PER_PIXEL:,} MB of memory"
    )


def at_most(limit: int, number: int, what: str) -> None:
    """Refuse a file that has more of something than a limit."""
    if number > limit:
        raise RefusedError(f"more than {limit:,} {what}, which is more than is read; save it anew, the picture only")


def read_numbers(file: BinaryIO, form: str) -> tuple[int, ...]:
    """Read numbers of a layout, in the form of `struct`."""
    data = file.read(struct.calcsize(form))
    if len(data) < struct.calcsize(form):
        raise CutOffError
    return struct.unpack(form, data)
