"""The discriminator: images to scores (Karras et al. 2018, section 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn
from typing_extensions import override

from progan.arguments import check_int, check_tensor
from progan.networks.architecture import Architecture
from progan.networks.base import Block, ProgressiveNetwork, check_parts
from progan.networks.blocks import SLOPE, DiscriminatorBlock, DiscriminatorHead, rgb_layer
from progan.networks.classes import check_labels
from progan.networks.patches import PatchScores, Scored, joint_score
from progan.ops.precision import widened
from progan.ops.resampling import downsample


class ProgressiveDiscriminator(ProgressiveNetwork):
    """Discriminator that scores images, high for real ones: the critic of WGAN-GP, at any level up to the top.

    With ``patch_scores``, a 1x1 convolution scores the features of two levels below the images' own too, as the
    discriminator of Isola et al. 2017, section 3.2, scores patches: a score for every 4x4 pixels, of what its features
    see around them. So each part of an image has to look real, not only the whole.

    Initial weights come from torch's global random state; `initialize` draws them keyed by a seed.

    Args:
        architecture: Settings of both networks.
        block: Builds the block of one level, 1 or higher, from (architecture, level). The block maps
            (B, channels[level], h, w) to (B, channels[level - 1], h/2, w/2). None = `DiscriminatorBlock`.

    Example:
        >>> import torch
        >>> discriminator = ProgressiveDiscriminator(Architecture((16, 8, 4)))
        >>> discriminator(torch.zeros(4, 3, 8, 8), level=1, alpha=0.5).shape
        torch.Size([4])
    """

    _role = "discriminator"
    _rgb = "from_rgb"
    _leads_to = -1

    def __init__(self, architecture: Architecture, *, block: Block | None = None) -> None:
        check_parts(architecture, block)
        super().__init__(architecture, DiscriminatorHead(architecture), DiscriminatorBlock, block)
        self.from_rgb: nn.ModuleList = nn.ModuleList(
            rgb_layer(architecture, architecture.image_channels, width, gain=math.sqrt(2))
            for width in architecture.channels
        )
        self.rgb_activation: nn.Module = nn.LeakyReLU(SLOPE) if architecture.equalized_ends else nn.Identity()
        self.to_patch_scores: PatchScores = PatchScores(architecture)

    @override
    def forward(
        self,
        images: Tensor,
        level: int | None = None,
        alpha: float | Tensor | None = None,
        labels: Tensor | None = None,
        *,
        batches: int = 1,
        separate: bool = False,
    ) -> Tensor | tuple[Scored, ...]:
        """Return scores: (B, image_channels, height, width) -> (B,).

        With patch scores, it is the score of the whole + the sum of the n patches' scores / sqrt(n): a penalty on the
        gradient of this one score of an image bounds that of each patch's as it does that of the whole.

        Args:
            images: Images in image_range, of the level's size.
            level: Level of the images; None = determined from their size.
            alpha: Weight of this level relative to the one below, as for the generator.
            labels: Label of each image, as for the generator.
            batches: Number of batches of equal size that are concatenated in images; MiniBatchStd never mixes them.
            separate: Return pairs of scores and their weight in a loss: those of the whole images, (B,), with weight 1,
                and those of their patches, (B, n), where there are any. While the level fades in, its patches have the
                weight alpha, and those of the level below the rest.

        Raises:
            ValueError: If the images do not fit the level, the level does not exist, alpha is outside [0, 1] or given
                at level 0, or labels do not fit.
        """
        level = self._checked_level(images, level, alpha, batches)
        x = self._from_images(images, level)
        if level > 0:
            x = self._run_block(x, level)
        if alpha is not None:
            x = self.fade_in(self._from_images(downsample(images), level - 1), x, alpha)
        found = self._scores_of(x, max(level - 1, 0), self.to_patch_scores.weights(level, alpha), batches, labels)
        return found if separate else joint_score(found)

    @override
    def in_use(self, level: int, alpha: float | Tensor | None = None) -> dict[str, nn.Parameter]:
        """Return the parameters that are used at this growth, by name: those of patch scores too."""
        found = super().in_use(level, alpha)
        for at in self.to_patch_scores.weights(level, alpha):
            found |= dict(self.to_patch_scores[at].named_parameters(f"to_patch_scores.{at}"))
        return found

    def _scores_of(
        self, x: Tensor, at: int, weights: Mapping[int, float | Tensor], batches: int, labels: Tensor | None
    ) -> tuple[Scored, ...]:
        """Return the scores of features of a level, (B, channels[at], h, w).

        Args:
            x: Features.
            at: Their level, none of the patches' being above it.
            weights: Weights of the levels that score patches.
            batches: Number of batches.
            labels: Label of each image.
        """
        patches = []
        for index in range(at, -1, -1):  # the features of this level are scored, then those below are made
            if (weight := weights.get(index)) is not None:
                patches.append(self.to_patch_scores.of(x, index, weight))
            if index > 0:
                x = self._run_block(x, index)
        return Scored(self._head(x, batches, labels)), *reversed(patches)

    def _head(self, x: Tensor, batches: int, labels: Tensor | None) -> Tensor:
        """Return scores of features of level 0; without classes, the block is called without labels."""
        check_labels(self.architecture.classes, labels, len(x))
        return widened(self.blocks[0](x, batches) if labels is None else self.blocks[0](x, batches, labels))

    def _from_images(self, images: Tensor, level: int) -> Tensor:
        """Return features of a level: (B, image_channels, height, width) -> (B, channels[level], height, width)."""
        features: Tensor = self.rgb_activation(self.from_rgb[level](images))
        return features

    def _checked_level(self, images: Tensor, level: int | None, alpha: float | Tensor | None, batches: int) -> int:
        """Return the level after checking images and growth."""
        check_tensor("images", images)
        check_int("batches", batches)
        architecture = self.architecture
        if not images.is_floating_point():
            raise TypeError(
                f"images must be floats in image_range {architecture.image_range}, got {images.dtype}; divide "
                "uint8 by 255 and bring it to that range"
            )
        if images.ndim != 4 or images.shape[1] != architecture.image_channels:
            raise ValueError(
                f"images must be (B, {architecture.image_channels}, height, width), got {tuple(images.shape)}"
            )
        height, width = images.shape[2:]
        if level is None:
            level = architecture.level_of(height, width)
        architecture.check_growth(level, alpha)
        if architecture.size(level) != (height, width):
            expected = "x".join(map(str, architecture.size(level)))
            remedy = "resize with progan.match_level"
            for other in range(len(architecture.channels)):
                if architecture.size(other) == (height, width):
                    remedy = f"pass level={other} or {remedy}"
            raise ValueError(f"images at level {level} must be {expected}, got {height}x{width}; {remedy}")
        return level
