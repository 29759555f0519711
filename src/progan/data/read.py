"""From a picture file to pixels. Needs Pillow, the extra ``images``.

The one place that decodes: what happens to each kind of file stands in the table of ``docs/images.md``.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image

Squaring = Literal["crop", "pad", "edge", "refuse"]

# Only these are opened, whatever a file is called: each decoder more is one more that a crafted file can reach.
FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jfif"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "ICO": (".ico",),
    "TIFF": (".tif", ".tiff"),
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_ORIENTATION = 0x0112  # EXIF's tag


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
        path: of a file of one of the `FORMATS`, whatever its name.
        reading: how.

    Returns:
        (channels, height, width), uint8.

    Raises:
        ImportError: if Pillow is missing.
        OSError: if the file cannot be opened, or is damaged.
        ValueError: if it is of another format, has values outside the range of its kind, or is to be refused.
    """
    require_pillow()
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures at half the size at which it refuses them, and of odd metadata.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=list(FORMATS)) as picture:
                pixels = _pixels(picture, reading)
    except UnidentifiedImageError:
        size = Path(path).stat().st_size
        what = f"a file of {size} bytes that is none of {', '.join(FORMATS)}" if size else "an empty file"
        raise ValueError(what) from None
    return torch.from_numpy(pixels).permute(2, 0, 1)


def require_pillow() -> None:
    """Raise ImportError, with the remedy, where Pillow is missing."""
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise ImportError('pictures are read with Pillow; install it: pip install "progan[images]"') from None


def _pixels(picture: Image.Image, reading: Reading) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Return (H, W, C)."""
    from PIL import Image, ImageOps

    height, width = reading.shape
    mode = _MODES[reading.channels]
    picture = _in_srgb(_eight_bits(_turned(picture)))
    if picture.has_transparency_data and mode != "RGBA":
        backdrop = Image.new("RGBA", picture.size, (*reading.background, 255))
        picture = Image.alpha_composite(backdrop, picture.convert("RGBA"))
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


def _turned(picture: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF orientation says; where that cannot be read, it stays as it is."""
    from PIL.Image import Transpose

    picture.load()  # a PNG may hold its EXIF behind the pixels
    try:
        orientation = picture.getexif().get(_ORIENTATION)
    except MemoryError:
        raise
    except Exception:  # Pillow raises many kinds on EXIF that is broken; the pixels are sound
        return picture
    # Not ImageOps.exif_transpose: it writes all of the EXIF anew, and fails where any other tag in it is odd.
    methods: dict[object, Transpose] = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    method = methods.get(orientation)
    return picture if method is None else picture.transpose(method)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Bring 16 bits, integers and floats to 8 bits per channel, scaled and rounded, never clipped."""
    from PIL import Image

    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture)
    low, high = values.min(), values.max()
    limit = 1 if picture.mode == "F" else 65_535
    if not (low >= 0 and high <= limit):  # neither does NaN
        raise ValueError(
            f"values of mode {picture.mode} must lie in 0..{limit}, got {low} to {high}; convert it to 8 bits"
        )
    pixels = np.round(values.astype(np.float64) * (255 / limit)).astype(np.uint8)
    scaled = Image.fromarray(pixels)
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):  # the one value that a 16-bit PNG calls transparent
        scaled.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    if profile := picture.info.get("icc_profile"):
        scaled.info["icc_profile"] = profile
    return scaled


def _in_srgb(picture: Image.Image) -> Image.Image:
    """Convert from the colour profile that a picture carries; without one, or with a broken one, it is sRGB."""
    profile = picture.info.get("icc_profile")
    if not profile:
        return picture
    try:
        from PIL import ImageCms
    except ImportError:  # a Pillow built without littlecms
        return picture
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return picture
        alpha = picture.convert("RGBA").getchannel("A") if picture.has_transparency_data else None
        if picture.mode in ("P", "PA", "RGBA", "1"):
            picture = picture.convert("RGB")
        elif picture.mode == "LA":
            picture = picture.convert("L")
        converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture
    assert converted is not None
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def contained(size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) of a picture made as large as a frame holds, at least 1 pixel each."""
    if size[0] * frame[1] > size[1] * frame[0]:
        return frame[0], max(1, round(size[1] / size[0] * frame[0]))
    return max(1, round(size[0] / size[1] * frame[1])), frame[1]
