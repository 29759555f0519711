"""Batches: real images and, where the data set has them, the label of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from progan.arguments import check_tensor, wrong_type


class Batch(NamedTuple):
    """Real images and their labels, as `Trainer.step` accepts them and a feed yields them.

    Labels come from a map-style data set whose items are ``(image, label, ...)``, where the label is an int, or a
    tensor of 0 or 1 dimensions. They stay with their images. Networks with classes need ints, 0 to
    classes - 1; others do not use labels.

    Attributes:
        images: Real images, (B, C, H, W).
        labels: One label per image: (B,), int64 if the items' labels are ints; (B, K) if they are tensors of K values.
            None if the items have no labels, or labels of another kind or of different shapes or dtypes.

    Example:
        >>> from progan.data import open_feed
        >>> items = [(torch.rand(3, 4, 4), 7), (torch.rand(3, 4, 4), 9)]
        >>> feed = open_feed(items, image_channels=3, base_size=(4, 4), level=0, seed=0, workers=0, device="cpu")
        >>> batch = next(feed.batches(0, 2, lambda images_seen: 2))
        >>> batch.images.shape, sorted(batch.labels.tolist())
        (torch.Size([2, 3, 4, 4]), [7, 9])
    """

    images: Tensor
    labels: Tensor | None = None


def as_batch(real: Tensor | Batch) -> Batch:
    """Return images, or a batch, as a batch whose labels belong to its images.

    Raises:
        TypeError: If the images or the labels are not tensors.
        ValueError: If there is not one label per image.
    """
    if not isinstance(real, Batch):
        if isinstance(real, tuple | list):
            raise wrong_type("real", "a tensor or a Batch", real, "pass progan.Batch(images, labels)")
        check_tensor("real", real)
        return Batch(real)
    check_tensor("Batch.images", real.images)
    if real.labels is not None:
        check_tensor("Batch.labels", real.labels)
        if real.labels.ndim not in (1, 2) or len(real.labels) != len(real.images):
            raise ValueError(
                f"Batch.labels must be (B,) or (B, K), one label per image, got {tuple(real.labels.shape)} for "
                f"images {tuple(real.images.shape)}; pass labels=None if there are none"
            )
    return real


def label_of(item: object) -> Tensor | None:
    """Return the label of a data set's item as a tensor, () or (K,); None if it has none that can be batched."""
    label = item[1] if isinstance(item, tuple | list) and len(item) > 1 else None
    if isinstance(label, int | np.integer) and -(2**63) <= label < 2**63:
        return torch.tensor(int(label))
    if isinstance(label, Tensor) and label.ndim <= 1 and label.layout == torch.strided:
        return label.detach()
    return None


def collate(items: Sequence[tuple[Tensor, Tensor | None]]) -> Batch:
    """Return the batch of some images and their labels."""
    images, labels = zip(*items, strict=True)
    return Batch(torch.stack(images), _stacked(labels))


def _stacked(labels: Sequence[Tensor | None]) -> Tensor | None:
    """Return labels as one tensor; None if one is missing, or if they are not alike."""
    found = [label for label in labels if label is not None]
    alike = len({(label.shape, label.dtype, label.device) for label in found}) == 1
    return torch.stack(found) if alike and len(found) == len(labels) else None
