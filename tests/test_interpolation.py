"""Spherical interpolation of latents: against the textbook's formula, and where that has no answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from progan import GrownGenerator, presets, slerp

WEIGHTS = [0.0, 0.1, 0.5, 0.75, 1.0]


def shoemake(start: np.ndarray, end: np.ndarray, t: float) -> np.ndarray:
    """One pair of vectors in float64, as Shoemake 1985 has it; the norm is interpolated linearly."""
    norms = np.sqrt((start**2).sum()), np.sqrt((end**2).sum())
    u, v = start / norms[0], end / norms[1]
    omega = np.arccos((u * v).sum())
    direction = (np.sin((1 - t) * omega) * u + np.sin(t * omega) * v) / np.sin(omega)
    return ((1 - t) * norms[0] + t * norms[1]) * direction


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("shape", [(2,), (512,), (5, 4, 4)])
def test_it_is_shoemakes_formula(shape):
    start, end = draw(3, *shape), 2 * draw(3, *shape, seed=1)
    for t in (*WEIGHTS, 1.5, -0.25):
        expected = np.stack([shoemake(*pair, t) for pair in zip(start.numpy(), end.numpy(), strict=True)])
        assert_close(slerp(start, end, t), torch.from_numpy(expected), rtol=1e-12, atol=1e-12)
    each = slerp(start, end, torch.tensor([0.25, 0.5, 1.0]))
    for index, t in enumerate((0.25, 0.5, 1.0)):
        assert_close(each[index : index + 1], slerp(start[index : index + 1], end[index : index + 1], t))


def test_one_goes_with_many():
    start, end, weights = draw(1, 7), draw(4, 7, seed=1), torch.linspace(0, 1, 4)
    assert_close(slerp(start, end, 0.3), slerp(start.expand(4, -1), end, 0.3), rtol=0, atol=0)
    assert_close(slerp(start, end[:1], weights), slerp(start.expand(4, -1), end[:1].expand(4, -1), weights))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_both_ends_are_exact(dtype):
    start, end = draw(3, 512, dtype=dtype), draw(3, 512, seed=1, dtype=dtype)
    assert torch.equal(slerp(start, end, 0), start)
    assert torch.equal(slerp(start, end, 1.0), end)
    assert slerp(start, end, 0.5).dtype == dtype


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-8, 1e-3, np.pi - 1e-8, np.pi - 1e-12, np.pi])
def test_it_turns_in_equal_steps_whatever_the_angle(angle):
    """Also where the formula divides by nothing: of equal and of opposite latents."""
    start = torch.nn.functional.normalize(draw(2, 9), dim=1)
    side = draw(2, 9, seed=1)
    side = torch.nn.functional.normalize(side - (side * start).sum(1, keepdim=True) * start, dim=1)
    end = np.cos(angle) * start + np.sin(angle) * side
    if angle == 0 or angle == np.pi:
        end = start.clone() if angle == 0 else -start
    path = torch.stack([slerp(start, end, t) for t in np.linspace(0, 1, 9).tolist()])
    assert torch.equal(path[0], start)
    assert torch.equal(path[-1], end)
    assert_close(path.norm(dim=2), torch.ones(9, 2, dtype=torch.float64), rtol=1e-12, atol=0)
    steps = (path[1:] - path[:-1]).norm(dim=2)
    assert_close(steps, torch.full_like(steps, 2 * np.sin(angle / 16)), rtol=1e-6, atol=1e-14)
    assert torch.equal(path, torch.stack([slerp(start, end, t) for t in np.linspace(0, 1, 9).tolist()]))


def test_opposite_latents_that_span_no_plane_at_all():
    path = slerp(torch.tensor([[0.0, 3.0, 0.0]]), torch.tensor([[0.0, -3.0, 0.0]]), torch.linspace(0, 1, 5))
    assert_close(path.norm(dim=1), torch.full((5,), 3.0))
    assert_close(path[:, 1], 3 * torch.cos(torch.linspace(0, np.pi, 5)))


def test_a_latent_of_zeros_has_the_direction_of_the_other():
    z, zeros = draw(1, 6), torch.zeros(1, 6, dtype=torch.float64)
    assert_close(slerp(zeros, z, 0.25), 0.25 * z)
    assert_close(slerp(z, zeros, 0.25), 0.75 * z)
    assert torch.equal(slerp(zeros, zeros, 0.5), zeros)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((draw(4), draw(4), 0.5), ValueError, r"pass z\[None\] for one latent"),
        ((draw(2, 4), draw(2, 5), 0.5), ValueError, r"of one shape .* got \(2, 4\), \(2, 5\)"),
        ((draw(2, 4), draw(3, 4), 0.5), ValueError, r"got \(2, 4\), \(3, 4\)"),
        ((draw(2, 4), draw(2, 4), torch.rand(3)), ValueError, r"and \(3,\)"),
        ((draw(2, 4), [[0.0] * 4], 0.5), TypeError, "end must be a tensor of floats, got list"),
        ((torch.zeros(2, 4, dtype=torch.int64), draw(2, 4), 0.5), TypeError, "start must be .*, got torch.int64"),
    ],
)
def test_refusals(arguments, error, text):
    with pytest.raises(error, match=text):
        slerp(*arguments)


@pytest.fixture(scope="module", params=["mel_icon", "karras2018"])
def grown(request):
    return GrownGenerator(getattr(presets, request.param)(8, channels=(8, 6)).build(seed=1)[0], level=1)


def test_the_latents_are_those_of_the_samples(grown):
    samples = grown.sample(18, seed=4)
    shape = grown.generator.architecture.latent_shape
    assert torch.equal(grown.images(grown.latents(18, seed=4)), samples)
    z = grown.latents([17, 3], seed=4)
    assert z.shape == (2, *shape)
    assert_close(grown.images(z), samples[[17, 3]])
    assert torch.equal(grown.latents(range(2, 5), seed=4), grown.latents(5, seed=4)[2:])
    assert torch.equal(grown.latents(np.array([3]), seed=4), z[1:])
    assert torch.equal(grown.latents(torch.tensor([3]), seed=4), z[1:])
    assert len(grown.latents(np.int64(3))) == 3
    assert not torch.equal(grown.latents([3]), z[1:])


def test_the_way_between_two_latents(grown):
    z = grown.latents(4, seed=4)
    way = grown.latents_between(z[0], z[1], 5)
    assert way.shape == (5, *z.shape[1:])
    assert torch.equal(way[[0, -1]], z[:2])
    assert_close(way, slerp(z[:1], z[1:2], torch.linspace(0, 1, 5)))
    both = grown.latents_between(z[:2], z[2:], 3)
    assert_close(both, torch.cat([grown.latents_between(z[index], z[index + 2], 3) for index in range(2)]))
    assert_close(both, grown.latents_between(z[:2], z[2:], np.int64(3)))
    star = grown.latents_between(z[0], z[1:], 3)
    assert torch.equal(star[::3], z[:1].expand_as(star[::3]))
    assert torch.equal(star[2::3], z[1:])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda grown: grown.latents(0), ValueError, "at least one index, none below 0, got 0"),
        (lambda grown: grown.latents([]), ValueError, r"got \[\]"),
        (lambda grown: grown.latents([-1]), ValueError, r"none below 0, got \[-1\]"),
        (lambda grown: grown.latents("3"), TypeError, "a number of latents, or a list of indices, got '3'"),
        (lambda grown: grown.latents(2.0), TypeError, "got 2.0"),
        (lambda grown: grown.latents_between(*grown.latents(2), 1), ValueError, "n of at least 2, .* got 1"),
        (lambda grown: grown.latents_between(*torch.rand(2, 3), 4), ValueError, r"latents must be \(512.* got \(3,\)"),
        (lambda grown: grown.latents_between([0.0], [1.0], 4), TypeError, "start must be a tensor of floats, got list"),
    ],
)
def test_what_the_grown_generator_refuses(call, error, text, grown):
    with pytest.raises(error, match=text):
        call(grown)
