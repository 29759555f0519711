"""Every pair of two sets of features, block by block in float64, so that memory stays bounded for sets of any size."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 512  # rows at once


def in_blocks(rows: Tensor, centre: Tensor | None = None) -> Iterator[Tensor]:
    """Yield the rows of (N, D), at most 512 at once, float64.

    Args:
        rows: Features, of any precision.
        centre: What to subtract from each row, (D,), float64; None = nothing.
    """
    for part in torch.split(rows, BLOCK):
        yield part.double() if centre is None else part.double() - centre


def mean_row(rows: Tensor) -> Tensor:
    """Return the mean of rows: (N, D) -> (D,), float64."""
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    for part in in_blocks(rows):
        total += part.sum(dim=0)
    return total / len(rows)


def distances(x: Tensor, y: Tensor, centre: Tensor | None = None) -> Iterator[Tensor]:
    """Yield the Euclidean distances of some rows of x to all of y: (N, D), (M, D) -> (B, M) each, float64.

    Args:
        x: Features.
        y: Features to measure the distance to.
        centre: A point near both, (D,), float64: distances keep more digits near 0. None = 0.
    """
    for part in in_blocks(x, centre):
        yield torch.cat([torch.cdist(part, others) for others in in_blocks(y, centre)], dim=1)
