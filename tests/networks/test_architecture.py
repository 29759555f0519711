"""What shapes both networks: settings that make no pair of networks are refused."""

import math
import re

import pytest

from progan.networks.architecture import Architecture

WIDTHS = (16, 12, 8)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"channels": ()}, "Architecture.channels must be ints of at least 1, got ()"),
        ({"channels": (8, 0)}, "Architecture.channels must be ints of at least 1, got (8, 0)"),
        ({"channels": (8, 4.0)}, "Architecture.channels must be ints of at least 1, got (8, 4.0)"),
        ({"latent_shape": (0,)}, "Architecture.latent_shape must be ints of at least 1, got (0,)"),
        (
            {"latent_shape": (8, 4)},
            "latent_shape must be (channels,) or (channels, height, width) with base_size (4, 4), got (8, 4)",
        ),
        (
            {"latent_shape": (8, 4, 4), "base_size": (6, 4)},
            "latent_shape must be (channels,) or (channels, height, width) with base_size (6, 4), got (8, 4, 4)",
        ),
        ({"base_size": (4, 1)}, "Architecture.base_size must be ints of at least 2, got (4, 1)"),
        ({"base_size": (4, 4, 4)}, "base_size must be (height, width), got (4, 4, 4)"),
        ({"image_channels": 2}, "image_channels must be 1 (grey), 3 (RGB) or 4 (RGBA), got 2"),
        ({"image_range": (1.0, -1.0)}, "image_range must be (value of black, value of white), got (1.0, -1.0)"),
        ({"output": "tanh"}, "output must be one of linear, sigmoid, got 'tanh'"),
        ({"output": "sigmoid"}, "a sigmoid makes values in [0, 1], got image_range=(-1.0, 1.0); use (0.0, 1.0)"),
    ],
)
def test_architecture_refusals(settings, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Architecture(**{"channels": WIDTHS, **settings})


def test_architecture_takes_lists_as_tuples():
    architecture = Architecture([8, 4], [16], base_size=[6, 4], image_range=[0.0, 1.0])
    assert architecture == Architecture((8, 4), (16,), base_size=(6, 4), image_range=(0.0, 1.0))
    assert hash(architecture) == hash(Architecture((8, 4), (16,), base_size=(6, 4), image_range=(0.0, 1.0)))
    assert (architecture.top_level, architecture.size(1), architecture.level_of(12, 8)) == (1, (12, 8), 1)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"minibatch_std_group": 2.5}, "minibatch_std_group must be an int of at least 1, or None, got 2.5"),
        ({"head_channels": 0}, "head_channels must be an int of at least 1, or None, got 0"),
        ({"norm_epsilon": math.nan}, "norm_epsilon must be a small number above 0, got nan"),
        ({"image_range": (0, math.inf)}, r"image_range must be \(value of black, value of white\), got \(0, inf\)"),
    ],
)
def test_settings_that_make_no_network_are_refused(setting, text):
    with pytest.raises(ValueError, match=text):
        Architecture(WIDTHS, **setting)
