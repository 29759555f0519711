"""What an augmentation is: a differentiable function of images and of random numbers drawn elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor


class Augmentation(Protocol):
    """A random change to images; the random numbers are arguments, so that a resumed run repeats them."""

    @property
    def draws_per_image(self) -> int:
        """Number of random numbers that it takes for each image."""
        ...

    def __call__(self, images: Tensor, draws: Tensor, strength: float | Tensor = 1.0) -> Tensor:
        """Return the changed images, differentiable twice by the images where the critic sees generated ones too.

        Args:
            images: Floats, (B, C, H, W), in [0, 1]; generated ones may lie slightly outside.
            draws: Random numbers in [0, 1), (draws_per_image, B).
            strength: 0 leaves the images as they are, 1 is the full range; a number or a 0-d tensor.
        """
        ...


def augment(
    augmentations: Sequence[Augmentation],
    images: Tensor,
    draws: Mapping[str, Tensor],
    strength: float | Tensor = 1.0,
) -> Tensor:
    """Apply augmentations one after another.

    Args:
        augmentations: Augmentations, in their order.
        images: Floats, (B, C, H, W); or several batches one after another, each of which gets the same numbers.
        draws: Random numbers by the class's name, each (draws_per_image, B).
        strength: Strength of all of them.
    """
    for augmentation in augmentations:
        numbers = draws[type(augmentation).__name__]
        if len(images) != numbers.shape[1]:
            numbers = numbers.repeat(1, -(-len(images) // numbers.shape[1]))[:, : len(images)]
        images = augmentation(images, numbers, strength)
    return images
