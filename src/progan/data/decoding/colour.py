"""From the colours of a file to sRGB: by its colour profile, or by the gamma and primaries that a PNG gives."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from progan.data.decoding.header_png import PngNotes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

Values = np.ndarray[tuple[int, ...], np.dtype[Any]]

_SRGB_GAMMA = 2.2  # a gAMA of its inverse stands for sRGB's own curve, which is no power
_SAME_GAMMA = 0.05  # libpng's threshold, relative
_SAME_PLACE = 0.01  # of chromaticities, libpng's too
# White, red, green and blue, x and y of each; by the numbers that cICP gives them (ITU-T H.273).
_PRIMARIES = {
    1: (0.3127, 0.3290, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060),
    9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
_EXPONENTS = {4: 2.2, 5: 2.8, 8: 1.0, 13: None}  # transfer functions of cICP; None = sRGB's curve
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


class Encoding(NamedTuple):
    """How numbers of [0, 1] encode light, in a file without a colour profile."""

    exponent: float | None = None
    """Light is the number to this power; None = by sRGB's curve."""
    matrix: Values | None = None
    """(3, 3): from light in the file's primaries to light in those of sRGB; None = they are the same."""

    @property
    def is_srgb(self) -> bool:
        """Whether there is nothing to convert."""
        return self.exponent is None and self.matrix is None

    def to_srgb(self, values: Values) -> Values:
        """Convert numbers of [0, 1], (..., 1 or 3 channels), to sRGB, float64. Grey ones stay grey."""
        if self.is_srgb:
            return values
        light = self.light(values)
        if self.matrix is not None and values.shape[-1] == 3:
            light = light @ self.matrix.T
        return srgb_of(light.clip(0, 1))

    def light(self, values: Values) -> Values:
        """Return the light, in [0, 1], that numbers of [0, 1] stand for."""
        if self.exponent is not None:
            return np.power(values, self.exponent)
        return np.where(values <= 0.04045, values / 12.92, np.power((values + 0.055) / 1.055, 2.4))


def srgb_of(light: Values) -> Values:
    """Return the numbers of [0, 1] that stand for light in sRGB (IEC 61966-2-1)."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.power(light, 1 / 2.4) - 0.055)


def encoding_of(notes: object) -> Encoding | None:
    """Return how a PNG's numbers encode light; None if it does not say, or has a colour profile.

    In the order of the PNG specification: cICP, a colour profile, sRGB, then gAMA and cHRM.
    """
    if not isinstance(notes, PngNotes):
        return None
    if notes.code_points is not None:
        primaries, transfer, coefficients, full_range = notes.code_points
        if primaries in _PRIMARIES and transfer in _EXPONENTS and (coefficients, full_range) == (0, 1):
            return Encoding(_EXPONENTS[transfer], _to_srgb_primaries(_PRIMARIES[primaries]))
    if notes.has_profile:
        return None
    if notes.says_srgb:
        return Encoding()
    exponent, matrix = None, None
    if notes.gamma is not None and 16 <= notes.gamma <= 625_000_000:  # what libpng takes for a gamma
        gamma = notes.gamma / 100_000
        exponent = None if abs(gamma * _SRGB_GAMMA - 1) <= _SAME_GAMMA else 1 / gamma
    if notes.chromaticities is not None:
        matrix = _to_srgb_primaries([number / 100_000 for number in notes.chromaticities])
    encoding = Encoding(exponent, matrix)
    return None if encoding.is_srgb else encoding


def _to_srgb_primaries(places: tuple[float, ...] | list[float]) -> Values | None:
    """Return the matrix from light in some primaries to light in sRGB's, white to white; None where they are the same.

    None too where the chromaticities are those of no colours.
    """
    if max(abs(one - other) for one, other in zip(places, _PRIMARIES[1], strict=True)) <= _SAME_PLACE:
        return None
    try:
        source, source_white = _to_xyz(places)
        target, target_white = _to_xyz(_PRIMARIES[1])
        gains = (_BRADFORD @ target_white) / (_BRADFORD @ source_white)
        adapted = np.linalg.solve(_BRADFORD, gains[:, None] * (_BRADFORD @ source))
        matrix: Values = np.linalg.solve(target, adapted)
    except (np.linalg.LinAlgError, ZeroDivisionError):
        return None
    return matrix if np.isfinite(matrix).all() and abs(matrix).max() < 100 else None


def _to_xyz(places: tuple[float, ...] | list[float]) -> tuple[Values, Values]:
    """Return the matrix from light in some primaries to CIE XYZ, (3, 3), and their white, (3,), of luminance 1."""
    xyz = [np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in zip(places[::2], places[1::2], strict=True)]
    primaries = np.stack(xyz[1:], axis=1)
    return primaries * np.linalg.solve(primaries, xyz[0]), xyz[0]


def in_srgb(picture: Image.Image, encoding: Encoding | None) -> Image.Image:
    """Convert a picture of 8 bits per channel: by an encoding, else by the colour profile that it carries.

    Without either, or with a broken profile, it is sRGB.
    """
    if encoding is not None:
        return picture if encoding.is_srgb else _by_encoding(picture, encoding)
    return _by_profile(picture)


def _by_encoding(picture: Image.Image, encoding: Encoding) -> Image.Image:
    if picture.mode == "1":
        return picture
    picture, alpha = _opaque(picture)
    levels = np.arange(256) / 255
    if encoding.matrix is None or picture.mode != "RGB":
        table = _rounded(encoding.to_srgb(levels[:, None])[:, 0]).tolist()
        picture = picture.point(table * len(picture.getbands()))
    else:
        for top, band in bands(picture):
            _paste(picture, top, _rounded(encoding.to_srgb(levels[band])))
    if alpha is not None:
        picture.putalpha(alpha)
    return picture


def _rounded(values: Values) -> Values:
    """Return numbers of [0, 1] as those of 8 bits."""
    return np.round(values * 255).astype(np.uint8)


def _paste(picture: Image.Image, top: int, rows: Values) -> None:
    from PIL import Image

    picture.paste(Image.fromarray(rows), (0, top))


def _opaque(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return a picture without its transparency, of mode L, RGB or CMYK, and the transparency."""
    alpha = None
    if picture.has_transparency_data:
        alpha = (picture if "A" in picture.getbands() else picture.convert("RGBA")).getchannel("A")
    if picture.mode in ("P", "PA", "RGBA", "1"):
        picture = picture.convert("RGB")
    elif picture.mode == "LA":
        picture = picture.convert("L")
    return picture, alpha


def _by_profile(picture: Image.Image) -> Image.Image:
    profile = picture.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:  # a text of a PNG may have any name
        return picture
    try:
        from PIL import ImageCms
    except ImportError:  # a Pillow built without littlecms
        return picture
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return picture
        opaque, alpha = _opaque(picture)
        in_place = opaque.mode == "RGB"
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(opaque, source, srgb, outputMode="RGB", inPlace=in_place) or opaque
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def bands(picture: Image.Image, mode: str | None = None, pixels: int = 500_000) -> Iterator[tuple[int, Values]]:
    """Yield a picture's values some rows at a time, with the first row's number, so that no copy of all is made.

    Args:
        picture: Picture.
        mode: Mode to convert it to; None = its own.
        pixels: About how many pixels to yield at a time.
    """
    rows = max(1, pixels // picture.width)
    for top in range(0, picture.height, rows):
        band = picture.crop((0, top, picture.width, min(picture.height, top + rows)))
        yield top, np.asarray(band if mode is None else band.convert(mode))
