"""The batches of a run, whatever their source."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import tee
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from progan.data.batch import Batch
from progan.data.curation.flat_colours import MOST, ColourVerdict, colour_verdict, reduced
from progan.data.curation.flips import FlipVerdict, flip_verdict, thumbnails
from progan.data.order import BalancedOrder, Order
from progan.labels import Classes, count_classes
from progan.runtime.memory import to_device

_AT_ONCE = 32  # images that are made small together


class Conversion(NamedTuple):
    """The conversion of images to what a step takes.

    Attributes:
        level_at: Level of the step that begins at a count of real images.
        convert: Function of images, (N, C, H, W), and a level that returns the images at that level, each independent
            of the others.
    """

    level_at: Callable[[int], int]
    convert: Callable[[Tensor, int], Tensor]


class Feed(ABC):
    """A source of a run's batches.

    Attributes:
        n_images: Number of images that are trained on.
        seed: Random seed of the run.
        fingerprint: Description of the data set, which a resumed run compares.
        files: Hashes of the contents by name, where the images came from files.
        held_out: Images that are never trained on, if there are any.
        labels: Label of each image of the data set, (N,), where the networks have classes; else None.
        class_names: Names of the classes, where the data set has them.
    """

    n_images: int
    seed: int
    fingerprint: dict[str, Any]
    files: dict[str, str] | None = None
    held_out: Feed | None = None
    labels: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None
    class_names: tuple[str, ...] | None = None
    _judged: int = 1000  # images that a verdict on flips is taken from
    _order: Order  # in which each image comes once in an epoch
    _shown: Order | BalancedOrder  # in which they are trained on: the same, unless the classes are balanced

    def batches(
        self,
        begin: int,
        end: int,
        batch_size_at: Callable[[int], int],
        *,
        rank: int = 0,
        ranks: int = 1,
        conversion: Conversion | None = None,
    ) -> Iterator[Batch]:
        """Yield one batch per step, from ``begin`` real images shown until at least ``end``.

        Args:
            begin: Real images shown when the first step begins.
            end: Count at or after which no step begins.
            batch_size_at: Batch size of the step that begins at a count.
            rank: Number of this process, which takes images rank, rank + ranks, ... of each batch.
            ranks: Number of processes that share a batch.
            conversion: Conversion of the images; None = as they are, uint8 or floats in [0, 1].

        Yields:
            Images, (B / ranks, C, H, W), and their labels, on the same device.
        """
        positions = _positions(begin, end, batch_size_at, rank, ranks)
        if conversion is None:
            return self._fetched(positions)
        level_at = conversion.level_at
        return self._converted(((each, level_at(each.start - rank)) for each in positions), conversion.convert)

    @abstractmethod
    def _fetched(self, batches: Iterator[range]) -> Iterator[Batch]:
        """Yield the images at the run's positions, batch by batch."""

    def _converted(
        self, batches: Iterator[tuple[range, int]], convert: Callable[[Tensor, int], Tensor]
    ) -> Iterator[Batch]:
        """Yield the images at levels, which come with the positions."""
        ahead, here = tee(batches)  # fetched before they are asked for
        fetched = self._fetched(positions for positions, _ in ahead)
        for (images, labels), (_, level) in zip(fetched, here, strict=True):
            converted = convert(images, level)
            yield Batch(converted, None if labels is None else to_device(labels, converted.device))

    @abstractmethod
    def images_at(self, positions: Sequence[int]) -> Tensor:
        """Return the images at some positions of the run, as they are: (N, C, H, W), uint8 or floats in [0, 1].

        The first ``n_images`` positions are all images, each once, in random order.
        """

    def labels_at(self, positions: Sequence[int]) -> Tensor | None:
        """Return the labels of the images at some positions, (N,), int64; None where the networks have no classes."""
        if self.labels is None:
            return None
        return torch.from_numpy(self.labels[[self._order[position] for position in positions]])

    def classes(self, n: int) -> Classes:
        """Count the images of each class.

        Args:
            n: Number of classes of the networks.

        Raises:
            ValueError: If the labels are not 0 to n - 1, or a class has no image.
        """
        assert self.labels is not None
        return count_classes(self.labels[self._order.of_epoch(0)], n, self.class_names)

    def balance(self) -> None:
        """Show every class equally often from now on, whatever its number of images."""
        assert self.labels is not None
        self._shown = self._order.balanced(self.labels)

    @abstractmethod
    def subset(self, indices: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Feed:
        """Return a feed of some of the images, which are not copied.

        Args:
            indices: Indices of the images in the data set, (N,).
        """

    def flip_verdict(self) -> FlipVerdict:
        """Return whether left-right flips look safe, judged by some of the images."""
        return flip_verdict(self.some(thumbnails, self._judged))

    def colour_verdict(self) -> ColourVerdict:
        """Return whether colours are flat, judged by some of the images."""
        return colour_verdict(self.some(reduced, MOST))

    def some(self, small: Callable[[Tensor], Tensor], most: int) -> Tensor:
        """Return the first images of the run, made small by a function; their order is by chance, so they are any.

        Args:
            small: Function of images as `images_at` returns them.
            most: Greatest number of images.
        """
        positions = range(min(self.n_images, most))
        parts = [positions[begin : begin + _AT_ONCE] for begin in range(0, len(positions), _AT_ONCE)]
        return torch.cat([small(self.images_at(part)) for part in parts])


def _positions(begin: int, end: int, batch_size_at: Callable[[int], int], rank: int, ranks: int) -> Iterator[range]:
    """Yield the positions of each batch that a rank takes."""
    while begin < end:
        batch_size = batch_size_at(begin)
        yield range(begin + rank, begin + batch_size, ranks)
        begin += batch_size


def content_hash(images: Tensor) -> str:
    """Return a hash of the values: (N, C, H, W)."""
    digest = hashlib.blake2b(str(images.dtype).encode(), digest_size=16)
    for image in images:
        digest.update(image.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
