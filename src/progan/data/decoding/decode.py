"""From a file to a picture of 8 bits, in sRGB. Needs Pillow, the extra ``images``.

The one place that decodes. A file may hold anything: only regular files are opened, Pillow sees what `read_header` let
pass, and threads share a budget of pixels. A JPEG of more pixels than the limit is decoded reduced.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

from progan.data.decoding.colour import encoding_of, in_srgb
from progan.data.decoding.depth import Deep, Depth, eight_bits, raw_mode
from progan.data.decoding.header import Header, read_header
from progan.data.decoding.header_jpeg import JpegNotes
from progan.data.decoding.limits import BYTES_PER_PIXEL, CUT_OFF, MAX_METADATA, MAX_PIXELS, RefusedError, too_large
from progan.data.decoding.reading import Reading, reduction

if TYPE_CHECKING:
    from PIL import Image
    from PIL.Image import Transpose

SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".gif"),
    *(".webp", ".bmp", ".dib", ".ico", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
)

_FILE_BYTES_PER_PIXEL = 9  # 4 channels of 16 bits, and metadata
_OVERSAMPLINGS = (3, 2)  # times the size asked for that is left of a JPEG; the second where the first is too large
_ORIENTATION = 0x0112  # EXIF's tag
_PILLOWS_LIMIT = 89_478_485  # of pixels, at which Pillow warns; it refuses twice as many


class Decoded(NamedTuple):
    """A decoded picture, and properties of its file."""

    picture: Image.Image
    """Of mode L, RGB or RGBA: turned, of 8 bits, in sRGB."""
    format: str
    mode: str
    """As stored, by Pillow's names."""
    size: tuple[int, int]
    """(width, height) of the whole picture as shown, in pixels."""
    box: tuple[float, float, float, float]
    """What of `picture` is the picture: left, top, right, bottom. All of it, unless it is reduced."""
    depth: Depth | None
    """What the bits are used for, where there are 16 per channel."""

    @property
    def is_reduced(self) -> bool:
        """Whether it was decoded with fewer pixels than it has."""
        return self.picture.size != self.size


class Unreadable(NamedTuple):
    """A file that cannot be read, with the reason."""

    reason: str


