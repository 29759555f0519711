"""A folder of pictures as one array, decoded once. Needs Pillow, the extra ``images``."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import override

from progan.data.read import SUFFIXES, Reading, Squaring, read_image, require_pillow

_PASSED_OVER = (".avif", ".heic", ".heif", ".jp2", ".jxl", ".psd", ".svg", ".tga")


class ImageFolder(Dataset[Tensor]):
    """Read all pictures of a folder and its sub-folders, in sorted order of their relative paths.

    PNG, JPEG, GIF, WebP, BMP, ICO and TIFF, told by their contents; what happens to each kind is `read_image`'s. A
    picture is never squashed: its centre is cut out, or it is set on the background.

    Args:
        path: the folder; links to other folders in it are not followed.
        size: side in pixels, or (height, width).
        channels: 1 grey, 3 RGB, 4 RGBA.
        squaring: ``crop``, ``pad``, ``edge`` or ``refuse``, as in `Reading`.
        background: RGB, 0..255, behind transparent pictures and around padded ones.
        only: names to read, relative to the folder, such as ``curate(path).kept``; None = all.

    Attributes:
        images: (N, C, H, W), uint8.
        paths: of the files, relative to the folder.
        fingerprint: of names and pixels.

    Raises:
        ImportError: if Pillow is missing.
        NotADirectoryError: if the path is no folder.
        OSError: if a sub-folder cannot be read.
        ValueError: if it holds no picture, or not one of those to read, or some cannot be read: all of them are listed.

    Example:
        >>> ImageFolder("no such folder", 64)
        Traceback (most recent call last):
            ...
        NotADirectoryError: no such folder is no folder; pass a folder of pictures
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
        squaring: Squaring = "crop",
        background: tuple[int, int, int] = (255, 255, 255),
        only: Iterable[str | PathLike[str]] | None = None,
    ) -> None:
        reading = Reading(size, channels, squaring, background)
        folder = Path(path)
        self.paths = picture_paths(folder)
        if only is not None:
            self.paths = _only(self.paths, only, folder)
        self.images = torch.empty(len(self.paths), channels, *reading.shape, dtype=torch.uint8)
        failures = []
        for index, name in enumerate(self.paths):
            try:
                self.images[index] = read_image(folder / name, reading)
            except MemoryError:
                raise
            except Exception as error:  # Pillow's decoders raise many kinds on a file that is no sound picture
                failures.append(f"{name}: {str(error) or type(error).__name__}")
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


def picture_paths(folder: Path) -> list[str]:
    """List the files to read, relative to the folder, in sorted order.

    Raises:
        ImportError: if Pillow is missing.
        NotADirectoryError: if the path is no folder.
        ValueError: if there is none.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder; pass a folder of pictures")
    require_pillow()
    names, linked = _files(folder)
    wanted = [name for name in names if name.lower().endswith(SUFFIXES)]
    passed_over = [name for name in names if name.lower().endswith(_PASSED_OVER)]
    if linked:
        warnings.warn(
            f"{folder}: {len(linked)} links to folders were not followed, such as {linked[0]}; copy the folders in if "
            "they belong to the data",
            stacklevel=3,
        )
    if not wanted:
        what = f"{len(names)} other files" if names else "nothing"
        raise ValueError(
            f"{folder} holds no picture that can be read (it holds {what}); pass a folder with PNG, JPEG, GIF, "
            "WebP, BMP, ICO or TIFF files"
        )
    if passed_over:
        warnings.warn(
            f"{folder}: {len(passed_over)} files of formats that are not read were passed over, such as "
            f"{passed_over[0]}; convert them to PNG if they belong to the data",
            stacklevel=3,
        )
    return wanted


def _only(names: list[str], wanted: Iterable[str | PathLike[str]], folder: Path) -> list[str]:
    """Return the wanted names, in sorted order."""
    chosen = {Path(name).as_posix() for name in wanted}
    if missing := sorted(chosen - set(names)):
        raise ValueError(f"{folder} lacks {len(missing)} of the pictures to read, such as {missing[0]}; mend the list")
    if not chosen:
        raise ValueError(f"the list of pictures to read from {folder} is empty; keep at least one")
    return sorted(chosen)


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
