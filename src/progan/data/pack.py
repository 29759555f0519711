"""A folder of pictures as one file, which is memory-mapped: opened at once, read where it is touched.

The file has the safetensors layout: ``images`` (N, C, H, W), ``hashes`` of their contents (N, 16), and ``names``,
all of them uint8.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from progan.data.decode import Unreadable, decoding
from progan.data.folder import Pictures, content_hash, fingerprint, picture_paths, read_images, refuse_unreadable, shown
from progan.data.read import Reading, Squaring
from progan.files import owned, write_file
from progan.progress import counted
from progan.tensor_file import header_of, read_header

_FORMAT, _VERSION = "progan pack", "1"
_HASH = 16  # bytes


class Pack(Pictures):
    """Open a file that `pack` wrote. Takes memory for the pictures that are touched only.

    Args:
        path: of the file.

    Attributes:
        images: (N, C, H, W), uint8, memory-mapped; what is written to it stays in memory and is lost.
        paths: of the pictures, relative to the folder that they came from.
        fingerprint: of names and pixels; that of an `ImageFolder` of the same pictures.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it is no pack, or damaged.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_file():  # to open a named pipe would wait for ever
            raise ValueError(f"{path} is no file, and so no pack of pictures")
        with self.path.open("rb") as file:
            entries, metadata = read_header(file, self.path)
            if metadata.get("format") != _FORMAT:
                raise ValueError(f"{path} is no pack of pictures; write one with progan.data.pack")
            if metadata.get("version") != _VERSION:
                raise ValueError(
                    f"{path}: version {metadata.get('version')!r} of the format, this progan reads {_VERSION}; update "
                    "progan, or pack the folder again"
                )
            try:
                shape = entries["images"].shape
                parts = {name: self._mapped(entries[name].begin, entries[name].shape) for name in ("hashes", "names")}
                self.paths = parts["names"].numpy().tobytes().decode(errors="surrogateescape").split("\0")
                if len(shape) != 4 or entries["hashes"].shape != (shape[0], _HASH) or len(self.paths) != shape[0]:
                    raise ValueError("its parts do not fit")
                if any(entry.dtype != torch.uint8 for entry in entries.values()):
                    raise ValueError("not all of it is uint8")
            except (KeyError, ValueError) as error:
                raise ValueError(f"{path} is damaged: {error}; pack the folder again") from None
        self.images = self._mapped(entries["images"].begin, shape)
        self.hashes = parts["hashes"].numpy().tobytes()
        self.fingerprint = fingerprint(self.paths, self.hashes)

    def verify(self) -> None:
        """Read every picture and compare its hash.

        Raises:
            ValueError: if some are not what was packed; each is named.
        """
        damaged = [
            shown(name)
            for index, (name, image) in enumerate(zip(self.paths, self.images, strict=True))
            if content_hash(image) != self.hashes[index * _HASH : (index + 1) * _HASH]
        ]
        if damaged:
            raise ValueError(
                f"{self.path} is damaged: {len(damaged)} of {len(self)} pictures are not what was packed; pack the "
                f"folder again: {', '.join(damaged)}"
            )

    def _mapped(self, begin: int, shape: tuple[int, ...]) -> Tensor:
        # Copy on write: torch has no tensors that cannot be written to, and the file must not change.
        return torch.from_numpy(np.memmap(self.path, np.uint8, "c", begin, shape))


def pack(
    folder: str | PathLike[str],
    path: str | PathLike[str],
    size: int | tuple[int, int],
    channels: int = 3,
    *,
    squaring: Squaring = "crop",
    background: tuple[int, int, int] = (255, 255, 255),
    only: Iterable[str | PathLike[str]] | None = None,
    progress: bool = True,
) -> Pack:
    """Write the pictures of a folder into one file, on all cores, a few at a time in memory.

    Args:
        folder: with sub-folders.
        path: of the file; an older pack there is replaced once the new one is whole.
        size: side in pixels, or (height, width).
        channels: 1 grey, 3 RGB, 4 RGBA.
        squaring: as for `ImageFolder`; so the two that follow.
        background: RGB, 0..255, behind transparent pictures and around padded ones.
        only: names to read, such as ``curate(folder).kept``; None = all.
        progress: show how many are packed, and how long the others will take.

    Returns:
        The pack, opened.

    Raises:
        ImportError: if Pillow is missing.
        NotADirectoryError: if the folder is none.
        FileExistsError: if there is a file at the path that is no pack.
        BlockingIOError: if another process writes the same pack.
        OSError: if the file cannot be written, or there is no room for it.
        ValueError: if the folder holds no picture, or some cannot be read: all of them are listed.
    """
    folder, path = Path(folder), Path(path)
    reading = Reading(size, channels, squaring, background)
    names = picture_paths(folder, only)
    if path.exists() and not _is_pack(path):
        raise FileExistsError(f"{path} is there already and is no pack; pass another path")
    if not path.parent.is_dir():
        raise NotADirectoryError(f"{path.parent} is no folder; make it first")
    text = "\0".join(names).encode(errors="surrogateescape")
    shapes = {"images": (len(names), channels, *reading.shape), "hashes": (len(names), _HASH), "names": (len(text),)}
    header = header_of(
        {name: (torch.uint8, shape) for name, shape in shapes.items()}, {"format": _FORMAT, "version": _VERSION}
    )
    needed, free = sum(map(math.prod, shapes.values())), shutil.disk_usage(path.parent).free
    if needed > free:
        raise OSError(f"{path} needs {needed:,} bytes, and {free:,} are free there; pass a path on another disk")

    def pieces() -> Iterator[bytes]:
        yield header
        hashes, failures = [], {}
        images = read_images(folder, names, reading)
        for name, image in zip(names, counted(images, len(names), "packing") if progress else images, strict=True):
            if isinstance(image, Unreadable):
                failures[name] = image.reason
                continue
            hashes.append(image.digest)
            yield image.pixels.numpy().tobytes()
        refuse_unreadable(folder, failures, len(names))
        yield b"".join(hashes)
        yield text

    with owned(path.parent, f".{path.name}.owner"), decoding():
        write_file(path, pieces())
    return Pack(path)


def _is_pack(path: Path) -> bool:
    """Tell whether a file begins as a pack does, of whatever version, damaged or not."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return f'"{_FORMAT}"'.encode() in file.read(1000)
