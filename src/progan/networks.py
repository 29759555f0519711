"""The two networks. Growth is an argument: they own parameters only, and no state of how far they have grown.

``level`` counts doublings from the base size: 0 = 4x4, 1 = 8x8, ... 6 = 256x256. ``alpha`` is the weight of the newest
level while it fades in; None means fully grown, and the old branch is not computed. One `Architecture` shapes both
networks, so a pair always fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from progan.layers import (
    Equalization,
    EqualizedConv2d,
    EqualizedLinear,
    FadeIn,
    Initial,
    MiniBatchStd,
    Padding,
    PixelNorm,
    check_alpha,
    downsample,
    upsample,
)
from progan.randomness import key, normal, uniform

_SLOPE = 0.2  # of every LeakyReLU, below 0
_CACHED_BYTES = 8 << 20  # of features, on the CPU: see benchmarks/NOTES.md
_LARGEST_SIDE = 65_536  # pixels, as a JPEG's; it bounds how many levels a crafted file may ask for


@dataclass(frozen=True)
class Architecture:
    """Hold everything that shapes both networks. JSON-able: numbers, strings, tuples.

    Args:
        channels: widths per level, coarse first; as many levels as entries.
        latent_shape: (512,) for a vector, which a dense layer spreads over the base size, or (512, 4, 4) for an image
            of noise, which a convolution takes.
        image_channels: 1 grey, 3 RGB, 4 RGBA.
        base_size: (height, width) in pixels at level 0; (6, 4) makes images of 3:2.
        image_range: values of black and white in the networks' images.
        minibatch_std_group: images per MiniBatchStd group; a smaller batch is one group; None = always the whole batch.
        minibatch_std_unbiased: divide by group - 1.
        padding: of the 3x3 convolutions: ``zeros`` or ``reflect``.
        equalization: of the convolutions: ``he`` (the paper's) or ``he_twice`` (the article's), see `EqualizedConv2d`.
        equalized_ends: the layers to RGB, from RGB and to the score are equalised, with a LeakyReLU after from RGB;
            else plain layers with nothing after.
        normalize_latent: divide the latent by its root mean square.
        norm_before_activation: PixelNorm, then LeakyReLU; else the other way round.
        norm_in_discriminator: PixelNorm in both networks; else in the generator only.
        norm_epsilon: of PixelNorm.
        norm_epsilon_outside_root: see `PixelNorm`.
        output: ``linear``, or ``sigmoid`` after the fade (then image_range must be (0, 1)).
        widen_first: the discriminator's blocks widen in their first convolution; else in their second.
        head_channels: width of the discriminator's last two layers; None = channels[0].

    Raises:
        ValueError: if the numbers do not make a pair of networks.
    """

    channels: tuple[int, ...]
    latent_shape: tuple[int, ...] = (512,)
    image_channels: int = 3
    base_size: tuple[int, int] = (4, 4)
    image_range: tuple[float, float] = (-1.0, 1.0)
    minibatch_std_group: int | None = 4
    minibatch_std_unbiased: bool = False
    padding: Padding = "zeros"
    equalization: Equalization = "he"
    equalized_ends: bool = True
    normalize_latent: bool = True
    norm_before_activation: bool = False
    norm_in_discriminator: bool = False
    norm_epsilon: float = 1e-8
    norm_epsilon_outside_root: bool = False
    output: Literal["linear", "sigmoid"] = "linear"
    widen_first: bool = False
    head_channels: int | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without building anything."""
        for name in ("channels", "latent_shape", "base_size", "image_range"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, least in (("channels", 1), ("latent_shape", 1), ("base_size", 2)):
            values = getattr(self, name)
            if not values or not all(isinstance(value, int) and value >= least for value in values):
                raise ValueError(f"Architecture.{name} must be ints of at least {least}, got {values!r}")
        if len(self.base_size) != 2:
            raise ValueError(f"base_size must be (height, width), got {self.base_size!r}")
        if max(self.size(self.top_level)) > _LARGEST_SIDE:
            raise ValueError(
                f"images of at most {_LARGEST_SIDE:,} pixels a side are made, got base_size {self.base_size!r} and "
                f"{len(self.channels):,} levels, each twice as large as the one before"
            )
        if len(self.latent_shape) not in (1, 3) or (
            len(self.latent_shape) == 3 and self.latent_shape[1:] != self.base_size
        ):
            raise ValueError(
                f"latent_shape must be (channels,) or (channels, height, width) with base_size {self.base_size}, "
                f"got {self.latent_shape!r}"
            )
        if self.image_channels not in (1, 3, 4):
            raise ValueError(f"image_channels must be 1 (grey), 3 (RGB) or 4 (RGBA), got {self.image_channels!r}")
        low, high = self.image_range
        if not low < high:
            raise ValueError(f"image_range must be (value of black, value of white), got {self.image_range!r}")
        for name, allowed in (
            ("padding", get_args(Padding)),
            ("equalization", get_args(Equalization)),
            ("output", ("linear", "sigmoid")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("minibatch_std_group", "head_channels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, or None, got {value!r}")
        if self.output == "sigmoid" and self.image_range != (0.0, 1.0):
            raise ValueError(f"a sigmoid makes values in [0, 1], got image_range={self.image_range!r}; use (0.0, 1.0)")

    @property
    def top_level(self) -> int:
        """Index of the highest level."""
        return len(self.channels) - 1

    def size(self, level: int) -> tuple[int, int]:
        """Return (height, width) of the images at a level, in pixels."""
        return self.base_size[0] << level, self.base_size[1] << level

    def check_level(self, level: int) -> None:
        """Raise where the networks lack a level."""
        if not isinstance(level, int) or isinstance(level, bool):
            raise TypeError(f"level must be an int, got {level!r}")
        if not 0 <= level <= self.top_level:
            raise ValueError(
                f"the networks have levels 0 to {self.top_level} ({len(self.channels)} widths in channels), got "
                f"level {level}"
            )

    def check_growth(self, level: int, alpha: float | Tensor | None) -> None:
        """Raise where level and alpha ask for what the networks cannot do."""
        self.check_level(level)
        if alpha is not None:
            check_alpha(alpha)
            if level == 0:
                raise ValueError("level 0 has no level below to fade from; pass alpha=None")

    def level_of(self, height: int, width: int) -> int:
        """Return the level whose images have this size.

        Raises:
            ValueError: if there is none.
        """
        for level in range(len(self.channels)):
            if self.size(level) == (height, width):
                return level
        sizes = ", ".join("x".join(map(str, self.size(level))) for level in range(len(self.channels)))
        raise ValueError(f"images of {height}x{width} fit no level; the networks take {sizes} (height x width)")


class ConvUnit(nn.Module):
    """A layer with its LeakyReLU and, where the architecture has one, its PixelNorm."""

    def __init__(self, layer: nn.Module, architecture: Architecture, *, norm: bool) -> None:
        super().__init__()
        self.layer = layer
        self.norm: PixelNorm | None = pixel_norm(architecture) if norm else None
        self.norm_first: bool = architecture.norm_before_activation

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated features: (B, C_in, ...) -> (B, C_out, ...)."""
        return self.activate(self.layer(x))

    def activate(self, x: Tensor) -> Tensor:
        """Return what follows the layer: (B, C_out, ...), the same."""
        if self.norm is None:
            return F.leaky_relu(x, _SLOPE)
        normalized: Tensor = self.norm(x, _SLOPE) if self.norm_first else self.norm(F.leaky_relu(x, _SLOPE))
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
    """One level of the generator: upsample, then two units; (B, C[level-1], h, w) -> (B, C[level], 2h, 2w)."""

    def __init__(self, architecture: Architecture, level: int) -> None:
        super().__init__()
        coarse, fine = architecture.channels[level - 1], architecture.channels[level]
        self.first: ConvUnit = conv_unit(architecture, coarse, fine, norm=True)
        self.second: ConvUnit = conv_unit(architecture, fine, fine, norm=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of twice the size."""
        layer = cast(EqualizedConv2d, self.first.layer)
        features: Tensor = self.second(self.first.activate(layer.of_upsampled(x)))
        return features


class DiscriminatorBlock(nn.Module):
    """One level of the discriminator: two units, then 2x2 means; (B, C[level], h, w) -> (B, C[level-1], h/2, w/2)."""

    def __init__(self, architecture: Architecture, level: int) -> None:
        super().__init__()
        fine, coarse = architecture.channels[level], architecture.channels[level - 1]
        between = coarse if architecture.widen_first else fine
        self.first: ConvUnit = conv_unit(architecture, fine, between, norm=architecture.norm_in_discriminator)
        self.second: ConvUnit = conv_unit(architecture, between, coarse, norm=architecture.norm_in_discriminator)

    def forward(self, x: Tensor, from_rgb: EqualizedConv2d | None = None) -> Tensor:
        """Return features of half the size.

        Args:
            x: features; images where from_rgb is given.
            from_rgb: the 1x1 convolution that makes features of them, with nothing after it.
        """
        layer = cast(EqualizedConv2d, self.first.layer)
        x = layer(x) if from_rgb is None else layer.of_projected(x, from_rgb)
        return downsample(self.second(self.first.activate(x)))


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


Block = Callable[[Architecture, int], nn.Module]


class _ProgressiveNetwork(nn.Module):
    """Share what both networks have in common: which parameters are in use, and keyed initial values."""

    _role: str
    _rgb: str

    def __init__(self, architecture: Architecture, level_0: nn.Module, build: Block, block: Block | None) -> None:
        super().__init__()
        self.architecture = architecture
        self.block_name: str | None = _qualified_name(block)
        levels = range(1, len(architecture.channels))
        blocks = (level_0, *((block or build)(architecture, level) for level in levels))
        self.blocks: nn.ModuleList = nn.ModuleList(blocks)
        self.fade_in: FadeIn = FadeIn()

    def in_use(self, level: int, alpha: float | Tensor | None = None) -> dict[str, nn.Parameter]:
        """Return the parameters that a pass at this growth uses, by name.

        Blocks 0 to level, the RGB layers of the level and, while it fades in, those of the level below.
        """
        self.architecture.check_growth(level, alpha)
        levels = (level,) if alpha is None else (level - 1, level)
        prefixes = [f"blocks.{index}." for index in range(level + 1)] + [f"{self._rgb}.{index}." for index in levels]
        return {name: p for name, p in self.named_parameters() if name.startswith(tuple(prefixes))}

    def initialize(self, seed: int = 0) -> None:
        """Draw all initial weights anew, each keyed by (seed, its name).

        A level's weights do not depend on how many levels lie above it. Modules of a block of one's own start from
        their own ``reset_parameters``, with torch's random state seeded by key and put back.

        Args:
            seed: of the run.
        """
        for module_name, module in self.named_modules():
            position = f"{self._role}.{module_name}"
            initial = getattr(module, "initial", None)
            if isinstance(initial, dict):
                for name, how in initial.items():
                    _fill(getattr(module, name), how, seed, f"{position}.{name}")
            elif callable(reset := getattr(module, "reset_parameters", None)):
                with torch.random.fork_rng(devices=[]):
                    torch.default_generator.manual_seed(key(seed, "weights", position) & (2**63 - 1))
                    reset()

    def _parts(self, level: int, x: Tensor) -> tuple[int, int]:
        """Return up to which level below this one a batch is taken whole, and how many images at a time from there on.

        On the CPU, a batch's features of a high level lie far beyond its caches, and a few images' do not. Images are
        independent of one another above level 0, unless a block of one's own sees to it that they are not.
        """
        if x.device.type != "cpu" or self.block_name is not None or level == 0:
            return max(level - 1, 0), len(x)
        bytes_of = [
            max(self.architecture.channels[max(index - 1, 0) : index + 1])
            * math.prod(self.architecture.size(index))
            * x.element_size()
            for index in range(level + 1)
        ]
        together = next((index for index in range(level) if len(x) * bytes_of[index + 1] > _CACHED_BYTES), level - 1)
        return together, max(1, min(len(x), _CACHED_BYTES // bytes_of[level]))

    def _check_block(self, x: Tensor, level: int, channels_level: int, size_level: int) -> Tensor:
        """Return a block's result where it has the shape that the next one takes."""
        expected = (self.architecture.channels[channels_level], *self.architecture.size(size_level))
        if tuple(x.shape[1:]) != expected:
            raise ValueError(
                f"block {level} of the {self._role} must return (B, {', '.join(map(str, expected))}), "
                f"got {tuple(x.shape)}; mend {self.block_name or 'the block'}"
            )
        return x


class ProgressiveGenerator(_ProgressiveNetwork):
    """Make images from latents, at any level up to the top.

    Args:
        architecture: what shapes it.
        block: builds one level from (architecture, level), level 1 and up, mapping (B, channels[level - 1], h, w) to
            (B, channels[level], 2h, 2w); None = `GeneratorBlock`.

    Weights start from torch's global random state; `initialize` draws them keyed by a seed.

    Example:
        >>> generator = ProgressiveGenerator(Architecture((16, 8, 4), latent_shape=(32,)))
        >>> generator(torch.zeros(2, 32), level=1, alpha=0.5).shape
        torch.Size([2, 3, 8, 8])
    """

    _role = "generator"
    _rgb = "to_rgb"

    def __init__(self, architecture: Architecture, *, block: Block | None = None) -> None:
        super().__init__(architecture, GeneratorStem(architecture), GeneratorBlock, block)
        self.to_rgb: nn.ModuleList = nn.ModuleList(
            rgb_layer(architecture, width, architecture.image_channels, gain=1.0) for width in architecture.channels
        )

    @override
    def forward(self, z: Tensor, level: int | None = None, alpha: float | Tensor | None = None) -> Tensor:
        """Return images: ``(B, *latent_shape)`` -> (B, image_channels, height, width), in image_range.

        Args:
            z: latents, N(0, 1).
            level: of the images; None = the top level.
            alpha: weight of this level against the one below; None = fully grown. A float must be in [0, 1]; the value
                of a 0-d tensor is trusted.

        Raises:
            ValueError: if z has another shape, the level is not there, or alpha is outside [0, 1] or given at level 0.
        """
        level = self.architecture.top_level if level is None else level
        self.architecture.check_growth(level, alpha)
        if tuple(z.shape[1:]) != self.architecture.latent_shape:
            raise ValueError(
                f"z must be (B, {', '.join(map(str, self.architecture.latent_shape))}), got {tuple(z.shape)}"
            )
        features = self.blocks[0](z)
        together, images_per_part = self._parts(level, features)
        for index in range(1, together + 1):
            features = self._grow(features, index)
        return _by_parts(lambda part: self._rest(part, together, level, alpha), features, images_per_part)

    def _rest(self, features: Tensor, there: int, level: int, alpha: float | Tensor | None) -> Tensor:
        """Return images from the features of a lower level."""
        if level == 0:
            image = self.to_rgb[0](features)
        else:
            for index in range(there + 1, level):
                features = self._grow(features, index)
            image = self.to_rgb[level](self._grow(features, level))
            if alpha is not None:
                # Upsampling commutes with a 1x1 convolution, and is cheaper after it.
                image = self.fade_in(upsample(self.to_rgb[level - 1](features)), image, alpha)
        return torch.sigmoid(image) if self.architecture.output == "sigmoid" else image

    def _grow(self, features: Tensor, level: int) -> Tensor:
        return self._check_block(self.blocks[level](features), level, level, level)


class ProgressiveDiscriminator(_ProgressiveNetwork):
    """Score images: high for real ones. The critic of WGAN-GP, at any level up to the top.

    Args:
        architecture: what shapes it.
        block: builds one level from (architecture, level), level 1 and up, mapping (B, channels[level], h, w) to
            (B, channels[level - 1], h/2, w/2); None = `DiscriminatorBlock`.

    Weights start from torch's global random state; `initialize` draws them keyed by a seed.

    Example:
        >>> discriminator = ProgressiveDiscriminator(Architecture((16, 8, 4)))
        >>> discriminator(torch.zeros(4, 3, 8, 8), level=1, alpha=0.5).shape
        torch.Size([4])
    """

    _role = "discriminator"
    _rgb = "from_rgb"

    def __init__(self, architecture: Architecture, *, block: Block | None = None) -> None:
        super().__init__(architecture, DiscriminatorHead(architecture), DiscriminatorBlock, block)
        self.from_rgb: nn.ModuleList = nn.ModuleList(
            rgb_layer(architecture, architecture.image_channels, width, gain=math.sqrt(2))
            for width in architecture.channels
        )
        self.rgb_activation: nn.Module = nn.LeakyReLU(_SLOPE) if architecture.equalized_ends else nn.Identity()
        # Two convolutions with nothing between them are one, of fewer channels.
        self._joins_from_rgb = block is None and not architecture.equalized_ends and architecture.padding == "reflect"

    @override
    def forward(
        self, images: Tensor, level: int | None = None, alpha: float | Tensor | None = None, *, batches: int = 1
    ) -> Tensor:
        """Return scores: (B, image_channels, height, width) -> (B,).

        Args:
            images: in image_range, of the level's size.
            level: of the images; None = told from their size.
            alpha: as for the generator.
            batches: how many batches of equal size lie one after another in images; MiniBatchStd never mixes them.

        Raises:
            ValueError: if the images do not fit the level, the level is not there, or alpha is outside [0, 1] or given
                at level 0.
        """
        level = self._level_of(images, level)
        self.architecture.check_growth(level, alpha)
        together, images_per_part = self._parts(level, images)
        features = _by_parts(lambda part: self._features(part, level, alpha, together), images, images_per_part)
        for index in range(together, 0, -1):
            features = self._shrink(features, index)
        scores: Tensor = self.blocks[0](features, batches)
        return scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores

    def _features(self, images: Tensor, level: int, alpha: float | Tensor | None, wanted: int) -> Tensor:
        """Return the features of a lower level."""
        if level == wanted:
            return self._from_rgb(images, level)
        features = self._enter(images, level)
        if alpha is not None:
            features = self.fade_in(self._from_rgb(downsample(images), level - 1), features, alpha)
        for index in range(level - 1, wanted, -1):
            features = self._shrink(features, index)
        return features

    def _enter(self, images: Tensor, level: int) -> Tensor:
        """Return the features that the block of a level, not the lowest, makes of images."""
        if self._joins_from_rgb:
            features: Tensor = self.blocks[level](images, self.from_rgb[level])
            return features
        return self._shrink(self._from_rgb(images, level), level)

    def _from_rgb(self, images: Tensor, level: int) -> Tensor:
        features: Tensor = self.rgb_activation(self.from_rgb[level](images))
        return features

    def _shrink(self, features: Tensor, level: int) -> Tensor:
        return self._check_block(self.blocks[level](features), level, level - 1, level - 1)

    def _level_of(self, images: Tensor, level: int | None) -> int:
        architecture = self.architecture
        if images.ndim != 4 or images.shape[1] != architecture.image_channels:
            raise ValueError(
                f"images must be (B, {architecture.image_channels}, height, width), got {tuple(images.shape)}"
            )
        height, width = images.shape[2:]
        if level is None:
            return architecture.level_of(height, width)
        architecture.check_level(level)
        if architecture.size(level) != (height, width):
            expected = "x".join(map(str, architecture.size(level)))
            remedy = "resize with progan.match_level"
            for other in range(len(architecture.channels)):
                if architecture.size(other) == (height, width):
                    remedy = f"pass level={other} or {remedy}"
            raise ValueError(f"images at level {level} must be {expected}, got {height}x{width}; {remedy}")
        return level


def _by_parts(function: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """Apply a function to a few images at a time."""
    return function(x) if size >= len(x) else torch.cat([function(part) for part in torch.split(x, size)])


def _fill(parameter: nn.Parameter, how: Initial, seed: int, position: str) -> None:
    """Set a parameter to its keyed initial values."""
    shape = tuple(parameter.shape)
    with torch.no_grad():
        if how.distribution == "normal":
            parameter.copy_(normal(shape, seed, "weights", position) * how.scale)
        elif how.distribution == "uniform":
            parameter.copy_((uniform(shape, seed, "weights", position) * 2 - 1) * how.scale)
        else:
            parameter.zero_()


def _qualified_name(block: Block | None) -> str | None:
    """Return a block's qualified name, None for the built-in one."""
    if block is None:
        return None
    named = block if hasattr(block, "__qualname__") else type(block)
    return f"{named.__module__}.{named.__qualname__}"
