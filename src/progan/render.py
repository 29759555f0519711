"""Grids of images, and PNG files written with the standard library, so that previews need no extra."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from progan.arguments import check_int, check_tensor
from progan.ops.resampling import upsample
from progan.storage.files import write_file
from progan.storage.paths import user_path
from progan.storage.untrusted import open_file

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}  # grey, RGB, RGBA
_HEADER_BYTES = 33  # the signature and the IHDR chunk
MOST_PIXELS = 1 << 26  # that `read_png` reads: 8192x8192
_UP = 2  # a filter of PNG: each byte is stored less the one above it


def to_uint8(images: Tensor) -> Tensor:
    """Round images in [0, 1] to uint8 on the CPU; values outside are clamped.

    Example:
        >>> to_uint8(torch.tensor([0.0, 0.5, 1.0]))
        tensor([  0, 128, 255], dtype=torch.uint8)
    """
    check_tensor("images", images)
    if not images.is_floating_point():
        raise TypeError(f"to_uint8 takes floats in [0, 1], got {images.dtype}; pass integers on as they are")
    return (images.detach().float().clamp(0, 1) * 255).round().to("cpu", torch.uint8)


def image_grid(images: Tensor, columns: int, *, gap: int = 0) -> Tensor:
    """Arrange images in rows.

    Args:
        images: Images, (N, C, H, W), uint8.
        columns: Number of images per row; the rest of the last row is white.
        gap: Number of white pixels between neighbours.

    Returns:
        (C, rows * (H + gap) - gap, columns * (W + gap) - gap), uint8.

    Raises:
        ValueError: If there are no images or no columns.

    Example:
        >>> image_grid(torch.zeros(5, 3, 4, 4, dtype=torch.uint8), 3).shape
        torch.Size([3, 8, 12])
    """
    check_tensor("images", images)
    check_int("columns", columns)
    check_int("gap", gap, 0)
    if images.dtype != torch.uint8:
        raise TypeError(f"image_grid takes uint8, got {images.dtype}; use progan.to_uint8 on images in [0, 1]")
    if images.ndim != 4 or len(images) == 0 or columns < 1:
        raise ValueError(f"a grid needs images (N, C, H, W) and columns, got {tuple(images.shape)} and {columns}")
    n, channels, height, width = images.shape
    rows = -(-n // columns)
    grid = images.new_full((channels, rows * (height + gap) - gap, columns * (width + gap) - gap), 255)
    for index, image in enumerate(images):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        grid[:, top : top + height, left : left + width] = image
    return grid


def enlarge(images: Tensor, height: int) -> Tensor:
    """Repeat pixels until images are about this high: (N, C, H, W) uint8 -> (N, C, k H, k W)."""
    check_tensor("images", images)
    check_int("height", height, 1)
    if images.ndim != 4:
        raise ValueError(f"enlarge takes images (N, C, H, W), got {tuple(images.shape)}")
    return upsample(images, max(1, height // images.shape[2]))


def write_png(path: str | PathLike[str], image: Tensor) -> None:
    """Write one image as a PNG of 8 bits per channel.

    Args:
        path: File to write; its folder must exist.
        image: Image, (C, H, W), uint8, with 1 (grey), 3 (RGB) or 4 (RGBA) channels.

    Raises:
        TypeError: If the image is not uint8.
        ValueError: If it has another shape.
    """
    contents = png_bytes(image)
    write_file(user_path(path), contents)


def png_bytes(image: Tensor) -> bytes:
    """Return the contents of the file that `write_png` writes; for the arguments and errors see there."""
    check_image(image)
    return b"".join([*png_beginning(image), png_chunk(b"IDAT", png_pixels(image)), png_chunk(b"IEND", b"")])


def check_image(image: object) -> None:
    """Raise where a PNG cannot hold an image: TypeError or ValueError."""
    check_tensor("image", image)
    assert isinstance(image, Tensor)
    if image.dtype != torch.uint8:
        raise TypeError(f"a PNG takes uint8, got {image.dtype}; use progan.to_uint8 on images in [0, 1]")
    if image.ndim != 3 or image.shape[0] not in _COLOUR_TYPES or 0 in image.shape:
        raise ValueError(f"a PNG takes an image (1, 3 or 4, height, width), got {tuple(image.shape)}")


def png_beginning(image: Tensor) -> tuple[bytes, bytes]:
    """Return the signature and the header of a PNG of an image, (C, H, W)."""
    channels, height, width = image.shape
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    return _SIGNATURE, png_chunk(b"IHDR", header)


def png_pixels(image: Tensor, compression: int = 2) -> bytes:
    """Return the compressed pixels of an image, (C, H, W) uint8, as a PNG stores them."""
    channels, height, width = image.shape
    pixels = image.cpu().permute(1, 2, 0).reshape(height, width * channels)
    # Less the row above: smaller at compression 2 than without at 6, in less than half of the time.
    rows = pixels.new_full((height, 1 + width * channels), _UP)
    rows[0, 1:] = pixels[0]
    torch.sub(pixels[1:], pixels[:-1], out=rows[1:, 1:])
    return zlib.compress(rows.numpy().data, compression)


def png_shape(path: str | PathLike[str]) -> tuple[int, int, int]:
    """Return the shape of the image in a PNG that `write_png` wrote, (C, H, W), from its header alone.

    Raises:
        OSError: if it cannot be opened.
        ValueError: if it is another kind of file.
    """
    try:
        with open_file(Path(path)) as file:
            return _shape(file.read(_HEADER_BYTES))
    except ValueError as error:
        raise _damaged(path, error) from None


def read_png(path: str | PathLike[str]) -> Tensor:
    """Read a PNG that `write_png` wrote: (C, H, W), uint8.

    Raises:
        ValueError: If it is another kind of file, damaged, or of more than 67 million pixels.
    """
    try:
        with open_file(Path(path)) as file:
            data = file.read(_HEADER_BYTES)
            channels, height, width = _shape(data)
            size = height * (1 + width * channels)
            most = size + size // 1000 + 1000  # what zlib makes of incompressible data, and more
            data += file.read(most + 1)
        if len(data) > most:
            raise ValueError(f"more than the {most:,} bytes that {width}x{height} pixels take")
        chunks = dict(_chunks(data))
        depth, _, *rest = struct.unpack(">8xBBBBB", chunks[b"IHDR"])
        # A bounded decompression: a header of ours tells the exact size.
        data = zlib.decompressobj().decompress(chunks[b"IDAT"], size + 1)
        rows = torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(height, 1 + width * channels)
        if depth != 8 or any(rest) or (rows[:, 0] != _UP).any():
            raise ValueError("another kind of PNG")
    except (KeyError, ValueError, RuntimeError, struct.error, zlib.error) as error:
        raise _damaged(path, error) from None
    return rows[:, 1:].cumsum(0, dtype=torch.uint8).reshape(height, width, channels).permute(2, 0, 1).contiguous()


def _damaged(path: str | PathLike[str], error: Exception) -> ValueError:
    return ValueError(f"{path} is not a PNG that progan wrote, or damaged: {error}")


def _shape(header: bytes) -> tuple[int, int, int]:
    """Return (C, H, W) from the first bytes of a PNG."""
    if len(header) < _HEADER_BYTES or header[:16] != _SIGNATURE + b"\0\0\0\rIHDR":
        raise ValueError("no header of a PNG")
    width, height, _, colour_type = struct.unpack_from(">IIBB", header, 16)
    channels = {number: channels for channels, number in _COLOUR_TYPES.items()}.get(colour_type)
    if channels is None:
        raise ValueError(f"colour type {colour_type}")
    if not 0 < width * height <= MOST_PIXELS:
        raise ValueError(f"{width}x{height} pixels, of which at most {MOST_PIXELS:,} are read")
    return channels, height, width


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not data.startswith(_SIGNATURE):
        raise ValueError("no PNG signature")
    position = len(_SIGNATURE)
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind, body = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        if png_chunk(kind, body) != data[position : position + 12 + length]:
            raise ValueError(f"chunk {kind!r} is damaged")
        yield kind, body
        position += 12 + length
