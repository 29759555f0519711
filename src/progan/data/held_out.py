"""Images that are held out: never trained on, so that what the critic and the generator make of them is honest."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from os import PathLike
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from progan.arguments import check_number
from progan.data.feed import Feed
from progan.data.folder import ImageFolder
from progan.randomness import keyed_generator

HeldOut = float | str | PathLike[str] | Tensor | Dataset[Any]
_LEAST = 2  # images


def check_held_out(held_out: HeldOut | None) -> None:
    """Raise TypeError or ValueError where a share is not valid; data is checked when it is opened."""
    if held_out is None or isinstance(held_out, str | PathLike | Tensor | Dataset) or hasattr(held_out, "__getitem__"):
        return
    check_number("held_out", held_out)
    if not 0 < held_out < 0.5:
        raise ValueError(
            f"held_out must be a share of the images above 0 and below 0.5, or other images, got {held_out!r}"
        )


def held_out_identity(held_out: HeldOut | None) -> dict[str, Any] | None:
    """Return what a run records of its held-out images before they are opened."""
    if held_out is None:
        return None
    share = _share(held_out)
    return {"data": None} if share is None else {"share": share}


def hold_out(feed: Feed, held_out: HeldOut, open_images: Callable[[Any], Feed]) -> Feed:
    """Return the feed to train on, with the images that are held out in its `Feed.held_out`.

    Args:
        feed: All training images.
        held_out: Share of the images, chosen by the run's seed; or other images.
        open_images: Function that opens and checks a data set.

    Raises:
        ValueError: If too few images are held out, they are the training images, or of other classes.
    """
    share = _share(held_out)
    if share is not None:
        return _without_share(feed, share)
    if isinstance(held_out, str | PathLike):
        channels, height, width = feed.fingerprint["shape"][-3:]
        held_out = ImageFolder(
            held_out, (height, width), channels, labels=None if feed.class_names is None else "folders"
        )
    held = open_images(held_out)
    if held.class_names != feed.class_names:
        raise ValueError(
            f"held_out must have the classes of the training images, {feed.class_names}, got {held.class_names}"
        )
    if held.fingerprint == feed.fingerprint:
        raise ValueError("held_out must be other images than those to train on; pass a share, such as held_out=0.1")
    if held.n_images < _LEAST:
        raise ValueError(f"held_out must be at least {_LEAST} images, got {held.n_images}")
    feed.held_out = held
    return feed


def _without_share(feed: Feed, share: float) -> Feed:
    n = math.floor(share * feed.n_images)
    if n < _LEAST:
        raise ValueError(
            f"held_out={share} of {feed.n_images} images is {n}, and at least {_LEAST} are needed; pass a larger share"
        )
    order = keyed_generator(feed.seed, "held_out", 0).permutation(feed.n_images)
    rest = feed.subset(np.sort(order[n:]))
    rest.held_out = feed.subset(np.sort(order[:n]))
    return rest


def _share(held_out: HeldOut) -> float | None:
    """Return the share of the images that is held out; None for other images."""
    return float(held_out) if isinstance(held_out, Real) and not isinstance(held_out, Tensor) else None
