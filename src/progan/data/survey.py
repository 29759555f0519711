"""One reading of a folder for all that is to be known of it: what files there are, which are alike, which broken."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from progan.data.decode import Unreadable, bands, decoded, decoding, read_each
from progan.data.flips import thumbnails
from progan.data.likeness import SIZE, Descriptors, describe
from progan.data.listing import Listing, in_order
from progan.data.read import Reading, squared
from progan.progress import counted

_READING = Reading(SIZE)
_AT_ONCE = 16  # pictures that are described together


class Facts(NamedTuple):
    """Hold what a file is."""

    format: str
    mode: str
    """As stored, by Pillow's names."""
    width: int
    """As shown, in pixels."""
    height: int
    transparent: bool
    """Whether anything shows through."""


@dataclass(frozen=True)
class Survey:
    """Hold what one reading of a folder tells. Names are relative to it, in sorted order.

    Attributes:
        folder: that was read.
        listing: of its files.
        facts: of every picture that can be read.
        unreadable: the others, with the reason.
        copies: pictures with the same pixels as one before them, and that one.
        distinct: the pictures that are no such copies.
        descriptors: of those, to compare them by.
        thumbnails: of those, (N, 3, 32, 32), uint8.
    """

    folder: Path
    listing: Listing
    facts: dict[Path, Facts]
    unreadable: dict[Path, str]
    copies: dict[Path, Path]
    distinct: list[Path]
    descriptors: Descriptors
    thumbnails: Tensor


class _Look(NamedTuple):
    facts: Facts
    digest: bytes
    pixels: Tensor


def survey(folder: str | PathLike[str], *, hidden: bool = False, progress: bool = False) -> Survey:
    """Read every picture of a folder once; what is kept of each are some kilobytes.

    Args:
        folder: with sub-folders.
        hidden: Whether to read hidden and system files and folders too.
        progress: show how long it will take.

    Raises:
        ImportError: if Pillow is missing.
        NotADirectoryError: if the path is not a directory.
    """
    folder = Path(folder)
    listing = Listing.of(folder, hidden=hidden)
    names = [Path(name) for name in listing.pictures]
    facts: dict[Path, Facts] = {}
    unreadable = {Path(name): reason for name, reason in listing.closed_as_unreadable().items()}
    copies: dict[Path, Path] = {}
    firsts: dict[bytes, Path] = {}
    waiting: list[Tensor] = []
    described = _Rows(len(names), _described(torch.empty(0, 3, SIZE, SIZE, dtype=torch.uint8)))
    with decoding():
        looks: Iterable[_Look | Unreadable] = read_each([folder / name for name in names], _look)
        if progress:
            looks = counted(looks, len(names), "reading pictures")
        for name, look in zip(names, looks, strict=True):
            if isinstance(look, Unreadable):
                unreadable[name] = look.reason
                continue
            facts[name] = look.facts
            first = firsts.setdefault(look.digest, name)
            if first != name:
                copies[name] = first
                continue
            waiting.append(look.pixels)
            if len(waiting) == _AT_ONCE:
                described.add(_described(torch.stack(waiting)))
                waiting = []
    if waiting:
        described.add(_described(torch.stack(waiting)))
    *descriptors, small = described.filled()
    return Survey(
        folder,
        listing,
        facts,
        in_order(unreadable),
        copies,
        list(firsts.values()),
        Descriptors(*descriptors),
        small,
    )


def _look(path: Path) -> _Look:
    with decoded(path) as (picture, kind, mode):
        # A picture that is nowhere transparent is the same with and without alpha, a grey one in grey and in RGB.
        transparent = picture.mode == "RGBA" and picture.getextrema()[3] != (255, 255)  # type: ignore[misc]
        digest = hashlib.blake2b(repr((picture.size, transparent)).encode(), digest_size=16)
        for band in bands(picture):
            values = band[..., None].repeat(3, axis=2) if band.ndim == 2 else band if transparent else band[..., :3]
            digest.update(values.tobytes())
        facts = Facts(kind, mode, picture.width, picture.height, transparent)
        return _Look(facts, digest.digest(), squared(picture, _READING))


def _described(images: Tensor) -> list[Tensor]:
    """Return what is kept of pictures: their descriptors, and last their thumbnails."""
    return [*describe(images), thumbnails(images)]


class _Rows:
    """Tensors that are filled row by row.

    Their memory is allocated once. Small tensors that are kept, allocated between large ones that are freed, would
    leave the heap in pieces: many times the memory of what is kept.

    Args:
        room: Number of rows to allocate. Rows that stay empty cost no memory.
        like: Tensors of the same shapes, apart from the number of rows, and dtypes.
    """

    def __init__(self, room: int, like: Sequence[Tensor]) -> None:
        self._tensors = [torch.empty(room, *tensor.shape[1:], dtype=tensor.dtype) for tensor in like]
        self._filled = 0

    def add(self, rows: Sequence[Tensor]) -> None:
        """Copy rows in behind those that are there: of each tensor (n, ...)."""
        end = self._filled + len(rows[0])
        for tensor, some in zip(self._tensors, rows, strict=True):
            tensor[self._filled : end] = some
        self._filled = end

    def filled(self) -> list[Tensor]:
        """Return the rows that were added."""
        return [tensor[: self._filled] for tensor in self._tensors]
