"""A folder of pictures as one array, decoded once. Needs Pillow, the extra ``images``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import override

from progan.data.class_folders import FolderLabels, Labels, check_labels, folder_labels
from progan.data.decoding.decode import Unreadable, decoded, decoding, read_each
from progan.data.decoding.limits import MAX_PIXELS
from progan.data.decoding.read import squared
from progan.data.decoding.reading import Reading, Squaring
from progan.data.selection import (
    OnUnreadable,
    check_on_unreadable,
    check_unreadable,
    picture_paths,
    warn_of_unreadable,
)
from progan.storage.names import UNREADABLE, normalised
from progan.storage.paths import user_path

CHANNELS = (1, 3, 4)  # grey, RGB, RGBA
HASH_BYTES = 16  # of one picture's pixels


class Pictures(Dataset[Tensor | tuple[Tensor, int]]):
    """Pictures of one size, held at once or mapped from a file: what `ImageFolder` and `Pack` share.

    Attributes:
        images: (N, C, H, W), uint8.
        paths: Paths of the files, relative to their folder.
        hashes: Hashes of the pixels, 16 bytes each.
        unreadable: Files that could not be read and were skipped, with the reason.
        fingerprint: Hash of names and pixels, and of the names of skipped files.
        labels: Label of each picture, (N,), int64; None = they have none.
        classes: Names of the classes, in the order of their labels; empty without labels.
    """

    def __init__(
        self,
        images: Tensor,
        paths: list[str],
        hashes: bytes,
        unreadable: Mapping[str, str] | None = None,
        found: FolderLabels | None = None,
    ) -> None:
        self.images = images
        self.paths = paths
        self.hashes = hashes
        self.unreadable: dict[str, str] = dict(unreadable or {})
        self.fingerprint: str = fingerprint(paths, hashes, list(self.unreadable))
        self.labels: Tensor | None = None if found is None else found.labels
        self.classes: tuple[str, ...] = () if found is None else found.classes

    def content_by_name(self) -> dict[str, str]:
        """Return the hash of each picture's pixels by its file's name, and "unreadable" for files that were skipped."""
        contents = {name: self.hash_of(index).hex() for index, name in enumerate(self.paths)}
        return contents | dict.fromkeys(self.unreadable, UNREADABLE)

    def hash_of(self, index: int) -> bytes:
        """Return the hash of one picture's pixels."""
        return self.hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES]

    def __len__(self) -> int:
        return len(self.images)

    @override
    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, int]:
        return self.images[index] if self.labels is None else (self.images[index], int(self.labels[index]))


