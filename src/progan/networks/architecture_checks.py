"""What makes settings of an architecture a pair of networks, and what to say of those that do not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

from progan.arguments import check_flag, check_int, check_number
from progan.networks.layers import Equalization
from progan.ops.convolution import Padding

if TYPE_CHECKING:
    from progan.networks.architecture import Architecture

_FLAGS = (
    *("minibatch_std_unbiased", "equalized_ends", "normalize_latent", "norm_before_activation"),
    *("norm_in_discriminator", "norm_epsilon_outside_root", "widen_first", "modulation"),
    *("minibatch_std_consecutive", "norm_first_layer", "patch_scores"),
)
_MOST_CLASSES = 1000  # a run records the name and the number of images of each
_MOST_POINTS = 8  # along a side of a pixel; the time of drawing rises with their square
_MOST_COLOURS = 64  # in a palette; the time for sparsemax rises with the square of their number
_LARGEST_SIDE = 65_536  # pixels, as for JPEG; bounds the number of levels that a crafted file can request


def check_settings(architecture: Architecture) -> None:
    """Raise TypeError or ValueError if the settings do not determine a valid pair of networks; build nothing."""
    for name, least in (("channels", 1), ("latent_shape", 1), ("base_size", 2)):
        values = getattr(architecture, name)
        if not values or not all(isinstance(value, int) and value >= least for value in values):
            raise ValueError(f"Architecture.{name} must be ints of at least {least}, got {values!r}")
    if len(architecture.base_size) != 2:
        raise ValueError(f"base_size must be (height, width), got {architecture.base_size!r}")
    if max(architecture.size(architecture.top_level)) > _LARGEST_SIDE:
        raise ValueError(
            f"images of at most {_LARGEST_SIDE:,} pixels a side are made, got base_size {architecture.base_size!r} and "
            f"{len(architecture.channels):,} levels, each twice as large as the one before"
        )
    if len(architecture.latent_shape) not in (1, 3) or (
        len(architecture.latent_shape) == 3 and architecture.latent_shape[1:] != architecture.base_size
    ):
        raise ValueError(
            f"latent_shape must be (channels,) or (channels, height, width) with base_size {architecture.base_size}, "
            f"got {architecture.latent_shape!r}"
        )
    if architecture.modulation and len(architecture.latent_shape) != 1:
        raise ValueError(
            f"modulation needs a vector latent, such as (128,), got latent_shape={architecture.latent_shape!r}"
        )
    check_int("Architecture.palette", architecture.palette, 0)
    if architecture.palette == 1 or architecture.palette > _MOST_COLOURS:
        raise ValueError(f"a palette has 2 to {_MOST_COLOURS} colours, got palette={architecture.palette}; 0 is none")
    if architecture.palette and not (architecture.modulation and architecture.output == "linear"):
        got = f"{architecture.modulation!r} and {architecture.output!r}"
        raise ValueError(
            "the colours of a palette are made of the latent that modulates the features, and are images as they "
            f"are; pass modulation=True and output='linear', got {got}"
        )
    check_int("Architecture.palette_layers", architecture.palette_layers, 0)
    check_number("Architecture.sharpness", architecture.sharpness)
    if not 0 < architecture.sharpness < math.inf:
        raise ValueError(f"sharpness must be above 0, got {architecture.sharpness!r}; 1 draws as in training")
    check_int("Architecture.supersampling", architecture.supersampling, 1)
    if architecture.supersampling > _MOST_POINTS:
        raise ValueError(f"supersampling must be at most {_MOST_POINTS}, got {architecture.supersampling!r}")
    if architecture.image_channels not in (1, 3, 4):
        raise ValueError(f"image_channels must be 1 (grey), 3 (RGB) or 4 (RGBA), got {architecture.image_channels!r}")
    if len(architecture.image_range) != 2:
        raise ValueError(f"image_range must be (value of black, value of white), got {architecture.image_range!r}")
    for value in architecture.image_range:
        check_number("each of Architecture.image_range", value)
    low, high = architecture.image_range
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"image_range must be (value of black, value of white), got {architecture.image_range!r}")
    for name, allowed in (
        ("padding", get_args(Padding)),
        ("equalization", get_args(Equalization)),
        ("output", ("linear", "sigmoid")),
    ):
        if getattr(architecture, name) not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(architecture, name)!r}")
    for name in ("minibatch_std_group", "head_channels"):
        value = getattr(architecture, name)
        if value is not None and not (isinstance(value, int) and value >= 1):
            raise ValueError(f"{name} must be an int of at least 1, or None, got {value!r}")
    check_int("Architecture.classes", architecture.classes, 0)
    check_int("Architecture.class_embedding", architecture.class_embedding, 1)
    if architecture.classes > _MOST_CLASSES:
        raise ValueError(f"Architecture.classes must be at most {_MOST_CLASSES:,}, got {architecture.classes!r}")
    check_number("Architecture.norm_epsilon", architecture.norm_epsilon)
    for name in _FLAGS:
        check_flag(f"Architecture.{name}", getattr(architecture, name))
    if not 0 < architecture.norm_epsilon < 1:
        raise ValueError(f"norm_epsilon must be a small number above 0, got {architecture.norm_epsilon!r}")
    if architecture.output == "sigmoid" and architecture.image_range != (0.0, 1.0):
        raise ValueError(
            f"a sigmoid makes values in [0, 1], got image_range={architecture.image_range!r}; use (0.0, 1.0)"
        )
