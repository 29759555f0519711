"""Augmentations of real images. They draw nothing themselves: their numbers are arguments, made by key elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    """Show the critic real images at a random contrast, for `Training.augment`.

    The Mel Icon article found contrast between x1 and x2 to do little harm, where changes of hue give strange colours.

    Args:
        low: least factor.
        high: greatest factor.
    """

    low: float = 1.0
    high: float = 2.0

    def __post_init__(self) -> None:
        """Check each number once, here."""
        for name in ("low", "high"):
            check_number(f"Contrast.{name}", getattr(self, name))
        if not 0 < self.low <= self.high < math.inf:
            raise ValueError(f"Contrast takes 0 < low <= high, both finite, got low={self.low!r}, high={self.high!r}")

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Return the images at other contrasts.

        Args:
            images: (B, C, H, W), in [0, 1].
            draws: one number in [0, 1) per image, (B,), from low to high.
        """
        return adjust_contrast(images, self.low + (self.high - self.low) * draws)


@dataclass(frozen=True)
class HorizontalFlip:
    """Show the critic some real images mirrored, left to right, for `Training.augment`.

    Only for pictures whose mirror images could be of the set: `progan.data.flip_verdict` tells. The Mel Icon article's
    heads all grow from the bottom left, where flips teach the wrong thing.

    Args:
        probability: of an image to be mirrored.

    Example:
        >>> HorizontalFlip()(torch.tensor([[[[0.1, 0.9]]], [[[0.2, 0.8]]]]), torch.tensor([0.3, 0.7])).flatten(1)
        tensor([[0.9000, 0.1000],
                [0.2000, 0.8000]])
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        """Check the number once, here."""
        check_number("HorizontalFlip.probability", self.probability)
        if not 0 <= self.probability <= 1:
            raise ValueError(f"HorizontalFlip takes 0 <= probability <= 1, got probability={self.probability!r}")

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Return the images, some mirrored with all their channels.

        Args:
            images: (B, C, H, W).
            draws: one number in [0, 1) per image, (B,); mirrored where it is below the probability.
        """
        mirrored = (draws < self.probability) | (self.probability == 1)  # half types round some draws to 1
        return torch.where(mirrored.reshape(-1, 1, 1, 1), images.flip(-1), images)


Augmentation = Contrast | HorizontalFlip
