"""Truncation: exact at both ends, and samples get more alike on the way."""

from __future__ import annotations

import pytest
import torch
from conftest import small_recipe
from torch.testing import assert_close

from progan import GrownGenerator, TruncatedGenerator, presets
from progan.randomness import latents

PRESETS = [presets.mel_icon, presets.karras2018]


def built(preset=presets.mel_icon, level=2, alpha=None) -> GrownGenerator:
    return GrownGenerator(small_recipe(preset).build(seed=1)[0], level, alpha)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("level", "alpha"), [(0, None), (1, 0.5), (2, 0.25), (2, None)])
def test_psi_1_changes_nothing_and_psi_0_makes_one_picture(preset, level, alpha):
    grown = built(preset, level, alpha)
    assert_close(TruncatedGenerator(grown, 1.0, n=8).sample(4), grown.sample(4))
    images = TruncatedGenerator(grown, 0.0, n=8).sample(4)
    assert_close(images, images[:1].expand_as(images))


@pytest.mark.parametrize("preset", PRESETS)
def test_samples_get_more_alike(preset):
    grown = built(preset)
    variety = [TruncatedGenerator(grown, psi, n=64).sample(64).std(dim=0).mean() for psi in (1.0, 0.75, 0.5, 0.25, 0)]
    assert variety == sorted(variety, reverse=True)
    assert variety[-1] < 1e-6 < 0.5 * variety[0]


def test_the_mean_is_that_of_the_features():
    grown = built()
    truncated = TruncatedGenerator(grown, n=300, level=1)
    z = latents(range(300), grown.generator.architecture.latent_shape, 0, "film")
    assert truncated.at == 1
    assert truncated.mean.shape == (1, 6, 8, 8)
    assert_close(truncated.mean, grown.generator.features(z, 1).mean(dim=0, keepdim=True), rtol=1e-4, atol=1e-5)
    assert torch.equal(truncated.mean, TruncatedGenerator(grown, n=300, level=1).mean)


def test_it_is_a_grown_generator_of_the_same_weights():
    grown = built()
    truncated = TruncatedGenerator(grown, 0.5, n=8)
    assert truncated.generator is grown.generator
    assert set(truncated.state_dict()) == set(grown.state_dict())
    truncated.psi = 1.0
    assert_close(truncated.sample(2), grown.sample(2))
    assert truncated.double().sample(2).dtype == torch.float32


@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        ({"psi": 1.5}, ValueError, r"in \[0, 1\], got 1.5"),
        ({"psi": float("nan")}, ValueError, r"in \[0, 1\], got nan"),
        ({"psi": "0.7"}, TypeError, "psi must be a number"),
        ({"level": 2}, ValueError, "level must be at most 1, below the grown level 2, got 2"),
        ({"n": 1}, ValueError, "n must be at least 2"),
    ],
)
def test_bad_arguments_are_refused(keywords, error, text):
    with pytest.raises(error, match=text):
        TruncatedGenerator(built(), **keywords)
    with pytest.raises(TypeError, match=r"pass GrownGenerator\(generator, level\)"):
        TruncatedGenerator(built().generator)
