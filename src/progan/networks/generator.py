"""The generator: latents to images (Karras et al. 2018, section 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from progan.arguments import check_tensor
from progan.networks.architecture import Architecture
from progan.networks.base import Block, ProgressiveNetwork, check_parts
from progan.networks.blocks import GeneratorBlock, GeneratorStem, rgb_layer
from progan.networks.classes import check_labels
from progan.networks.drawing import AS_TRAINED, Drawing
from progan.networks.palette import Palette
from progan.ops.resampling import upsample


class ProgressiveGenerator(ProgressiveNetwork):
    """Generator of images from latents, at any level up to the top.

    With a ``palette``, a dense layer makes a few colours of the latent, and each pixel is a mixture of these. Their
    weights are the sparsemax (Martins and Astudillo 2016) of a smoothed 1x1 convolution of the features, so most of
    them are exactly 0, and an area of one colour is flat to the bit. A convolution to RGB leaves faint noise there.

    Initial weights come from torch's global random state; `initialize` draws them keyed by a seed.

    Args:
        architecture: Settings of both networks.
        block: Builds the block of one level, 1 or higher, from (architecture, level). The block maps
            (B, channels[level - 1], h, w) to (B, channels[level], 2h, 2w); with modulation, it also gets the normalised
            latents, (B, n). None = `GeneratorBlock`.

    Example:
        >>> generator = ProgressiveGenerator(Architecture((16, 8, 4), latent_shape=(32,)))
        >>> generator(torch.zeros(2, 32), level=1, alpha=0.5).shape
        torch.Size([2, 3, 8, 8])
    """

    _role = "generator"
    _rgb = "to_rgb"
    _leads_to = 0

    def __init__(self, architecture: Architecture, *, block: Block | None = None) -> None:
        check_parts(architecture, block)
        super().__init__(architecture, GeneratorStem(architecture), GeneratorBlock, block)
        self.to_rgb: nn.ModuleList = nn.ModuleList(
            Palette(architecture, width)
            if architecture.palette
            else rgb_layer(architecture, width, architecture.image_channels, gain=1.0)
            for width in architecture.channels
        )

    @override
    def forward(
        self,
        z: Tensor,
        level: int | None = None,
        alpha: float | Tensor | None = None,
        labels: Tensor | None = None,
        *,
        drawing: Drawing = AS_TRAINED,
    ) -> Tensor:
        """Return images: ``(B, *latent_shape)`` -> (B, image_channels, height, width), in image_range.

        Args:
            z: Latents, N(0, 1).
            level: Level of the images; None = the top level.
            alpha: Weight of this level relative to the one below; None = fully grown. A float must be in [0, 1]; the
                value of a 0-d tensor is not checked.
            labels: Label of each image, (B,), int64, 0 to classes - 1, if the architecture has classes; else None.
            drawing: How the palette's weights are drawn, if there is a palette: in training as by default, and by a
                `GrownGenerator` as the architecture says.

        Raises:
            ValueError: If z has the wrong shape, the level does not exist, alpha is outside [0, 1] or given at level 0,
                or labels do not fit.
        """
        level = self._checked_level(z, level, alpha)
        return self.images_of(self._stem(z, labels), 0, level, alpha, *self.modulating(z, labels), drawing=drawing)

    def features(self, z: Tensor, level: int, labels: Tensor | None = None) -> Tensor:
        """Return the features of a level: ``(B, *latent_shape)`` -> (B, channels[level], height, width)."""
        level = self._checked_level(z, level, None)
        x, latent = self._stem(z, labels), self.modulating(z, labels)
        for index in range(1, level + 1):
            x = self._run_block(x, index, *latent)
        return x

    def modulating(self, z: Tensor, labels: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the latents that blocks are given beside features: as the stem takes them, (B, n); or none.

        Args:
            z: Latents.
            labels: Labels of the images; None = there are no classes.
        """
        if not self.architecture.modulation:
            return ()
        stem = self.blocks[0]
        assert isinstance(stem, GeneratorStem)
        return (stem.joined(z, labels),)

    def images_of(
        self,
        features: Tensor,
        at: int,
        level: int,
        alpha: float | Tensor | None,
        *latent: Tensor,
        drawing: Drawing = AS_TRAINED,
    ) -> Tensor:
        """Return the images of features: (B, channels[at], h, w) -> (B, image_channels, height, width).

        Args:
            features: Features of a level, see `features`.
            at: That level, below the level of the images where these fade in, else at most that.
            level: Level of the images.
            alpha: Weight of this level relative to the one below; None = fully grown.
            *latent: What `modulating` returned.
            drawing: As for the whole generator.
        """
        below = x = features
        for index in range(at + 1, level + 1):
            below, x = x, self._run_block(x, index, *latent)
        return self._to_images(below, x, level, alpha, *latent, drawing=drawing)

    def _stem(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Return the features of level 0; without classes, the block is called with z alone."""
        check_labels(self.architecture.classes, labels, z.shape[0])
        features: Tensor = self.blocks[0](z) if labels is None else self.blocks[0](z, labels)
        return features

    def _to_images(
        self, below: Tensor, x: Tensor, level: int, alpha: float | Tensor | None, *latent: Tensor, drawing: Drawing
    ) -> Tensor:
        """Return images, (B, image_channels, height, width), from the features of the level below and of the level."""
        given = (*latent, drawing) if self.architecture.palette else ()
        image: Tensor = self.to_rgb[level](x, *given)
        if alpha is not None:
            # Upsampling commutes with a 1x1 convolution, and with mixing colours, and is cheaper after it.
            image = self.fade_in(upsample(self.to_rgb[level - 1](below, *given)), image, alpha)
        return torch.sigmoid(image) if self.architecture.output == "sigmoid" else image

    def _checked_level(self, z: Tensor, level: int | None, alpha: float | Tensor | None) -> int:
        """Return the level after checking latents and growth."""
        check_tensor("z", z)
        level = self.architecture.top_level if level is None else level
        self.architecture.check_growth(level, alpha)
        if not z.is_floating_point():
            raise TypeError(f"z must be of floats, N(0, 1), got {z.dtype}")
        if tuple(z.shape[1:]) != self.architecture.latent_shape:
            raise ValueError(
                f"z must be (B, {', '.join(map(str, self.architecture.latent_shape))}), got {tuple(z.shape)}"
            )
        return level
