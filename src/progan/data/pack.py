"""A folder of pictures as one file, which is memory-mapped: opened at once, read where it is touched.

The file has the safetensors layout: ``images`` (N, C, H, W), ``hashes`` of their contents (N, 16), and ``names``,
all of them uint8.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from progan.data.decode import Unreadable, decoding
from progan.data.folder import (
    CHANNELS,
    HASH_BYTES,
    Pictures,
    as_bytes,
    check_relative,
    content_hash,
    from_bytes,
    picture_paths,
    read_images,
    refuse_unreadable,
    require_file,
    shown,
)
from progan.data.read import Reading, Squaring
from progan.files import owned, partial_of, remove, write_file
from progan.progress import counted
from progan.tensor_file import Entry, header_of, read_header

_FORMAT, _VERSION = "progan pack", "1"
_PARTS = ("images", "hashes", "names")


class Pack(Pictures):
    """Open a file that `pack` wrote. Takes memory for the pictures that are touched only.

    Args:
        path: of the file.

    A copy, in another process too, maps the file again.

    Attributes:
        path: of the file, absolute.
        images: (N, C, H, W), uint8, memory-mapped; what is written to it stays in memory and is lost.
        paths: of the pictures, relative to the folder that they came from.
        fingerprint: of names and pixels; that of a `progan.ImageFolder` of the same pictures.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it is no pack, or damaged.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path: Path = Path(path).absolute()
        self._open()

    def _open(self) -> None:
        require_file(self.path, "pack of pictures")
        with self.path.open("rb") as file:
            try:
                entries, metadata = read_header(file, self.path)
            except ValueError as error:
                raise ValueError(f"{error}; pack the folder again") from None
            if metadata.get("format") != _FORMAT:
                raise ValueError(f"{self.path} is no pack of pictures; write one with progan.data.pack")
            if metadata.get("version") != _VERSION:
                raise ValueError(
                    f"{self.path}: version {metadata.get('version')!r} of the format, this progan reads {_VERSION}; "
                    "update progan, or pack the folder again"
                )
            try:
                _check_entries(entries)
                # Copy on write: torch has no tensors that cannot be written to, and the file must not change.
                images, hashes, names = (
                    np.memmap(file, np.uint8, "c", entries[name].begin, entries[name].shape) for name in _PARTS
                )
                paths = from_bytes(names.tobytes())
                _check_names(paths, len(images))
            except (ValueError, OverflowError) as error:
                raise ValueError(f"{self.path} is damaged: {error}; pack the folder again") from None
        super().__init__(torch.from_numpy(images), paths, hashes.tobytes())

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy is made of: all but what it reads from the file."""
        return {name: value for name, value in vars(self).items() if name not in ("images", "paths", "hashes")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the file again."""
        vars(self).update(state)
        self._open()
        if self.fingerprint != state["fingerprint"]:
            raise ValueError(f"{self.path} is not the pack that it was; open it again with Pack(path)")

    def verify(self) -> None:
        """Read every picture and compare its hash.

        Raises:
            ValueError: if some are not what was packed; each is named.
        """
        damaged = [
            shown(name)
            for index, (name, image) in enumerate(zip(self.paths, self.images, strict=True))
            if content_hash(image) != self.hash_of(index)
        ]
        if damaged:
            raise ValueError(
                f"{self.path} is damaged: {len(damaged)} of {len(self)} pictures are not what was packed; pack the "
                f"folder again: {', '.join(damaged)}"
            )


def _check_entries(entries: Mapping[str, Entry]) -> None:
    """Raise ValueError where the tensors of a file are not those of a pack."""
    if set(entries) != set(_PARTS):
        raise ValueError(f"it holds {', '.join(map(repr, sorted(entries)[:5])) or 'nothing'}, not {', '.join(_PARTS)}")
    if any(entry.dtype != torch.uint8 for entry in entries.values()):
        raise ValueError("not all of it is uint8")
    images, hashes, names = (entries[name].shape for name in _PARTS)
    if any(size < 1 for shape in (images, hashes, names) for size in shape):
        raise ValueError("a part of it is empty")
    if len(images) != 4 or images[1] not in CHANNELS or hashes != (images[0], HASH_BYTES) or len(names) != 1:
        raise ValueError("its parts do not fit")


def _check_names(names: Sequence[str], n: int) -> None:
    """Raise ValueError where names are not those of n pictures of one folder."""
    if len(names) != n:
        raise ValueError("its parts do not fit")
    if len(set(names)) != n or not all(names):
        raise ValueError("its names are not all different")
    for name in names:
        check_relative(Path(name))


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
        path: of the file; an older pack there is replaced once the new one is whole. Of a link, what it points to.
        size: side in pixels, or (height, width).
        channels: 1 grey, 3 RGB, 4 RGBA.
        squaring: as for `progan.ImageFolder`; so the two that follow.
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
    target = Path(os.path.realpath(path))
    reading = Reading(size, channels, squaring, background)
    names = picture_paths(folder, only)
    if path.exists() and not _is_pack(path):
        raise FileExistsError(f"{path} is there already and is no pack; pass another path")
    if not target.parent.is_dir():
        raise NotADirectoryError(f"{target.parent} is no folder; make it first")
    if target.is_symlink():
        raise OSError(f"{path} is a circle of links; remove it")
    text = as_bytes(names)
    shapes = {
        "images": (len(names), channels, *reading.shape),
        "hashes": (len(names), HASH_BYTES),
        "names": (len(text),),
    }
    header = header_of(
        {name: (torch.uint8, shape) for name, shape in shapes.items()}, {"format": _FORMAT, "version": _VERSION}
    )

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

    with owned(target.parent, f".{target.name}.owner", path), decoding():
        remove(partial_of(target))  # of one that was killed
        needed, free = sum(map(math.prod, shapes.values())), shutil.disk_usage(target.parent).free
        if needed > free:
            raise OSError(f"{path} needs {needed:,} bytes, and {free:,} are free there; pass a path on another disk")
        write_file(target, pieces())
    return Pack(path)


def _is_pack(path: Path) -> bool:
    """Tell whether a file begins as a pack does, of whatever version, damaged or not."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return f'"{_FORMAT}"'.encode() in file.read(1000)
