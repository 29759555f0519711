"""The losses of WGAN-GP (Gulrajani et al. 2017) as Karras et al. 2018, appendix A.1, use it.

Every loss takes a callable ``critic: images -> scores``, so level, alpha and devices never appear here. The terms are
reported before their weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from progan.arguments import check_number, check_tensor, wrong_type

Critic = Callable[[Tensor], Tensor]
First = TypeVar("First")
Second = TypeVar("Second")


def check_gradients_on(why: str) -> None:
    """Raise RuntimeError where torch takes no gradients; the message begins with why they are needed."""
    if not torch.is_grad_enabled():
        raise RuntimeError(f"{why}; call it outside torch.no_grad() and torch.inference_mode()")


def score_both(critic: Critic, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores of real and of fake images, in one pass where the critic offers it.

    A critic may have a method ``both(real, fake)`` that keeps their batch statistics apart; any callable will do.
    """
    both = getattr(critic, "both", None)
    if both is None:
        return critic(real), critic(fake)
    real_scores, fake_scores = both(real, fake)
    return real_scores, fake_scores


def run_concurrently(critic: Critic, first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
    """Return what two works bring that do not need each other; done at once where the critic offers it.

    A critic may have a method ``run_concurrently(first, second)``; any callable will do.
    """
    does = getattr(critic, "run_concurrently", None)
    if does is None:
        return first(), second()
    results: tuple[First, Second] = does(first, second)
    return results


def _check_critic(critic: object) -> None:
    if not callable(critic):
        raise wrong_type(
            "critic", "a callable, images to scores", critic, "pass the network, or a function that calls it"
        )


class CriticLoss(NamedTuple):
    """The critic's loss and its parts, before their weights: 0-d tensors on the device."""

    total: Tensor
    wasserstein: Tensor
    penalty: Tensor
    drift: Tensor


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, *, mix: Tensor, target: float = 1.0) -> Tensor:
    """Penalise the critic where its gradient's norm is not the target.

    mean over images of (||grad critic(x_hat)||_2 - target)^2 / target^2 with x_hat = mix * real + (1 - mix) * fake; one
    norm per image (Gulrajani et al. 2017, equation 3; the target: Karras et al. 2018, appendix A.1).

    Args:
        critic: images to scores.
        real: (B, C, H, W).
        fake: (B, C, H, W); no gradient flows into it.
        mix: weight of real, (B,), in [0, 1].
        target: the norm asked for, positive.

    Returns:
        0-d, in at least float32; differentiable once more.

    Raises:
        TypeError: if the images are not floats.
        ValueError: if the shapes do not fit or target is not positive.
        RuntimeError: where no gradients are taken, such as under ``torch.no_grad()``.

    Example:
        >>> weight = torch.tensor([3.0, 4.0])
        >>> linear = lambda images: (images.flatten(1) * weight).sum(1)
        >>> images = torch.zeros(1, 1, 1, 2)
        >>> gradient_penalty(linear, images, images, mix=torch.zeros(1))  # norm 5, (5 - 1)^2
        tensor(16.)
    """
    _check_critic(critic)
    for name, value in (("real", real), ("fake", fake), ("mix", mix)):
        check_tensor(name, value)
    check_number("target", target)
    if real.shape != fake.shape:
        raise ValueError(f"real and fake must have one shape, got {tuple(real.shape)} and {tuple(fake.shape)}")
    if mix.shape != (len(real),):
        raise ValueError(f"mix must hold one number per image, shape ({len(real)},), got {tuple(mix.shape)}")
    if not target > 0:
        raise ValueError(f"target must be positive, got {target!r}")
    if not (real.is_floating_point() and fake.is_floating_point()):
        raise TypeError(f"real and fake must be floats in the critic's range, got {real.dtype} and {fake.dtype}")
    check_gradients_on("a gradient penalty differentiates the critic")
    dtype = torch.promote_types(real.dtype, fake.dtype)  # under autocast a generator's images are of a half type
    weight = mix.to(dtype).reshape(-1, *[1] * (real.ndim - 1))
    mixed = torch.lerp(fake.detach().to(dtype), real.detach().to(dtype), weight).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    gradient = gradient.flatten(1)
    if gradient.dtype in (torch.float16, torch.bfloat16):
        gradient = gradient.float()
    # vector_norm has gradient 0 at 0, where the root of a sum of squares has NaN.
    norm: Tensor = torch.linalg.vector_norm(gradient, dim=1)
    return (norm - target).square().mean() / target**2


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
    """Return the critic's loss.

    E[critic(fake)] - E[critic(real)] + penalty_weight * penalty + drift_weight * E[critic(real)^2]
    (Karras et al. 2018, appendix A.1).

    Args:
        critic: images to scores.
        real: (B, C, H, W).
        fake: (B, C, H, W); no gradient flows into it.
        mix: weight of real in the penalty's mixture, (B,), in [0, 1]; None = drawn from torch's global random state.
        penalty_weight: of `gradient_penalty`.
        drift_weight: of the mean squared score of real images, which keeps scores near 0.
        target: of `gradient_penalty`.
    """
    _check_critic(critic)
    for name, value in (("real", real), ("fake", fake)):
        check_tensor(name, value)
    for name, weight in (("penalty_weight", penalty_weight), ("drift_weight", drift_weight)):
        if not isinstance(weight, Tensor):
            check_number(name, weight)
    if mix is None:
        mix = torch.rand(len(real), device=real.device)
    (real_scores, fake_scores), penalty = run_concurrently(
        critic,
        lambda: score_both(critic, real, fake.detach()),
        lambda: gradient_penalty(critic, real, fake, mix=mix, target=target),
    )
    wasserstein = fake_scores.mean() - real_scores.mean()
    drift = real_scores.square().mean()
    total = wasserstein + penalty_weight * penalty + drift_weight * drift
    return CriticLoss(total, wasserstein, penalty, drift)


