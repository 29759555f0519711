"""The running average of the generator's weights, which makes the better pictures (Karras et al. 2018, section 4.1)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from typing_extensions import override

from progan.arguments import check_instance, check_int
from progan.optimization import Ema, check_ema


class EmaGenerator(nn.Module):
    """Keep an exponential average of a generator.

    After a step that began at n real images with batch B: average = lerp(average, generator, 1 - d), where d is decay,
    or decay ** (B / batch) where a batch is given; with warm-up d = min(d, n / (n + B)), a plain running mean at first.
    The first step of a warm-up has weight 1: what the average held before is forgotten. With a ramp-up r, also
    d = min(d, 0.5 ** (B / (r * n))): the half-life is at most r * n images.

    Args:
        generator: Generator that is averaged; copied.
        decay: Weight of the old average in each step, in [0, 1).
        batch: Batch size for which decay is meant; None = decay per step, whatever the batch.
        warm_up: Whether the average begins as a plain mean.
        ramp_up: Greatest share of the images seen that the half-life may be; None = it has no such limit.

    Raises:
        TypeError: If an argument is of a wrong kind.
        ValueError: If an argument is out of its range.

    Example:
        >>> generator = nn.Linear(1, 1)
        >>> ema = EmaGenerator(generator, 0.995, warm_up=True)
        >>> ema.weight_of_new(images_seen=24, batch_size=8)  # the fourth step: a mean of four
        0.25
    """

    def __init__(
        self,
        generator: nn.Module,
        decay: float,
        *,
        batch: int | None = None,
        warm_up: bool = False,
        ramp_up: float | None = None,
    ) -> None:
        super().__init__()
        check_instance("generator", generator, nn.Module)
        check_ema(decay, batch, warm_up, ramp_up)
        self.module: nn.Module = copy.deepcopy(generator).requires_grad_(False)
        self.decay = decay
        self.batch = batch
        self.warm_up = warm_up
        self.ramp_up = ramp_up

    def weight_of_new(self, images_seen: int, batch_size: int) -> float:
        """Return 1 - d for the step that began at ``images_seen`` with this batch."""
        decay = self.decay if self.batch is None else self.decay ** (batch_size / self.batch)
        if self.warm_up:
            decay = min(decay, images_seen / (images_seen + batch_size))
        if self.ramp_up is not None:
            decay = min(decay, 0.5 ** (batch_size / (self.ramp_up * images_seen)) if images_seen else 0.0)
        return 1 - decay

    @torch.no_grad()
    def take(self, generator: nn.Module) -> None:
        """Begin anew from a generator's weights, as when it was made.

        Args:
            generator: Of the structure that was copied.

        Example:
            >>> generator = nn.Linear(1, 1)
            >>> ema = EmaGenerator(generator, 0.995)
            >>> _ = nn.init.constant_(generator.bias, 3.0)
            >>> ema.take(generator)
            >>> ema.module.bias.item()
            3.0
        """
        for mine, new in zip(self.module.parameters(), generator.parameters(), strict=True):
            mine.copy_(new)
        for kept, current in zip(self.module.buffers(), generator.buffers(), strict=True):
            kept.copy_(current)

    def update(self, generator: nn.Module, images_seen: int, batch_size: int) -> None:
        """Take one step of the generator into the average.

        Args:
            generator: Generator of the structure that was copied.
            images_seen: Real images shown when the step began.
            batch_size: Batch size of the step, over all ranks.

        Raises:
            TypeError: If an argument is of a wrong kind.
            ValueError: If the generator has parameters of other shapes.
        """
        check_instance("generator", generator, nn.Module)
        check_int("images_seen", images_seen, 0)
        check_int("batch_size", batch_size, 1)
        mine, theirs = ([each.shape for each in module.parameters()] for module in (self.module, generator))
        if mine != theirs:
            raise ValueError(
                f"the average is of a {type(self.module).__name__}, and got a {type(generator).__name__} with other "
                "parameters; pass the generator that it was made from"
            )
        self.blend(generator, self.weight_of_new(images_seen, batch_size))

    @torch.no_grad()
    def blend(self, generator: nn.Module, weight: float | Tensor) -> None:
        """Take one step of the generator into the average: average = lerp(average, generator, weight).

        Args:
            generator: Generator of the structure that was copied.
            weight: Weight of the generator, in [0, 1]; a 0-d tensor's value is not fetched from its device.
        """
        averages: list[Tensor] = list(self.module.parameters())
        values: list[Tensor] = list(generator.parameters())
        if isinstance(weight, Tensor):  # _foreach_lerp_ would fetch it
            changes = list(torch._foreach_sub(values, averages))
            torch._foreach_mul_(changes, weight.to(changes[0].dtype))
            torch._foreach_add_(averages, changes)
        else:
            torch._foreach_lerp_(averages, values, weight)
        for mine, new in zip(self.module.buffers(), generator.buffers(), strict=True):
            mine.copy_(new)

    @override
    def forward(self, z: Tensor, level: int | None = None, alpha: float | Tensor | None = None) -> Tensor:
        """Return the averaged generator's images."""
        images: Tensor = self.module(z, level, alpha)
        return images


def averages_of(generator: nn.Module, settings: Ema) -> dict[str, EmaGenerator]:
    """Return the averages of a generator by name, each a copy of it.

    Args:
        generator: Generator that is averaged.
        settings: Settings of the first average, and of those beside it.

    Example:
        >>> list(averages_of(nn.Linear(1, 1), Ema(0.99, other_half_lives=(3.0,))))
        ['ema', 'ema_1']
    """
    return {
        name: EmaGenerator(generator, each.decay, batch=each.batch, warm_up=each.warm_up, ramp_up=each.ramp_up)
        for name, each in settings.averages().items()
    }
