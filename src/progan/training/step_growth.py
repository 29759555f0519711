"""What governs one step, as its kernels take it: numbers, or tensors that a captured step reads anew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from progan.recipe import Training
from progan.schedule import Growth
from progan.training.ema import EmaGenerator


class StepGrowth(NamedTuple):
    """What governs one step.

    Attributes:
        level: Index of the resolution.
        alpha: Weight of the newest level; None once it is fully grown.
        regularized: Whether each regulariser is applied.
        learning_rate: Learning rate of both optimizers, before their factors.
        ema_weights: Weight of the generator in each of its moving averages.
        images_seen: Real images shown when the step begins.
    """

    level: int
    alpha: float | Tensor | None
    regularized: tuple[bool, ...]
    learning_rate: float | Tensor
    ema_weights: tuple[float | Tensor, ...]
    images_seen: int | Tensor

    @classmethod
    def of(cls, growth: Growth, images_seen: int, training: Training, averages: Iterable[EmaGenerator]) -> StepGrowth:
        """Return what governs the step that begins at ``images_seen``."""
        return cls(
            growth.level,
            growth.alpha,
            tuple(growth.step % regularizer.every == 0 for regularizer in training.regularizers),
            growth.learning_rate,
            tuple(average.weight_of_new(images_seen, growth.batch_size) for average in averages),
            images_seen,
        )

    def beside(self, images: Tensor) -> StepGrowth:
        """Return it with 0-d tensors beside images on CUDA, where a captured step would freeze numbers; else as is."""
        device = images.device
        if device.type != "cuda":
            return self
        numbers = torch.tensor(self.numbers(), dtype=torch.float32).to(device, non_blocking=True)
        return self.with_tensors(numbers, torch.tensor(self.images_seen).to(device, non_blocking=True))

    def numbers(self) -> tuple[float | Tensor, ...]:
        """Return the learning rate, alpha, 0 where there is none, and the weights of the averages."""
        return self.learning_rate, 0.0 if self.alpha is None else self.alpha, *self.ema_weights

    def with_tensors(self, numbers: Tensor, images_seen: Tensor) -> StepGrowth:
        """Return it with tensors in place of numbers.

        Args:
            numbers: What `numbers` returned, 1-d, float32: a fused Adam takes its learning rate in no other dtype.
            images_seen: 0-d, int64.
        """
        learning_rate, alpha, *ema_weights = numbers.unbind()
        return self._replace(
            alpha=None if self.alpha is None else alpha,
            learning_rate=learning_rate,
            ema_weights=tuple(ema_weights),
            images_seen=images_seen,
        )
