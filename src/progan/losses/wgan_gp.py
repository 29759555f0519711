"""The losses of WGAN-GP (Gulrajani et al. 2017) in one call each, for training loops of one's own."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from progan.arguments import check_critic, check_number, check_tensor
from progan.losses.critic import Critic, run_concurrently, score_both
from progan.losses.regularizers import gradient_penalty


class CriticLoss(NamedTuple):
    """The critic's loss and its parts, before their weights: 0-d tensors on the device."""

    total: Tensor
    wasserstein: Tensor
    penalty: Tensor
    drift: Tensor


def wgan_gp_loss(
    critic: Critic,
    real: Tensor,
    fake: Tensor,
    *,
    mix: Tensor | None = None,
    penalty_weight: float = 10.0,
    drift_weight: float = 1e-3,
    target: float = 1.0,
) -> CriticLoss:
    """Return the critic's loss, that of `Wasserstein` with `GradientPenalty`.

    E[critic(fake)] - E[critic(real)] + drift_weight * E[critic(real)^2] + penalty_weight * penalty
    (Karras et al. 2018, appendix A.1).

    Args:
        critic: Images to scores.
        real: Real images, (B, C, H, W).
        fake: Generated images, (B, C, H, W); no gradient flows into them.
        mix: Weights of real in the penalty's mixture, (B,), in [0, 1]; None = drawn from torch's global random state.
        penalty_weight: Weight of `gradient_penalty`.
        drift_weight: Weight of the mean squared score of real images, which keeps scores near 0.
        target: Norm that `gradient_penalty` asks for.
    """
    check_critic(critic)
    for name, value in (("real", real), ("fake", fake)):
        check_tensor(name, value)
    for name, weight in (("penalty_weight", penalty_weight), ("drift_weight", drift_weight)):
        if not isinstance(weight, Tensor):
            check_number(name, weight)
    if mix is None:
        mix = real.new_empty(len(real), dtype=torch.float32).uniform_()
    (of_real, of_fake), penalty = run_concurrently(
        critic,
        lambda: score_both(critic, real, fake.detach()),
        lambda: gradient_penalty(critic, real, fake, mix=mix, target=target),
    )
    (real_scores, _), (fake_scores, _) = of_real[0], of_fake[0]  # of whole images
    wasserstein = fake_scores.mean() - real_scores.mean()
    drift = real_scores.square().mean()
    total = wasserstein + drift_weight * drift + penalty_weight * penalty
    return CriticLoss(total, wasserstein, penalty, drift)


def wgan_generator_loss(fake_scores: Tensor) -> Tensor:
    """Return the generator's loss of WGAN, -E[critic(fake)]: (B,) -> 0-d.

    Example:
        >>> wgan_generator_loss(torch.tensor([1.0, 3.0]))
        tensor(-2.)
    """
    check_tensor("fake_scores", fake_scores)
    return -fake_scores.mean()
