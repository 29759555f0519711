"""From a file to a picture of full size, of 8 bits, in sRGB. Needs Pillow, the extra ``images``.

The one place that decodes. A file may hold anything: only regular files are opened, Pillow sees what `read_header` let
pass, and threads share a budget of pixels.
"""

from __future__ import annotations

import io
import os
import stat
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

import numpy as np

from progan.data.header import CUT_OFF, MAX_METADATA, MAX_PIXELS, Header, RefusedError, read_header

if TYPE_CHECKING:
    from PIL import Image

Values = np.ndarray[tuple[int, ...], np.dtype[Any]]

SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".gif"),
    *(".webp", ".bmp", ".dib", ".ico", ".tif", ".tiff"),
)
MAX_BYTES = 5 * MAX_PIXELS  # of a file

_ORIENTATION = 0x0112  # EXIF's tag


class Decoded(NamedTuple):
    """Hold a picture at full size, and what its file said."""

    picture: Image.Image
    """Of mode L, RGB or RGBA: turned, of 8 bits, in sRGB."""
    format: str
    mode: str
    """As stored, by Pillow's names."""


class Unreadable(NamedTuple):
    """Say why a file cannot be read."""

    reason: str


@contextmanager
def decoded(path: str | PathLike[str]) -> Iterator[Decoded]:
    """Decode a file, as `read_image` does, up to the squaring; within `decoding`."""
    with _regular_file(Path(path)) as file:
        header = read_header(file)
        with _BUDGET.taken(min(MAX_PIXELS, header.pixels + header.held // _BYTES_PER_PIXEL)):
            with _in_plain_words(header.format):
                result = _decoded(file, header)
            try:
                yield result
            finally:
                result.picture.close()  # its memory is free before the next file takes it


def _decoded(file: BinaryIO, header: Header) -> Decoded:
    from PIL import Image

    picture: Any = Image.open(file, formats=[header.format])
    kind, mode = picture.format or "", picture.mode
    if picture.width * picture.height > header.pixels:
        raise RefusedError(f"this {header.format} says its size twice; save it anew")
    # Step by step, so that no more than two copies are held.
    picture = _png_loaded(picture, file) if kind == "PNG" else picture
    picture = _turned(picture)
    if kind == "WEBP":
        picture = picture.copy()  # without the decoder, which keeps two more
    picture = _eight_bits(picture)
    picture = _in_srgb(picture)
    if picture.has_transparency_data:
        picture = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    elif picture.mode not in ("L", "RGB"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    return Decoded(picture, kind, mode)


@contextmanager
def _in_plain_words(form: str) -> Iterator[None]:
    """Say what is wrong with a file; what the system says, such as that it may not be read, stays as it is."""
    from PIL import Image

    try:
        yield
    except (MemoryError, RefusedError):
        raise
    except Image.DecompressionBombError as error:  # of a lower limit, which the program around has set
        raise RefusedError(str(error)) from error
    except Exception as error:  # Pillow's decoders raise many kinds on a file that is no sound picture
        if isinstance(error, OSError) and error.errno is not None:
            raise
        words = str(error).lower()
        if "truncat" in words:
            reason = CUT_OFF
        elif "too large" in words or "too much memory" in words:
            reason = "this {} has more text, or a larger colour profile, than is read; save it anew without"
        elif "cannot identify" in words:
            reason = "this {} is damaged, or of a rare kind; save it anew"
        else:
            reason = "this {} is damaged; fetch or save it anew"
        raise OSError(reason.format(form)) from error


Result = TypeVar("Result")


def read_each(paths: Sequence[Path], work: Callable[[Path], Result]) -> Iterator[Result | Unreadable]:
    """Do some work on every file, on all cores, and yield the results in order; within `decoding`.

    An error of a file's own becomes `Unreadable`. Only a few results wait at a time.
    """
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ahead: deque[Future[Result | Unreadable]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for path in paths:
                ahead.append(pool.submit(_tried, work, path))
                if len(ahead) > 4 * threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _tried(work: Callable[[Path], Result], path: Path) -> Result | Unreadable:
    try:
        return work(path)
    except MemoryError:
        raise
    except OSError as error:
        return Unreadable(error.strerror or str(error))
    except Exception as error:  # a file that shows a fault of ours ends nobody's reading of the others
        return Unreadable(str(error) or type(error).__name__)


@contextmanager
def decoding() -> Iterator[None]:
    """Set Pillow up for reading, and put it back as it was.

    It is kept from warning of large pictures at half the size at which it refuses them, and of odd metadata; it reads
    colour profiles of more than 1 MiB; and memory is taken in pieces so large that the system has them back at once.

    Python has one list of warnings for all threads: the first to come sets it, the last to go puts it back.
    """
    with _SETUP.lock:
        if _SETUP.users == 0:
            _SETUP.begin()
        _SETUP.users += 1
    try:
        yield
    finally:
        with _SETUP.lock:
            _SETUP.users -= 1
            if _SETUP.users == 0:
                _SETUP.end()


class _Setup:
    """Change what Pillow and its warnings do, and change it back."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0

    def begin(self) -> None:
        from PIL import Image, PngImagePlugin

        self._core: Any = Image.core  # type: ignore[attr-defined]
        self._text_limit = PngImagePlugin.MAX_TEXT_CHUNK
        PngImagePlugin.MAX_TEXT_CHUNK = MAX_METADATA
        self._block_size = self._core.get_block_size()
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        self._core.set_block_size(128 << 20)  # a picture in one: glibc hands back what is over 32 MiB

    def end(self) -> None:
        from PIL import PngImagePlugin

        PngImagePlugin.MAX_TEXT_CHUNK = self._text_limit
        self._core.set_block_size(self._block_size)
        self._warnings.__exit__(None, None, None)


_SETUP = _Setup()


class _Budget:
    """Let threads decode at the same time until their pictures come to so many pixels."""

    def __init__(self, pixels: int) -> None:
        self._left = pixels
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._left >= pixels)
            self._left -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._left += pixels
                self._changed.notify_all()


_BYTES_PER_PIXEL = 16  # at most, of a picture that is being decoded
_BUDGET = _Budget(MAX_PIXELS)


def _regular_file(path: Path) -> BinaryIO:
    """Open a file for reading."""
    status = path.stat()
    for what, is_that in (("folder", stat.S_ISDIR), ("named pipe", stat.S_ISFIFO), ("socket", stat.S_ISSOCK)):
        if is_that(status.st_mode):
            raise RefusedError(f"a {what}, no file")
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError("a device, no file")
    if status.st_size > MAX_BYTES:
        raise RefusedError(f"{status.st_size:,} bytes, more than the {MAX_BYTES:,} that are read; reduce it")
    # Should it have become a named pipe meanwhile, nobody is waited for.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags), "rb")


def require_pillow() -> None:
    """Raise ImportError, with the remedy, where Pillow is missing."""
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise ImportError('pictures are read with Pillow; install it: pip install "progan[images]"') from None


def _png_loaded(picture: Any, file: BinaryIO) -> Any:
    """Load a PNG, and mend the value that it calls transparent: Pillow brings pixels to 8 bits, but not that value."""
    from PIL import Image

    layout = picture.tile[0][3]
    picture.load()
    value = picture.info.get("transparency")
    if layout in ("L;2", "L;4") and isinstance(value, int):
        picture.info["transparency"] = (value & 3) * 85 if layout == "L;2" else (value & 15) * 17
    if layout == "RGB;16B" and isinstance(value, tuple):
        # Pillow keeps the upper byte of each 16 bits; read as if the order were the other, it keeps the lower.
        file.seek(0)
        lower: Any = Image.open(file, formats=["PNG"])
        lower.tile = [(*lower.tile[0][:3], "RGB;16L")]
        lower.load()
        uppers, lowers = [channel >> 8 for channel in value], [channel & 255 for channel in value]
        alpha = np.empty((picture.height, picture.width), np.uint8)
        top = 0
        for upper_band, lower_band in zip(bands(picture), bands(lower), strict=True):
            same = (upper_band == uppers).all(-1) & (lower_band == lowers).all(-1)
            alpha[top : top + len(same)] = np.where(same, 0, 255)
            top += len(same)
        del picture.info["transparency"]
        picture.putalpha(Image.fromarray(alpha))
    return picture


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
    low, high = (
        bound([extreme(band) for band in bands(picture)]) for bound, extreme in ((np.min, np.min), (np.max, np.max))
    )
    limit = 1 if picture.mode == "F" else 65_535
    if not (low >= 0 and high <= limit):  # neither does NaN
        raise RefusedError(
            f"values of mode {picture.mode} must lie in 0..{limit}, got {low} to {high}; convert it to 8 bits"
        )
    pixels = _from_bands(picture, lambda band: np.round(band.astype(np.float64) * (255 / limit)))
    scaled = Image.fromarray(pixels)
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):  # the one value that a 16-bit PNG calls transparent
        alpha = _from_bands(picture, lambda band: np.where(band == transparent, 0, 255))
        scaled.putalpha(Image.fromarray(alpha))
    if profile := picture.info.get("icc_profile"):
        scaled.info["icc_profile"] = profile
    return scaled


def _from_bands(picture: Image.Image, of: Callable[[Values], Values]) -> Values:
    """Return what a function makes of a picture's values, some rows at a time: (H, W), uint8."""
    result = np.empty((picture.height, picture.width), np.uint8)
    top = 0
    for band in bands(picture):
        result[top : top + len(band)] = of(band)
        top += len(band)
    return result


def bands(picture: Image.Image, pixels: int = 500_000) -> Iterator[Values]:
    """Yield a picture's values some rows at a time, so that no copy of all is made."""
    rows = max(1, pixels // picture.width)
    for top in range(0, picture.height, rows):
        yield np.asarray(picture.crop((0, top, picture.width, min(picture.height, top + rows))))


def _in_srgb(picture: Image.Image) -> Image.Image:
    """Convert from the colour profile that a picture carries; without one, or with a broken one, it is sRGB."""
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
        alpha = None
        if picture.has_transparency_data:
            alpha = (picture if "A" in picture.getbands() else picture.convert("RGBA")).getchannel("A")
        if picture.mode in ("P", "PA", "RGBA", "1"):
            picture = picture.convert("RGB")
        elif picture.mode == "LA":
            picture = picture.convert("L")
        in_place = picture.mode == "RGB"
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(picture, source, srgb, outputMode="RGB", inPlace=in_place) or picture
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture
    if alpha is not None:
        converted.putalpha(alpha)
    return converted
