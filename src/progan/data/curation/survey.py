"""A survey of a folder in one pass: which files there are, which are alike, and which are broken."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from progan.data.curation.flat_colours import flat_share
from progan.data.curation.flips import thumbnails
from progan.data.curation.likeness import SIZE, Descriptors, describe
from progan.data.decoding.colour import bands
from progan.data.decoding.decode import Unreadable, decoded, decoding, file_hash, read_each
from progan.data.decoding.depth import Depth
from progan.data.decoding.limits import MAX_PIXELS
from progan.data.decoding.read import squared
from progan.data.decoding.reading import Reading
from progan.data.listing import Listing, in_order
from progan.runtime.contention import watched_cores
from progan.runtime.progress import counted
from progan.storage.paths import user_path

_AT_ONCE = 16  # pictures that are described together
_BLACK = 24  # of 255. Pictures of 12 bits in 16 go up to 16; photographs six stops too dark go up to 33
_EQUAL = 2  # of 255


class Facts(NamedTuple):
    """Properties of a picture's file."""

    format: str
    mode: str
    """As stored, by Pillow's names."""
    width: int
    """As shown, in pixels."""
    height: int
    transparent: bool
    """Whether anything shows through."""
    depth: Depth | None
    """What its bits are used for, where there are 16 per channel."""
    dark: bool
    """Whether it is black or nearly so."""
    constant: bool
    """Whether all of it has one colour, or nearly so."""


@dataclass(frozen=True)
class Survey:
    """The result of reading a folder once. Names are relative to the folder, in sorted order.

    Attributes:
        folder: Folder that was read.
        listing: Listing of its files.
        facts: Properties of each picture that can be read.
        unreadable: Pictures that cannot be read, with the reason.
        copies: Pictures with the same pixels as an earlier one, each with that one.
        distinct: All other pictures that can be read.
        descriptors: Descriptors of the distinct pictures, to compare them by.
        thumbnails: Thumbnails of the distinct pictures, (N, 3, 32, 32), uint8.
        flat_shares: Shares of flat places of the distinct pictures that are large enough, see `flat_share`.
    """

    folder: Path
    listing: Listing
    facts: dict[Path, Facts]
    unreadable: dict[Path, str]
    copies: dict[Path, Path]
    distinct: list[Path]
    descriptors: Descriptors
    thumbnails: Tensor
    flat_shares: list[float]


class _Look(NamedTuple):
    facts: Facts
    digest: bytes
    pixels: Tensor
    flat_share: float | None


@watched_cores()
def survey(
    folder: str | PathLike[str],
    *,
    hidden: bool = False,
    max_pixels: int = MAX_PIXELS,
    bit_depth: int | None = None,
    progress: bool = False,
) -> Survey:
    """Read every picture of a folder once, and keep a few kilobytes of each.

    Args:
        folder: Folder of pictures, with its sub-folders.
        hidden: Whether to read hidden and system files and folders too.
        max_pixels: Largest number of pixels that are decoded at once, as in `progan.data.Reading`.
        bit_depth: Number of bits that pictures of 16 bits per channel use; None = all.
        progress: Whether to show how long it will take.

    Raises:
        ImportError: If Pillow is missing.
        NotADirectoryError: If the path is not a directory.
    """
    folder, reading = user_path(folder, "folder"), Reading(SIZE, max_pixels=max_pixels, bit_depth=bit_depth)
    listing = Listing.of(folder, hidden=hidden)
    names = [Path(name) for name in listing.pictures]
    facts: dict[Path, Facts] = {}
    unreadable = {Path(name): reason for name, reason in listing.closed_as_unreadable().items()}
    copies: dict[Path, Path] = {}
    firsts: dict[bytes, Path] = {}
    waiting: list[Tensor] = []
    flat_shares: list[float] = []
    described = _Rows(len(names), _described(torch.empty(0, 3, SIZE, SIZE, dtype=torch.uint8)))
    with decoding():
        looks: Iterable[_Look | Unreadable] = read_each([folder / name for name in names], partial(_look, reading))
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
            if look.flat_share is not None:
                flat_shares.append(look.flat_share)
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
        flat_shares,
    )


def _look(reading: Reading, path: Path) -> _Look:
    with decoded(path, reading) as result:
        picture = result.picture
        # A picture that is nowhere transparent is the same with and without alpha, a grey one in grey and in RGB.
        transparent = picture.mode == "RGBA" and picture.getchannel("A").getextrema() != (255, 255)
        digest = hashlib.blake2b(repr((result.size, transparent)).encode(), digest_size=16)
        if result.is_reduced:  # pictures that differ may be the same at a smaller size
            digest.update(file_hash(path, reading))
        else:
            for _, band in bands(picture, "RGBA" if transparent else "RGB"):
                digest.update(band.data)
        pixels = squared(result, reading).contiguous()
        facts = Facts(
            *(result.format, result.mode, *result.size, transparent, result.depth),
            dark=is_dark(pixels),
            constant=is_constant(pixels),
        )
        side = min(result.size)
        as_is = pixels if side >= SIZE else squared(result, replace(reading, size=side))  # enlarged, it would be smooth
        return _Look(facts, digest.digest(), pixels, flat_share(as_is))


def is_dark(pixels: Tensor) -> bool:
    """Return whether nothing can be seen in a picture, (C, H, W), uint8: fewer than 1 in 1,000 pixels are above 24."""
    brightest = pixels.amax(dim=0)
    return int((brightest > _BLACK).sum()) * 1000 < brightest.numel()


def is_constant(pixels: Tensor) -> bool:
    """Return whether a picture, (C, H, W), uint8, has one colour: no channel varies by more than 2."""
    flat = pixels.flatten(1)
    return int((flat.amax(dim=1) - flat.amin(dim=1)).max()) <= _EQUAL


def _described(images: Tensor) -> list[Tensor]:
    """Return the descriptors of pictures, followed by their thumbnails."""
    return [*describe(images), thumbnails(images)]


class _Rows:
    """Tensors that are filled row by row.

    Their memory is allocated once. Small tensors allocated between large ones that are freed would fragment the heap,
    which would then take many times the memory of the small ones.

    Args:
        room: Number of rows to allocate. Rows that stay empty cost no memory.
        like: Tensors of the same shapes, apart from the number of rows, and dtypes.
    """

    def __init__(self, room: int, like: Sequence[Tensor]) -> None:
        self._tensors = [torch.empty(room, *tensor.shape[1:], dtype=tensor.dtype) for tensor in like]
        self._filled = 0

    def add(self, rows: Sequence[Tensor]) -> None:
        """Append rows, (n, ...) of each tensor."""
        end = self._filled + len(rows[0])
        for tensor, some in zip(self._tensors, rows, strict=True):
            tensor[self._filled : end] = some
        self._filled = end

    def filled(self) -> list[Tensor]:
        """Return the rows that were added."""
        return [tensor[: self._filled] for tensor in self._tensors]
