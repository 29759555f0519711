"""What the judgements of a set of pictures have in common: what they take, and how many they look at."""

from __future__ import annotations

import torch
from torch import Tensor

from progan.arguments import check_tensor


def check_pictures(images: Tensor) -> None:
    """Raise where pictures are not (N, C, H, W), uint8, with 1, 3 or 4 channels."""
    check_tensor("images", images)
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}")
    if images.dim() != 4 or images.shape[1] not in (1, 3, 4) or not images.shape[2] * images.shape[3]:
        raise ValueError(f"images must be (N, C, H, W) with 1, 3 or 4 channels, got {tuple(images.shape)}")


def at_even_distances(images: Tensor, most: int) -> Tensor:
    """Return all pictures, or where there are more than most, that many at even distances."""
    return images if len(images) <= most else images[torch.arange(most) * len(images) // most]
