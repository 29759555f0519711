"""What a binary PNM (PBM, PGM, PPM) says of itself.

Plain ones, which hold numbers as text, are not read: Pillow takes comments out of them one by one, each time moving all
that follows, so that a file of a few megabytes takes hours.
"""

from __future__ import annotations

import re
from typing import BinaryIO

from progan.data.decoding.kinds import PNM
from progan.data.decoding.limits import MAX_IN_PYTHON, CutOffError, RefusedError, at_most, check_size

PNM_START = rb"P[4-6]\s"
# A text may begin like that too; pixels are no text.
PNM_WHOLE_START = rb"P[4-6](?:(?:\s|#[^\r\n]*[\r\n])+\d+){2}\s(?=.*[\x00-\x08\x0e-\x1f\x7f-\xff])"
_NUMBER = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})(?=\s)")
_LONGEST = 4_000  # bytes before the pixels, which Pillow reads one by one


def pnm_header(file: BinaryIO, size: int, max_pixels: int) -> tuple[int, int]:
    """Read the width, the height and the highest value.

    Raises:
        CutOffError: If the file is too short for them.
        RefusedError: If there is something else, colours have more than 8 bits, or decoding would take too long.
    """
    start = file.read(_LONGEST)
    kind, place, numbers = start[1:2], 2, []
    for _ in range(2 if kind == b"4" else 3):
        found = _NUMBER.match(start, place)
        if found is None:
            if size < _LONGEST and not start[place:].strip(b"0123456789 \t\n\v\f\r"):
                raise CutOffError
            raise RefusedError("this PNM is damaged, or has a long comment before its pixels; save it anew")
        numbers.append(int(found[1]))
        place = found.end()
    width, height = numbers[:2]
    highest = 1 if kind == b"4" else numbers[2]
    pixels = check_size(width, height, max_pixels)
    values = pixels * (3 if kind == b"6" else 1)
    if not 1 <= highest <= 65_535:
        raise RefusedError(f"this PNM says that its highest value is {highest:,}, not 1 to 65,535; save it anew")
    if kind == b"6" and highest > 255:
        raise RefusedError(f"a PPM of more than 8 bits per channel is not read; {PNM.remedy}")
    if kind != b"4" and highest not in (255, 65_535):
        at_most(MAX_IN_PYTHON, values, f"values in a PNM whose highest is {highest}")
    if size - place - 1 < (height * -(-width // 8) if kind == b"4" else values * (1 if highest < 256 else 2)):
        raise CutOffError
    return pixels, 0
