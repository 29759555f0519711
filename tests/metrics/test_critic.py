"""The critic's overfitting, from scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from progan.metrics.critic import critic_overfitting


def test_it_is_a_ratio_of_differences_of_means():
    scores = [np.random.default_rng(0).normal(mean, 0.5, n) for mean, n in ((2.0, 40), (1.0, 25), (-1.0, 60))]
    expected = (scores[0].mean() - scores[1].mean()) / (scores[0].mean() - scores[2].mean())
    real, held_out, fake = (torch.from_numpy(values) for values in scores)
    assert critic_overfitting(real.view(4, 10), held_out, fake) == pytest.approx(expected)
    assert critic_overfitting(torch.tensor([3, 5]), torch.tensor([3, 3]), torch.tensor([0, 0])) == 0.25
    assert critic_overfitting(real.requires_grad_(), real, fake) == 0


def test_it_is_nan_where_the_critic_does_not_tell_real_from_fake():
    scores = torch.tensor([0.0, 1.0, 2.0])
    assert math.isnan(critic_overfitting(scores, scores + 1, scores))
    assert math.isnan(critic_overfitting(scores, scores, scores + 0.5))  # within the standard error, 0.82
    assert critic_overfitting(scores, scores + 1, scores + 2) == 0.5
    assert math.isnan(critic_overfitting(torch.ones(3), torch.zeros(3), torch.ones(3)))


def test_bad_input():
    scores = torch.zeros(3)
    with pytest.raises(ValueError, match="held_out_scores must be at least 2 scores, got 1"):
        critic_overfitting(scores, scores[:1], scores)
    with pytest.raises(ValueError, match="fake_scores must be finite, got a mean of nan"):
        critic_overfitting(scores, scores, torch.tensor([0.0, math.nan]))
    with pytest.raises(TypeError, match="real_scores must be a tensor, got a list"):
        critic_overfitting([0.0, 1.0], scores, scores)
