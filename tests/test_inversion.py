"""The latent of a picture: a generated picture's own is found again; distances are what they are said to be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import small_recipe
from torch.testing import assert_close

from progan import GrownGenerator, TruncatedGenerator, find_latent, inversion, presets, to_uint8

QUICK = {"steps": 60, "draws": 32, "starts": 2}


def built(preset=presets.mel_icon, level=2, **architecture) -> GrownGenerator:
    recipe = small_recipe(preset)
    return GrownGenerator(
        replace(recipe, architecture=replace(recipe.architecture, **architecture)).build(seed=1)[0], level
    )


def distance(image: torch.Tensor, picture: torch.Tensor) -> float:
    """In NumPy, float64, pixel by pixel: the root mean square difference, averaged over the scales down to 4 pixels."""
    difference = image.double().numpy() - picture.double().numpy()
    errors = []
    while True:
        errors.append((difference**2).mean())
        _, height, width = difference.shape
        if min(height, width) < 8:
            return float(np.sqrt(np.mean(errors)))
        quarters = [difference[:, y::2, x::2] for y in (0, 1) for x in (0, 1)]
        difference = np.mean(quarters, axis=0)


@pytest.mark.parametrize(("preset", "share"), [(presets.mel_icon, 0.4), (presets.karras2018, 0.15)])
def test_a_pictures_own_latent_is_found_again(preset, share):
    grown = built(preset)
    own = grown.latents([99], seed=7)
    picture = grown.images(own)[0]
    found = find_latent(grown, picture, steps=200, draws=32, starts=2, learning_rate=0.2)
    assert found.distance < share * found.nearest_sample < share * found.typical_sample
    if preset is presets.karras2018:  # of 5 numbers, of which an image of 768 leaves no choice
        assert torch.nn.functional.cosine_similarity(found.z, own[0], dim=0) > 0.99
    assert_close(grown.images(found.z[None])[0], found.image)
    assert_close(found.distance, distance(found.image, picture), rtol=1e-4, atol=1e-6)
    distances = [distance(image, picture) for image in grown.sample(32)]
    assert_close(found.nearest_sample, min(distances), rtol=1e-4, atol=1e-6)
    assert_close(found.typical_sample, sorted(distances)[15], rtol=1e-4, atol=1e-6)


def test_it_is_deterministic_and_stays_on_the_sphere():
    grown = built()
    picture = to_uint8(grown.sample(60, seed=7)[59])
    before = torch.get_rng_state()
    found, again, other = (find_latent(grown, picture, **QUICK, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found.z, again.z)
    assert found.distance == again.distance
    assert not torch.equal(found.z, other.z)
    assert_close(found.z.norm(), torch.tensor(80.0).sqrt())
    assert found.z.dtype == found.image.dtype == torch.float32
    assert not found.z.requires_grad


def test_more_steps_are_never_worse_and_none_is_the_nearest_sample():
    grown = built()
    picture = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    distances = [find_latent(grown, picture, draws=16, starts=2, steps=steps).distance for steps in (0, 1, 60)]
    assert distances[0] >= distances[1] >= distances[2]
    assert distances[2] < distances[0]
    found = find_latent(grown, picture, draws=16, starts=2, steps=0)
    assert found.distance == pytest.approx(found.nearest_sample)
    nearest = min(range(16), key=lambda index: distance(grown.images(grown.latents([index]))[0], picture))
    assert torch.equal(found.z, grown.latents([nearest])[0])


def test_the_best_latent_on_the_way_is_returned_not_the_last(monkeypatch):
    met = []

    def errors(images, scales):
        found = inversion_errors(images, scales)
        if not torch.is_grad_enabled() and len(images) == 2:
            met.append(found)
        return found

    inversion_errors = inversion._errors
    grown = built(presets.karras2018)
    picture = grown.sample(60, seed=7)[59]
    monkeypatch.setattr(inversion, "_errors", errors)
    found = find_latent(grown, picture, steps=30, draws=8, starts=2, learning_rate=8.0)
    on_the_way = torch.stack(met)
    assert on_the_way.shape == (31, 2)
    assert on_the_way[-1].min() > 1.1 * on_the_way.min()  # a rate so high that it overshoots
    assert_close(found.distance, float(on_the_way.min().sqrt()), rtol=1e-4, atol=1e-6)


def test_values_beyond_black_and_white_are_no_error():
    """A picture of the generator's own, of which most values were clamped, is found as well as another."""
    grown = built(presets.karras2018)
    for parameter in grown.generator.to_rgb.parameters():
        parameter.data.mul_(8)
    picture = grown.sample(60, seed=7)[59]
    assert ((picture == 0) | (picture == 1)).float().mean() > 0.5
    found = find_latent(grown, picture, steps=200, draws=32, starts=2)
    assert found.distance < 0.2 * found.nearest_sample


