"""The two networks in fewer and smaller operations, for training and sampling: the same functions, up to rounding.

Three things, and nothing else in this folder, are for speed. Operations with nothing between them are joined: an
upsampling and the convolution after it, the convolution from RGB and the first one of its block. On the CPU, a batch
whose features lie far beyond its caches is taken in parts. And within an update, what operations make of their weights
is made once; on CUDA all weights are scaled together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from progan.networks.base import ProgressiveNetwork
from progan.networks.blocks import ConvUnit, DiscriminatorBlock, GeneratorBlock
from progan.networks.classes import EqualizedEmbedding
from progan.networks.discriminator import ProgressiveDiscriminator
from progan.networks.drawing import AS_TRAINED, Drawing
from progan.networks.generator import ProgressiveGenerator
from progan.networks.layers import EqualizedConv2d, EqualizedLinear
from progan.networks.patches import Scored, joint_score
from progan.ops.dispatch import PART_BYTES, REFERENCE, choose
from progan.ops.joined_convolutions import convolve_projected, convolve_upsampled
from progan.ops.resampling import downsample
from progan.ops.scaling import scale, scale_together
from progan.ops.weight_cache import weight_cache

_KNOWN = (
    *(ProgressiveGenerator, ProgressiveDiscriminator, GeneratorBlock, DiscriminatorBlock),
    *(ConvUnit, EqualizedConv2d),
)


def generate(
    generator: nn.Module,
    z: Tensor,
    level: int,
    alpha: float | Tensor | None,
    labels: Tensor | None = None,
    *,
    drawing: Drawing = AS_TRAINED,
) -> Tensor:
    """Return ``generator(z, level, alpha, labels, drawing=drawing)``.

    Args:
        generator: A `ProgressiveGenerator`; of another module, its own forward is called.
        z: Latents.
        level: Of the images.
        alpha: Weight of this level; None = fully grown.
        labels: Labels of the images; None = the generator has no classes.
        drawing: Of a palette's weights.
    """
    if not isinstance(generator, ProgressiveGenerator) or not _is_unmodified(generator):
        given = () if labels is None else (labels,)
        images: Tensor = generator(z, level, alpha, *given, **({} if drawing == AS_TRAINED else {"drawing": drawing}))
        return images
    level = generator._checked_level(z, level, alpha)
    features, latent = generator._stem(z, labels), generator.modulating(z, labels)
    whole, size = _parts(generator, level, features)
    for index in range(1, whole + 1):
        features = _grow(generator, features, index, *latent)

    def finish(x: Tensor, *latent: Tensor) -> Tensor:
        below = x
        for index in range(whole + 1, level + 1):
            below, x = x, _grow(generator, x, index, *latent)
        return generator._to_images(below, x, level, alpha, *latent, drawing=drawing)

    return _by_parts(finish, size, features, *latent)


def score(*arguments: Any) -> Tensor:
    """Return one score of each image, (B,), of the arguments of `scores`."""
    return joint_score(scores(*arguments))


def scores(
    discriminator: nn.Module,
    images: Tensor,
    level: int,
    alpha: float | Tensor | None,
    batches: int = 1,
    labels: Tensor | None = None,
) -> tuple[Scored, ...]:
    """Return ``discriminator(images, level, alpha, labels, batches=batches, separate=True)``.

    Args:
        discriminator: A `ProgressiveDiscriminator`; of another module, its own forward is called, and has one score.
        images: In its image range.
        level: Of the images.
        alpha: Weight of this level; None = fully grown.
        batches: How many batches lie one after another in images.
        labels: Labels of the images; None = the discriminator has no classes.
    """
    if not isinstance(discriminator, ProgressiveDiscriminator) or not _is_unmodified(discriminator):
        if isinstance(discriminator, ProgressiveDiscriminator) and discriminator.to_patch_scores.weights(level, alpha):
            kinds: tuple[Scored, ...] = discriminator(images, level, alpha, labels, batches=batches, separate=True)
            return kinds
        given = () if labels is None else (labels,)
        whole: Tensor = discriminator(images, level, alpha, *given, batches=batches)
        return (Scored(whole),)
    level = discriminator._checked_level(images, level, alpha, batches)
    at, size = _parts(discriminator, level, images)
    weights = discriminator.to_patch_scores.weights(level, alpha)
    at = max(at, *weights, 0)  # features that are scored are whole batches'

    def begin(part: Tensor) -> Tensor:
        if level == 0:
            return discriminator._from_images(part, level)
        x = _enter(discriminator, part, level)
        if alpha is not None:
            x = discriminator.fade_in(discriminator._from_images(downsample(part), level - 1), x, alpha)
        for index in range(level - 1, at, -1):
            x = discriminator._run_block(x, index)
        return x

    return discriminator._scores_of(_by_parts(begin, size, images), at, weights, batches, labels)


@contextmanager
def cached_weights(level: int, alpha: float | Tensor | None, *networks: ProgressiveNetwork) -> Iterator[None]:
    """Within this context, make once what operations make of the networks' weights, which must not change meanwhile.

    On CUDA, to scale each weight would be a small kernel, and the gradients of concurrent works are to meet on one
    stream; so all weights in use are scaled together. The gradients are to be taken within the context: what several
    streams use must be held until they are there.

    Args:
        level: At which the networks are used.
        alpha: The same.
        networks: On one device.
    """
    with weight_cache():
        for network in networks:
            if choose("parameters", next(network.parameters())) != REFERENCE:
                names = {name.rpartition(".")[0] for name in network.in_use(level, alpha)}
                take_parameters(network.get_submodule(name) for name in sorted(names))
        yield


def take_parameters(modules: Iterable[nn.Module]) -> None:
    """Scale the weights of all equalised layers among modules together.

    But for layers with a hook before their forward, which may make the weight there.

    Args:
        modules: Layers and others.
    """
    taken = [
        (parameter, layer.constant if name == "weight" and not isinstance(layer, EqualizedLinear) else 1.0)
        for layer in modules
        if isinstance(layer, EqualizedConv2d | EqualizedLinear | EqualizedEmbedding) and not layer._forward_pre_hooks
        for name, parameter in layer.named_parameters(recurse=False)
    ]
    scale_together([parameter for parameter, _ in taken], [factor for _, factor in taken])


def _grow(generator: ProgressiveGenerator, x: Tensor, index: int, *latent: Tensor) -> Tensor:
    """Return what the block of a level makes of features."""
    block = generator.blocks[index]
    if not isinstance(block, GeneratorBlock) or (conv := _fusable(block)) is None:
        return generator._run_block(x, index, *latent)
    x = convolve_upsampled(x, scale(conv.weight, conv.constant), conv.bias, conv.margin, conv.padding)
    return generator._checked_features(block.after_first_unit(block.first.activate(x), *latent), index)


def _enter(discriminator: ProgressiveDiscriminator, images: Tensor, level: int) -> Tensor:
    """Return the features that the block of a level, not the lowest, makes of images."""
    block, from_rgb = discriminator.blocks[level], discriminator.from_rgb[level]
    # With zeros around the image, two convolutions are not one: the second would not see the first one's bias there.
    if (
        not isinstance(block, DiscriminatorBlock)
        or (conv := _fusable(block)) is None
        or conv.padding != "reflect"
        or type(discriminator.rgb_activation) is not nn.Identity
        or not isinstance(from_rgb, EqualizedConv2d)
        or not _is_unmodified(from_rgb)
    ):
        return discriminator._run_block(discriminator._from_images(images, level), level)
    projection = scale(from_rgb.weight, from_rgb.constant), from_rgb.bias
    x = convolve_projected(images, projection, scale(conv.weight, conv.constant), conv.bias, conv.margin)
    return discriminator._checked_features(downsample(block.second(block.first.activate(x))), level)


def _fusable(block: GeneratorBlock | DiscriminatorBlock) -> EqualizedConv2d | None:
    """Return a block's first convolution; None where it is to be left alone."""
    conv = getattr(block.first, "layer", None)
    if not isinstance(conv, EqualizedConv2d) or not _is_unmodified(block, block.first, conv):
        return None
    return conv


