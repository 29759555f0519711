"""Animated files, written frame by frame: GIF, PNG (APNG) and WebP, of which Pillow compresses the frames of two.

Pillow would hold all frames of an animation in memory. So it compresses one frame at a time here, and the container
around the frames, which is simple in all three formats, is written by this module. An animated PNG needs no Pillow.
"""

from __future__ import annotations

import io
import struct
from typing import Any, Protocol

import torch
from torch import Tensor

from progan.render import png_beginning, png_chunk, png_pixels

_WEBP_QUALITY = 90


class Container(Protocol):
    """An animated file of one format.

    Attributes:
        most_side: Largest width and height of a frame in pixels.
        has_alpha: Whether the format stores transparency of 8 bits.
        pause_ms: Shortest time that viewers show a frame for, in milliseconds.
    """

    most_side: int
    has_alpha: bool
    pause_ms: int

    def beginning(self, frame: Tensor, frames: int, size: int) -> bytes:
        """Return the bytes before the frames; as many of them whatever the two numbers are.

        Args:
            frame: Any of the frames, (C, H, W), uint8.
            frames: Number of frames.
            size: Size of the whole file in bytes.
        """
        ...

    def frame(self, frame: Tensor, index: int, duration_ms: int) -> bytes:
        """Return one frame, (C, H, W) uint8, the index-th, compressed."""
        ...

    def end(self) -> bytes:
        """Return the bytes after the frames."""
        ...


class Apng:
    """An animated PNG: lossless, with 8 bits of transparency; written without Pillow."""

    most_side = 1 << 16
    has_alpha = True
    pause_ms = 20

    def beginning(self, frame: Tensor, frames: int, size: int) -> bytes:
        """Return signature, header, and number of frames and rounds (0: without end)."""
        return b"".join((*png_beginning(frame), png_chunk(b"acTL", struct.pack(">II", frames, 0))))

    def frame(self, frame: Tensor, index: int, duration_ms: int) -> bytes:
        """Return a frame that replaces the one before."""
        _, height, width = frame.shape
        number = max(0, 2 * index - 1)  # of the chunks fcTL and fdAT, counted together
        control = struct.pack(">IIIIIHHBB", number, width, height, 0, 0, min(duration_ms, 65_535), 1000, 0, 0)
        pixels = png_pixels(frame, compression=6)
        kind, pixels = (b"fdAT", struct.pack(">I", number + 1) + pixels) if index else (b"IDAT", pixels)
        return png_chunk(b"fcTL", control) + png_chunk(kind, pixels)

    def end(self) -> bytes:
        """Return the last chunk."""
        return png_chunk(b"IEND", b"")


class Gif:
    """An animated GIF, opaque: each frame has 256 colours of its own, and times are in hundredths of a second."""

    most_side = 65_535
    has_alpha = False
    pause_ms = 20

    def beginning(self, frame: Tensor, frames: int, size: int) -> bytes:
        """Return header, size, and the extension that repeats without end."""
        _, height, width = frame.shape
        screen = struct.pack("<HHBBB", width, height, 0x70, 0, 0)  # without a palette for all frames
        return b"GIF89a" + screen + b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<H", 0) + b"\0"

    def frame(self, frame: Tensor, index: int, duration_ms: int) -> bytes:
        """Return a frame with its palette."""
        picture = _picture(frame)
        if picture.mode != "L":
            picture = picture.quantize(256)
        file = io.BytesIO()
        picture.save(file, "GIF")
        control = struct.pack(
            "<BHBB", 0x04, min(round(duration_ms / 10), 65_535), 0, 0
        )  # the frame stays until the next
        return b"\x21\xf9\x04" + control + _gif_image(file.getvalue())

    def end(self) -> bytes:
        """Return the trailer."""
        return b"\x3b"


class Webp:
    """An animated WebP: small, with 8 bits of transparency."""

    most_side = 16_383
    has_alpha = True
    pause_ms = 20

    def beginning(self, frame: Tensor, frames: int, size: int) -> bytes:
        """Return the header, the canvas, and the number of rounds (0: without end)."""
        channels, height, width = frame.shape
        flags = 0x02 | (0x10 if channels == 4 else 0)  # animated, transparent
        canvas = struct.pack("<I", flags) + _uint24(width - 1) + _uint24(height - 1)
        header = b"RIFF" + struct.pack("<I", (size - 8) & 0xFFFFFFFF) + b"WEBP"
        return header + _riff_chunk(b"VP8X", canvas) + _riff_chunk(b"ANIM", b"\xff\xff\xff\xff\0\0")

    def frame(self, frame: Tensor, index: int, duration_ms: int) -> bytes:
        """Return a frame that replaces the one before."""
        file = io.BytesIO()
        _picture(frame).save(file, "WEBP", quality=_WEBP_QUALITY, method=4)
        _, height, width = frame.shape
        place = bytes(6) + _uint24(width - 1) + _uint24(height - 1) + _uint24(min(duration_ms, (1 << 24) - 1))
        return _riff_chunk(b"ANMF", place + b"\x02" + _webp_image(file.getvalue()))

    def end(self) -> bytes:
        """Return nothing: the file ends with its last frame."""
        return b""


CONTAINERS: dict[str, type[Container]] = {".gif": Gif, ".png": Apng, ".apng": Apng, ".webp": Webp}


def over_white(image: Tensor) -> Tensor:
    """Return an RGBA image over white: (4, H, W) -> (3, H, W), uint8; others as they are."""
    if image.shape[0] != 4:
        return image
    alpha = image[3:].int()
    return ((image[:3].int() * alpha + 255 * (255 - alpha) + 127) // 255).to(torch.uint8)


def require_pillow(suffix: str) -> None:
    """Raise ImportError, with the remedy, where Pillow is missing."""
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise ImportError(
            f"{suffix} films are written with Pillow; pass a name that ends in .png, or install it: "
            'pip install "progan[images]"'
        ) from None


def _picture(image: Tensor) -> Any:
    """Return an image, (C, H, W), as Pillow has it."""
    from PIL import Image

    pixels = image.permute(1, 2, 0).contiguous().cpu().numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _gif_image(data: bytes) -> bytes:
    """Return the image block of a GIF of one image, with a palette of its own."""
    flags = data[10]
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    palette, size = data[13:at], flags & 7
    while data[at] == 0x21:  # extensions
        at = _after_blocks(data, at + 2)
    own = data[at + 9]
    begin = at + 10
    if own & 0x80:
        size, begin = own & 7, at + 10 + (3 << (own & 7) + 1)
        palette = data[at + 10 : begin]
    return (
        data[at : at + 9] + bytes([own & 0x40 | 0x80 | size]) + palette + data[begin : _after_blocks(data, begin + 1)]
    )


def _after_blocks(data: bytes, at: int) -> int:
    """Return the position after a sequence of blocks, each of which begins with its length."""
    while data[at]:
        at += data[at] + 1
    return at + 1


def _webp_image(data: bytes) -> bytes:
    """Return the chunks of a WebP of one image that hold its pixels."""
    at, found = 12, b""
    while at < len(data):
        kind, (length,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        end = at + 8 + length + length % 2
        if kind in (b"ALPH", b"VP8 ", b"VP8L"):
            found += data[at:end]
        at = end
    return found


def _riff_chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def _uint24(value: int) -> bytes:
    return value.to_bytes(3, "little")