@contextmanager
def decoded(path: str | PathLike[str], reading: Reading) -> Iterator[Decoded]:
    """Decode a file, as `read_image` does, up to the squaring; within `decoding`."""
    with _regular_file(Path(path), reading.max_pixels) as file:
        header = read_header(file, reading.max_pixels)
        factor, pixels = _reduction(header, reading)
        with _BUDGET.taken(pixels + header.held // BYTES_PER_PIXEL):
            with _in_plain_words(header.format):
                result = _decoded(file, header, reading, factor)
            try:
                yield result
            finally:
                result.picture.close()  # its memory is free before the next file takes it


def file_hash(path: Path, reading: Reading) -> bytes:
    """Return a hash of a file's bytes, 16 of them."""
    with _regular_file(path, reading.max_pixels) as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


def _reduction(header: Header, reading: Reading) -> tuple[int, int]:
    """Return the factor by which a file is decoded smaller, and the number of pixels that take memory.

    Raises:
        RefusedError: If that is more than the limit.
    """
    notes, limit = header.notes, reading.max_pixels
    if header.pixels <= limit or not isinstance(notes, JpegNotes):
        return 1, header.pixels
    width, height = notes.width, notes.height
    factor, pixels, coefficients = 1, header.pixels, notes.coefficients // BYTES_PER_PIXEL
    for oversampling in _OVERSAMPLINGS if notes.scalable else ():
        factor = reduction(reading, width, height, oversampling)
        pixels = -(-width // factor) * -(-height // factor)
        if pixels + coefficients <= limit:
            return factor, pixels + coefficients
    if pixels > limit:
        remedy = "a JPEG is read reduced to no less than twice the size asked for; ask for a smaller size, reduce it,"
    else:
        remedy = "a progressive JPEG is decoded whole; save it as a baseline JPEG,"
    raise too_large(width, height, limit, remedy, min(header.pixels, pixels + coefficients))


def _decoded(file: BinaryIO, header: Header, reading: Reading, factor: int) -> Decoded:
    picture = _opened(file, header)
    kind, mode, layout = picture.format or "", picture.mode, raw_mode(picture)
    if picture.width * picture.height > header.pixels:
        raise RefusedError(f"this {header.format} says its size twice; save it anew")
    width, height = picture.size
    if factor > 1:
        picture.draft(None, (width // factor, height // factor))
        if picture.size != (-(-width // factor), -(-height // factor)):
            raise RefusedError("this JPEG cannot be read reduced; save it anew, or pass a larger max_pixels")
    # Step by step, so that no more than two copies are held.
    picture.load()
    if kind == "PNG":
        _mend_transparent_value(picture, layout)
    turn = _turn(picture)
    encoding = encoding_of(header.notes) if kind == "PNG" else None
    deep = Deep(partial(_opened, file, header), header.format, header.notes, reading.bit_depth, encoding)
    picture, depth = eight_bits(picture, layout, deep)
    if turn is not None:
        picture = picture.transpose(turn)
    if kind == "WEBP":
        picture = picture.copy()  # without the decoder, which keeps two more
    if depth is None or encoding is None:
        picture = in_srgb(picture, encoding)
    if picture.has_transparency_data:
        picture = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    elif picture.mode not in ("L", "RGB"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    if factor == 1:
        return Decoded(picture, kind, mode, picture.size, (0, 0, *picture.size), depth)
    swapped = turn is not None and turn in _swapping()
    size = (height, width) if swapped else (width, height)
    return Decoded(picture, kind, mode, size, _box(picture.size, size, factor, turn), depth)


def _box(
    reduced: tuple[int, int], size: tuple[int, int], factor: int, turn: Transpose | None
) -> tuple[float, float, float, float]:
    """Return the box of the picture within a reduced one, whose last stored row and column may extend beyond it."""
    from PIL.Image import Transpose

    width, height = (side / factor for side in size)
    from_right = turn in (Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.ROTATE_270, Transpose.TRANSVERSE)
    from_bottom = turn in (Transpose.FLIP_TOP_BOTTOM, Transpose.ROTATE_180, Transpose.ROTATE_90, Transpose.TRANSVERSE)
    left = reduced[0] - width if from_right else 0
    top = reduced[1] - height if from_bottom else 0
    return left, top, left + width, top + height


def _opened(file: BinaryIO, header: Header) -> Any:
    """Open a picture with Pillow, without Pillow's own limit on pixels unless the program has changed it."""
    from PIL import Image

    file.seek(0)
    if header.pixels <= _PILLOWS_LIMIT:
        return Image.open(file, formats=[header.format])
    with _SETUP.lock:
        limit = Image.MAX_IMAGE_PIXELS
        try:
            Image.MAX_IMAGE_PIXELS = None if limit == _PILLOWS_LIMIT else limit
            return Image.open(file, formats=[header.format])
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _in_plain_words(form: str) -> Iterator[None]:
    """Raise clear errors for broken files; errors of the system, such as missing permission, are raised unchanged."""
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
    """Apply a function to every file, on all cores, and yield the results in order; within `decoding`.

    An error in one file becomes `Unreadable`. Only a few results are in memory at a time.
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
    """Set Pillow up for reading, and restore its settings at the end.

    Pillow then does not warn of large pictures at half the size at which it refuses them, nor of odd metadata; it reads
    colour profiles of more than 1 MiB; and it allocates memory in blocks so large that they return to the system when
    they are freed.

    Python has one list of warnings for all threads: the first thread changes it, the last one restores it.
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
    """The settings of Pillow and its warnings, changed and restored."""

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
    """A limit on the pixels that threads decode at the same time.

    A picture above the limit is decoded alone. Pictures are decoded in the order in which they were requested, so that
    small ones do not delay a large one.
    """

    def __init__(self, pixels: int) -> None:
        self._pixels = self._left = pixels
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        pixels, ticket = min(pixels, self._pixels), object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is ticket and self._left >= pixels)
                self._left -= pixels
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._left += pixels
                self._changed.notify_all()


_BUDGET = _Budget(MAX_PIXELS)


def _regular_file(path: Path, max_pixels: int) -> io.BufferedReader:
    """Open a file for reading."""
    status = path.stat()
    for what, is_that in (("folder", stat.S_ISDIR), ("named pipe", stat.S_ISFIFO), ("socket", stat.S_ISSOCK)):
        if is_that(status.st_mode):
            raise RefusedError(f"a {what}, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError("a device, not a file")
    most = _FILE_BYTES_PER_PIXEL * max(max_pixels, MAX_PIXELS)
    if status.st_size > most:
        needed = -(-status.st_size // (_FILE_BYTES_PER_PIXEL * 10**6))
        raise RefusedError(
            f"{status.st_size:,} bytes, more than the {most:,} that are read; reduce it, or pass "
            f"max_pixels={needed}_000_000"
        )
    # Should it have become a named pipe meanwhile, nobody is waited for.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags), "rb")


def require_pillow() -> None:
    """Raise ImportError, with the remedy, where Pillow is missing."""
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise ImportError('pictures are read with Pillow; install it: pip install "progan[images]"') from None


def _mend_transparent_value(picture: Any, layout: str) -> None:
    """Scale the value that a PNG declares transparent to 8 bits like its pixels, where Pillow does not."""
    value = picture.info.get("transparency")
    if layout in ("L;2", "L;4") and isinstance(value, int):
        picture.info["transparency"] = (value & 3) * 85 if layout == "L;2" else (value & 15) * 17


def _turn(picture: Image.Image) -> Transpose | None:
    """Return how to rotate or flip a picture by its EXIF orientation; None if it has none, or it cannot be read."""
    from PIL.Image import Transpose

    try:
        orientation = picture.getexif().get(_ORIENTATION)
    except MemoryError:
        raise
    except Exception:  # Pillow raises many kinds on EXIF that is broken; the pixels are sound
        return None
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
    return methods.get(orientation)


def _swapping() -> tuple[Transpose, ...]:
    """Return the transpositions that swap width and height."""
    from PIL.Image import Transpose

    return (Transpose.TRANSPOSE, Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90)
