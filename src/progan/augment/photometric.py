"""Changes to the values of pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from progan.arguments import check_number, check_tensor


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch every image's values about its own mean, and clamp to [0, 1].

    Args:
        images: (B, C, H, W), in [0, 1]; a fourth channel (opacity) is left as it is.
        factor: (B,), 1 = unchanged, 2 = twice the contrast.

    Example:
        >>> adjust_contrast(torch.tensor([[[[0.4, 0.6]]]]), torch.tensor([2.0]))
        tensor([[[[0.3000, 0.7000]]]])
    """
    for name, value in (("images", images), ("factor", factor)):
        check_tensor(name, value)
    colours, opacity = images[:, :3], images[:, 3:]
    mean = colours.mean(dim=(1, 2, 3), keepdim=True)
    stretched = (mean + factor.to(images.dtype).reshape(-1, 1, 1, 1) * (colours - mean)).clamp(0, 1)
    return torch.cat([stretched, opacity], dim=1)


@dataclass(frozen=True)
class Contrast:
    """A random contrast.

    The Mel Icon article found contrast between x1 and x2 to do little harm, where changes of hue give strange colours.

    Args:
        low: Least factor, above 0.
        high: Greatest factor.

    Raises:
        TypeError: If a factor is not a number.
        ValueError: If a factor is out of its range.
    """

    low: float = 1.0
    high: float = 2.0
    draws_per_image: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Check each number once, here."""
        for name in ("low", "high"):
            check_number(f"Contrast.{name}", getattr(self, name))
        if not 0 < self.low <= self.high < math.inf:
            raise ValueError(f"Contrast takes 0 < low <= high, both finite, got low={self.low!r}, high={self.high!r}")

    def __call__(self, images: Tensor, draws: Tensor, strength: float | Tensor = 1.0) -> Tensor:
        """Return the images, each at a contrast from low to high; see `adjust_contrast`.

        Args:
            images: (B, C, H, W), in [0, 1].
            draws: Random numbers in [0, 1), (1, B).
            strength: Part of the way from 1 to low and high.
        """
        low, high = (1 + strength * (factor - 1) for factor in (self.low, self.high))
        return adjust_contrast(images, low + (high - low) * draws[0])