def test_the_nearest_training_image_is_measured_too():
    grown = built()
    training = torch.randint(0, 256, (70, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    picture = training[3] / 255
    found = find_latent(grown, picture, draws=8, starts=1, steps=1, training=training)
    assert found.nearest_training == 0
    assert "the nearest training image 0.000" in str(found)
    others = find_latent(grown, picture, draws=8, starts=1, steps=1, training=training[4:])
    expected = min(distance(image / 255, picture) for image in training[4:])
    assert_close(others.nearest_training, expected, rtol=1e-4, atol=1e-6)
    assert "training" not in str(find_latent(grown, picture, draws=8, starts=1, steps=1))


@pytest.mark.parametrize(
    "architecture", [{"image_channels": 1}, {"image_channels": 4}, {"base_size": (6, 4), "latent_shape": (5, 6, 4)}]
)
def test_grey_rgba_and_oblong_pictures(architecture):
    grown = built(**architecture)
    found = find_latent(grown, grown.sample(60, seed=7)[59], **QUICK)
    assert found.distance < 0.8 * found.nearest_sample


def test_what_is_invisible_does_not_count():
    grown = built(image_channels=4)
    picture = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(0)).round()
    other = torch.where(picture[3:] == 0, 1 - picture, picture)
    other[3] = picture[3]
    assert not torch.equal(picture, other)
    assert find_latent(grown, picture, **QUICK).distance == find_latent(grown, other, **QUICK).distance


def test_truncated_and_half_grown_generators():
    grown = GrownGenerator(built().generator, 1, 0.5)
    picture = grown.sample(60, seed=7)[59]
    assert find_latent(grown, picture, **QUICK).distance < find_latent(grown, picture, draws=32).nearest_sample
    truncated = TruncatedGenerator(built(), 0.5, n=8)
    found = find_latent(truncated, truncated.sample(60, seed=7)[59], **QUICK)
    assert found.distance < 0.8 * found.nearest_sample


PICTURE = torch.zeros(3, 16, 16)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"image": torch.zeros(3, 8, 8)}, ValueError, r"\(3, 16, 16\) \(C, H, W\), got \(1, 3, 8, 8\); read pictures"),
        ({"image": torch.zeros(1, 16, 16)}, ValueError, "got .1, 1, 16, 16."),
        ({"image": torch.zeros(2, 3, 16, 16)}, ValueError, "one picture, .C, H, W., got 2"),
        ({"image": PICTURE + 2}, ValueError, "got values from 2 to 2"),
        ({"image": PICTURE * float("nan")}, ValueError, "got values from nan"),
        ({"image": PICTURE.int()}, TypeError, "uint8 or floats"),
        ({"image": PICTURE.numpy()}, TypeError, "pass torch.from_numpy"),
        ({"training": torch.zeros(4, 3, 8, 8)}, ValueError, "training must have the shape"),
        ({"steps": -1}, ValueError, "steps must be at least 0"),
        ({"starts": 0}, ValueError, "starts must be at least 1"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be a finite number above 0"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        find_latent(built(), **{"image": PICTURE, **arguments})


def test_it_takes_gradients():
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"call it outside torch\.no_grad"):
        find_latent(built(), PICTURE)
    with pytest.raises(TypeError, match=r"pass GrownGenerator\(generator, level\)"):
        find_latent(built().generator, PICTURE)