def _is_unmodified(*modules: nn.Module) -> bool:
    """Tell whether modules do nothing but their own forward, so that two of them may work as one.

    A hook would not be called then, nor the forward of a class derived from theirs. Compiled networks stay as they are.
    """
    return not torch.compiler.is_compiling() and all(
        any(type(module).forward is kind.forward for kind in _KNOWN)
        and not (module._forward_hooks or module._forward_pre_hooks)
        and not (module._backward_hooks or module._backward_pre_hooks)
        for module in modules
    )


def _parts(network: ProgressiveNetwork, level: int, x: Tensor) -> tuple[int, int]:
    """Return up to which level below this one a batch is taken whole, and how many images at a time from there on.

    On the CPU, a batch's features of a high level lie far beyond its caches, and a few images' do not. Images are
    independent of one another above level 0, unless a block of one's own sees to it that they are not.
    """
    if level == 0 or network.block_name is not None or choose("batch", x) == REFERENCE:
        return max(level - 1, 0), len(x)
    architecture = network.architecture
    bytes_of = [
        max(architecture.channels[max(index - 1, 0) : index + 1])
        * math.prod(architecture.size(index))
        * x.element_size()
        for index in range(level + 1)
    ]
    whole = next((index for index in range(level) if len(x) * bytes_of[index + 1] > PART_BYTES), level - 1)
    return whole, max(1, min(len(x), PART_BYTES // bytes_of[level]))


def _by_parts(function: Callable[..., Tensor], size: int, *x: Tensor) -> Tensor:
    """Apply a function of tensors that are parallel, (B, ...), to a few images at a time."""
    if size >= len(x[0]):
        return function(*x)
    return torch.cat([function(*part) for part in zip(*(torch.split(each, size) for each in x), strict=True)])
