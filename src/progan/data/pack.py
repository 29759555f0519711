"""A folder of pictures as one memory-mapped file, which opens at once and reads only what is used.

The file has the safetensors layout: ``images`` (N, C, H, W), ``hashes`` of their contents (N, 16), ``names``, and
``unreadable`` if files were skipped (names and reasons alternate), all of them uint8.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from progan.data.class_folders import Labels, check_labels, folder_labels
from progan.data.decoding.decode import Unreadable, decoding
from progan.data.decoding.limits import MAX_PIXELS
from progan.data.decoding.reading import Reading, Squaring
from progan.data.folder import (
    CHANNELS,
    HASH_BYTES,
    Pictures,
    as_bytes,
    content_hash,
    from_bytes,
    read_images,
)
from progan.data.listing import check_relative, require_file
from progan.data.selection import OnUnreadable, check_on_unreadable, check_unreadable, picture_paths, warn_of_unreadable
from progan.runtime.progress import counted
from progan.storage.files import owned, partial_of, remove, write_file
from progan.storage.names import shown
from progan.storage.paths import user_path
from progan.storage.tensor_file import Entry, header_of, read_header

_FORMAT, _VERSION = "progan pack", "1"
_PARTS = ("images", "hashes", "names")
_FROM_FILE = ("images", "paths", "hashes", "unreadable", "labels", "classes")  # attributes of a pack
_LONGEST = 10**15  # bytes of the part below, for a header that has room for any
_SKIPPED = "unreadable"  # a part that is there only where files were skipped


class Pack(Pictures):
    """The pictures of a file that `pack` wrote. Only pictures that are used take memory.

    A copy, also in another process, maps the file again.

    Args:
        path: File that `pack` wrote.

    Attributes:
        path: Absolute path of the file.
        images: (N, C, H, W), uint8, memory-mapped; changes to it stay in memory and are lost.
        paths: Paths of the pictures, relative to the folder that they came from.
        unreadable: Files that were skipped because they could not be read, with the reason.
        fingerprint: Hash of names and pixels, and of the names of skipped files; equal to that of a
            `progan.ImageFolder` of the same pictures.
        labels: Label of each picture, (N,), int64, if the folder was packed with labels; else None.
        classes: Names of the classes, as for `progan.ImageFolder`.

    Raises:
        OSError: If the file cannot be opened.
        ValueError: If it is not a pack, or damaged.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path: Path = user_path(path).absolute()
        self._open()

    def _open(self) -> None:
        require_file(self.path, "pack of pictures")
        with self.path.open("rb") as file:
            try:
                entries, metadata = read_header(file, self.path)
            except ValueError as error:
                raise ValueError(f"{error}; pack the folder again") from None
            if metadata.get("format") != _FORMAT:
                raise ValueError(f"{self.path} is not a pack of pictures; write one with progan.data.pack")
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
                unreadable = _read_skipped(file, entries.get(_SKIPPED))
                _check_names(paths, len(images), unreadable)
            except (ValueError, OverflowError) as error:
                raise ValueError(f"{self.path} is damaged: {error}; pack the folder again") from None
        found = folder_labels(paths, self.path) if metadata.get("labels") == "folders" else None
        super().__init__(torch.from_numpy(images), paths, hashes.tobytes(), unreadable, found)

    def __getstate__(self) -> dict[str, Any]:
        """Return all attributes but those that a copy reads from the file."""
        return {name: value for name, value in vars(self).items() if name not in _FROM_FILE}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the file again."""
        vars(self).update(state)
        self._open()
        if self.fingerprint != state["fingerprint"]:
            raise ValueError(f"{self.path} is not the pack that it was; open it again with Pack(path)")

    def verify(self) -> None:
        """Read every picture and compare its hash.

        Raises:
            ValueError: If some differ from what was packed; each is named.
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
    """Raise ValueError if the tensors of a file are not those of a pack."""
    if set(entries) - {_SKIPPED} != set(_PARTS):
        raise ValueError(f"it holds {', '.join(map(repr, sorted(entries)[:5])) or 'nothing'}, not {', '.join(_PARTS)}")
    if any(entry.dtype != torch.uint8 for entry in entries.values()):
        raise ValueError("not all of it is uint8")
    if any(size < 1 for entry in entries.values() for size in entry.shape):
        raise ValueError("a part of it is empty")
    images, hashes, names = (entries[name].shape for name in _PARTS)
    if len(images) != 4 or images[1] not in CHANNELS or hashes != (images[0], HASH_BYTES) or len(names) != 1:
        raise ValueError("its parts do not fit")


