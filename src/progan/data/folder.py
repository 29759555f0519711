"""A folder of pictures as one array, decoded once. Needs Pillow, the extra ``images``."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import override

from progan.data.decode import SUFFIXES, Unreadable, decoded, decoding, read_each, require_pillow
from progan.data.read import Reading, Squaring, squared

CHANNELS = (1, 3, 4)  # grey, RGB, RGBA
HASH_BYTES = 16  # of one picture's pixels
_PASSED_OVER = (".avif", ".heic", ".heif", ".jp2", ".jxl", ".psd", ".svg", ".tga")


class Pictures(Dataset[Tensor]):
    """Pictures of one size, held at once or mapped from a file: what `ImageFolder` and `Pack` share.

    Attributes:
        images: (N, C, H, W), uint8.
        paths: of the files that they came from, relative to their folder.
        hashes: of the pixels, 16 bytes each.
        fingerprint: of names and pixels.
    """

    def __init__(self, images: Tensor, paths: list[str], hashes: bytes) -> None:
        self.images = images
        self.paths = paths
        self.hashes = hashes
        self.fingerprint: str = fingerprint(paths, hashes)

    def content_by_name(self) -> dict[str, str]:
        """Return the hash of each picture's pixels, by the name of the file that it came from."""
        return {name: self.hash_of(index).hex() for index, name in enumerate(self.paths)}

    def hash_of(self, index: int) -> bytes:
        """Return the hash of one picture's pixels."""
        return self.hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES]

    def __len__(self) -> int:
        return len(self.images)

    @override
    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


class ImageFolder(Pictures):
    """Read all pictures of a folder and its sub-folders, in sorted order of their relative paths.

    PNG, JPEG, GIF, WebP, BMP, ICO and TIFF, told by their contents; `progan.data.read_image` says what happens to each
    kind. A picture is never squashed: its centre is cut out, or it is set on the background.

    Args:
        path: the folder; links to other folders in it are not followed.
        size: side in pixels, or (height, width).
        channels: 1 grey, 3 RGB, 4 RGBA.
        squaring: ``crop``, ``pad``, ``edge`` or ``refuse``, as in `progan.data.Reading`.
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
        TypeError: if those to read are one name and not a list.
        ValueError: if it holds no picture, or not one of those to read, or some cannot be read: all of them are listed.

    Example:
        >>> ImageFolder("no such folder", 64)
        Traceback (most recent call last):
            ...
        NotADirectoryError: no such folder is no folder; pass a folder of pictures
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
    ) -> None:
        reading = Reading(size, channels, squaring, background)
        folder = Path(path)
        paths = picture_paths(folder, only)
        images = torch.empty(len(paths), channels, *reading.shape, dtype=torch.uint8)
        failures, hashes = {}, []
        with decoding():
            for index, image in enumerate(read_images(folder, paths, reading)):
                if isinstance(image, Unreadable):
                    failures[paths[index]] = image.reason
                else:
                    images[index] = image.pixels
                    hashes.append(image.digest)
        refuse_unreadable(folder, failures, len(paths))
        super().__init__(images, paths, b"".join(hashes))


class HashedImage(NamedTuple):
    """Hold a picture as it is trained on."""

    pixels: Tensor
    """(channels, height, width), uint8."""
    digest: bytes
    """16 bytes, of the pixels."""


def read_images(folder: Path, names: Sequence[str], reading: Reading) -> Iterator[HashedImage | Unreadable]:
    """Read pictures of a folder, on all cores, in order; within `decoding`."""

    def read(path: Path) -> HashedImage:
        with decoded(path) as (picture, *_):
            pixels = squared(picture, reading).contiguous()
        return HashedImage(pixels, content_hash(pixels))

    return read_each([folder / name for name in names], read)


def refuse_unreadable(folder: Path, failures: dict[str, str], n: int) -> None:
    """Raise ValueError where pictures could not be read, with each of them."""
    if failures:
        raise ValueError(
            f"{len(failures)} of {n} files in {folder} cannot be read; mend or remove them, or read the others with "
            "only=progan.data.curate(folder).kept:\n  "
            + "\n  ".join(f"{shown(name)}: {reason}" for name, reason in failures.items())
        )


def content_hash(pixels: Tensor) -> bytes:
    """Return a hash of one picture's values, 16 bytes: (C, H, W), uint8, contiguous."""
    return hashlib.blake2b(pixels.numpy().data, digest_size=HASH_BYTES).digest()


def fingerprint(names: Sequence[str], hashes: bytes) -> str:
    """Return one hash over the relative names and the contents' hashes."""
    digest = hashlib.blake2b(as_bytes(names), digest_size=16)
    digest.update(hashes)
    return digest.hexdigest()


def as_bytes(names: Sequence[str]) -> bytes:
    """Return names as one text, whatever bytes they were made of; the names of Windows may hold half a character."""
    text = "\0".join(names)
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")


def from_bytes(text: bytes) -> list[str]:
    """Return the names of which `as_bytes` made a text."""
    try:
        return text.decode(errors="surrogatepass").split("\0")
    except UnicodeDecodeError:
        return text.decode(errors="surrogateescape").split("\0")


Value = TypeVar("Value")


