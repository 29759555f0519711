"""Scores of patches beside that of the whole image (Isola et al. 2017, section 3.2), for the discriminator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from progan.networks.architecture import Architecture
from progan.networks.layers import EqualizedConv2d
from progan.ops.precision import widened

PATCH_LEVELS = 2  # between the images' level and that of the features that score their patches


class Scored(NamedTuple):
    """Scores of one kind.

    Attributes:
        scores: Of whole images, (B,), or of all their patches, (B, n).
        weight: Weight of this kind in a loss, and in the joint score.
    """

    scores: Tensor
    weight: float | Tensor = 1.0


def joint_score(scores: Sequence[Scored]) -> Tensor:
    """Return one score of each image, (B,): that of the whole + the weighted sum of the n patches' scores / sqrt(n)."""
    (joint, _), *patches = scores
    for each, weight in patches:
        joint = joint + weight * each.sum(dim=1) / math.sqrt(each.shape[1])
    return joint


class PatchScores(nn.ModuleList):
    """A 1x1 convolution for each level whose features score the patches of images two levels above; or none at all."""

    def __init__(self, architecture: Architecture) -> None:
        widths = architecture.channels[:-PATCH_LEVELS] if architecture.patch_scores else ()
        super().__init__(
            EqualizedConv2d(width, 1, 1, gain=1.0, equalization=architecture.ends_equalization) for width in widths
        )

    def weights(self, level: int, alpha: float | Tensor | None) -> dict[int, float | Tensor]:
        """Return the weight of the scores of patches that are made of each level's features, at this growth.

        While a level fades in, its patches have the weight alpha, and those of the level below the rest.

        Args:
            level: Level of the images.
            alpha: Weight of this level.
        """
        weights: dict[int, float | Tensor] = {level: 1.0}
        if alpha is not None:
            weights = {level: alpha, level - 1: 1 - alpha}
        return {of - PATCH_LEVELS: weight for of, weight in weights.items() if 0 <= of - PATCH_LEVELS < len(self)}

    def of(self, features: Tensor, at: int, weight: float | Tensor) -> Scored:
        """Return the scores of the patches that a level's features see: (B, channels[at], h, w) -> (B, h * w)."""
        return Scored(widened(self[at](features).flatten(1)), weight)
