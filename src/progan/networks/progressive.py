"""The two networks. Growth is an argument: they own parameters only, and no state of how far they have grown.

``level`` counts doublings from the base size: 0 = 4x4, 1 = 8x8, ... 6 = 256x256. ``alpha`` is the weight of the newest
level while it fades in; None means fully grown, and the old branch is not computed. One `Architecture` shapes both
networks, so a pair always fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from progan.arguments import check_instance, check_int, check_tensor, wrong_type
from progan.networks.architecture import Architecture
from progan.networks.blocks import (
    SLOPE,
    DiscriminatorBlock,
    DiscriminatorHead,
    GeneratorBlock,
    GeneratorStem,
    rgb_layer,
)
from progan.networks.layers import FadeIn, Initial
from progan.ops.resampling import downsample, upsample
from progan.randomness import key, normal, uniform

_CACHED_BYTES = 8 << 20  # of features, on the CPU: see benchmarks/NOTES.md

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
        blocks = [level_0]
        for level in levels:
            made = (block or build)(architecture, level)
            if not isinstance(made, nn.Module):
                raise wrong_type(f"what block(architecture, {level}) returns", "a torch.nn.Module", made)
            blocks.append(made)
        self.blocks: nn.ModuleList = nn.ModuleList(blocks)
        self.fade_in: FadeIn = FadeIn()

    def in_use(self, level: int, alpha: float | Tensor | None = None) -> dict[str, nn.Parameter]:
        """Return the parameters that a pass at this growth uses, by name.

        Blocks 0 to level, the RGB layers of the level and, while it fades in, those of the level below.
        """
        self.architecture.check_growth(level, alpha)
        levels = (level,) if alpha is None else (level - 1, level)
        prefixes = [f"blocks.{index}." for index in range(level + 1)] + [f"{self._rgb}.{index}." for index in levels]
        found: dict[nn.Parameter, str] = {}  # one that two layers share has a name in each
        for name, parameter in self.named_parameters(remove_duplicate=False):
            if name.startswith(tuple(prefixes)):
                found.setdefault(parameter, name)
        return {name: parameter for parameter, name in found.items()}

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
        if x.device.type != "cpu" or self.block_name is not None or level == 0 or torch.compiler.is_compiling():
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
        _check_parts(architecture, block)
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
        check_tensor("z", z)
        level = self.architecture.top_level if level is None else level
        self.architecture.check_growth(level, alpha)
        if not z.is_floating_point():
            raise TypeError(f"z must be of floats, N(0, 1), got {z.dtype}")
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
        _check_parts(architecture, block)
        super().__init__(architecture, DiscriminatorHead(architecture), DiscriminatorBlock, block)
        self.from_rgb: nn.ModuleList = nn.ModuleList(
            rgb_layer(architecture, architecture.image_channels, width, gain=math.sqrt(2))
            for width in architecture.channels
        )
        self.rgb_activation: nn.Module = nn.LeakyReLU(SLOPE) if architecture.equalized_ends else nn.Identity()

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
        check_tensor("images", images)
        check_int("batches", batches)
        if not images.is_floating_point():
            raise TypeError(
                f"images must be floats in image_range {self.architecture.image_range}, got {images.dtype}; divide "
                "uint8 by 255 and bring it to that range"
            )
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
        block, from_rgb = self.blocks[level], self.from_rgb[level]
        # Two convolutions with nothing between them are one, of fewer channels.
        if isinstance(block, DiscriminatorBlock) and type(self.rgb_activation) is nn.Identity and block.joins(from_rgb):
            return block.of_images(images, from_rgb)
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


def _check_parts(architecture: object, block: object) -> None:
    """Raise TypeError where a network cannot be built of what came."""
    remedies: list[tuple[type, str]] = [(Sequence, "pass Architecture(channels)")]
    if hasattr(architecture, "architecture"):  # a recipe or a network
        remedies = [(object, "pass its architecture")]
    check_instance("architecture", architecture, Architecture, remedies)
    if block is not None and (isinstance(block, nn.Module) or not callable(block)):
        remedy = f"pass its class, {type(block).__name__}" if isinstance(block, nn.Module) else ""
        raise wrong_type("block", "a class or function of (architecture, level)", block, remedy)


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
