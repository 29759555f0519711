"""The default objective: the losses of both networks, as functions of scores. Others: see logistic."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from progan.arguments import check_weight
from progan.losses.wgan_gp import wgan_generator_loss


@dataclass(frozen=True)
class Wasserstein:
    """The Wasserstein objective (Arjovsky et al. 2017), with the drift term of Karras et al. 2018, appendix A.1.

    Critic: E[D(fake)] - E[D(real)] + drift_weight * E[D(real)^2]. Generator: -E[D(fake)].

    Args:
        drift_weight: Weight of the mean squared score of real images, which keeps scores near 0; at least 0.

    Raises:
        TypeError: If the weight is not a number.
        ValueError: If the weight is negative or not finite.

    Example:
        >>> import torch
        >>> Wasserstein(drift_weight=0.5).critic(torch.tensor([2.0, 0.0]), torch.tensor([4.0, 4.0]))
        tensor(4.)
    """

    drift_weight: float = 1e-3

    def __post_init__(self) -> None:
        """Check the weight once, here."""
        check_weight("Wasserstein.drift_weight", self.drift_weight)

    def critic_parts(self, real_scores: Tensor, fake_scores: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the critic's loss, and the parts ``wasserstein`` and ``drift`` before its weight; all 0-d."""
        wasserstein = fake_scores.mean() - real_scores.mean()
        drift = real_scores.square().mean()
        return wasserstein + self.drift_weight * drift, {"wasserstein": wasserstein, "drift": drift}

    def critic(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        """Return the critic's loss: twice (B,) -> 0-d."""
        return self.critic_parts(real_scores, fake_scores)[0]

    def generator(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        """Return the generator's loss: (B,) -> 0-d."""
        del real_scores
        return wgan_generator_loss(fake_scores)
