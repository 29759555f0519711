"""Changes of brightness, contrast and saturation, for all images that the critic sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from progan.arguments import check_shares
from progan.augment.geometric import chosen


@dataclass(frozen=True)
class Colour:
    """A random brightness, contrast and saturation, each for itself, without a clamp.

    For `Training.augment_all`: nothing is cut off, so a generated image has a gradient everywhere, and no colour gets
    lost. The ranges are those of Zhao et al. 2020's program, but for half of its contrast. Changed in every image, the
    changes are learnt by the generator too; a probability below 1 keeps the unchanged images apart (Karras et al.
    2020a, section 2.2).

    Args:
        brightness: Greatest number that is added or subtracted, for values in [0, 1].
        contrast: Greatest change of the factor by which values are stretched about the image's mean, in [0, 1].
        saturation: Greatest change of the factor by which colours are stretched about their grey, in [0, 1].
        probability: Probability of each of the three changes, in [0, 1].

    Raises:
        TypeError: If a setting is not a number.
        ValueError: If a setting is out of its range.

    Example:
        >>> draws = torch.tensor([[0.0], [1.0], [1.0], [0.5], [1.0], [0.5]])  # brighter; the other two are left out
        >>> Colour(brightness=0.25, probability=0.2)(torch.tensor([[[[0.4, 0.6]]]]), draws)
        tensor([[[[0.6500, 0.8500]]]])
    """

    brightness: float = 0.25
    contrast: float = 0.25
    saturation: float = 1.0
    probability: float = 1.0
    draws_per_image: ClassVar[int] = 6

    def __post_init__(self) -> None:
        """Check each number once, here."""
        check_shares(self, "brightness", "contrast", "saturation", "probability")

    def __call__(self, images: Tensor, draws: Tensor, strength: float | Tensor = 1.0) -> Tensor:
        """Return the images, some of them changed; values may lie outside [0, 1], and opacity is left as it is.

        Args:
            images: (B, C, H, W).
            draws: Random numbers in [0, 1), (6, B): for brightness, contrast and saturation, one that decides, by the
                probability, and one of the amount.
            strength: Factor of the probability.
        """
        colours, opacity = images[:, :3], images[:, 3:]
        probability = self.probability * strength
        brightness, contrast, saturation = (
            (chosen(decides, probability) * greatest * (2 * amount - 1)).to(images.dtype).reshape(-1, 1, 1, 1)
            for greatest, decides, amount in zip(
                (self.brightness, self.contrast, self.saturation), draws[0::2], draws[1::2], strict=True
            )
        )
        colours = colours + brightness
        colours = colours + contrast * (colours - colours.mean(dim=(1, 2, 3), keepdim=True))
        colours = colours + saturation * (colours - colours.mean(dim=1, keepdim=True))
        return torch.cat([colours, opacity], dim=1)
