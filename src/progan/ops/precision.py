"""The dtypes that operations compute in."""

from __future__ import annotations

import torch
from torch import Tensor

_HALF = (torch.float16, torch.bfloat16)


def computing_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which x is multiplied: its own, or autocast's, which leaves float64 alone."""
    kind = x.device.type
    is_cast = torch.is_autocast_enabled(kind) and x.dtype != torch.float64
    return torch.get_autocast_dtype(kind) if is_cast else x.dtype


def widened(x: Tensor) -> Tensor:
    """Return half types as float32, others as they are."""
    return x.float() if x.dtype in _HALF else x
