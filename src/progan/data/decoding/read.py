"""From a picture file to pixels. Needs Pillow, the extra ``images``.

The table in ``docs/images.md`` lists what happens to each kind of file.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from progan.arguments import check_instance
from progan.data.decoding.decode import Decoded, decoded, decoding, require_pillow
from progan.data.decoding.reading import MODES, Reading
from progan.storage.paths import user_path

if TYPE_CHECKING:
    from PIL import Image


def read_image(path: str | PathLike[str], reading: Reading) -> Tensor:
    """Read one picture.

    In this order: the first frame, the largest icon; 16 bits, integers and floats to 8 bits; the EXIF orientation; the
    colour profile, or a PNG's gamma and primaries, to sRGB; transparency over the background, or kept; squared; resized
    once, antialiased. A JPEG of more than ``reading.max_pixels`` is decoded reduced.

    Args:
        path: A PNG, JPEG, GIF, WebP, BMP, ICO, TIFF or binary PNM file, whatever its name.
        reading: Size, channels and other settings.

    Returns:
        (channels, height, width), uint8.

    Raises:
        ImportError: If Pillow is missing.
        OSError: If the file cannot be opened, or is damaged.
        ValueError: If it is not a file, has another format, is too large, has values outside the range of its kind or
            above ``reading.bit_depth``, or has another shape and ``reading.squaring`` is ``refuse``.
    """
    check_instance("reading", reading, Reading, [(int, "pass Reading(size)")])
    require_pillow()
    with decoding(), decoded(user_path(path), reading) as result:
        return squared(result, reading)


def squared(result: Decoded, reading: Reading) -> Tensor:
    """Bring a decoded picture to the size and the channels asked for: (channels, height, width), uint8."""
    return torch.from_numpy(_pixels(result, reading)).permute(2, 0, 1)


def _pixels(result: Decoded, reading: Reading) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Return (H, W, C)."""
    from PIL import Image, ImageOps

    picture, size = result.picture, result.size
    height, width = reading.shape
    mode = MODES[reading.channels]
    if picture.mode == "RGBA" and mode != "RGBA":
        opaque = Image.new("RGB", picture.size, reading.background)
        opaque.paste(picture, mask=picture)
        picture = opaque
    if picture.mode != mode:
        picture = picture.convert(mode)
    # Pillow resizes RGBA with its colours multiplied by alpha, so that what is invisible does not bleed.
    if reading.squaring == "crop":
        if result.is_reduced:
            picture = picture.resize((width, height), Image.Resampling.HAMMING, _centre(result.box, (width, height)))
        else:
            picture = ImageOps.fit(picture, (width, height), _filter(size, (width, height)))
        return np.array(picture, dtype=np.uint8).reshape(height, width, -1)
    inner = contained(size, (width, height))
    if reading.squaring == "refuse" and inner != (width, height):
        raise ValueError(
            f"{size[0]}x{size[1]} is not of the shape {width}x{height} (width x height); crop it, or read "
            "with squaring='crop' or 'pad'"
        )
    box = result.box if result.is_reduced else None
    pixels = np.array(picture.resize(inner, _filter(size, inner), box), dtype=np.uint8)
    pixels = pixels.reshape(inner[1], inner[0], -1)
    top, left = (height - inner[1]) // 2, (width - inner[0]) // 2
    margins = ((top, height - inner[1] - top), (left, width - inner[0] - left), (0, 0))
    if reading.squaring == "edge":
        return np.pad(pixels, margins, mode="edge")
    backdrop = Image.new("RGB", (width, height), reading.background).convert(mode)
    framed = np.array(backdrop, dtype=np.uint8).reshape(height, width, -1)
    framed[top : top + inner[1], left : left + inner[0]] = pixels
    return framed


def _filter(size: tuple[int, int], to: tuple[int, int]) -> Image.Resampling:
    """Return the filter that brings pictures of one size, (width, height), to another.

    Reduced by a filter without negative weights, flat colours stay flat. A sharper one, such as Lanczos, surrounds each
    outline with faint waves, which a generator then has to draw.
    """
    from PIL import Image

    smaller = to[0] <= size[0] and to[1] <= size[1]
    return Image.Resampling.HAMMING if smaller else Image.Resampling.BICUBIC


def _centre(box: tuple[float, float, float, float], frame: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the largest part of a frame's shape amid a box, as ImageOps.fit does."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    scale = min(width / frame[0], height / frame[1])
    across, down = max(0, width - scale * frame[0]) / 2, max(0, height - scale * frame[1]) / 2
    return left + across, top + down, right - across, bottom - down


def contained(size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) of a picture made as large as a frame holds, at least 1 pixel each."""
    if size[0] * frame[1] > size[1] * frame[0]:
        return frame[0], max(1, round(size[1] / size[0] * frame[0]))
    return max(1, round(size[0] / size[1] * frame[1])), frame[1]