class ImageFolder(Pictures):
    """All pictures of a folder and its sub-folders, in sorted order of their relative paths.

    PNG, JPEG, GIF, WebP, BMP, ICO, TIFF and binary PNM files are read whatever their names, and a file that is named
    like one of these but is not is reported. A warning counts files of other kinds that may be pictures (HEIC, camera
    RAW, ...), and names a converter. `progan.data.read_image` describes how each kind is read. A picture is never
    squashed: its centre is cut out, or it is padded.

    Args:
        path: Folder of pictures; links to other folders in it are not followed.
        size: Side in pixels, or (height, width).
        channels: Number of channels: 1 for grey, 3 for RGB, 4 for RGBA.
        squaring: ``crop``, ``pad``, ``edge`` or ``refuse``, as in `progan.data.Reading`.
        background: Colour, RGB, 0..255, behind transparent pictures and around padded ones.
        only: Names to read, relative to the folder, such as ``curate(path).kept``; None = all.
        hidden: Whether to read hidden files and folders, and what systems leave in folders (``.thumbnails``,
            ``__MACOSX``, ``@eaDir``). They are skipped by default, with a warning if there are pictures among them.
            Files that ``only`` names are read in any case.
        on_unreadable: ``raise`` lists all files that cannot be read in one error; ``skip`` leaves them out, with a
            warning.
        max_pixels: Largest number of pixels that are decoded at once, as in `progan.data.Reading`.
        bit_depth: Number of bits that pictures of 16 bits per channel use, as in `progan.data.Reading`; None = all.
        labels: ``folders``: the first folder below the path names the class of a picture, and items are
            (image, label); None = no labels.

    Attributes:
        images: (N, C, H, W), uint8.
        paths: Paths of the files, relative to the folder.
        unreadable: Files and sub-folders that were skipped because they cannot be read, with the reason.
        fingerprint: Hash of names and pixels, and of the names of skipped files. It does not depend on the Unicode
            normalisation of the names, so a copy of the folder from another system has the same one.
        labels: Label of each picture, (N,), int64; None = they have none.
        classes: Names of the classes, sorted, in the order of their labels; empty without labels.

    Raises:
        ImportError: If Pillow is missing.
        NotADirectoryError: If the path is not a directory.
        OSError: If a sub-folder cannot be read, unless it is skipped.
        TypeError: If ``only`` is a single name rather than a list.
        ValueError: If the folder contains no pictures, or not all of ``only``; or if some cannot be read and are not
            skipped: all of them are listed. With labels, if a picture lies in no sub-folder.

    Example:
        >>> ImageFolder("no such folder", 64)
        Traceback (most recent call last):
            ...
        NotADirectoryError: no such folder is not a directory; pass a folder of pictures
    """

    def __init__(
        self,
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
    ) -> None:
        check_labels(labels)
        reading = Reading(size, channels, squaring, background, max_pixels, bit_depth)
        check_on_unreadable(on_unreadable)
        folder = user_path(path)
        names, unreadable = picture_paths(folder, only, hidden=hidden, on_unreadable=on_unreadable)
        if labels is not None:
            folder_labels(names, folder)  # first, since to read them may take long
        images = torch.empty(len(names), channels, *reading.shape, dtype=torch.uint8)
        paths: list[str] = []
        hashes: list[bytes] = []
        with decoding():
            for name, image in zip(names, read_images(folder, names, reading), strict=True):
                if isinstance(image, Unreadable):
                    unreadable[name] = image.reason
                else:
                    images[len(paths)] = image.pixels
                    paths.append(name)
                    hashes.append(image.digest)
        unreadable = check_unreadable(folder, unreadable, len(paths), on_unreadable)
        warn_of_unreadable(folder, unreadable, len(paths))
        found = None if labels is None else folder_labels(paths, folder)
        super().__init__(images[: len(paths)], paths, b"".join(hashes), unreadable, found)


class HashedImage(NamedTuple):
    """A picture as it is trained on."""

    pixels: Tensor
    """(channels, height, width), uint8."""
    digest: bytes
    """16 bytes, of the pixels."""


def read_images(folder: Path, names: Sequence[str], reading: Reading) -> Iterator[HashedImage | Unreadable]:
    """Read pictures of a folder, on all cores, in order; within `decoding`."""

    def read(path: Path) -> HashedImage:
        with decoded(path, reading) as result:
            pixels = squared(result, reading).contiguous()
        return HashedImage(pixels, content_hash(pixels))

    return read_each([folder / name for name in names], read)


def content_hash(pixels: Tensor) -> bytes:
    """Return a hash of one picture's values, 16 bytes: (C, H, W), uint8, contiguous."""
    return hashlib.blake2b(pixels.numpy().data, digest_size=HASH_BYTES).digest()


def fingerprint(names: Sequence[str], hashes: bytes, unreadable: Sequence[str] = ()) -> str:
    """Return one hash over the relative names in NFC, the contents' hashes, and the names of skipped files if any."""
    digest = hashlib.blake2b(as_bytes(list(map(normalised, names))), digest_size=16)
    digest.update(hashes)
    if unreadable:
        digest.update(b"\0unreadable\0" + as_bytes(sorted(map(normalised, unreadable))))
    return digest.hexdigest()


def as_bytes(names: Sequence[str]) -> bytes:
    """Return names as one text, whatever bytes they consist of; names on Windows may contain half a character."""
    text = "\0".join(names)
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")


def from_bytes(text: bytes) -> list[str]:
    """Return the names from a text that `as_bytes` made."""
    try:
        return text.decode(errors="surrogatepass").split("\0")
    except UnicodeDecodeError:
        return text.decode(errors="surrogateescape").split("\0")
