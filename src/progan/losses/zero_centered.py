"""Regularisers that draw the critic's gradient at images to zero: R1 at real ones, R2 at generated ones."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from progan.arguments import check_flag
from progan.losses.critic import Critic, check_regularizer
from progan.losses.regularizers import slopes_at


@dataclass(frozen=True)
class _ZeroCentered(ABC):
    """The settings of both penalties."""

    weight: float = 10.0
    every: int = 1
    per_pixel: bool = False

    def __post_init__(self) -> None:
        """Check each setting once, here."""
        check_regularizer(self)
        check_flag(f"{type(self).__name__}.per_pixel", self.per_pixel)

    @abstractmethod
    def __call__(self, critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
        """Return the penalty before its weight, 0-d."""

    def _penalty_at(self, critic: Critic, images: Tensor) -> Tensor:
        """Return half the mean squared norm of the gradient at images, 0-d."""
        penalty = slopes_at(critic, images).square().sum(dim=1).mean() / 2
        return penalty * math.prod(images.shape[2:]) if self.per_pixel else penalty


@dataclass(frozen=True)
class R1(_ZeroCentered):
    """The R1 penalty on the gradient at real images (Mescheder et al. 2018, equation 9); reported as ``r1``.

    1/2 * mean over images of ||grad critic(real)||_2^2, so that the weight is the paper's gamma: gamma/2 * E[...].

    The gradient of one pixel falls as pixels get more, so that a gamma for one resolution is too small for the next.
    With ``per_pixel``, gamma is the weight times the number of pixels, as in the heuristic of Karras et al. 2020a
    (appendix C), at every level of a progressive run.

    Args:
        weight: Weight in the critic's loss, the paper's gamma; at least 0.
        per_pixel: Whether the weight is meant for each pixel of an image: the penalty is multiplied by their number.
        every: Interval in steps of a stage; it is applied with ``every`` times the weight.

    Raises:
        TypeError: If a setting is not a number.
        ValueError: If a setting is out of its range.

    Example:
        >>> import torch
        >>> linear = lambda images: (images.flatten(1) * torch.tensor([3.0, 4.0])).sum(1)
        >>> images = torch.zeros(2, 1, 1, 2)
        >>> R1(weight=10.0)(linear, images, images, torch.zeros(2))  # 1/2 * (9 + 16)
        tensor(12.5000)
        >>> R1(weight=5e-4, per_pixel=True)(linear, images, images, torch.zeros(2))
        tensor(25.)
    """

    name: ClassVar[str] = "r1"

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
        """Return the penalty before its weight, 0-d; fake and mix are not used."""
        del fake, mix
        return self._penalty_at(critic, real)


@dataclass(frozen=True)
class R2(_ZeroCentered):
    """The R2 penalty on the gradient at generated images (Mescheder et al. 2018, equation 10); reported as ``r2``.

    1/2 * mean over images of ||grad critic(fake)||_2^2. With R1, it keeps a `Relativistic` critic from growing ever
    steeper (Huang et al. 2024, section 2.2).

    Args:
        weight: Weight in the critic's loss, at least 0.
        every: Interval in steps of a stage; it is applied with ``every`` times the weight.
        per_pixel: Whether the weight is meant for each pixel of an image, as for `R1`.

    Raises:
        TypeError: If a setting is not a number.
        ValueError: If a setting is out of its range.

    Example:
        >>> import torch
        >>> linear = lambda images: (images.flatten(1) * torch.tensor([3.0, 4.0])).sum(1)
        >>> images = torch.zeros(2, 1, 1, 2)
        >>> R2(weight=10.0)(linear, images, images, torch.zeros(2))  # 1/2 * (9 + 16)
        tensor(12.5000)
    """

    name: ClassVar[str] = "r2"

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
        """Return the penalty before its weight, 0-d; no gradient flows into fake, and mix is not used."""
        del mix
        return self._penalty_at(critic, fake.to(real.dtype))
