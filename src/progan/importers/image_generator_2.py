"""image_generator_2, the program of the article "Mel Icon Generator version 2": state dicts of one network each.

Its networks are those of the preset ``mel_icon``, whose constants are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from progan.importers.layers import ForeignState, Layer, Parts, Program
from progan.networks.architecture import Architecture


def _parts(contents: Mapping[str, Any]) -> Parts:
    markers = {"generator": "toRGBs.0.weight", "discriminator": "fromRGBs.0.weight"}
    return {
        role: (contents, {}) for role, marker in markers.items() if marker in contents or f"module.{marker}" in contents
    }


def _architecture(generator: ForeignState, discriminator: ForeignState | None) -> Architecture:
    levels = range(generator.count("toRGBs.{}"))
    channels = tuple(generator.shape(_unit(level, second=True), 4)[0] for level in levels)
    head = 2 * channels[0] if discriminator is None else discriminator.shape("blocks.0.layers.1.layers.2", 4)[0]
    return Architecture(
        channels=channels,
        latent_shape=(generator.shape(_unit(0, second=False), 4)[1], 4, 4),
        image_channels=generator.shape("toRGBs.0", 4)[0],
        image_range=(0.0, 1.0),
        minibatch_std_group=None,
        minibatch_std_unbiased=True,
        padding="reflect",
        equalization="he_twice",
        equalized_ends=False,
        normalize_latent=False,
        norm_before_activation=True,
        norm_in_discriminator=True,
        norm_epsilon=1e-7,
        norm_epsilon_outside_root=True,
        output="sigmoid",
        widen_first=True,
        head_channels=head,
    )


def _unit(level: int, *, second: bool) -> str:
    """Return the name of a convolution of the generator; above level 0, an upsampling comes first."""
    return f"blocks.{level}.layers.{2 * second + (level > 0)}.layers.2"


def _generator(state: ForeignState, architecture: Architecture) -> dict[str, Layer]:
    layers = {}
    for level in range(len(architecture.channels)):
        layers[f"blocks.{level}.first.layer"] = Layer(_unit(level, second=False))
        layers[f"blocks.{level}.second.layer"] = Layer(_unit(level, second=True))
        layers[f"to_rgb.{level}"] = Layer(f"toRGBs.{level}")
    return layers


def _discriminator(state: ForeignState, architecture: Architecture) -> dict[str, Layer]:
    width = architecture.head_channels or architecture.channels[0]
    layers = {
        "blocks.0.conv.layer": Layer("blocks.0.layers.1.layers.2"),
        "blocks.0.dense.layer": Layer("blocks.0.layers.3.layers.2", (width, width, *architecture.base_size)),
        "blocks.0.score": Layer("blocks.0.layers.5", (1, width, 1, 1)),
    }
    for level in range(len(architecture.channels)):
        layers[f"from_rgb.{level}"] = Layer(f"fromRGBs.{level}")
        if level:
            layers[f"blocks.{level}.first.layer"] = Layer(f"blocks.{level}.layers.0.layers.2")
            layers[f"blocks.{level}.second.layer"] = Layer(f"blocks.{level}.layers.2.layers.2")
    return layers


PROGRAM = Program("image_generator_2", _parts, _architecture, _generator, _discriminator)
