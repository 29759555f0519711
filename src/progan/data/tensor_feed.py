"""Batches from one tensor, held on the device where there is room."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from progan.data.batch import Batch
from progan.data.feed import Feed, content_hash
from progan.data.order import Order

_CONVERTED = 64  # images that are converted at once


class TensorFeed(Feed):
    """Batches cut from a tensor."""

    def __init__(
        self,
        images: Tensor,
        seed: int,
        device: torch.device,
        fingerprint: str | None = None,
        labels: Tensor | None = None,
    ) -> None:
        if len(images) == 0:
            raise ValueError("the data set is empty; pass at least one image")
        self.images = images
        self.device = device
        self.seed = seed
        self._order = self._shown = Order(len(images), seed)
        self._batch_labels = labels
        self.n_images: int = len(images)
        self.fingerprint: dict[str, Any] = {
            "kind": "images",
            "shape": list(images.shape),
            "content": fingerprint or content_hash(images),
        }

    @override
    def images_at(self, positions: Sequence[int]) -> Tensor:
        chosen = torch.tensor([self._order[position] for position in positions], device=self.images.device)
        return self.images[chosen]

    @override
    def subset(self, indices: np.ndarray[tuple[int], np.dtype[np.int64]]) -> TensorFeed:
        feed = copy.copy(self)
        feed.n_images, feed._order = len(indices), Order(len(indices), self.seed, indices)
        feed._shown = feed._order
        return feed

    @override
    def _fetched(self, batches: Iterator[range]) -> Iterator[Batch]:
        images = self.images.to(self.device) if fits(self.images, self.device) else self.images
        chosen, labels = self._shown.on_device(images.device), self._labels_on(images.device)
        for positions in batches:
            some = chosen[positions]  # by a list, it would wait for the device in every step
            yield Batch(images[some], None if labels is None else labels[some])

    @override
    def _converted(
        self, batches: Iterator[tuple[range, int]], convert: Callable[[Tensor, int], Tensor]
    ) -> Iterator[Batch]:
        if not fits(self.images, self.device):
            yield from super()._converted(batches, convert)
            return
        images = self.images.to(self.device)
        chosen, labels = self._shown.on_device(self.device), self._labels_on(self.device)
        for level, steps in groupby(batches, lambda step: step[1]):
            whole = _whole(images, level, convert, self.device)
            for positions, _ in steps:
                some = chosen[positions]
                converted = convert(images[some], level) if whole is None else whole[some]
                yield Batch(converted, None if labels is None else labels[some])
            del whole

    def _labels_on(self, device: torch.device) -> Tensor | None:
        """Return the label of each image of the data set on a device, if it has labels."""
        return None if self._batch_labels is None else self._batch_labels.to(device)


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
    """Return whether images take at most a quarter of what is free of a CUDA device's memory."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return images.numel() * images.element_size() <= free // 4
