"""The blocks of the networks: one for each level, made of the layers that an architecture specifies."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from progan.networks.architecture import Architecture
from progan.networks.classes import EqualizedEmbedding
from progan.networks.layers import (
    EqualizedConv2d,
    EqualizedLinear,
    MiniBatchStd,
    PixelNorm,
)
from progan.ops.precision import widened
from progan.ops.resampling import downsample, upsample

SLOPE = 0.2  # of every LeakyReLU, below 0
MODULATION_GAIN = 0.5  # standard deviation of the factors about 1 at the start, for a normalised latent


class ConvUnit(nn.Module):
    """A layer followed by a LeakyReLU and, if the architecture has one, a PixelNorm."""

    def __init__(self, layer: nn.Module, architecture: Architecture, *, norm: bool) -> None:
        super().__init__()
        self.layer = layer
        self.norm: PixelNorm | None = pixel_norm(architecture) if norm else None
        self.norm_first: bool = architecture.norm_before_activation

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated features: (B, C_in, ...) -> (B, C_out, ...)."""
        return self.activate(self.layer(x))

    def activate(self, x: Tensor) -> Tensor:
        """Return the layer's result, activated and normalised: (B, C_out, ...) -> (B, C_out, ...)."""
        if self.norm is None:
            return F.leaky_relu(x, SLOPE)
        normalized: Tensor = self.norm(x, SLOPE) if self.norm_first else self.norm(F.leaky_relu(x, SLOPE))
        return normalized


def pixel_norm(architecture: Architecture) -> PixelNorm:
    """Build the PixelNorm of an architecture."""
    return PixelNorm(architecture.norm_epsilon, epsilon_outside_root=architecture.norm_epsilon_outside_root)


def conv_unit(architecture: Architecture, in_channels: int, out_channels: int, *, norm: bool) -> ConvUnit:
    """Build a unit of the architecture on a 3x3 convolution."""
    conv = EqualizedConv2d(
        in_channels, out_channels, 3, equalization=architecture.equalization, padding=architecture.padding
    )
    return ConvUnit(conv, architecture, norm=norm)


def rgb_layer(architecture: Architecture, in_channels: int, out_channels: int, *, gain: float) -> EqualizedConv2d:
    """Build a 1x1 convolution to or from RGB."""
    return EqualizedConv2d(in_channels, out_channels, 1, gain=gain, equalization=architecture.ends_equalization)


class GeneratorBlock(nn.Module):
    """One level of the generator: upsample, then two units; (B, C[level-1], h, w) -> (B, C[level], 2h, 2w).

    With modulation, feature map c of each unit is multiplied by 1 + a_c, where a = dense(latent).
    """

    def __init__(self, architecture: Architecture, level: int) -> None:
        super().__init__()
        coarse, fine = architecture.channels[level - 1], architecture.channels[level]
        self.first: ConvUnit = conv_unit(architecture, coarse, fine, norm=True)
        self.second: ConvUnit = conv_unit(architecture, fine, fine, norm=True)
        self.modulation: EqualizedLinear | None = None
        if architecture.modulation:
            self.modulation = EqualizedLinear(architecture.joined_channels, 2 * fine, gain=MODULATION_GAIN)

    def forward(self, x: Tensor, latent: Tensor | None = None) -> Tensor:
        """Return features of twice the size; with modulation, of latents (B, n) too."""
        return self.after_first_unit(self.first(upsample(x)), latent)

    def after_first_unit(self, x: Tensor, latent: Tensor | None = None) -> Tensor:
        """Return the block's features from what its first unit returned."""
        if self.modulation is None or latent is None:
            plain: Tensor = self.second(x)
            return plain
        factors: Tensor = 1 + self.modulation(latent)
        first, second = factors.to(x.dtype)[:, :, None, None].chunk(2, dim=1)
        modulated: Tensor = self.second(x * first)
        return modulated * second


