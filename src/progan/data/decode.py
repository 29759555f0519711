"""From a file to a picture of full size, of 8 bits, in sRGB. Needs Pillow, the extra ``images``.

The one place that decodes. A file may hold anything: only regular files of the `FORMATS` are opened, their sizes are
checked before they are decoded, and threads share a budget of pixels.
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

if TYPE_CHECKING:
    from PIL import Image

Values = np.ndarray[tuple[int, ...], np.dtype[Any]]

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

# Of one picture, and of all that are being decoded at a time: up to 16 bytes are taken for each.
MAX_PIXELS = 25_000_000
MAX_BYTES = 5 * MAX_PIXELS  # of a file

MAX_SCANS = 100  # of a JPEG
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
    from PIL import Image, UnidentifiedImageError

    with _regular_file(Path(path)) as file:
        _check_icon(file)
        try:
            picture: Image.Image = Image.open(file, formats=list(FORMATS))
        except UnidentifiedImageError:
            size = os.fstat(file.fileno()).st_size
            what = f"a file of {size} bytes that is none of {', '.join(FORMATS)}" if size else "an empty file"
            raise ValueError(what) from None
        _check_size(*picture.size)
        if picture.format == "TIFF":  # its tiles may be larger than itself
            tags = picture.tag_v2  # type: ignore[attr-defined]
            _check_size(*(value if isinstance(value := tags.get(tag, 1), int) else 1 for tag in (322, 323)))
        if picture.format in ("JPEG", "MPO"):
            _check_scans(file, picture.width * picture.height)
        kind, mode = picture.format or "", picture.mode
        with _BUDGET.taken(picture.width * picture.height):
            # Step by step, so that no more than two copies are held.
            picture = _turned(picture)
            picture = _eight_bits(picture)
            picture = _in_srgb(picture)
            if picture.has_transparency_data:
                picture = picture if picture.mode == "RGBA" else picture.convert("RGBA")
            elif picture.mode not in ("L", "RGB"):
                picture = picture.convert("L" if picture.mode == "1" else "RGB")
            yield Decoded(picture, kind, mode)


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
        return Unreadable(error.strerror or str(error) or type(error).__name__)
    except Exception as error:  # Pillow's decoders raise many kinds on a file that is no sound picture
        return Unreadable(str(error) or type(error).__name__)


@contextmanager
def decoding() -> Iterator[None]:
    """Set Pillow up for reading, and put it back as it was.

    It is kept from warning of large pictures at half the size at which it refuses them, and of odd metadata; and it
    takes memory in pieces so large that the system has them back at once.

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
        from PIL import Image

        self._core: Any = Image.core  # type: ignore[attr-defined]
        self._block_size = self._core.get_block_size()
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        self._core.set_block_size(64 << 20)  # glibc hands back what is over 32 MiB

    def end(self) -> None:
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


_BUDGET = _Budget(MAX_PIXELS)


def _regular_file(path: Path) -> BinaryIO:
    """Open a file for reading."""
    status = path.stat()
    for what, is_that in (("folder", stat.S_ISDIR), ("named pipe", stat.S_ISFIFO), ("socket", stat.S_ISSOCK)):
        if is_that(status.st_mode):
            raise ValueError(f"a {what}, no file")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("a device, no file")
    if status.st_size > MAX_BYTES:
        raise ValueError(f"{status.st_size:,} bytes, more than the {MAX_BYTES:,} that are read; reduce it")
    # Should it have become a named pipe meanwhile, nobody is waited for.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags), "rb")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{width}x{height} pixels, more than the {MAX_PIXELS // 10**6} million that are read; reduce it"
        )


def _check_icon(file: BinaryIO) -> None:
    """Check the size of every picture in an ICO: Pillow decodes one as it opens the file, whatever the list says."""
    start = file.read(6)
    if start[:4] == b"\0\0\1\0":
        for entry in range(int.from_bytes(start[4:], "little")):
            file.seek(6 + 16 * entry + 12)
            file.seek(int.from_bytes(file.read(4), "little"))
            head = file.read(12)
            if head.startswith(b"\x89PNG"):
                file.seek(-4, os.SEEK_CUR)
                _check_chunks(file)
            else:
                _check_size(int.from_bytes(head[4:8], "little"), abs(int.from_bytes(head[8:12], "little", signed=True)))
    file.seek(0)


def _check_chunks(file: BinaryIO) -> None:
    """Check every size that a PNG gives before its pixels: the last one counts."""
    while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"IHDR":
            body = file.read(8)
            _check_size(int.from_bytes(body[:4], "big"), int.from_bytes(body[4:], "big"))
            length -= len(body)
        file.seek(max(0, length) + 4, os.SEEK_CUR)


def _check_scans(file: BinaryIO, pixels: int) -> None:
    """Count a JPEG's scans, each of which goes over all pixels: usual are 1 to 10, and a few bytes make one more."""
    position = file.tell()
    file.seek(0)
    scans, last = 0, b""
    while block := file.read(1 << 20):
        scans += (last + block).count(b"\xff\xda")
        last = block[-1:] if block[-1:] == b"\xff" else b""
    file.seek(position)
    if scans > MAX_SCANS or scans * pixels > 20 * MAX_PIXELS:
        raise ValueError(f"{scans} scans, more than are read of a JPEG of this size; save it anew")


def require_pillow() -> None:
    """Raise ImportError, with the remedy, where Pillow is missing."""
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise ImportError('pictures are read with Pillow; install it: pip install "progan[images]"') from None


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
        raise ValueError(
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
