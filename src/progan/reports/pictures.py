"""Pictures of a run as data URIs: at their own resolution, re-encoded, as many and as large as a page has bytes for.

Previews repeat the pixels of low resolutions; here each is kept once, and the browser enlarges it. With Pillow the
pictures are WebP, without it small PNG files of fewer colours.
"""

from __future__ import annotations

import base64
import io
import re
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from progan.ops.resampling import upsample
from progan.render import png_bytes, read_png
from progan.storage.untrusted import open_file

_MOST_PIXELS = 2**25  # of a picture that is read; a preview of 16 samples at 1024x1024 has 2**24
_MOST_FILE_BYTES = 120_000_000
_LARGEST = 1024  # pixels of a side in the page
_LOSSLESS = 64  # pixels of a side up to which every pixel is kept as it is
_ENLARGED = 300  # pixels of a side up to which pixels are doubled before WebP halves the resolution of their colours
_SHARP = 128  # pixels of a side up to which a browser shows pixels as squares
_QUALITIES = (80, 60)
_BYTES_PER_PIXEL = 0.035  # least of a WebP that is worth trying
_STEP = 8  # of the values of a PNG, which compress better than all 256
_LARGEST_PREVIOUS = 64_000_000  # bytes of an earlier report
_VERSION = 1  # of how pictures are encoded: a report of another one is not reused
_URI = r"data:image/(?:webp|png);base64,[A-Za-z0-9+/]+={0,2}"
_SHEET = re.compile(
    rf'data-key="([\w.,-]{{1,200}})" data-width="(\d{{1,5}})" data-height="(\d{{1,5}})" data-sharp="([01])">({_URI})</'
)


@dataclass(frozen=True)
class Picture:
    """A picture in a page.

    Attributes:
        uri: Data URI.
        width: Width in pixels.
        height: Height in pixels.
        is_sharp: Whether its pixels are shown as squares.
    """

    uri: str
    width: int
    height: int
    is_sharp: bool


def load_picture(path: Path, most_bytes: int) -> Picture | None:
    """Read a PNG of progan's and encode it; None where it is another kind of file, damaged or gone.

    Args:
        path: Path of the file.
        most_bytes: Bytes that the data URI should not exceed; a picture of 64 pixels may.
    """
    try:
        if not _is_reasonable(path):
            return None
        image = _own_resolution(read_png(path))
    except (OSError, ValueError):
        return None
    return encode(image, most_bytes)