class DiscriminatorBlock(nn.Module):
    """One level of the discriminator: two units, then 2x2 means; (B, C[level], h, w) -> (B, C[level-1], h/2, w/2)."""

    def __init__(self, architecture: Architecture, level: int) -> None:
        super().__init__()
        fine, coarse = architecture.channels[level], architecture.channels[level - 1]
        between = coarse if architecture.widen_first else fine
        self.first: ConvUnit = conv_unit(architecture, fine, between, norm=architecture.norm_in_discriminator)
        self.second: ConvUnit = conv_unit(architecture, between, coarse, norm=architecture.norm_in_discriminator)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of half the size."""
        return downsample(self.second(self.first(x)))


class GeneratorStem(nn.Module):
    """Level 0 of the generator: latents, and labels where there are classes, to features at the base size.

    A class is a learned vector, normalised as the latent is. It is concatenated to a vector latent; to a latent image,
    as as many channels that are the same at each pixel.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width = architecture.channels[0]
        self.shape: tuple[int, int, int] = (width, *architecture.base_size)
        self.normalize: nn.Module = pixel_norm(architecture) if architecture.normalize_latent else nn.Identity()
        self.embedding: EqualizedEmbedding | None = None
        if architecture.classes:
            self.embedding = EqualizedEmbedding(architecture.classes, architecture.class_embedding)
        in_channels = architecture.joined_channels
        self.first: ConvUnit
        if len(architecture.latent_shape) == 1:
            # Gain sqrt(2)/4 as in the official program. Differs: one bias per number, there one per channel.
            dense = EqualizedLinear(
                in_channels,
                math.prod(self.shape),
                gain=math.sqrt(2) / 4,
                equalization=architecture.equalization,
            )
            layer = nn.Sequential(dense, nn.Unflatten(1, self.shape))
            self.first = ConvUnit(layer, architecture, norm=architecture.norm_first_layer)
        else:
            self.first = conv_unit(architecture, in_channels, width, norm=architecture.norm_first_layer)
        self.second: ConvUnit = conv_unit(architecture, width, width, norm=True)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return features: (B, *latent_shape), and labels, (B,), if there are classes -> (B, C[0], height, width)."""
        features: Tensor = self.second(self.first(self.joined(z, labels)))
        return features

    def joined(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Return normalised latents with the vectors of classes, if there are any: (B, n, ...) -> (B, n + m, ...)."""
        x: Tensor = self.normalize(z)
        if self.embedding is None or labels is None:
            return x
        y = self.normalize(self.embedding(labels).to(z.dtype))
        return torch.cat([x, y if x.ndim == 2 else y[:, :, None, None].expand(-1, -1, *x.shape[2:])], dim=1)


class DiscriminatorHead(nn.Module):
    """Level 0 of the discriminator: features at the base size to scores.

    With classes, score(x, y) = linear(x) + <embedding(y), x> / sqrt(n), where x are the n features that the score is
    made of: the projection discriminator (Miyato and Koyama 2018, equation 3). Differs: the embedding is equalised.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        in_channels = architecture.channels[0]
        width = architecture.head_channels or in_channels
        norm = architecture.norm_in_discriminator
        self.statistics: MiniBatchStd = MiniBatchStd(
            architecture.minibatch_std_group,
            unbiased=architecture.minibatch_std_unbiased,
            consecutive=architecture.minibatch_std_consecutive,
        )
        self.conv: ConvUnit = conv_unit(architecture, in_channels + 1, width, norm=norm)
        # A convolution whose kernel is the whole image is this dense layer, and slower.
        dense = EqualizedLinear(
            width * math.prod(architecture.base_size),
            width,
            equalization=architecture.equalization,
            in_channels=width,
        )
        self.dense: ConvUnit = ConvUnit(dense, architecture, norm=norm)
        self.score: EqualizedLinear = EqualizedLinear(width, 1, gain=1.0, equalization=architecture.ends_equalization)
        self.embedding: EqualizedEmbedding | None = None
        if architecture.classes:
            self.embedding = EqualizedEmbedding(
                architecture.classes, width, fan_in=width, equalized=architecture.equalized_ends
            )

    def forward(self, x: Tensor, batches: int, labels: Tensor | None = None) -> Tensor:
        """Return scores: (B, C[0], height, width), and labels, (B,), if there are classes -> (B,)."""
        features = self.dense(self.conv(self.statistics(x, batches)).flatten(1))
        scores: Tensor = self.score(features).squeeze(1)
        if self.embedding is not None and labels is not None:
            scores = widened(scores) + (widened(self.embedding(labels)) * widened(features)).sum(dim=1)
        return scores
