"""A folder of pictures as one array, decoded once. Needs Pillow, the extra ``images``."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
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


class ImageFolder(Dataset[Tensor]):
    """Read all PNG and JPEG files of a folder and its sub-folders, in sorted order of their relative paths.

    Every picture is turned as its EXIF orientation says and brought to size by one antialiased resize, never squashed:
    its centre is cut out (``crop``), or it is set on the background (``pad``). Transparent ones are laid over the
    background, unless 4 channels keep the transparency.

    Args:
        path: the folder.
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
            except _unreadable() as error:
                failures.append(f"{name}: {error}")
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


def _unreadable() -> tuple[type[Exception], ...]:
    """What opening a file that is no sound picture raises; Pillow's decoders raise several kinds."""
    from PIL import Image

    return OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError


def _picture_paths(folder: Path) -> list[str]:
    """List the files to read, relative to the folder, in sorted order."""
    _pillow()
    names = sorted(path.relative_to(folder).as_posix() for path in _files(folder))
    wanted = [name for name in names if name.lower().endswith(_READ)]
    passed_over = [name for name in names if name.lower().endswith(_PASSED_OVER)]
    if not wanted:
        what = f"{len(names)} other files" if names else "nothing"
        raise ValueError(f"{folder} holds no PNG or JPEG file (it holds {what}); pass a folder with some")
    if passed_over:
        warnings.warn(
            f"{folder}: {len(passed_over)} pictures that are neither PNG nor JPEG were passed over, such as "
            f"{passed_over[0]}; convert them if they belong to the data",
            stacklevel=4,
        )
    return wanted


def _files(folder: Path) -> Iterator[Path]:
    for here, _, names in os.walk(folder):
        yield from (Path(here, name) for name in names)


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
    picture = ImageOps.exif_transpose(picture)
    if picture.has_transparency_data and mode != "RGBA":
        backdrop = Image.new("RGBA", picture.size, (*background, 255))
        picture = Image.alpha_composite(backdrop, picture.convert("RGBA"))
    picture = picture.convert(mode)
    if squaring == "crop":
        picture = ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
    else:
        padded = ImageOps.contain(picture, size, Image.Resampling.LANCZOS)
        picture = Image.new("RGB", size, background).convert(mode)
        picture.paste(padded, ((size[0] - padded.width) // 2, (size[1] - padded.height) // 2))
    return np.array(picture, dtype=np.uint8).reshape(size[1], size[0], -1)
