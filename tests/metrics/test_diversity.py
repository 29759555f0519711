"""A collapse is seen at once, and nothing else is taken for one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawn import drawings

from progan.metrics.diversity import LatentDiversity, collapse_remark, diversity, latent_diversity, vendi_score
from progan.randomness import keyed_generator


def oracle(samples: np.ndarray, real: np.ndarray) -> float:
    """The ratio of Vendi scores of images (N, C, H, W) in [0, 1], of multiples of 8 px."""

    def features(images):
        n, channels, height, width = images.shape
        return images.reshape(n, channels, 8, height // 8, 8, width // 8).mean(axis=(3, 5)).reshape(n, -1)

    def squares(points):
        return np.array([[((a - b) ** 2).sum() for b in points] for a in points])

    data = squares(features(real))
    bandwidth = data.sum() / (len(real) * (len(real) - 1))

    def score(distances):
        values = np.linalg.eigvalsh(np.exp(-2 * distances / bandwidth) / len(distances))
        values = values[values > 1e-12]
        return np.exp(-(values * np.log(values)).sum())

    return score(squares(features(samples))) / score(data)


def collapsed(samples: torch.Tensor, modes: int) -> torch.Tensor:
    return samples[torch.arange(len(samples)) % modes]


def test_diversity_is_the_oracles():
    images = drawings(60, 32, 48, seed=1)
    samples, real = images[:24], images[24:]
    drawn = [np.sort(keyed_generator(3, "metrics", "diversity").permutation(n)[:24]) for n in (24, 36)]
    expected = oracle(samples.double().numpy()[drawn[0]] / 255, real.double().numpy()[drawn[1]] / 255)
    assert diversity(samples, real, seed=3) == pytest.approx(expected, rel=1e-4)


def test_pinned():
    images = drawings(128, seed=2)
    assert diversity(images[:64], images[64:]) == pytest.approx(0.940578, rel=1e-4)


@pytest.mark.parametrize("n", [64, 640])
def test_a_collapse_is_reported_and_nothing_else(n):
    images = drawings(2 * n, seed=3)
    samples, real = images[:n], images[n:]
    for modes in (1, 4):
        assert collapse_remark(diversity(collapsed(samples, modes), real)).startswith("Collapse")
    noisy = samples.float() / 255 + torch.randn(samples.shape, generator=torch.Generator().manual_seed(0)) * 0.03
    blurred = F.avg_pool2d(F.pad(samples / 255, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    for good in (samples, noisy.clamp(0, 1), blurred):
        ratio = diversity(good, real)
        assert 0.8 < ratio < 1.2
        assert collapse_remark(ratio) is None


def test_repeated_pictures_are_counted_once():
    similarities = torch.block_diag(*(torch.ones(k, k) for k in (2, 3, 5)))
    shares = (0.2, 0.3, 0.5)
    assert vendi_score(similarities) == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))


def test_as_many_samples_as_real_images_are_compared():
    images = drawings(64, seed=6)
    for samples, real in ((images, images[:16]), (images[:16], images)):
        assert diversity(samples, real) == pytest.approx(1, abs=0.2)


def test_grey_transparent_and_equal_pictures():
    for channels in (1, 4):
        images = drawings(40, 24, 16, channels, seed=4)
        assert diversity(images, images) == 1
    one = drawings(1).expand(16, -1, -1, -1)
    assert diversity(one, one) == pytest.approx(1)
    assert diversity(drawings(16), one) == pytest.approx(16)
    hidden = torch.rand(16, 4, 16, 16)
    hidden[:, 3] = 0
    assert diversity(hidden, hidden[:1].expand(16, -1, -1, -1)) == pytest.approx(1)  # nothing can be seen


def images_of(weights: torch.Tensor):
    """A generator: linear in its latents, within [0, 1] for these."""
    return lambda z: (0.5 + z.flatten(1).double() @ weights).float().reshape(-1, 3, 16, 16)


def test_changes_of_a_linear_generator_are_those_of_its_matrix():
    weights = torch.randn(8, 768, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 100
    weights[3:5] = 0  # which generators do not use
    found = latent_diversity(images_of(weights), (2, 4), directions=8, latents=64)
    assert found.dead == 0.25
    # All directions together: the trace does not depend on them. One on average, by definition.
    assert np.square(found.changes).mean() == pytest.approx(1, rel=0.3)
    weights[2] *= 0.1  # still seen
    weights[3, :384] = weights[0, 384:] / 200  # too faint to be seen, in a direction of its own
    assert latent_diversity(images_of(weights), (2, 4), directions=8, latents=64).dead == 0.25
    two = latent_diversity(images_of(weights), (8,), directions=2)
    assert len(two.changes) == 2
    assert two.dead == 0
    assert latent_diversity(images_of(weights), (8,), directions=2) == two


def test_a_constant_generator_has_dead_directions_only():
    found = latent_diversity(lambda z: torch.full((len(z), 1, 16, 16), 7, dtype=torch.uint8), (8,), directions=4)
    assert found == LatentDiversity((0.0, 0.0, 0.0, 0.0), 1.0)
    assert collapse_remark(1.0, found) == "Collapse: 100 % of the latent directions do not change the pictures."
    assert collapse_remark(1.0, LatentDiversity((1.0, 1.0), 0.0)) is None
    assert collapse_remark(0.39) == "Collapse: the samples are 39 % as diverse as the data."
    assert collapse_remark(0.4) is None


def test_bad_input():
    images = drawings(8)
    with pytest.raises(ValueError, match="samples must be at least 2 images, got 1"):
        diversity(images[:1], images)
    with pytest.raises(ValueError, match="directions must be at most the 4 values of a latent, got 5"):
        latent_diversity(lambda z: images, (4,), directions=5)
    with pytest.raises(TypeError, match="generate must be a callable, latents to images, got a list"):
        latent_diversity([], (4,))
    with pytest.raises(ValueError, match="generate's images must be floats in"):
        latent_diversity(lambda z: torch.full((len(z), 3, 16, 16), 2.0), (4,), directions=2)
