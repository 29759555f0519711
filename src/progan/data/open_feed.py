"""Opening a data set of any kind as checked batches."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from progan.arguments import check_int, check_size, wrong_type
from progan.data.dataset_feed import DatasetFeed, check_values
from progan.data.feed import Feed
from progan.data.folder import CHANNELS, Pictures
from progan.data.labels import add_labels
from progan.data.tensor_feed import TensorFeed
from progan.errors import warn


def open_feed(
    data: Tensor | Dataset[Any],
    *,
    image_channels: int,
    base_size: tuple[int, int],
    level: int,
    seed: int,
    workers: int,
    device: torch.device,
    classes: int = 0,
) -> Feed:
    """Check a data set, and return its batches.

    Args:
        data: Images, (N, C, H, W), uint8 0..255 or floats in [0, 1]; or a map-style data set whose items are an image
            (C, H, W), or a tuple of an image, its label if it has one (see `progan.Batch`), and anything else.
        image_channels: Channels of the networks' images.
        base_size: (height, width) of the networks' images at level 0, in pixels.
        level: Highest level that is trained; images may be larger by a power of two.
        seed: Random seed of the run.
        workers: Number of processes that fetch items; 0 = this one.
        device: Device that trains. A tensor or a folder that fits into its memory is held there, and batches are cut
            there.
        classes: Number of classes of the networks; 0 = they have none, and labels are not looked at. A data set that
            is neither a `progan.ImageFolder` nor a `Pack` is read once to find the label of each item.

    Raises:
        TypeError: If data is not such a data set, or has another dtype.
        ValueError: If data is empty, or its images have other channels, another size, or values outside [0, 1]; or if
            the networks have classes and the data has no labels, or others than 0 to classes - 1.
    """
    check_int("image_channels", image_channels, 1)
    check_int("classes", classes, 0)
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
        feed: Feed = TensorFeed(data.images, seed, device, data.fingerprint, data.labels)
        feed.files = data.content_by_name()
        first = data.images[:1]
    elif isinstance(data, Tensor):
        if data.ndim != 4:
            raise ValueError(f"images must be one tensor (N, C, H, W), got {tuple(data.shape)}")
        _check_order(tuple(data.shape), "N", "pass images.permute(0, 3, 1, 2)")
        feed, first = TensorFeed(data, seed, device), data
    elif hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        feed = DatasetFeed(data, seed, workers)
        _check_order(tuple(feed.first.shape), "", "return image.permute(2, 0, 1) from the data set")
        first = feed.first[None]
    else:
        raise TypeError(f"data must be a tensor or a map-style data set, got {type(data).__name__}")
    _check_images(first, image_channels, base_size, level)
    if classes:
        add_labels(feed, data, classes)
    elif isinstance(data, Pictures) and data.labels is not None:
        warn(
            f"the folder was read with labels of {len(data.classes)} classes, and the networks have none, so labels "
            f"are not used; build the networks with classes={len(data.classes)}"
        )
    return feed


def _is_plain(pictures: Pictures) -> bool:
    """Return whether the items are the unchanged images: a subclass may change them."""
    kind = type(pictures)
    return kind.__getitem__ is Pictures.__getitem__ and kind.__len__ is Pictures.__len__


def _check_order(shape: tuple[int, ...], before: str, mend: str) -> None:
    """Raise ValueError if channels seem to come last."""
    if shape[-1] in CHANNELS and shape[-3] not in CHANNELS:
        first, last = (f"({', '.join([*before, *names])})" for names in ("CHW", "HWC"))
        raise ValueError(f"images must be {first}, got {shape}, which looks like {last}; {mend}")


def _check_images(images: Tensor, image_channels: int, base_size: tuple[int, int], level: int) -> None:
    """Raise an error if images do not fit the networks."""
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
    check_values(images)
