"""From a data set to batches: which image is the k-th of a run, and where it comes from.

Epochs are full permutations laid end to end, each keyed by (seed, epoch), so the k-th image of a run is a pure function
of (seed, k), batches are always full, and at every moment the uses of any two images differ by at most one.
"""

from __future__ import annotations

import hashlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby, tee
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset
from typing_extensions import override

from progan.arguments import check_int, check_size, wrong_type
from progan.data.curation.flips import FlipVerdict, flip_verdict, thumbnails
from progan.data.folder import CHANNELS, Pictures
from progan.data.workers import check_item_error, fetch
from progan.randomness import item_state, permutation
from progan.runtime.memory import to_device

# Images that a verdict on flips is taken from: of those at hand, and of those that have to be fetched one by one.
_JUDGED, _FETCHED = 1000, 300
_CONVERTED = 64  # images that are converted at once


class Order:
    """Tell which image is the k-th of a run.

    Example:
        >>> order = Order(3, seed=0)
        >>> sorted(order[k] for k in range(3)), sorted(order[k] for k in range(3, 6))
        ([0, 1, 2], [0, 1, 2])
    """

    def __init__(self, n: int, seed: int) -> None:
        self.n = n
        self.seed = seed
        self._epoch = -1
        self._permutation: np.ndarray[tuple[int], np.dtype[np.int64]]

    def __getitem__(self, position: int) -> int:
        epoch, place = divmod(position, self.n)
        return int(self.of_epoch(epoch)[place])

    def of_epoch(self, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return the images of an epoch, in order: (n,)."""
        if epoch != self._epoch:
            self._epoch, self._permutation = epoch, permutation(self.n, self.seed, epoch)
        return self._permutation


class _OrderThere:
    """Tell which images some positions of a run are, by a tensor on the data's device; an epoch is sent at once."""

    def __init__(self, order: Order, device: torch.device) -> None:
        self._order = order
        self._device = device
        self._epoch = -1
        self._images: Tensor

    def __getitem__(self, positions: range) -> Tensor:
        """Return the images at positions in rising order: int64, (len(positions),)."""
        parts = []
        while positions:
            epoch, place = divmod(positions.start, self._order.n)
            if epoch != self._epoch:
                self._epoch = epoch
                self._images = to_device(torch.from_numpy(self._order.of_epoch(epoch)), self._device)
            part = self._images[place : place + positions.stop - positions.start : positions.step]
            parts.append(part)
            positions = positions[len(part) :]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class Conversion(NamedTuple):
    """Say how images become what a step takes.

    Attributes:
        level_at: the level of the step that begins at a count of real images.
        convert: makes of some images, (N, C, H, W), those of a level; each of them for itself.
    """

    level_at: Callable[[int], int]
    convert: Callable[[Tensor, int], Tensor]


class Feed(ABC):
    """Hand out a run's batches.

    Attributes:
        n_images: in the data set.
        fingerprint: of the data set, for a resumed run to compare.
        files: hashes of the contents by name, where the images came from files.
    """

    n_images: int
    fingerprint: dict[str, Any]
    files: dict[str, str] | None = None

    def batches(
        self,
        begin: int,
        end: int,
        batch_size_at: Callable[[int], int],
        *,
        rank: int = 0,
        ranks: int = 1,
        conversion: Conversion | None = None,
    ) -> Iterator[Tensor]:
        """Yield one batch per step, from ``begin`` real images shown until at least ``end``.

        Args:
            begin: real images shown when the first step begins.
            end: no step begins at or after this count.
            batch_size_at: the batch of the step that begins at a count.
            rank: of the process, which gets images rank, rank + ranks, ... of each batch.
            ranks: processes that share a batch.
            conversion: of what is yielded; None = as they are, uint8 or floats in [0, 1].

        Yields:
            (B / ranks, C, H, W).
        """
        positions = _positions(begin, end, batch_size_at, rank, ranks)
        if conversion is None:
            return self._fetched(positions)
        level_at = conversion.level_at
        return self._converted(((each, level_at(each.start - rank)) for each in positions), conversion.convert)

    @abstractmethod
    def _fetched(self, batches: Iterator[range]) -> Iterator[Tensor]:
        """Yield the images at the run's positions, batch by batch."""

    def _converted(
        self, batches: Iterator[tuple[range, int]], convert: Callable[[Tensor, int], Tensor]
    ) -> Iterator[Tensor]:
        """Yield them as they are at levels, which come with the positions."""
        ahead, here = tee(batches)  # fetched before they are asked for
        for images, (_, level) in zip(self._fetched(positions for positions, _ in ahead), here, strict=True):
            yield convert(images, level)

    @abstractmethod
    def flip_verdict(self) -> FlipVerdict:
        """Tell whether left-right flips look safe, by some of the images."""


def open_feed(
    data: Tensor | Dataset[Any],
    *,
    image_channels: int,
    base_size: tuple[int, int],
    level: int,
    seed: int,
    workers: int,
    device: torch.device,
) -> Feed:
    """Take a data set in, checked once, here.

    Args:
        data: (N, C, H, W), uint8 0..255 or floats in [0, 1]; or a map-style data set whose items are an image (C, H, W)
            or a tuple that begins with one.
        image_channels: the networks'.
        base_size: the networks' (height, width) at level 0.
        level: the highest that is trained; images may be larger by a power of two.
        seed: of the run.
        workers: processes that fetch items; 0 = this one.
        device: that trains. A tensor or a folder that fits is held in its memory, and batches are cut there.

    Raises:
        TypeError: if it is no such data set, or of another dtype.
        ValueError: if it is empty, or its images have other channels, another size, or values outside [0, 1].
    """
    check_int("image_channels", image_channels, 1)
    check_size("base_size", base_size)
    device = torch.device(device)
    if isinstance(data, IterableDataset):
        raise TypeError(
            "an IterableDataset has no positions, so a run over it could not be resumed; "
            "pass a tensor, a folder, or a data set with __len__ and __getitem__"
        )
    if isinstance(data, type):
        raise wrong_type(
            "data", "a tensor or a map-style data set", data, f"pass an instance of it, {data.__name__}(...)"
        )
    if isinstance(data, DataLoader):
        raise wrong_type(
            "data", "a tensor or a map-style data set", data, "pass its dataset; the trainer makes batches"
        )
    if isinstance(data, Mapping):
        raise wrong_type("data", "a tensor or a map-style data set", data, "pass its values as a list")
    if isinstance(data, str | bytes | PathLike | np.ndarray):
        mend = (
            "pass torch.from_numpy(data)"
            if isinstance(data, np.ndarray)
            else "for a folder of pictures pass ImageFolder(path, size)"
        )
        raise TypeError(f"data must be a tensor or a map-style data set, got {type(data).__name__}; {mend}")
    if isinstance(data, Pictures) and _is_plain(data):
        feed: Feed = _TensorFeed(data.images, seed, device, data.fingerprint)
        feed.files = data.content_by_name()
        first = data.images[:1]
    elif isinstance(data, Tensor):
        if data.ndim != 4:
            raise ValueError(f"images must be one tensor (N, C, H, W), got {tuple(data.shape)}")
        _check_order(tuple(data.shape), "N", "pass images.permute(0, 3, 1, 2)")
        feed, first = _TensorFeed(data, seed, device), data
    elif hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        feed = _DatasetFeed(data, seed, workers)
        _check_order(tuple(feed.first.shape), "", "return image.permute(2, 0, 1) from the data set")
        first = feed.first[None]
    else:
        raise TypeError(f"data must be a tensor or a map-style data set, got {type(data).__name__}")
    _check_images(first, image_channels, base_size, level)
    return feed


def _is_plain(pictures: Pictures) -> bool:
    """Tell whether the items are the images: a subclass may make others of them."""
    kind = type(pictures)
    return kind.__getitem__ is Pictures.__getitem__ and kind.__len__ is Pictures.__len__


def _check_order(shape: tuple[int, ...], before: str, mend: str) -> None:
    """Raise ValueError where channels seem to come last."""
    if shape[-1] in CHANNELS and shape[-3] not in CHANNELS:
        first, last = (f"({', '.join([*before, *names])})" for names in ("CHW", "HWC"))
        raise ValueError(f"images must be {first}, got {shape}, which looks like {last}; {mend}")


def _check_images(images: Tensor, image_channels: int, base_size: tuple[int, int], level: int) -> None:
    channels, height, width = images.shape[1:]
    if channels != image_channels:
        other = f", or build the networks with image_channels={channels}" if channels in CHANNELS else ""
        raise ValueError(
            f"the networks take {image_channels} channels (1 grey, 3 RGB, 4 RGBA), the images have {channels}; "
            f"convert them{other}"
        )
    factor = height // (base_size[0] << level)
    if (
        factor < 1
        or factor.bit_count() != 1
        or (height, width) != tuple((side << level) * factor for side in base_size)
    ):
        raise ValueError(
            f"the schedule goes up to level {level}, {base_size[0] << level}x{base_size[1] << level}; images must be "
            f"that or a power of two larger, got {height}x{width}; resize them, or use ImageFolder(path, size)"
        )
    _check_values(images)


def _check_values(images: Tensor) -> None:
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise TypeError(f"images must be uint8 (0..255) or floats in [0, 1], got {images.dtype}")
    low, high = (bound.item() for bound in images.aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"images of floats must be in [0, 1], got values from {low:g} to {high:g}; scale them")


class _TensorFeed(Feed):
    """Cut batches from a tensor."""

    def __init__(self, images: Tensor, seed: int, device: torch.device, fingerprint: str | None = None) -> None:
        if len(images) == 0:
            raise ValueError("the data set is empty; pass at least one image")
        self.images = images
        self.device = device
        self.order = Order(len(images), seed)
        self.n_images = len(images)
        self.fingerprint = {
            "kind": "images",
            "shape": list(images.shape),
            "content": fingerprint or _content(images),
        }

    @override
    def flip_verdict(self) -> FlipVerdict:
        n = min(self.n_images, _JUDGED)
        chosen = torch.split(torch.arange(n) * self.n_images // n, 32)
        return flip_verdict(torch.cat([thumbnails(self.images[some]) for some in chosen]))

    @override
    def _fetched(self, batches: Iterator[range]) -> Iterator[Tensor]:
        images = self.images.to(self.device) if fits(self.images, self.device) else self.images
        chosen = _OrderThere(self.order, images.device)
        for positions in batches:
            yield images[chosen[positions]]  # by a list, it would wait for the device in every step

    @override
    def _converted(
        self, batches: Iterator[tuple[range, int]], convert: Callable[[Tensor, int], Tensor]
    ) -> Iterator[Tensor]:
        if not fits(self.images, self.device):
            yield from super()._converted(batches, convert)
            return
        images = self.images.to(self.device)
        chosen = _OrderThere(self.order, self.device)
        for level, steps in groupby(batches, lambda step: step[1]):
            whole = _whole(images, level, convert, self.device)
            for positions, _ in steps:
                some = chosen[positions]
                yield convert(images[some], level) if whole is None else whole[some]
            del whole


def _whole(images: Tensor, level: int, convert: Callable[[Tensor, int], Tensor], device: torch.device) -> Tensor | None:
    """Return all images as they are at a level, on a device; None where they do not fit."""
    first = convert(images[:1], level)
    if not fits(first.expand(len(images), -1, -1, -1), device):
        return None
    whole = torch.empty((len(images), *first.shape[1:]), dtype=first.dtype, device=first.device)
    for begin in range(0, len(images), _CONVERTED):
        whole[begin : begin + _CONVERTED] = convert(images[begin : begin + _CONVERTED], level)
    return whole


def fits(images: Tensor, device: torch.device) -> bool:
    """Tell whether images take at most a quarter of what is free of a CUDA device's memory."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return images.numel() * images.element_size() <= free // 4


class _DatasetFeed(Feed):
    """Fetch items, each under its own random state."""

    def __init__(self, dataset: Any, seed: int, workers: int) -> None:
        self.n_images = len(dataset)
        if self.n_images == 0:
            raise ValueError("the data set is empty; pass at least one image")
        self.items = _Items(dataset, self.n_images, seed)
        self.workers = workers
        self.first = self.items[0]
        # One item only: to fetch all could take hours. It is drawn under its own random state, so a random transform
        # gives the same image each time, unless it has a generator of its own.
        content: str | None = _content(self.first[None])
        again = self.items[0]
        if again.shape != self.first.shape or _content(again[None]) != content:
            content = None
            warnings.warn(
                "the data set draws from a random state of its own (its first item was fetched twice and differed), so "
                "a resumed run will not repeat it exactly; draw from torch's, numpy's or random's global generators, "
                "which are keyed per item",
                stacklevel=5,  # where fit is called
            )
        self.items.first = self.first
        self.fingerprint = {
            "kind": "dataset",
            "shape": [self.n_images, *self.first.shape],
            "content": content,
        }

    @override
    def _fetched(self, batches: Iterator[range]) -> Iterator[Tensor]:
        if self.workers == 0:
            for positions in batches:
                yield torch.stack([self.items[position] for position in positions])
        else:
            yield from fetch(self.items, batches, self.workers)

    @override
    def flip_verdict(self) -> FlipVerdict:
        # The run's first: the order is by chance, and each is drawn under its own random state, so all stays as it is.
        n = min(self.n_images, _FETCHED)
        return flip_verdict(torch.cat([thumbnails(self.items[position][None]) for position in range(n)]))


class _Items(Dataset[Tensor]):
    """The images of a run by position, in a worker process too.

    Attributes:
        first: one that all others are to be like; None = not known yet.
    """

    first: Tensor | None = None

    def __init__(self, dataset: Any, n: int, seed: int) -> None:
        self.dataset = dataset
        self.order = Order(n, seed)
        self.seed = seed

    @override
    def __getitem__(self, position: int) -> Tensor:
        index = self.order[position]
        with item_state(self.seed, position):
            try:
                item = self.dataset[index]
            except Exception as error:
                check_item_error(error, index)
                raise
        image = item[0] if isinstance(item, tuple | list) and item else item
        if not isinstance(image, Tensor) or image.ndim != 3:
            got = f"a tensor of shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
            raise TypeError(
                f"item {index} must be an image tensor (C, H, W), or a tuple that begins with one, got {got}; "
                "convert it in the data set"
            )
        first = image if self.first is None else self.first
        if image.shape != first.shape or image.dtype != first.dtype:
            raise ValueError(
                f"all items must be alike: the first is {tuple(first.shape)} of {first.dtype}, item {index} "
                f"{tuple(image.shape)} of {image.dtype}"
            )
        try:
            _check_values(image)
        except (TypeError, ValueError) as error:
            raise type(error)(f"item {index}: {error}") from None
        return image


def _positions(begin: int, end: int, batch_size_at: Callable[[int], int], rank: int, ranks: int) -> Iterator[range]:
    while begin < end:
        batch_size = batch_size_at(begin)
        yield range(begin + rank, begin + batch_size, ranks)
        begin += batch_size


def _content(images: Tensor) -> str:
    """Return a hash of the values: (N, C, H, W)."""
    digest = hashlib.blake2b(str(images.dtype).encode(), digest_size=16)
    for image in images:
        digest.update(image.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
