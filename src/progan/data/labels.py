"""The labels of a data set: of pictures in folders, or of the items of another data set."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from progan.data.dataset_feed import DatasetFeed
from progan.data.feed import Feed
from progan.labels import label_counts

_HOW = (
    'pass ImageFolder(path, size, labels="folders"), or a data set whose items are (image, label) with an int; or '
    "build the networks with classes=0"
)


def add_labels(feed: Feed, data: Any, classes: int) -> None:
    """Find the label of each image, check them, and make them part of the data's fingerprint.

    Args:
        feed: Feed of all images.
        data: Data set of the feed.
        classes: Number of classes of the networks.

    Raises:
        ValueError: If there are no labels, or they are not of this many classes; a class without images is accepted.
    """
    names = getattr(data, "classes", None)
    if isinstance(feed, DatasetFeed):
        feed.labels = _labels_of_items(feed)
    else:
        labels = getattr(data, "labels", None)
        if not isinstance(labels, Tensor):
            raise ValueError(f"the networks have {classes} classes, and the data has no labels; {_HOW}")
        feed.labels = labels.numpy()
    if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
        feed.class_names = tuple(names)
    content = hashlib.blake2b(feed.labels.astype("<i8").tobytes(), digest_size=16).hexdigest()
    counts = label_counts(feed.labels, classes, feed.class_names)
    names = None if feed.class_names is None else list(feed.class_names)
    feed.fingerprint["labels"] = {"names": names, "counts": counts, "content": content}


def _labels_of_items(feed: DatasetFeed) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    found = feed.read_labels()
    for index, label in enumerate(found):
        if label is None or label.ndim or label.is_floating_point() or label.is_complex() or label.dtype == torch.bool:
            got = "none" if label is None else f"a tensor {tuple(label.shape)} of {label.dtype}"
            raise ValueError(
                f"the networks have classes, so the label of each item must be an int, got {got} for "
                f"item {index}; {_HOW}"
            )
    return np.array([int(label) for label in found if label is not None], dtype=np.int64)
