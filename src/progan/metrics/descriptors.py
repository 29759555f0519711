"""Coarse descriptions of pictures: where which colours are, and where edges of which direction are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CELLS = 8  # per side


def visible(images: Tensor) -> Tensor:
    """Multiply colours by their opacity, so that what cannot be seen does not count: RGBA; others as they are.

    Args:
        images: (B, C, H, W), values in [0, 1].
    """
    return torch.cat((images[:, :3] * images[:, 3:], images[:, 3:]), dim=1) if images.shape[1] == 4 else images


def colours(images: Tensor) -> Tensor:
    """Return the mean colour of each of 8x8 cells: (B, C, H, W) -> (B, 64 * C)."""
    return F.adaptive_avg_pool2d(images, CELLS).flatten(1)


def edges(images: Tensor) -> Tensor:
    """Return how strong edges of four directions are in each of 8x8 cells, relative to the whole picture.

    They stay the same when a picture gets another brightness or contrast.

    Args:
        images: (B, C, H, W), at least 9x9.

    Returns:
        (B, 4 * 64), of length 1; 0 for a picture without edges.
    """
    inner = images[:, :, 1:-1, 1:-1]
    neighbours = (images[:, :, 2:, 1:-1], images[:, :, 1:-1, 2:], images[:, :, 2:, 2:], images[:, :, 2:, :-2])
    steps = torch.stack([(neighbour - inner).abs().mean(dim=1) for neighbour in neighbours], dim=1)
    return F.normalize(F.adaptive_avg_pool2d(steps, CELLS).flatten(1), dim=1)