def sheet_key(path: Path, most_bytes: int) -> str | None:
    """Return what names an encoded picture: the file, as it is now, and how it was encoded; None if it is gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    kind = "webp" if makes_webp() else "png"
    return f"{path.name},{found.st_size},{found.st_mtime_ns},{kind}{_VERSION},{most_bytes}"


def sheet_attributes(key: str, picture: Picture) -> str:
    """Return the attributes by which the next report finds a picture; its data URI must follow."""
    size = f'data-width="{picture.width}" data-height="{picture.height}"'
    return f'data-key="{key}" {size} data-sharp="{int(picture.is_sharp)}"'


def previous_pictures(report: Path) -> dict[str, Picture]:
    """Return the pictures of an earlier report by their keys; none where it cannot be read.

    Only texts that look like the picture of a key are taken, and they are pictures: a report that somebody else wrote
    can show other pictures, and nothing more.
    """
    try:
        with open_file(report) as file:
            text = file.read(_LARGEST_PREVIOUS).decode("ascii", "replace")
    except (OSError, ValueError):
        return {}
    return {
        key: Picture(uri, int(width), int(height), sharp == "1")
        for key, width, height, sharp, uri in _SHEET.findall(text)
    }


def encode(image: Tensor, most_bytes: int) -> Picture:
    """Encode an image, (C, H, W), uint8, as a data URI of about as many bytes as are given.

    Args:
        image: The image, at its own resolution.
        most_bytes: Bytes that the data URI should not exceed.
    """
    pillow = _pillow()
    while max(image.shape[1:]) > _LARGEST:
        image = _halved(image)
    room = most_bytes * 3 // 4 - 40  # bytes before base64, which adds a third, and the prefix
    while True:
        height, width = image.shape[1:]
        is_smallest = max(height, width) <= _LOSSLESS
        if is_smallest or height * width * _BYTES_PER_PIXEL <= room:
            for quality in _QUALITIES:
                data = _png(image) if pillow is None else _webp(pillow, image, quality)
                if is_smallest or len(data) <= room:
                    kind = "png" if pillow is None else "webp"
                    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
                    return Picture(uri, width, height, max(height, width) <= _SHARP)
                if pillow is None or len(data) > 2 * room:
                    break
        image = _halved(image)


def chosen(counts: Sequence[int], kept: Collection[int], most: int) -> list[int]:
    """Return some of the counts, evenly spread, with the first, the last, and those that are to be kept.

    The same ones stay chosen while counts are added, until there are twice as many.

    Args:
        counts: Counts of images, rising.
        kept: Counts to keep, as far as there is room.
        most: Number of counts to return, at least 2.

    Example:
        >>> chosen(range(0, 100, 10), {30}, 5)
        [0, 30, 40, 80, 90]
    """
    ends = {counts[0], counts[-1]} if counts else set()
    for least in (set(kept) & set(counts) | ends, ends):
        step = 1
        while step <= 2 * len(counts):
            found = set(counts[::step]) | least
            if len(found) <= most:
                return sorted(found)
            step *= 2
    return sorted(ends)


def class_of(number: int, least: int = 64) -> int:
    """Return the power of two of at least 64 that a number does not exceed: sizes change at these only."""
    while least < number:
        least *= 2
    return least


def makes_webp() -> bool:
    """Return whether pictures become WebP: whether Pillow is installed, and writes it."""
    return _pillow() is not None


def _is_reasonable(path: Path) -> bool:
    """Return whether a file says of itself that it is a PNG of a size that is read."""
    with open_file(path) as file:
        begin = file.read(24)
        size = file.seek(0, 2)
    if len(begin) < 24 or not begin.startswith(b"\x89PNG") or size > _MOST_FILE_BYTES:
        return False
    width, height = struct.unpack(">II", begin[16:24])
    return bool(0 < width * height <= _MOST_PIXELS)


def _own_resolution(image: Tensor) -> Tensor:
    """Return an image without the repetition of its pixels."""
    while all(side % 2 == 0 for side in image.shape[1:]):
        top, bottom = image[:, ::2], image[:, 1::2]
        once = top[:, :, ::2]
        if not torch.equal(top, bottom) or not torch.equal(once, top[:, :, 1::2]):
            break
        image = once
    return image.contiguous()


def _halved(image: Tensor) -> Tensor:
    """Average every 2x2 pixels; those at an odd edge are fewer."""
    averaged = F.avg_pool2d(image[None].float(), 2, ceil_mode=True, count_include_pad=False)[0]
    return averaged.round().to(torch.uint8)


def _pillow() -> ModuleType | None:
    """Return Pillow, where it is installed and writes WebP."""
    try:
        from PIL import Image, features
    except ImportError:
        return None
    return Image if features.check("webp") else None


def _webp(pillow: ModuleType, image: Tensor, quality: int) -> bytes:
    side = max(image.shape[1:])
    if _LOSSLESS < side <= _ENLARGED:
        image = upsample(image[None])[0]
    pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    file = io.BytesIO()
    if side <= _LOSSLESS:
        pillow.fromarray(pixels.numpy()).save(file, "WEBP", lossless=True, method=2)
    else:
        pillow.fromarray(pixels.contiguous().numpy()).save(file, "WEBP", quality=quality, method=2)
    return file.getvalue()


def _png(image: Tensor) -> bytes:
    """Encode without Pillow: in fewer colours, which compress better."""
    if max(image.shape[1:]) > _LOSSLESS:
        image = ((image.float() / _STEP).round() * _STEP).clamp(0, 255).to(torch.uint8)
    return png_bytes(image)
