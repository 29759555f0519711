"""Drawings for tests of the measures: discs, boxes and bars of random colours on a plain background."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def drawings(n: int, height: int = 32, width: int = 32, channels: int = 3, seed: int = 0) -> Tensor:
    """Draw n pictures: uint8, (n, channels, height, width)."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    images = np.empty((n, channels, height, width))
    for image in images:
        image[:] = generator.uniform(100, 255, (channels, 1, 1))
        for kind in range(6):
            cy, cx, size, slope = generator.uniform((0.1, 0.1, 0.08, -1), (0.9, 0.9, 0.3, 1))
            inside = (
                (y - cy) ** 2 + (x - cx) ** 2 < size**2,
                np.maximum(abs(y - cy), abs(x - cx)) < size,
                abs(y - cy + slope * (x - cx)) < size / 4,
            )[kind % 3]
            image[:, inside] = generator.uniform(0, 255, (channels, 1))
    return torch.from_numpy(images.round().astype(np.uint8))
