"""The PGAN of facebookresearch's pytorch_GAN_zoo: a dict of ``netG``, ``avgG`` (its average), ``netD`` and settings.

Its networks are those of ``karras2018``, but every layer has gain sqrt(2) and multiplies its bias by the same constant
as its weight, and MiniBatchStd is unbiased, in groups of consecutive images.

Differs: the program's discriminator does not blend while level 1 fades in; progan's does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from progan.importers.layers import ForeignState, Layer, Parts, Program
from progan.networks.architecture import Architecture

_KEYS = {"generator": "netG", "ema": "avgG", "discriminator": "netD"}
_MARKERS = {"generator": "formatLayer.module.weight", "discriminator": "decisionLayer.module.weight"}


def _parts(contents: Mapping[str, Any]) -> Parts:
    found: Parts = {role: (contents[key], {}) for role, key in _KEYS.items() if contents.get(key) is not None}
    if not found:  # one network alone
        found = {role: (contents, {}) for role, marker in _MARKERS.items() if marker in contents}
    return found


def _architecture(generator: ForeignState, discriminator: ForeignState | None) -> Architecture:
    levels = generator.count("toRGBLayers.{}.module")
    channels = [generator.shape("groupScale0.0.module", 4)[0]]
    channels += [generator.shape(f"scaleLayers.{level - 1}.1.module", 4)[0] for level in range(1, levels)]
    return Architecture(
        channels=tuple(channels),
        latent_shape=(generator.shape("formatLayer.module", 2)[1],),
        image_channels=generator.shape("toRGBLayers.0.module", 4)[0],
        minibatch_std_unbiased=True,
        minibatch_std_consecutive=True,
        head_channels=None if discriminator is None else discriminator.shape("groupScaleZero.0.module", 4)[0],
    )


def _layer(name: str, shape: tuple[int, ...] | None = None) -> Layer:
    return Layer(f"{name}.module", shape, gain=math.sqrt(2), scaled_bias=True)


def _generator(state: ForeignState, architecture: Architecture) -> dict[str, Layer]:
    layers = {"blocks.0.first.layer.0": _layer("formatLayer"), "blocks.0.second.layer": _layer("groupScale0.0")}
    for level in range(len(architecture.channels)):
        layers[f"to_rgb.{level}"] = _layer(f"toRGBLayers.{level}")
        if level:
            layers[f"blocks.{level}.first.layer"] = _layer(f"scaleLayers.{level - 1}.0")
            layers[f"blocks.{level}.second.layer"] = _layer(f"scaleLayers.{level - 1}.1")
    return layers


def _discriminator(state: ForeignState, architecture: Architecture) -> dict[str, Layer]:
    layers = {
        "blocks.0.conv.layer": _layer("groupScaleZero.0"),
        "blocks.0.dense.layer": _layer("groupScaleZero.1"),
        "blocks.0.score": _layer("decisionLayer"),
    }
    for level in range(len(architecture.channels)):
        layers[f"from_rgb.{level}"] = _layer(f"fromRGBLayers.{level}")
        if level:
            layers[f"blocks.{level}.first.layer"] = _layer(f"scaleLayers.{level - 1}.0")
            layers[f"blocks.{level}.second.layer"] = _layer(f"scaleLayers.{level - 1}.1")
    return layers


PROGRAM = Program("pytorch_gan_zoo", _parts, _architecture, _generator, _discriminator)
