"""The precision of a network's forward pass: autocast where it is asked for, and none of the program around."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def autocast(images: Tensor, precision: str) -> AbstractContextManager[object]:
    """Return autocast on the device of images, where the precision is bf16."""
    if precision != "bf16":
        return nullcontext()
    # Without its cache, whose copies of weights a captured step would not make anew.
    return torch.autocast(images.device.type, dtype=torch.bfloat16, cache_enabled=False)


def without_autocast(images: Tensor) -> AbstractContextManager[object]:
    """Keep out a user's autocast, under which the precision would not be the one that was asked for."""
    if torch.is_autocast_enabled(images.device.type):
        return torch.autocast(images.device.type, enabled=False)
    return nullcontext()
