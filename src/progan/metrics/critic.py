"""Overfitting of the critic: does it score training images above real images that it has never seen?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from progan.arguments import check_tensor


def critic_overfitting(real_scores: Tensor, held_out_scores: Tensor, fake_scores: Tensor) -> float:
    """Return how far held-out images lie from the training images towards generated ones, in the critic's scores.

    It is (E D(train) - E D(held out)) / (E D(train) - E D(fake)): 0 for a critic that scores all real images alike, 1
    for one that takes held-out images for generated ones. Even without overfitting it scatters around 0, the more so
    the fewer the images.

    Args:
        real_scores: Scores of training images, of any shape.
        held_out_scores: Scores of real images that were held out.
        fake_scores: Scores of generated images.

    Returns:
        The ratio; NaN if the critic does not tell training images from generated ones, that is, if the denominator is
        no larger than its standard error.

    Raises:
        TypeError: If scores are not tensors.
        ValueError: If there are fewer than 2 scores of a kind, or a score is not finite.

    Example:
        >>> scores = torch.tensor([2.0, 2.2]), torch.tensor([1.0, 1.2]), torch.tensor([-2.0, -1.8])
        >>> round(critic_overfitting(*scores), 3)
        0.25
    """
    means, errors = [], []
    named = {"real_scores": real_scores, "held_out_scores": held_out_scores, "fake_scores": fake_scores}
    for name, scores in named.items():
        check_tensor(name, scores)
        if scores.numel() < 2:
            raise ValueError(f"{name} must be at least 2 scores, got {scores.numel()}")
        variance, mean = torch.var_mean(scores.detach().double())
        if not mean.isfinite():
            raise ValueError(f"{name} must be finite, got a mean of {float(mean)}")
        means.append(float(mean))
        errors.append(float(variance) / scores.numel())
    gap = means[0] - means[2]
    return (means[0] - means[1]) / gap if abs(gap) > math.sqrt(errors[0] + errors[2]) else math.nan