def in_order(named: Mapping[Path, Value]) -> dict[Path, Value]:
    """Return what belongs to names, in their order: that of their texts, as in `Listing`."""
    return {name: named[name] for name in sorted(named, key=Path.as_posix)}


def check_relative(name: Path) -> None:
    """Raise ValueError where a name leads out of its folder."""
    if name.is_absolute() or name.drive or ".." in name.parts:
        raise ValueError(f"{shown(name)} leads out of the folder; pass names relative to the folder, without ..")


def require_file(path: Path, what: str) -> None:
    """Raise ValueError where there is something else than a file: to open a named pipe would wait for ever."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no file, and so no {what}")


def shown(name: str | PathLike[str]) -> str:
    """Return a file's name as a terminal can show it, whatever bytes it holds."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in Path(name).as_posix())


@dataclass(frozen=True)
class Listing:
    """Hold what lies in a folder and its sub-folders, by names relative to it, in sorted order.

    Attributes:
        pictures: files to read, by their names' endings; whatever is called like a picture and is none among them.
        others: files of other kinds.
        linked: links to folders, which are not followed.
        closed: sub-folders that cannot be read, with the reason.
    """

    pictures: list[str]
    others: list[str]
    linked: list[str]
    closed: dict[str, str]

    @classmethod
    def of(cls, folder: Path) -> Listing:
        """List a folder.

        Raises:
            ImportError: if Pillow is missing.
            NotADirectoryError: if the path is no folder.
        """
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is no folder; pass a folder of pictures")
        require_pillow()
        pictures: list[Path] = []
        others: list[Path] = []
        linked: list[Path] = []
        closed: dict[str, str] = {}

        def note(error: OSError) -> None:
            closed[Path(error.filename).relative_to(folder).as_posix()] = error.strerror or str(error)

        for here, folders, files in os.walk(folder, onerror=note):
            for name in folders:
                path = Path(here, name)
                if path.is_symlink():
                    linked.append(path)
                elif name.lower().endswith(SUFFIXES):
                    pictures.append(path)
            for name in files:
                (pictures if name.lower().endswith(SUFFIXES) else others).append(Path(here, name))

        def sorted_names(paths: list[Path]) -> list[str]:
            return sorted(path.relative_to(folder).as_posix() for path in paths)

        return cls(sorted_names(pictures), sorted_names(others), sorted_names(linked), dict(sorted(closed.items())))

    @property
    def passed_over(self) -> list[str]:
        """Pictures of formats that are not read."""
        return [name for name in self.others if name.lower().endswith(_PASSED_OVER)]

    def no_pictures(self, folder: Path) -> ValueError:
        """Return the error for a folder that holds no picture."""
        what = f"{len(self.others)} other files" if self.others else "nothing"
        return ValueError(
            f"{folder} holds no picture that can be read (it holds {what}); pass a folder with PNG, JPEG, GIF, "
            "WebP, BMP, ICO or TIFF files"
        )

    def remarks(self) -> list[str]:
        """Say what was left out that may belong to the data."""
        remarks = []
        if self.linked:
            remarks.append(
                f"{len(self.linked)} links to folders were not followed, such as {shown(self.linked[0])}; copy the "
                "folders in if they belong to the data"
            )
        if self.passed_over:
            remarks.append(
                f"{len(self.passed_over)} files of formats that are not read were passed over, such as "
                f"{shown(self.passed_over[0])}; convert them to PNG if they belong to the data"
            )
        return remarks


def picture_paths(folder: Path, only: Iterable[str | PathLike[str]] | None) -> list[str]:
    """List the files to read, relative to the folder, in sorted order; warn of what is left out.

    Args:
        folder: of the pictures.
        only: those wanted; None = all.

    Raises:
        ImportError: if Pillow is missing.
        NotADirectoryError: if the path is no folder.
        OSError: if a sub-folder cannot be read.
        TypeError: if those wanted are one name and not a list.
        ValueError: if there is no picture, or not one of those wanted.
    """
    listing = Listing.of(folder)
    if listing.closed and only is None:
        closed = "; ".join(f"{shown(name)} ({reason})" for name, reason in listing.closed.items())
        raise OSError(f"{folder}: these folders cannot be read: {closed}; make them readable, or move them elsewhere")
    if not listing.pictures:
        raise listing.no_pictures(folder)
    if only is not None:
        return _only(listing.pictures, only, folder)
    for remark in listing.remarks():
        warnings.warn(f"{folder}: {remark}", stacklevel=3)
    return listing.pictures


def _only(names: list[str], wanted: Iterable[str | PathLike[str]], folder: Path) -> list[str]:
    """Return the wanted names, in sorted order."""
    if isinstance(wanted, str | bytes | PathLike):
        raise TypeError(f"only= takes a list of names, got {wanted!r}; pass [{wanted!r}]")
    chosen = set(map(Path, wanted))
    if not chosen:
        raise ValueError(f"the list of pictures to read from {folder} is empty; keep at least one")
    for name in chosen:
        check_relative(name)
    if missing := sorted({name.as_posix() for name in chosen} - set(names)):
        raise ValueError(
            f"{folder} lacks {len(missing)} of the pictures to read, such as {shown(missing[0])}; mend the list, whose "
            "names are relative to the folder"
        )
    return sorted(map(Path.as_posix, chosen))
