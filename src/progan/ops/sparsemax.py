"""Sparsemax (Martins and Astudillo 2016): like softmax, but most of its results are exactly 0."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def sparsemax(x: Tensor) -> Tensor:
    """Return the point nearest to x among those whose K numbers are at least 0 and add up to 1: (B, K, ...), over K.

    It is max(x - t, 0), where t makes these add up to 1. Number i is not 0 where the sum over j of max(x_j - x_i, 0) is
    below 1: so t follows without sorting, in K passes, fast for a small K.

    Args:
        x: Any numbers, of float32 or float64.
    """
    with torch.no_grad():
        above = [(x - x[:, i, None]).clamp(min=0).sum(dim=1) for i in range(x.shape[1])]
        support = (torch.stack(above, dim=1) < 1).to(x.dtype)
    threshold = ((x * support).sum(dim=1, keepdim=True) - 1) / support.sum(dim=1, keepdim=True)
    return (x - threshold).clamp(min=0)


def sparsemaxes(parts: Iterable[Tensor]) -> list[Tensor]:
    """Return the sparsemax of tensors of one shape: one by one, or all at once where they are compiled or exported.

    One by one takes less memory. At once takes fewer operations, with which the time and the size of an export grow.
    """
    if torch.compiler.is_compiling():
        return list(sparsemax(torch.stack(tuple(parts), dim=2)).unbind(dim=2))
    return [sparsemax(part) for part in parts]
