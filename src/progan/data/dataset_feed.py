"""Batches from a map-style data set, whose items are fetched one by one, in worker processes where asked."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import override

from progan.data.batch import Batch, collate, label_of
from progan.data.feed import Feed, content_hash
from progan.data.order import BalancedOrder, Order
from progan.data.workers import check_item_error, fetch
from progan.errors import warn
from progan.randomness import item_state


class DatasetFeed(Feed):
    """Items of a map-style data set, each fetched under its own random state."""

    _judged = 300  # each is fetched for it

    def __init__(self, dataset: Any, seed: int, workers: int) -> None:
        self.n_images: int = len(dataset)
        if self.n_images == 0:
            raise ValueError("the data set is empty; pass at least one image")
        self._order = self._shown = Order(self.n_images, seed)
        self.items: _Items = _Items(dataset, self._order, seed)
        self.workers = workers
        self.first: Tensor = self.items[0][0]
        # One item only: to fetch all could take hours. It is drawn under its own random state, so a random transform
        # gives the same image each time, unless it has a generator of its own.
        content: str | None = content_hash(self.first[None])
        again = self.items[0][0]
        if again.shape != self.first.shape or content_hash(again[None]) != content:
            content = None
            warn(
                "the data set draws from a random state of its own (its first item was fetched twice and differed), so "
                "a resumed run will not repeat it exactly; draw from torch's, numpy's or random's global generators, "
                "which are keyed per item"
            )
        self.items.first = self.first
        self.seed = seed
        self.fingerprint: dict[str, Any] = {
            "kind": "dataset",
            "shape": [self.n_images, *self.first.shape],
            "content": content,
        }

    @override
    def _fetched(self, batches: Iterator[range]) -> Iterator[Batch]:
        items = self.items.ordered(self._shown)
        if self.workers == 0:
            for positions in batches:
                yield collate([items[position] for position in positions])
        else:
            yield from fetch(items, batches, self.workers)

    @override
    def images_at(self, positions: Sequence[int]) -> Tensor:
        return torch.stack([self.items[position][0] for position in positions])

    @override
    def subset(self, indices: np.ndarray[tuple[int], np.dtype[np.int64]]) -> DatasetFeed:
        feed = copy.copy(self)
        feed.n_images, feed._order = len(indices), Order(len(indices), self.seed, indices)
        feed._shown, feed.items = feed._order, self.items.ordered(feed._order)
        return feed

    def read_labels(self) -> list[Tensor | None]:
        """Return the label of each item of the data set: every item is fetched once."""
        everything = self.items.ordered(range(self.n_images))
        return [everything[index][1] for index in range(self.n_images)]


class _Items(Dataset[tuple[Tensor, Tensor | None]]):
    """The images of a run and their labels by position, also in worker processes.

    Attributes:
        first: Image whose shape and dtype all others must have; None = not known yet.
    """

    first: Tensor | None = None

    def __init__(self, dataset: Any, order: Order | BalancedOrder | range, seed: int) -> None:
        self.dataset = dataset
        self.order = order
        self.seed = seed

    def ordered(self, order: Order | BalancedOrder | range) -> _Items:
        """Return the same items in another order."""
        items = copy.copy(self)
        items.order = order
        return items

    @override
    def __getitem__(self, position: int) -> tuple[Tensor, Tensor | None]:
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
            check_values(image)
        except (TypeError, ValueError) as error:
            raise type(error)(f"item {index}: {error}") from None
        return image, label_of(item)


def check_values(images: Tensor) -> None:
    """Raise an error if images are neither uint8 nor floats in [0, 1]."""
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise TypeError(f"images must be uint8 (0..255) or floats in [0, 1], got {images.dtype}")
    low, high = (bound.item() for bound in images.aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"images of floats must be in [0, 1], got values from {low:g} to {high:g}; scale them")
