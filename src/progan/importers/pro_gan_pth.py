"""pro-gan-pth 3.x: dicts of networks, each with its constructor's arguments (``conf``) and its ``state_dict``.

Its networks are those of ``karras2018``, but the generator has no PixelNorm after its first layer, a transposed
convolution. Every layer has gain sqrt(2), also those without an activation; or gain and constant are left out
(``use_eql``). The discriminator's levels are numbered from the finest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from progan.importers.layers import ForeignState, Layer, Parts, Program
from progan.networks.architecture import Architecture

_KEYS = {"generator": "generator", "ema": "shadow_generator", "discriminator": "discriminator"}


def _parts(contents: Mapping[str, Any]) -> Parts:
    entries = {role: contents[key] for role, key in _KEYS.items() if key in contents}
    if not entries and "state_dict" in contents:  # one network alone
        state = contents["state_dict"]
        is_generator = isinstance(state, dict) and any("rgb_converters." in str(name) for name in state)
        entries = {"generator" if is_generator else "discriminator": contents}
    found: Parts = {}
    for role, entry in entries.items():
        if not isinstance(entry, dict) or "state_dict" not in entry or not isinstance(entry.get("conf"), dict):
            return {}
        found[role] = (entry["state_dict"], entry["conf"])
    return found


def _architecture(generator: ForeignState, discriminator: ForeignState | None) -> Architecture:
    levels = generator.count("rgb_converters.{}")
    channels = tuple(generator.shape(f"layers.{level}.conv_2", 4)[0] for level in range(levels))
    head = None if discriminator is None else discriminator.shape(f"layers.{levels - 1}.conv_2", 4)[0]
    return Architecture(
        channels=channels,
        latent_shape=(generator.shape("layers.0.conv_1", 4)[0],),
        image_channels=generator.shape("rgb_converters.0", 4)[0],
        norm_first_layer=False,
        head_channels=head,
    )


def _gain(state: ForeignState, shape: tuple[int, ...]) -> float:
    """Return the gain of a layer whose weight has this shape; without a constant, what makes it 1."""
    equalized = state.settings.get("use_eql", True)
    if not isinstance(equalized, bool):
        raise state.error("use_eql in its conf must be True or False")
    return math.sqrt(2) if equalized else math.sqrt(math.prod(shape[1:]))


def _generator(state: ForeignState, architecture: Architecture) -> dict[str, Layer]:
    latent, channels = architecture.latent_shape[0], architecture.channels
    shape = (latent, channels[0], *architecture.base_size)
    layers = {}
    for level, width in enumerate(channels):
        first = Layer(f"layers.{level}.conv_1", gain=_gain(state, (width, channels[max(level - 1, 0)], 3, 3)))
        if level == 0:
            first = Layer("layers.0.conv_1", shape, _gain(state, (channels[0], latent)), transposed=True)
        layers[f"blocks.{level}.{'first.layer' if level else 'first.layer.0'}"] = first
        second = f"layers.{level}.conv_2"
        layers[f"blocks.{level}.second.layer"] = Layer(second, gain=_gain(state, (width, width, 3, 3)))
        layers[f"to_rgb.{level}"] = Layer(f"rgb_converters.{level}", gain=_gain(state, (3, width)))
    return layers


def _discriminator(state: ForeignState, architecture: Architecture) -> dict[str, Layer]:
    top, channels, size = architecture.top_level, architecture.channels, architecture.base_size
    width = architecture.head_channels or channels[0]
    head = (width, width, *size)
    layers = {
        "blocks.0.conv.layer": Layer(f"layers.{top}.conv_1", gain=_gain(state, (width, channels[0] + 1, 3, 3))),
        "blocks.0.dense.layer": Layer(f"layers.{top}.conv_2", head, _gain(state, head)),
        "blocks.0.score": Layer(f"layers.{top}.conv_3", (1, width, 1, 1), _gain(state, (1, width))),
    }
    for level, fine in enumerate(channels):
        theirs = top - level
        layers[f"from_rgb.{level}"] = Layer(
            f"from_rgb.{theirs}.0", gain=_gain(state, (fine, architecture.image_channels))
        )
        if level:
            for ours, part in (("first", 1), ("second", 2)):
                gain = _gain(state, (fine, fine, 3, 3))
                layers[f"blocks.{level}.{ours}.layer"] = Layer(f"layers.{theirs}.conv_{part}", gain=gain)
    return layers


PROGRAM = Program("pro_gan_pth", _parts, _architecture, _generator, _discriminator)