def _read_skipped(file: BinaryIO, entry: Entry | None) -> dict[str, str]:
    """Return the files that were skipped, with the reason."""
    if entry is None:
        return {}
    file.seek(entry.begin)
    texts = from_bytes(file.read(math.prod(entry.shape)))
    if len(texts) % 2 or len(set(texts[::2])) != len(texts) // 2:
        raise ValueError("its parts do not fit")
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _check_names(names: Sequence[str], n: int, skipped: Collection[str]) -> None:
    """Raise ValueError if the names are not those of n pictures of one folder, and of the files that were skipped."""
    if len(names) != n:
        raise ValueError("its parts do not fit")
    every = [*names, *skipped]
    if len(set(every)) != len(every) or not all(every):
        raise ValueError("its names are not all different")
    if not all(Path(name).name for name in every):
        raise ValueError("not all of its names are those of files")
    for name in every:
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
    hidden: bool = False,
    on_unreadable: OnUnreadable = "raise",
    max_pixels: int = MAX_PIXELS,
    bit_depth: int | None = None,
    labels: Labels | None = None,
    progress: bool = True,
) -> Pack:
    """Write the pictures of a folder into one file, on all cores, a few at a time in memory.

    Args:
        folder: Folder of pictures, with its sub-folders.
        path: File to write. It replaces an older pack once it is complete. A link stays, and its target is written.
        size: Side in pixels, or (height, width).
        channels: Number of channels: 1 for grey, 3 for RGB, 4 for RGBA.
        squaring: ``crop``, ``pad``, ``edge`` or ``refuse``, as in `progan.data.Reading`.
        background: Colour, RGB, 0..255, behind transparent pictures and around padded ones.
        only: Names to read, such as ``curate(folder).kept``; None = all.
        hidden: Whether to read hidden and system files and folders too, as for `progan.ImageFolder`.
        on_unreadable: ``raise`` or ``skip``; the pack's attribute ``unreadable`` lists skipped files.
        max_pixels: Largest number of pixels that are decoded at once, as in `progan.data.Reading`.
        bit_depth: Number of bits that pictures of 16 bits per channel use, as in `progan.data.Reading`; None = all.
        labels: ``folders`` or None, as for `progan.ImageFolder`; the pack keeps them.
        progress: Whether to show how many are packed, and how long the others will take.

    Returns:
        The pack, opened.

    Raises:
        ImportError: If Pillow is missing.
        NotADirectoryError: If the folder is not a directory.
        FileExistsError: If there is a file at the path that is not a pack.
        BlockingIOError: If another process writes the same pack.
        OSError: If the file cannot be written, or there is no room for it; or if a sub-folder cannot be read.
        ValueError: If the folder contains no pictures, or some cannot be read and are not skipped: all are listed.
    """
    folder, path = user_path(folder, "folder"), user_path(path)
    target = Path(os.path.realpath(path))
    reading = Reading(size, channels, squaring, background, max_pixels, bit_depth)
    check_on_unreadable(on_unreadable)
    check_labels(labels)
    names, unreadable = picture_paths(folder, only, hidden=hidden, on_unreadable=on_unreadable)
    if labels is not None:
        folder_labels(names, folder)
    if path.exists() and not is_pack(path):
        raise FileExistsError(f"{path} exists already and is not a pack; pass another path")
    if not target.parent.is_dir():
        raise NotADirectoryError(f"{target.parent} is not a directory; make it first")
    if target.is_symlink():
        raise OSError(f"{path} is a symlink loop; remove it")
    # How many can be read is known last, so a header as long as the final one can become is written first.
    largest = len(names), channels, *reading.shape
    longest = len(_header(largest, len(as_bytes(names)), _LONGEST, labels=labels))
    packed: list[str] = []
    hashes: list[bytes] = []
    skipped = b""

    def header() -> bytes:
        images = (len(packed), channels, *reading.shape)
        return _header(images, len(as_bytes(packed)), len(skipped), longest, labels=labels)

    def pieces() -> Iterator[bytes]:
        nonlocal unreadable, skipped
        yield bytes(longest)
        images = read_images(folder, names, reading)
        for name, image in zip(names, counted(images, len(names), "packing") if progress else images, strict=True):
            if isinstance(image, Unreadable):
                unreadable[name] = image.reason
                continue
            packed.append(name)
            hashes.append(image.digest)
            yield image.pixels.numpy().tobytes()
        unreadable = check_unreadable(folder, unreadable, len(packed), on_unreadable)
        skipped = as_bytes([text for item in unreadable.items() for text in item]) if unreadable else b""
        yield b"".join(hashes)
        yield as_bytes(packed)
        yield skipped

    with owned(target.parent, f".{target.name}.owner", path), decoding():
        remove(partial_of(target))  # of one that was killed
        needed = longest + len(names) * (math.prod(reading.shape) * channels + HASH_BYTES) + len(as_bytes(names))
        free = shutil.disk_usage(target.parent).free
        if needed > free:
            raise OSError(f"{path} needs {needed:,} bytes, and {free:,} are free there; pass a path on another disk")
        write_file(target, pieces(), beginning=header)
    warn_of_unreadable(folder, unreadable, len(packed))
    return Pack(path)


def _header(
    images: tuple[int, ...], n_names: int, n_skipped: int, length: int = 0, *, labels: Labels | None = None
) -> bytes:
    """Return the beginning of a pack.

    Args:
        images: Shape of the images, (N, C, H, W).
        n_names: Number of bytes of the names.
        n_skipped: Number of bytes of the names and reasons of skipped files; 0 = none were skipped.
        length: Minimum number of bytes, to fill with spaces.
        labels: What the labels come from, if there are any.
    """
    shapes: dict[str, tuple[int, ...]] = {"images": images, "hashes": (images[0], HASH_BYTES), "names": (n_names,)}
    if n_skipped:
        shapes[_SKIPPED] = (n_skipped,)
    tensors = {name: (torch.uint8, shape) for name, shape in shapes.items()}
    metadata = {"format": _FORMAT, "version": _VERSION} | ({} if labels is None else {"labels": labels})
    return header_of(tensors, metadata, length)


def is_pack(path: Path) -> bool:
    """Return whether a file begins as a pack does, whatever its version, damaged or not."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return f'"{_FORMAT}"'.encode() in file.read(1000)
