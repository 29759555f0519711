"""The precision of a network's forward pass: autocast if requested, regardless of the surrounding program."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def autocast(images: Tensor, precision: str) -> AbstractContextManager[object]:
    """Return autocast on the device of images if the precision is bf16."""
    if precision != "bf16":
        return nullcontext()
    # Without its cache: a captured step would not renew its copies of weights.
    return torch.autocast(images.device.type, dtype=torch.bfloat16, cache_enabled=False)


def without_autocast(images: Tensor) -> AbstractContextManager[object]:
    """Disable a user's autocast, under which the precision would not be the requested one."""
    if torch.is_autocast_enabled(images.device.type):
        return torch.autocast(images.device.type, enabled=False)
    return nullcontext()
