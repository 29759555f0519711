"""Pictures of more than 8 bits per channel, brought to 8: scaled and rounded, never clipped.

Pillow reads grey pictures of 16 bits whole, and of coloured ones the upper 8 bits. These are what is used, unless more
is asked for: by a bit depth, or by a PNG whose numbers are not those of sRGB. Then the lower bits are read too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from progan.data.decoding.colour import Encoding, Values, bands
from progan.data.decoding.header_png import PngNotes
from progan.data.decoding.limits import RefusedError

if TYPE_CHECKING:
    from PIL import Image

_CHANNELS = {"LA": 1, "RGB": 3, "RGBX": 3, "RGBA": 3, "RGBa": 3, "CMYK": 4}  # of colour, by Pillow's raw modes
_PLANES, _BITS = 284, 258  # tags of a TIFF; the first is 2 where each channel is stored for itself


class Depth(NamedTuple):
    """The use of the bits of a picture with 16 bits per channel."""

    values: tuple[int, int]
    """The lowest and the highest stored; of a coloured picture, what their upper 8 bits tell."""
    bits: int
    """By which they were scaled."""


class Deep(NamedTuple):
    """What is needed to reduce a picture of more than 8 bits per channel to 8."""

    opened: Callable[[], Any]
    """Opens the file anew with Pillow."""
    format: str
    notes: object
    bit_depth: int | None
    encoding: Encoding | None


def raw_mode(picture: Any) -> str:
    """Return Pillow's name for the layout of a file's pixels; only before they are loaded."""
    arguments = picture.tile[0][3] if picture.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def eight_bits(picture: Any, layout: str, deep: Deep) -> tuple[Image.Image, Depth | None]:
    """Convert a loaded picture to 8 bits per channel.

    Args:
        picture: Picture of any mode.
        layout: Its `raw_mode` before it was loaded.
        deep: File, format and settings.

    Returns:
        The picture, and what its 16 bits are used for; None where it has not so many. With 16 bits it is in sRGB by the
        encoding, where there is one.
    """
    if picture.mode.startswith(("I", "F")):
        return _one_channel(picture, layout, deep)
    base, _, order = layout.partition(";")
    if layout == "R" and max(picture.tag_v2.get(_BITS, (8,))) > 8:  # of an uncompressed TIFF; Pillow takes 8 bits of it
        raise RefusedError(
            "an uncompressed TIFF of 16 bits that stores each channel for itself cannot be read; save it with its "
            "channels interleaved"
        )
    if base in _CHANNELS and order in ("16B", "16L", "16N"):
        return _several_channels(picture, base, deep)
    return picture, None


def _one_channel(picture: Any, layout: str, deep: Deep) -> tuple[Image.Image, Depth | None]:
    from PIL import Image

    low, high = (
        bound([extreme(band) for _, band in bands(picture)]) for bound, extreme in ((np.min, np.min), (np.max, np.max))
    )
    limit = 1 if picture.mode == "F" else 65_535
    if not (low >= 0 and high <= limit):  # neither does NaN
        raise RefusedError(
            f"values of mode {picture.mode} must lie in 0..{limit}, got {low} to {high}; convert it to 8 bits"
        )
    depth = None
    if picture.mode != "F" and layout != "L":  # a PGM says what its highest value is, and Pillow has scaled it
        stored = 12 if layout == "I;12" else 16
        bits = min(deep.bit_depth or stored, stored)
        if deep.bit_depth is None:
            bits = _unscaled_bits(int(high), deep.notes, lambda: (band for _, band in bands(picture))) or stored
        limit = (1 << bits) - 1
        _check_depth(int(high), limit, bits)
        depth = Depth((int(low), int(high)), bits)

    def scaled(band: Values) -> Values:
        if deep.encoding is None or deep.encoding.is_srgb:
            return band.astype(np.float64) * (255 / limit)
        encoded: Values = 255 * deep.encoding.to_srgb(band[..., None] / limit)[..., 0]
        return encoded

    result = Image.fromarray(_from_bands(picture, lambda band: np.round(scaled(band))))
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):  # the one value that a 16-bit PNG calls transparent
        alpha = _from_bands(picture, lambda band: np.where(band == transparent, 0, 255))
        result.putalpha(Image.fromarray(alpha))
    if profile := picture.info.get("icc_profile"):
        result.info["icc_profile"] = profile
    return result, depth


def _several_channels(picture: Any, base: str, deep: Deep) -> tuple[Image.Image, Depth]:
    from PIL import Image

    colours = picture.getextrema()[: 3 if base == "LA" else _CHANNELS[base]]
    low, high = min(pair[0] for pair in colours) << 8, max(pair[1] for pair in colours) << 8 | 255
    bits, encoding = deep.bit_depth, deep.encoding
    whole = _Whole(picture, base, deep)
    claimed = deep.notes.significant_bits if isinstance(deep.notes, PngNotes) else None
    if bits is None and claimed and high >> max(8, claimed) == 0:  # else the upper bytes alone tell
        bits = _unscaled_bits(whole.highest(), deep.notes, whole.colours)
    if bits is None and (encoding is None or encoding.is_srgb):
        if whole.value is not None:
            alpha = np.empty((picture.height, picture.width), np.uint8)
            for top, values in whole.rows():
                alpha[top : top + len(values)] = np.where((values == whole.value).all(-1), 0, 255)
            del picture.info["transparency"]
            picture.putalpha(Image.fromarray(alpha))
        return picture, Depth((low, high), 16)
    limit = (1 << (bits or 16)) - 1
    if high > limit:
        _check_depth(whole.highest(), limit, bits)
    return whole.eight_bits(limit, encoding), Depth((low, high), bits or 16)


def _check_depth(high: int, limit: int, bits: int | None) -> None:
    if high > limit:
        raise RefusedError(
            f"values up to {high:,} in a picture of 16 bits per channel, more than the {limit:,} of bit_depth={bits}; "
            f"pass bit_depth={high.bit_length()}, or leave it out for all 16 bits"
        )


def _unscaled_bits(high: int, notes: object, rows: Callable[[], Iterator[Values]]) -> int | None:
    """Return of how many bits the samples of a PNG are, where its sBIT says so and its writer did not scale them.

    The PNG specification has samples of fewer bits scaled to all 16, so that sBIT changes nothing. A file in which all
    samples fit into those bits, and some are not what scaling gives, was written against it.
    """
    bits = notes.significant_bits if isinstance(notes, PngNotes) else None
    if bits is None or not 1 <= bits < 16 or high >> bits or all(_are_scaled(band, bits) for band in rows()):
        return None
    return bits


def _are_scaled(values: Values, bits: int) -> bool:
    """Return whether 16 bits may come from so many: shifted, with the upper bits repeated below, or multiplied."""
    values = values.astype(np.int64)
    samples = values >> (16 - bits)
    shifted = samples << (16 - bits)
    repeated = shifted.copy()
    for step in range(bits, 16, bits):
        repeated |= shifted >> step
    most = (1 << bits) - 1
    rounded = (samples * 65_535 * 2 + most) // (2 * most)
    return bool(((values == shifted) | (values == repeated) | (values == rounded)).all())


class _Whole:
    """A coloured picture of 16 bits per channel, with all its bits, which are read when they are asked for.

    Pillow keeps the upper byte of each two; told that their order is the other one, it keeps the lower.
    """

    def __init__(self, picture: Any, base: str, deep: Deep) -> None:
        self._picture, self._base, self._deep = picture, base, deep
        value = picture.info.get("transparency") if base == "RGB" else None
        self.value = value if isinstance(value, tuple) else None  # that a PNG calls transparent
        self._halves: list[Any] = []

    def _read(self) -> list[Any]:
        """Return the upper bytes and the lower ones; of grey with opacity its four bytes, each as a channel."""
        if self._halves:
            return self._halves
        if self._deep.format == "TIFF" and self._picture.tag_v2.get(_PLANES, 1) != 1:
            raise RefusedError(
                "a TIFF of 16 bits that stores each channel for itself cannot be read with bit_depth; save it with its "
                "channels interleaved, or leave bit_depth out"
            )
        if self._base == "LA":
            self._halves = [_loaded_as(self._deep, lambda _: "RGBA")]
        else:
            upper = self._picture
            if self._base == "RGBa":  # as stored: to divide by the opacity takes both bytes at once
                upper = _loaded_as(self._deep, lambda name: name.replace("a", "A"))
            self._halves = [upper, _loaded_as(self._deep, lambda name: _other_order(name.replace("a", "A")))]
        return self._halves

    def rows(self) -> Iterator[tuple[int, Values]]:
        """Yield values some rows at a time, with the first row's number: (h, W, C), uint16."""
        upper, *lower = self._read()
        if not lower:
            for top, band in bands(upper):
                yield top, band[..., ::2].astype(np.uint16) << 8 | band[..., 1::2]
        else:
            for (top, one), (_, other) in zip(bands(upper), bands(lower[0]), strict=True):
                yield top, one.astype(np.uint16) << 8 | other

    def colours(self) -> Iterator[Values]:
        """Yield the values of the colours."""
        return (values[..., : _CHANNELS[self._base]] for _, values in self.rows())

    def highest(self) -> int:
        """Return the highest value of a colour."""
        return max(int(values.max()) for values in self.colours())

    def eight_bits(self, limit: int, encoding: Encoding | None) -> Image.Image:
        """Return the picture, its colours scaled from 0..limit to 0..255, by an encoding where there is one."""
        from PIL import Image

        n, has_alpha = _CHANNELS[self._base], self._base in ("LA", "RGBA", "RGBa")
        # Opacity has as many bits as the colours, unless it goes beyond.
        opaque = limit
        if has_alpha and max(int(values[..., n].max()) for _, values in self.rows()) > limit:
            opaque = 65_535
        channels = n + (has_alpha or self.value is not None)
        width, height = self._picture.size
        result = np.empty((height, width, channels), np.uint8)
        for top, values in self.rows():
            colours = values[..., :n] / limit
            if self._base == "RGBa":
                colours = (values[..., :n] / values[..., n:].clip(1)).clip(0, 1)
            rows = result[top : top + len(values)]
            rows[..., :n] = np.round(255 * (encoding.to_srgb(colours) if encoding else colours))
            if has_alpha:
                rows[..., n] = np.round(values[..., n] * (255 / opaque))
            elif self.value is not None:
                rows[..., n] = np.where((values == self.value).all(-1), 0, 255)
        mode = "CMYK" if n == 4 else {2: "LA", 3: "RGB", 4: "RGBA"}[channels]
        made = Image.frombuffer(mode, (width, height), result, "raw", mode, 0, 1)
        if profile := self._picture.info.get("icc_profile"):
            made.info["icc_profile"] = profile
        return made


def _loaded_as(deep: Deep, called: Callable[[str], str]) -> Any:
    """Load a file anew, with its pixels called by other raw modes."""
    picture = deep.opened()
    tiles = []
    for tile in picture.tile:
        arguments = tile[3]
        called_so = (called(arguments[0]), *arguments[1:]) if isinstance(arguments, tuple) else called(arguments)
        # Older Pillows have plain tuples here.
        tiles.append(tile._replace(args=called_so) if hasattr(tile, "_replace") else (*tile[:3], called_so))
    picture.tile = tiles
    picture.load()
    return picture


def _other_order(name: str) -> str:
    base, order = name.split(";")
    native = "16L" if sys.byteorder == "little" else "16B"
    actual = native if order == "16N" else order
    return f"{base};{'16B' if actual == '16L' else '16L'}"


def _from_bands(picture: Image.Image, of: Callable[[Values], Values]) -> Values:
    """Return what a function makes of a picture's values, some rows at a time: (H, W), uint8."""
    result = np.empty((picture.height, picture.width), np.uint8)
    for top, band in bands(picture):
        result[top : top + len(band)] = of(band)
    return result
