"""A folder of pictures as one array, decoded once. Needs Pillow, the extra ``images``."""

from __future__ import annotations

import hashlib
import os
import warnings
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import override

if TYPE_CHECKING:
    from PIL import Image

_READ = (".png", ".jpg", ".jpeg")
_PASSED_OVER = (".avif", ".bmp", ".gif", ".heic", ".ico", ".jfif", ".svg", ".tif", ".tiff", ".webp")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_ORIENTATION = 0x0112  # EXIF's tag


class ImageFolder(Dataset[Tensor]):
    """Read all PNG and JPEG files of a folder and its sub-folders, in sorted order of their relative paths.

    Every picture is turned as its EXIF orientation says and brought to size by one antialiased resize, never squashed:
    its centre is cut out (``crop``), or it is set on the background (``pad``). Transparent ones are laid over the
    background, unless 4 channels keep the transparency.

    Args:
        path: the folder; links to other folders in it are not followed.
        size: side in pixels, or (height, width).
        channels: 1 grey, 3 RGB, 4 RGBA.
        squaring: ``crop`` or ``pad``.
        background: RGB, 0..255, behind transparent pictures and around padded ones.

    Attributes:
        images: (N, C, H, W), uint8.
        paths: of the files, relative to the folder.
        fingerprint: of names and pixels.

    Raises:
        ImportError: if Pillow is missing.
        NotADirectoryError: if the path is no folder.
        OSError: if a sub-folder cannot be read.
        ValueError: if it holds no PNG or JPEG file, or some cannot be read: all of them are listed.

    Example:
        >>> ImageFolder("no such folder", 64)
        Traceback (most recent call last):
            ...
        NotADirectoryError: no such folder is no folder; pass a folder of PNG or JPEG files
    """

    images: Tensor
    paths: list[str]
    fingerprint: str

    def __init__(
        self,
        path: str | PathLike[str],
        size: int | tuple[int, int],
        channels: int = 3,
        *,
        squaring: Literal["crop", "pad"] = "crop",
        background: tuple[int, int, int] = (255, 255, 255),
    ) -> None:
        height, width = (size, size) if isinstance(size, int) else size
        if height < 1 or width < 1:
            raise ValueError(f"size must be a side or (height, width) in pixels, got {size!r}")
        if channels not in _MODES:
            raise ValueError(f"channels must be 1 (grey), 3 (RGB) or 4 (RGBA), got {channels!r}")
        if squaring not in ("crop", "pad"):
            raise ValueError(f"squaring must be 'crop' or 'pad', got {squaring!r}")
        folder = Path(path)
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is no folder; pass a folder of PNG or JPEG files")
        self.paths = _picture_paths(folder)
        self.images = torch.empty(len(self.paths), channels, height, width, dtype=torch.uint8)
        failures = []
        for index, name in enumerate(self.paths):
            try:
                with _opened(folder / name) as picture:
                    pixels = _squared(picture, (width, height), _MODES[channels], squaring, background)
            except MemoryError:
                raise
            except Exception as error:  # Pillow's decoders raise many kinds on a file that is no sound picture
                failures.append(f"{name}: {str(error) or type(error).__name__}")
            else:
                self.images[index] = torch.from_numpy(pixels).permute(2, 0, 1)
        if failures:
            raise ValueError(
                f"{len(failures)} of {len(self.paths)} files in {folder} cannot be read; mend or remove them:\n  "
                + "\n  ".join(failures)
            )
        digest = hashlib.blake2b("\n".join(self.paths).encode(errors="surrogateescape"), digest_size=16)
        digest.update(self.images.numpy().data)
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    @override
    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def _pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise ImportError('ImageFolder reads pictures with Pillow; install it: pip install "progan[images]"') from None


def _picture_paths(folder: Path) -> list[str]:
    """List the files to read, relative to the folder, in sorted order."""
    _pillow()
    names, linked = _files(folder)
    wanted = [name for name in names if name.lower().endswith(_READ)]
    passed_over = [name for name in names if name.lower().endswith(_PASSED_OVER)]
    if linked:
        warnings.warn(
            f"{folder}: {len(linked)} links to folders were not followed, such as {linked[0]}; copy the folders in if "
            "they belong to the data",
            stacklevel=3,
        )
    if not wanted:
        what = f"{len(names)} other files" if names else "nothing"
        raise ValueError(f"{folder} holds no PNG or JPEG file (it holds {what}); pass a folder with some")
    if passed_over:
        warnings.warn(
            f"{folder}: {len(passed_over)} pictures that are neither PNG nor JPEG were passed over, such as "
            f"{passed_over[0]}; convert them if they belong to the data",
            stacklevel=3,
        )
    return wanted


def _files(folder: Path) -> tuple[list[str], list[str]]:
    """List all files and all links to folders, relative to the folder, in sorted order."""

    def refuse(error: OSError) -> None:
        raise OSError(
            f"the folder {error.filename} cannot be read ({error.strerror}); make it readable, or move it elsewhere"
        ) from error

    files, linked = [], []
    for here, folders, names in os.walk(folder, onerror=refuse):
        files += [Path(here, name) for name in names]
        linked += [path for path in (Path(here, name) for name in folders) if path.is_symlink()]
    relative = (sorted(path.relative_to(folder).as_posix() for path in paths) for paths in (files, linked))
    return next(relative), next(relative)


def _opened(path: Path) -> Image.Image:
    """Open a picture, of the named formats only."""
    from PIL import Image

    with warnings.catch_warnings():
        # Pillow warns of large pictures at half the size at which it refuses them.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path, formats=["PNG", "JPEG"])


def _squared(
    picture: Image.Image, size: tuple[int, int], mode: str, squaring: str, background: tuple[int, int, int]
) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Return a picture's pixels at (width, height): (H, W, C), uint8."""
    from PIL import Image, ImageOps

    if picture.mode.startswith(("I", "F")):
        raise ValueError(f"more than 8 bits per channel (mode {picture.mode}); convert it to 8 bits")
    picture = _turned(picture)
    if picture.has_transparency_data and mode != "RGBA":
        backdrop = Image.new("RGBA", picture.size, (*background, 255))
        picture = Image.alpha_composite(backdrop, picture.convert("RGBA"))
    picture = picture.convert(mode)
    if squaring == "crop":
        picture = ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
    else:
        padded = picture.resize(_contained(picture.size, size), Image.Resampling.LANCZOS)
        picture = Image.new("RGB", size, background).convert(mode)
        picture.paste(padded, ((size[0] - padded.width) // 2, (size[1] - padded.height) // 2))
    return np.array(picture, dtype=np.uint8).reshape(size[1], size[0], -1)


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


def _contained(size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) of a picture made as large as a frame holds, at least 1 pixel each."""
    if size[0] * frame[1] > size[1] * frame[0]:
        return frame[0], max(1, round(size[1] / size[0] * frame[0]))
    return max(1, round(size[0] / size[1] * frame[1])), frame[1]
