"""The discriminator: images to scores (Karras et al. 2018, section 2)."""

from __future__ import annotations

import math

from torch import Tensor, nn
from typing_extensions import override

from progan.arguments import check_int, check_tensor
from progan.networks.architecture import Architecture
from progan.networks.base import Block, ProgressiveNetwork, check_parts
from progan.networks.blocks import SLOPE, DiscriminatorBlock, DiscriminatorHead, rgb_layer
from progan.networks.classes import check_labels
from progan.ops.precision import widened
from progan.ops.resampling import downsample


class ProgressiveDiscriminator(ProgressiveNetwork):
    """Discriminator that scores images, high for real ones: the critic of WGAN-GP, at any level up to the top.

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

    @override
    def forward(
        self,
        images: Tensor,
        level: int | None = None,
        alpha: float | Tensor | None = None,
        labels: Tensor | None = None,
        *,
        batches: int = 1,
    ) -> Tensor:
        """Return scores: (B, image_channels, height, width) -> (B,).

        Args:
            images: Images in image_range, of the level's size.
            level: Level of the images; None = determined from their size.
            alpha: Weight of this level relative to the one below, as for the generator.
            labels: Label of each image, as for the generator.
            batches: Number of batches of equal size that are concatenated in images; MiniBatchStd never mixes them.

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
        for index in range(level - 1, 0, -1):
            x = self._run_block(x, index)
        return self._head(x, batches, labels)

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
