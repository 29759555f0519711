"""Closed walks through latents: on the sphere, in equal steps, without a bend, the same each time."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from progan import GrownGenerator, latents, presets
from progan.latents import walk_weights


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def angles(path: torch.Tensor) -> torch.Tensor:
    """Angles from each latent to the next, from the last one to the first."""
    directions = torch.nn.functional.normalize(path.flatten(1), dim=1)
    return torch.acos((directions * directions.roll(-1, 0)).sum(1).clamp(-1, 1))


@pytest.fixture(scope="module", params=["mel_icon", "karras2018"])
def grown(request):
    recipe = getattr(presets, request.param)(16, channels=(8, 6, 4))
    return GrownGenerator(recipe.build(seed=1)[0], level=2)


@pytest.mark.parametrize("keys", [2, 3, 4, 7, 8])
def test_a_walk_is_closed_and_its_steps_are_equal(grown, keys):
    path = grown.walk(40 * keys, through=keys, seed=5).double()
    steps = angles(path)
    assert steps.max() / steps.min() < 1.01
    # It passes each key point, in order.
    points = torch.nn.functional.normalize(grown.latents(keys, seed=5).double().flatten(1), dim=1)
    directions = torch.nn.functional.normalize(path.flatten(1), dim=1)
    distances, nearest = torch.cdist(points, directions).min(1)
    assert distances.max() < 0.51 * steps.mean()
    assert torch.equal(nearest, nearest.sort().values)
    # A bend would turn it by about a right angle within one step.
    turns = torch.nn.functional.cosine_similarity(
        directions.roll(-1, 0) - directions, directions - directions.roll(1, 0), dim=1
    )
    assert turns.min() > math.cos(math.radians(25))


def test_its_latents_are_as_typical_as_samples(grown):
    path, samples = grown.walk(100, through=5), grown.latents(500, seed=1)
    norms = [z.flatten(1).norm(dim=1) for z in (path, samples)]
    assert norms[0].min() > norms[1].min() - 1e-3
    assert norms[0].max() < norms[1].max() + 1e-3


def test_it_begins_at_the_first_key_point_to_the_bit_and_depends_on_the_seed_alone(grown):
    path = grown.walk(12, through=[9, 2, 4], seed=3)
    assert torch.equal(path[0], grown.latents([9], seed=3)[0])
    assert path.dtype == torch.float32
    assert torch.equal(path, grown.walk(12, through=grown.latents([9, 2, 4], seed=3)))
    assert torch.equal(path, grown.walk(12, through=iter([9, 2, 4]), seed=3))
    assert not torch.allclose(path, grown.walk(12, through=[9, 2, 4], seed=4))
    # Half as many steps are every other one.
    assert_close(grown.walk(6, through=[9, 2, 4], seed=3), path[::2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [5, 6, 40])
def test_between_key_points_it_is_their_trigonometric_interpolation(n, monkeypatch):
    """Against a sum of waves that is solved for, not evaluated: a Fourier series through the key points."""
    monkeypatch.setattr(latents, "_AT_ONCE", 1000)  # so that the way is measured in parts
    keys = draw(n, 6)
    times = torch.arange(n, dtype=torch.float64) / n

    def waves(t: torch.Tensor) -> torch.Tensor:
        """Return (T, n) waves: of the highest frequency of an even n, the cosine only."""
        series = [f(2 * math.pi * k * t) for k in range(1, n // 2 + 1) for f in (torch.cos, torch.sin)]
        return torch.stack([torch.ones_like(t), *series], dim=1)[:, :n]

    coefficients = torch.linalg.solve(waves(times), keys)
    curve = waves(torch.linspace(0, 1, 20_001, dtype=torch.float64)[:-1]) @ coefficients
    path = walk_weights(keys, 50) @ keys
    curve, path = (torch.nn.functional.normalize(x, dim=1) for x in (curve, path))
    assert torch.cdist(path, curve).min(1).values.max() < 2e-4 * n


def test_two_key_points_make_a_great_circle():
    keys = draw(2, 9)
    path = walk_weights(keys, 16) @ keys
    assert torch.linalg.matrix_rank(path) == 2
    assert_close(angles(path), torch.full((16,), 2 * math.pi / 16, dtype=torch.float64), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("through", "error", "text"),
    [
        ([3], ValueError, "at least 2 key points in through, got 1"),
        ([3, 3, 3], ValueError, "all alike"),
        ([3, -1], ValueError, "none below 0"),
        (0.5, TypeError, "a list of indices"),
        (torch.zeros(3, 4), ValueError, r"latents \(K, "),
    ],
)
def test_key_points_that_make_no_walk_are_refused(grown, through, error, text):
    with pytest.raises(error, match=text):
        grown.walk(10, through=through)


def test_opposite_key_points_and_no_steps_are_refused(grown):
    z = grown.latents(2)
    for keys in (torch.stack([z[0], -z[0]]), torch.stack([z[0] * 0, z[0] * 0, z[0] * 0])):
        with pytest.raises(ValueError, match="0 or opposite to one another"):
            grown.walk(10, through=keys)
    with pytest.raises(ValueError, match="n must be at least 1"):
        grown.walk(0)
