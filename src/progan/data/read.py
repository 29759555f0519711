"""From a picture file to pixels. Needs Pillow, the extra ``images``.

What happens to each kind of file stands in the table of ``docs/images.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from progan.data.decode import decoded, decoding, require_pillow

if TYPE_CHECKING:
    from PIL import Image

Squaring = Literal["crop", "pad", "edge", "refuse"]

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class Reading:
    """Say how files become pixels.

    Args:
        size: side in pixels, or (height, width).
        channels: 1 grey, 3 RGB, 4 RGBA.
        squaring: what becomes of a picture of another shape: ``crop`` cuts out its centre, ``pad`` sets it on the
            background, ``edge`` sets it amid copies of its outermost pixels, ``refuse`` raises.
        background: RGB, 0..255, behind transparent pictures and around padded ones.

    Raises:
        ValueError: if a number is out of its range.
    """

    size: int | tuple[int, int]
    channels: int = 3
    squaring: Squaring = "crop"
    background: tuple[int, int, int] = (255, 255, 255)

    def __post_init__(self) -> None:
        """Check each setting once, here."""
        if not all(isinstance(side, int) and side >= 1 for side in self.shape[:2]) or len(self.shape) != 2:
            raise ValueError(f"size must be a side or (height, width) in pixels, got {self.size!r}")
        if self.channels not in _MODES:
            raise ValueError(f"channels must be 1 (grey), 3 (RGB) or 4 (RGBA), got {self.channels!r}")
        if self.squaring not in get_args(Squaring):
            raise ValueError(f"squaring must be one of {', '.join(get_args(Squaring))}, got {self.squaring!r}")
        if len(self.background) != 3 or not all(isinstance(c, int) and 0 <= c <= 255 for c in self.background):
            raise ValueError(f"background must be three ints of 0..255, got {self.background!r}")

    @property
    def shape(self) -> tuple[int, ...]:
        """(height, width) in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)


def read_image(path: str | PathLike[str], reading: Reading) -> Tensor:
    """Read one picture.

    In this order: the first frame, the largest icon; the EXIF orientation; 16 bits, integers and floats to 8 bits;
    the colour profile to sRGB; transparency over the background, or kept; squared; resized once, antialiased.

    Args:
        path: of a PNG, JPEG, GIF, WebP, BMP, ICO or TIFF file, whatever its name.
        reading: how.

    Returns:
        (channels, height, width), uint8.

    Raises:
        ImportError: if Pillow is missing.
        OSError: if the file cannot be opened, or is damaged.
        ValueError: if it is no file, of another format, larger than 25 million pixels, has values outside the range of
            its kind, or is to be refused.
    """
    require_pillow()
    with decoding(), decoded(path) as (picture, *_):
        return squared(picture, reading)


def squared(picture: Image.Image, reading: Reading) -> Tensor:
    """Bring a decoded picture to the size and the channels asked for: (channels, height, width), uint8."""
    return torch.from_numpy(_pixels(picture, reading)).permute(2, 0, 1)


def _pixels(picture: Image.Image, reading: Reading) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Return (H, W, C)."""
    from PIL import Image, ImageOps

    height, width = reading.shape
    mode = _MODES[reading.channels]
    if picture.mode == "RGBA" and mode != "RGBA":
        opaque = Image.new("RGB", picture.size, reading.background)
        opaque.paste(picture, mask=picture)
        picture = opaque
    if picture.mode != mode:
        picture = picture.convert(mode)
    # Pillow resizes RGBA with its colours multiplied by alpha, so that what is invisible does not bleed.
    if reading.squaring == "crop":
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
        return np.array(picture, dtype=np.uint8).reshape(height, width, -1)
    inner = contained(picture.size, (width, height))
    if reading.squaring == "refuse" and inner != (width, height):
        raise ValueError(
            f"{picture.width}x{picture.height} is not of the shape {width}x{height} (width x height); crop it, or read "
            "with squaring='crop' or 'pad'"
        )
    pixels = np.array(picture.resize(inner, Image.Resampling.LANCZOS), dtype=np.uint8)
    pixels = pixels.reshape(inner[1], inner[0], -1)
    top, left = (height - inner[1]) // 2, (width - inner[0]) // 2
    margins = ((top, height - inner[1] - top), (left, width - inner[0] - left), (0, 0))
    if reading.squaring == "edge":
        return np.pad(pixels, margins, mode="edge")
    backdrop = Image.new("RGB", (width, height), reading.background).convert(mode)
    framed = np.array(backdrop, dtype=np.uint8).reshape(height, width, -1)
    framed[top : top + inner[1], left : left + inner[0]] = pixels
    return framed


def contained(size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) of a picture made as large as a frame holds, at least 1 pixel each."""
    if size[0] * frame[1] > size[1] * frame[0]:
        return frame[0], max(1, round(size[1] / size[0] * frame[0]))
    return max(1, round(size[0] / size[1] * frame[1])), frame[1]
