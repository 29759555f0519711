"""The blocks of the networks: one for each level, made of the layers that an architecture specifies."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from progan.networks.architecture import Architecture
from progan.networks.layers import Equalization, EqualizedConv2d, EqualizedLinear, MiniBatchStd, PixelNorm
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
    equalization: Equalization = "he" if architecture.equalized_ends else "none"
    return EqualizedConv2d(in_channels, out_channels, 1, gain=gain, equalization=equalization)


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
            self.modulation = EqualizedLinear(architecture.latent_shape[0], 2 * fine, gain=MODULATION_GAIN)

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
    """Level 0 of the generator: latents to features at the base size."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width = architecture.channels[0]
        self.shape: tuple[int, int, int] = (width, *architecture.base_size)
        self.normalize: nn.Module = pixel_norm(architecture) if architecture.normalize_latent else nn.Identity()
        self.first: ConvUnit
        if len(architecture.latent_shape) == 1:
            # Gain sqrt(2)/4 as in the official program. Differs: one bias per number, there one per channel.
            dense = EqualizedLinear(
                architecture.latent_shape[0],
                math.prod(self.shape),
                gain=math.sqrt(2) / 4,
                equalization=architecture.equalization,
            )
            self.first = ConvUnit(nn.Sequential(dense, nn.Unflatten(1, self.shape)), architecture, norm=True)
        else:
            self.first = conv_unit(architecture, architecture.latent_shape[0], width, norm=True)
        self.second: ConvUnit = conv_unit(architecture, width, width, norm=True)

    def forward(self, z: Tensor) -> Tensor:
        """Return features: (B, *latent_shape) -> (B, C[0], height, width)."""
        features: Tensor = self.second(self.first(self.normalize(z)))
        return features


class DiscriminatorHead(nn.Module):
    """Level 0 of the discriminator: features at the base size to scores."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        in_channels = architecture.channels[0]
        width = architecture.head_channels or in_channels
        norm = architecture.norm_in_discriminator
        self.statistics: MiniBatchStd = MiniBatchStd(
            architecture.minibatch_std_group, unbiased=architecture.minibatch_std_unbiased
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
        ends: Equalization = "he" if architecture.equalized_ends else "none"
        self.score: EqualizedLinear = EqualizedLinear(width, 1, gain=1.0, equalization=ends)

    def forward(self, x: Tensor, batches: int) -> Tensor:
        """Return scores: (B, C[0], height, width) -> (B,)."""
        x = self.conv(self.statistics(x, batches))
        scores: Tensor = self.score(self.dense(x.flatten(1)))
        return scores.squeeze(1)
