"""Changes to the places of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from progan.arguments import check_shares


@dataclass(frozen=True)
class HorizontalFlip:
    """A random mirroring, left to right.

    Only for pictures whose mirror images could be of the set: `progan.data.flip_verdict` tells. The Mel Icon article's
    heads all grow from the bottom left, where flips teach the wrong thing.

    Args:
        probability: Probability of an image to be mirrored, in [0, 1].

    Raises:
        TypeError: If the probability is not a number.
        ValueError: If the probability is out of its range.

    Example:
        >>> HorizontalFlip()(torch.tensor([[[[0.1, 0.9]]], [[[0.2, 0.8]]]]), torch.tensor([[0.3, 0.7]])).flatten(1)
        tensor([[0.9000, 0.1000],
                [0.2000, 0.8000]])
    """

    probability: float = 0.5
    draws_per_image: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Check the number once, here."""
        check_shares(self, "probability")

    def __call__(self, images: Tensor, draws: Tensor, strength: float | Tensor = 1.0) -> Tensor:
        """Return the images, some mirrored with all their channels.

        Args:
            images: (B, C, H, W).
            draws: Random numbers in [0, 1), (1, B); an image is mirrored where its number is below the probability.
            strength: Factor of the probability.
        """
        mirrored = chosen(draws[0], self.probability * strength)
        return torch.where(mirrored.reshape(-1, 1, 1, 1), images.flip(-1), images)


@dataclass(frozen=True)
class Translate:
    """A random shift by whole pixels, up to a share of each side; the pixels at the edges are repeated.

    Args:
        fraction: Greatest shift as a share of the height, and of the width, in [0, 1]; rounded to whole pixels.
        probability: Probability of an image to be shifted, in [0, 1].

    Raises:
        TypeError: If a setting is not a number.
        ValueError: If a setting is out of its range.

    Example:
        >>> images = torch.tensor([[[[0.1, 0.2, 0.3, 0.4]]]])
        >>> Translate(0.25)(images, torch.tensor([[0.3], [0.5], [0.9]]))  # by 0 rows, and by 1 column to the right
        tensor([[[[0.1000, 0.1000, 0.2000, 0.3000]]]])
    """

    fraction: float = 0.125
    probability: float = 1.0
    draws_per_image: ClassVar[int] = 3

    def __post_init__(self) -> None:
        """Check each number once, here."""
        check_shares(self, "fraction", "probability")

    def __call__(self, images: Tensor, draws: Tensor, strength: float | Tensor = 1.0) -> Tensor:
        """Return the images, some of them shifted.

        Args:
            images: (B, C, H, W).
            draws: Random numbers in [0, 1), (3, B): an image is shifted where its first one is below the probability;
                the others are of the shifts down and to the right.
            strength: Factor of the probability.
        """
        shifted = chosen(draws[0], self.probability * strength)
        for dim, numbers in ((2, draws[1]), (3, draws[2])):
            side = images.shape[dim]
            most = round(self.fraction * side)
            if most:
                images = _shifted(images, dim, _shifts(numbers, most) * shifted, most)
        return images


def chosen(draws: Tensor, probability: float | Tensor) -> Tensor:
    """Return which images are changed: (B,), bool, for draws in [0, 1)."""
    return (draws < probability) | (torch.zeros_like(draws) + probability >= 1)  # half types round some draws to 1


def _shifts(draws: Tensor, most: int) -> Tensor:
    """Return whole numbers from -most to most, all equally likely: (B,), int64."""
    places = (2 * most + 1) * draws.float()  # of a half type, a draw can be 1
    return places.floor().clamp_max(2 * most).sub(most).long()


def _shifted(images: Tensor, dim: int, shifts: Tensor, most: int) -> Tensor:
    """Return images moved along a side by their shifts, each at most ``most`` pixels.

    Each pixel of a padded image is taken at most once, so the derivatives add in no order that could vary.
    """
    side = images.shape[dim]
    before, after = images.narrow(dim, 0, 1), images.narrow(dim, side - 1, 1)
    sizes = [-1, -1, -1, -1]
    sizes[dim] = most
    padded = torch.cat([before.expand(sizes), images, after.expand(sizes)], dim)
    places = shifts.new_ones(side).cumsum(0) + (most - 1) - shifts[:, None]  # (B, side)
    shape = [len(images), 1, 1, 1]
    shape[dim] = side
    return padded.gather(dim, places.reshape(shape).expand_as(images))
