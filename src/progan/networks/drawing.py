"""How the weights of a palette are drawn: more sharply than in training, at several points of a pixel, or larger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from progan.ops.sparsemax import sparsemax, sparsemaxes

if TYPE_CHECKING:
    from progan.networks.architecture import Architecture

_KEYS = -0.5  # parameter of the cubic convolution, at which it reproduces parabolas


class Drawing(NamedTuple):
    """How the weights of a palette are drawn; `AS_TRAINED` is the default.

    Attributes:
        sharpness: Factor of what sparsemax is given: above 1, fewer pixels are mixtures.
        supersampling: Points of a pixel, along each side, whose mean weights it has: above 1, contours are smooth.
        scale: Factor of the images' height and width.
    """

    sharpness: float = 1.0
    supersampling: int = 1
    scale: int = 1


AS_TRAINED = Drawing()


def drawing_of(architecture: Architecture, scale: int = 1) -> Drawing:
    """Return how samples are drawn; larger ones with contours as sharp, pixel by pixel."""
    return Drawing(scale * architecture.sharpness, architecture.supersampling, scale)


def drawn_weights(logits: Tensor, drawing: Drawing = AS_TRAINED) -> Tensor:
    """Return the weights of a palette's colours: (B, K, h, w) -> (B, K, scale * h, scale * w).

    A renderer smooths contours by supersampling: the colour of a pixel is the mean of those at several points in it.
    Here the logits are interpolated to the points by cubic convolution (Keys 1981), and sparsemax comes after it, so
    contours run between pixels and stay sharp at any scale.

    Args:
        logits: What sparsemax is given in training.
        drawing: How they are drawn.
    """
    logits = logits if drawing.sharpness == 1 else drawing.sharpness * logits
    n = drawing.supersampling * drawing.scale
    if n == 1:
        return sparsemax(logits)
    points = [(2 * index + 1) / (2 * n) - 0.5 for index in range(n)]
    pixels = [points[begin : begin + drawing.supersampling] for begin in range(0, n, drawing.supersampling)]
    rows = [_row_of_weights(logits, of_row, points) for of_row in pixels]
    weights = torch.stack(rows, dim=3)  # (B, K, h, scale, w, scale)
    return weights.flatten(4, 5).flatten(2, 3)


def _row_of_weights(logits: Tensor, rows: Sequence[float], columns: Sequence[float]) -> Tensor:
    """Return the mean weights of one of the rows of pixels that each row becomes: (B, K, h, w) -> (B, K, h, w, scale).

    Args:
        logits: What sparsemax is given.
        rows: Offsets of the points along the height: as many as a pixel has.
        columns: The same along the width, of all pixels of the row.
    """
    size, n = len(rows), len(columns)
    moved = [_interpolated(logits, offset, 2) for offset in rows]
    found = sparsemaxes(_interpolated(x, offset, 3) for x in moved for offset in columns)
    of_pixels = (
        [found[row + column + k] for row in range(0, len(found), n) for k in range(size)]
        for column in range(0, n, size)
    )
    return torch.stack([sum(parts[1:], start=parts[0]) / len(parts) for parts in of_pixels], dim=-1)


def _interpolated(x: Tensor, offset: float, dim: int) -> Tensor:
    """Return x at places moved by an offset, above -1/2 and below 1/2, along a dimension; its ends are repeated."""
    if offset == 0:
        return x
    n, first = x.shape[dim], -2 if offset < 0 else -1  # the first of four neighbours
    padded = torch.cat([x.narrow(dim, 0, 1)] * 2 + [x] + [x.narrow(dim, n - 1, 1)] * 2, dim)
    parts = [_keys(abs(first + k - offset)) * padded.narrow(dim, 2 + first + k, n) for k in range(4)]
    return sum(parts[1:], start=parts[0])


def _keys(distance: float) -> float:
    """Return the weight of a neighbour at a distance, from 0 to 2, in cubic convolution."""
    if distance <= 1:
        return (_KEYS + 2) * distance**3 - (_KEYS + 3) * distance**2 + 1
    return _KEYS * (distance**3 - 5 * distance**2 + 8 * distance - 4)
