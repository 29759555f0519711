"""How files become pixels: the settings of `read_image`, `ImageFolder` and `pack`, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from progan.arguments import wrong_type
from progan.data.decoding.limits import MAX_PIXELS

Squaring = Literal["crop", "pad", "edge", "refuse"]

MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class Reading:
    """Settings for turning picture files into pixels.

    Args:
        size: Side in pixels, or (height, width).
        channels: Number of channels: 1 for grey, 3 for RGB, 4 for RGBA.
        squaring: Treatment of a picture of another shape: ``crop`` cuts out its centre, ``pad`` centres it on the
            background, ``edge`` surrounds it with copies of its outermost pixels, ``refuse`` raises.
        background: Colour, RGB, 0..255, behind transparent pictures and around padded ones.
        max_pixels: Largest number of pixels that are decoded at once. Decoding takes up to 16 bytes of memory for each.
            A JPEG of more pixels is read reduced where the size allows; other files of more pixels are refused.
        bit_depth: Number of bits, 8 to 16, that pictures of 16 bits per channel use: 12 scales 0..4,095 to 0..255.
            None = all 16. Other pictures are read as usual.

    Raises:
        ValueError: If a number is out of its range.
    """

    size: int | tuple[int, int]
    channels: int = 3
    squaring: Squaring = "crop"
    background: tuple[int, int, int] = (255, 255, 255)
    max_pixels: int = MAX_PIXELS
    bit_depth: int | None = None

    def __post_init__(self) -> None:
        """Check each setting once, here."""
        if not isinstance(self.size, int | tuple | list):
            raise wrong_type("size", "a side or (height, width) in pixels", self.size)
        if not all(isinstance(side, int) and side >= 1 for side in self.shape[:2]) or len(self.shape) != 2:
            raise ValueError(f"size must be a side or (height, width) in pixels, got {self.size!r}")
        if self.channels not in MODES:
            raise ValueError(f"channels must be 1 (grey), 3 (RGB) or 4 (RGBA), got {self.channels!r}")
        if self.squaring not in get_args(Squaring):
            raise ValueError(f"squaring must be one of {', '.join(get_args(Squaring))}, got {self.squaring!r}")
        if not isinstance(self.background, tuple | list):
            raise wrong_type("background", "three ints of 0..255", self.background, "pass (255, 255, 255) for white")
        if len(self.background) != 3 or not all(isinstance(c, int) and 0 <= c <= 255 for c in self.background):
            raise ValueError(f"background must be three ints of 0..255, got {self.background!r}")
        if type(self.max_pixels) is not int or self.max_pixels < 1:
            raise ValueError(f"max_pixels must be an int of at least 1, such as 50_000_000, got {self.max_pixels!r}")
        if self.bit_depth is not None and (type(self.bit_depth) is not int or not 8 <= self.bit_depth <= 16):
            raise ValueError(f"bit_depth must be an int from 8 to 16, or None, got {self.bit_depth!r}")

    @property
    def shape(self) -> tuple[int, ...]:
        """(height, width) in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)


def reduction(reading: Reading, width: int, height: int, oversampling: int) -> int:
    """Return how much smaller a picture may be decoded: 8, 4, 2 or 1 times.

    Args:
        reading: The size asked for, and the squaring.
        width: Of the picture as stored, in pixels; it may be shown turned.
        height: Likewise.
        oversampling: How many times the size asked for must be left.
    """
    rows, columns = reading.shape
    upright = sorted((width / columns, height / rows))
    turned = sorted((width / rows, height / columns))
    # A crop is as large as the side that needs more pixels allows, a padded picture as the one that needs fewer.
    which = 0 if reading.squaring == "crop" else 1
    larger = min(upright[which], turned[which])
    return next((factor for factor in (8, 4, 2) if larger >= oversampling * factor), 1)