def wgan_generator_loss(fake_scores: Tensor) -> Tensor:
    """Return the generator's loss, -E[critic(fake)]: (B,) -> 0-d.

    Example:
        >>> wgan_generator_loss(torch.tensor([1.0, 3.0]))
        tensor(-2.)
    """
    check_tensor("fake_scores", fake_scores)
    return -fake_scores.mean()


class Loss(Protocol):
    """What a training step asks of a loss."""

    def critic(self, critic: Critic, real: Tensor, fake: Tensor, *, mix: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the critic's total loss and its parts by name, before their weights; all 0-d."""
        ...

    def generator(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """Return the generator's loss, 0-d."""
        ...


@dataclass(frozen=True)
class WganGp:
    """Hold the settings of WGAN-GP, for `Training.loss`.

    Args:
        penalty_weight: of the gradient penalty.
        drift_weight: of the mean squared score of real images.
        target: the gradient norm asked for.
    """

    penalty_weight: float = 10.0
    drift_weight: float = 1e-3
    target: float = 1.0

    def __post_init__(self) -> None:
        """Check each number once, here."""
        for name in ("penalty_weight", "drift_weight", "target"):
            check_number(f"WganGp.{name}", getattr(self, name))
        if not (
            0 <= self.penalty_weight < math.inf and 0 <= self.drift_weight < math.inf and 0 < self.target < math.inf
        ):
            raise ValueError(f"WganGp takes weights of at least 0 and a positive target, all finite, got {self}")

    def critic(self, critic: Critic, real: Tensor, fake: Tensor, *, mix: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return `wgan_gp_loss`'s total, and its parts by name."""
        loss = wgan_gp_loss(
            critic,
            real,
            fake,
            mix=mix,
            penalty_weight=self.penalty_weight,
            drift_weight=self.drift_weight,
            target=self.target,
        )
        parts = loss._asdict()
        return parts.pop("total"), parts

    def generator(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """Return `wgan_generator_loss`; the real images are not looked at."""
        del real
        return wgan_generator_loss(critic(fake))
