"""Regularisers: penalties on the critic's gradient by its images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from progan.arguments import check_critic, check_gradients_on, check_number, check_tensor, check_weight
from progan.losses.critic import Critic, check_regularizer


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, *, mix: Tensor, target: float = 1.0) -> Tensor:
    """Penalise the critic where its gradient's norm is not the target.

    mean over images of (||grad critic(x_hat)||_2 - target)^2 / target^2 with x_hat = mix * real + (1 - mix) * fake; one
    norm per image (Gulrajani et al. 2017, equation 3; the target: Karras et al. 2018, appendix A.1).

    Args:
        critic: Images to scores.
        real: Real images, (B, C, H, W).
        fake: Generated images, (B, C, H, W); no gradient flows into them.
        mix: Weights of real, (B,), in [0, 1].
        target: Norm asked for, above 0.

    Returns:
        0-d, in at least float32; differentiable once more.

    Raises:
        TypeError: If the images are not floats.
        ValueError: If the shapes do not fit or target is not positive.
        RuntimeError: Where no gradients are taken, such as under ``torch.no_grad()``.

    Example:
        >>> weight = torch.tensor([3.0, 4.0])
        >>> linear = lambda images: (images.flatten(1) * weight).sum(1)
        >>> images = torch.zeros(1, 1, 1, 2)
        >>> gradient_penalty(linear, images, images, mix=torch.zeros(1))  # norm 5, (5 - 1)^2
        tensor(16.)
    """
    check_critic(critic)
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
    dtype = torch.promote_types(real.dtype, fake.dtype)  # under autocast a generator's images are of a half type
    weight = mix.to(dtype).reshape(-1, *[1] * (real.ndim - 1))
    mixed = torch.lerp(fake.detach().to(dtype), real.detach().to(dtype), weight)
    # vector_norm has gradient 0 at 0, where the root of a sum of squares has NaN.
    norm: Tensor = torch.linalg.vector_norm(slopes_at(critic, mixed), dim=1)
    return (norm - target).square().mean() / target**2


def slopes_at(critic: Critic, images: Tensor) -> Tensor:
    """Return the gradient of each image's score by the image, differentiable once more: (B, C * H * W)."""
    check_gradients_on("a gradient penalty differentiates the critic")
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
    gradient = gradient.flatten(1)
    return gradient.float() if gradient.dtype in (torch.float16, torch.bfloat16) else gradient


@dataclass(frozen=True)
class GradientPenalty:
    """The gradient penalty of WGAN-GP, as a regulariser; reported as ``penalty``. See `gradient_penalty`.

    Args:
        weight: Weight in the critic's loss, at least 0.
        target: Norm asked for, above 0.
        every: Interval in steps of a stage; it is applied with ``every`` times the weight.

    Raises:
        TypeError: If a setting is not a number.
        ValueError: If a setting is out of its range.
    """

    weight: float = 10.0
    target: float = 1.0
    every: int = 1
    name: ClassVar[str] = "penalty"

    def __post_init__(self) -> None:
        """Check each setting once, here."""
        check_regularizer(self)
        check_weight("GradientPenalty.target", self.target, above_0=True)

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
        """Return the penalty before its weight, 0-d."""
        return gradient_penalty(critic, real, fake, mix=mix, target=self.target)
