"""Objectives on scores that are logits: non-saturating and relativistic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class NonSaturating:
    """The non-saturating objective (Goodfellow et al. 2014, section 3), with scores as logits.

    Critic: E[softplus(D(fake))] + E[softplus(-D(real))]. Generator: E[softplus(-D(fake))].

    Example:
        >>> import torch
        >>> NonSaturating().generator(torch.tensor([0.0]))
        tensor(0.6931)
    """

    def critic(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        """Return the critic's loss: twice (B,) -> 0-d."""
        return F.softplus(fake_scores).mean() + F.softplus(-real_scores).mean()

    def generator(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        """Return the generator's loss: (B,) -> 0-d."""
        del real_scores
        return F.softplus(-fake_scores).mean()


@dataclass(frozen=True)
class Relativistic:
    """The relativistic objective (Jolicoeur-Martineau 2019), in pairs, with scores as logits.

    Critic: E[softplus(D(fake) - D(real))]. Generator: E[softplus(D(real) - D(fake))]. Real image i is paired with
    generated image i: the critic tells apart two images, not two sets, so that each mode of the data needs generated
    images of its own, and fewer modes are lost (Sun et al. 2020; Huang et al. 2024, section 2.1, who use it with R1 and
    R2).

    Example:
        >>> import torch
        >>> Relativistic().critic(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]))
        tensor(0.6931)
    """

    needs_real: ClassVar[bool] = True

    def critic(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        """Return the critic's loss: twice (B,) -> 0-d."""
        return F.softplus(fake_scores - real_scores).mean()

    def generator(self, fake_scores: Tensor, real_scores: Tensor | None) -> Tensor:
        """Return the generator's loss: twice (B,) -> 0-d."""
        if real_scores is None:
            raise ValueError("Relativistic compares with real images; pass real_scores too, as its needs_real says")
        return F.softplus(real_scores - fake_scores).mean()
