"""One training step of both networks. What it draws is handed in, what it knows of time too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from progan.networks.fused import cached_weights, generate, score
from progan.ops.resampling import blend_with_lower
from progan.randomness import normal, uniform
from progan.recipe import Training
from progan.runtime.memory import hold_heap
from progan.runtime.ranks import Ranks
from progan.runtime.streams import First, Second, run_concurrently
from progan.schedule import Growth
from progan.training.divergence import Watch
from progan.training.state import TrainingState

_GRADIENTS = {"adam_generator": "the generator's gradient", "adam_discriminator": "the discriminator's gradient"}


class Draws(NamedTuple):
    """Hold the random numbers of one step.

    Attributes:
        z_critic: latents of the critic's update, (B, *latent_shape).
        z_generator: latents of the generator's.
        mix: for the penalty, (B,).
        augment: a row for each of `Training.augment`, (number of augmentations, B).
    """

    z_critic: Tensor
    z_generator: Tensor
    mix: Tensor
    augment: Tensor

    @classmethod
    def at(
        cls, images_seen: int, batch_size: int, latent_shape: tuple[int, ...], seed: int, augmentations: int
    ) -> Draws:
        """Make the numbers of the step that begins at ``images_seen``: float32, on the CPU.

        Args:
            images_seen: real images shown when it begins.
            batch_size: B.
            latent_shape: of one latent.
            seed: of the run.
            augmentations: their number.
        """
        shape = (batch_size, *latent_shape)
        return cls(
            normal(shape, seed, "z_critic", images_seen),
            normal(shape, seed, "z_generator", images_seen),
            uniform((batch_size,), seed, "mix", images_seen),
            uniform((augmentations, batch_size), seed, "augment", images_seen),
        )

    def to(self, device: torch.device, dtype: torch.dtype) -> Draws:
        """Move all to a device and a dtype."""
        return Draws(*(draw.to(device, dtype, non_blocking=True) for draw in self))

    def part(self, ranks: Ranks) -> Draws:
        """Return those of a rank's images."""
        return Draws(*(ranks.part(draw, draw.ndim - 1 if draw is self.augment else 0) for draw in self))


class StepGrowth(NamedTuple):
    """Hold what governs one step, as its kernels take it.

    Attributes:
        level: index of the resolution.
        alpha: weight of the newest level; None once it is fully grown.
        learning_rate: Adam's, for both networks.
        average_weight: of the generator in its average.
        images_seen: real images shown when the step begins.
    """

    level: int
    alpha: float | Tensor | None
    learning_rate: float | Tensor
    ema_weight: float | Tensor
    images_seen: int | Tensor

    def on(self, device: torch.device) -> StepGrowth:
        """Return it with 0-d tensors on a CUDA device, where a captured step would freeze numbers; else as it is."""
        if device.type != "cuda":
            return self
        numbers = torch.tensor(self.numbers(), dtype=torch.float32).to(device, non_blocking=True)
        return self.with_tensors(numbers, torch.tensor(self.images_seen).to(device, non_blocking=True))

    def numbers(self) -> tuple[float | Tensor, ...]:
        """Return the learning rate, the average's weight and alpha, 0 where there is none."""
        return self.learning_rate, self.ema_weight, 0.0 if self.alpha is None else self.alpha

    def with_tensors(self, numbers: Tensor, images_seen: Tensor) -> StepGrowth:
        """Return it with tensors in the place of numbers.

        Args:
            numbers: what `numbers` returned, (3,), float32: a fused Adam takes its learning rate in no other dtype.
            images_seen: 0-d, int64.
        """
        learning_rate, ema_weight, alpha = numbers.unbind()
        return StepGrowth(self.level, None if self.alpha is None else alpha, learning_rate, ema_weight, images_seen)


class StepMetrics(NamedTuple):
    """Hold what a step tells.

    Attributes:
        images_seen: real images shown, this step's included.
        growth: of the step.
        losses: 0-d tensors on the device: generator_loss, critic_loss, and the critic's parts before their weights.
    """

    images_seen: int
    growth: Growth
    losses: dict[str, Tensor]


class TrainingStep:
    """Update both networks and the average once.

    Args:
        state: Networks, EMA and optimizers, on their device.
        training: Loss, order, precision.
        ranks: that train together; None = this process alone.

    Attributes:
        watch: for losses and gradients that are not finite.
    """

    def __init__(
        self,
        state: TrainingState,
        training: Training,
        ranks: Ranks | None = None,
    ) -> None:
        self.state = state
        self.training = training
        self.watch: Watch = Watch()
        self._ranks = ranks or Ranks()
        self._heap = hold_heap() if next(state.generator.parameters()).device.type == "cpu" else None

    def __call__(self, real: Tensor, draws: Draws, growth: Growth, images_seen: int) -> dict[str, Tensor]:
        """Train on one batch.

        The order: one network, the average, the other network; latents are drawn anew for each of the two.

        Args:
            real: (B, C, H, W), in image_range, of the level's size; of several ranks, this one's part.
            draws: the step's random numbers; this rank's part.
            growth: of the step.
            images_seen: real images shown when it begins.

        Returns:
            The losses, 0-d, on the device; of several ranks, their means.
        """
        draws = draws.to(real.device, real.dtype)
        return losses_of(self.update(real, draws, self.growth_of(growth, images_seen).on(real.device)))

    def growth_of(self, growth: Growth, images_seen: int) -> StepGrowth:
        """Return what governs the step that begins at ``images_seen``."""
        weight = 0.0 if self.state.ema is None else self.state.ema.weight_of_new(images_seen, growth.batch_size)
        return StepGrowth(growth.level, growth.alpha, growth.learning_rate, weight, images_seen)

    def update(self, real: Tensor, draws: Draws, growth: StepGrowth) -> dict[str, Tensor]:
        """Train on one batch; all tensors are on the device, and nothing is fetched from it.

        Args:
            real: as for a call.
            draws: on real's device and in its dtype.
            growth: of the step.

        Returns:
            What the watch looks at, 0-d: the losses, and a number for each network's gradients.
        """
        with self._own_autocast(real.device):
            return self._update(real, draws, growth)

    def _update(self, real: Tensor, draws: Draws, growth: StepGrowth) -> dict[str, Tensor]:
        real = self._as_shown(real, draws, growth)
        updates = [
            lambda: self._update_discriminator(real, draws, growth),
            lambda: self._update_generator(real, draws, growth),
        ]
        if self.training.order == "generator_first":
            updates.reverse()
        seen = updates[0]()
        if self.state.ema is not None:
            self.state.ema.blend(self.state.generator, growth.ema_weight)
        seen |= updates[1]()
        self.watch.look(seen, growth.images_seen)
        return seen

    def moved(self) -> dict[str, list[Tensor]]:
        """Return all tensors that a step changes in place, by what they are."""
        watched = {} if self.watch.first is None else {"watch": [self.watch.first]}
        return self.state.moved() | watched

    def _as_shown(self, real: Tensor, draws: Draws, growth: StepGrowth) -> Tensor:
        """Return real images as the critic sees them: augmented, and blended while a level fades in."""
        if self.training.augment:
            low, high = self.state.generator.architecture.image_range
            real = (real - low) / (high - low)
            for augmentation, numbers in zip(self.training.augment, draws.augment, strict=True):
                real = augmentation(real, numbers)
            real = real * (high - low) + low
        if self.training.blend_real and growth.alpha is not None:
            real = blend_with_lower(real, growth.alpha)
        return real

    def _update_discriminator(self, real: Tensor, draws: Draws, growth: StepGrowth) -> dict[str, Tensor]:
        with torch.no_grad(), cached_weights(growth.level, growth.alpha, self.state.generator):
            fake = self._generate(draws.z_critic, growth)
        with cached_weights(growth.level, growth.alpha, self.state.discriminator):
            total, parts = self.training.loss.critic(self._critic(growth), real, fake, mix=draws.mix)
            return self._apply("adam_discriminator", {"critic_loss": total, **parts}, growth)

    def _update_generator(self, real: Tensor, draws: Draws, growth: StepGrowth) -> dict[str, Tensor]:
        with cached_weights(growth.level, growth.alpha, self.state.generator, self.state.discriminator):
            fake = self._generate(draws.z_generator, growth)
            loss = self.training.loss.generator(self._critic(growth), real, fake)
            return self._apply("adam_generator", {"generator_loss": loss}, growth)

    def _apply(self, role: str, losses: Mapping[str, Tensor], growth: StepGrowth) -> dict[str, Tensor]:
        """Move the parameters in use along the first loss; all others keep no gradient and stay where they are.

        Returns:
            The losses, and a number that is finite where all gradients are; means over the ranks.
        """
        optimizer, network = self.state.optimizers()[role]
        in_use = network.in_use(growth.level, growth.alpha).values()
        parameters = [parameter for parameter in in_use if parameter.requires_grad]
        gradients: list[Tensor] = []
        if parameters:  # else frozen by the user
            found = torch.autograd.grad(next(iter(losses.values())), parameters, allow_unused=True)
            pairs = [pair for pair in zip(parameters, found, strict=True) if pair[1] is not None]
            parameters, gradients = [parameter for parameter, _ in pairs], [gradient for _, gradient in pairs]
        means = self._ranks.average([*gradients, *(loss.detach() for loss in losses.values())])
        gradients, seen = means[: len(gradients)], dict(zip(losses, means[len(gradients) :], strict=True))
        if gradients:
            for parameter, gradient in zip(parameters, gradients, strict=True):
                # The fused kernel walks both memories alike; a gradient from autograd.grad may lie in another order.
                if gradient.stride() != parameter.stride():
                    gradient = torch.empty_like(parameter).copy_(gradient)
                parameter.grad = gradient
            seen[_GRADIENTS[role]] = self.watch.measure(gradients)
            optimizer.param_groups[0]["lr"] = growth.learning_rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return seen

    def _generate(self, z: Tensor, growth: StepGrowth) -> Tensor:
        with self._autocast(z.device):
            images = generate(self.state.generator, z, growth.level, growth.alpha)
        return images.to(z.dtype)

    def _critic(self, growth: StepGrowth) -> StepCritic:
        return StepCritic(self, growth)

    def _own_autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Keep a user's autocast out, under which the precision would not be the one that was asked for."""
        if torch.is_autocast_enabled(device.type):
            return torch.autocast(device.type, enabled=False)
        return nullcontext()

    def _autocast(self, device: torch.device) -> AbstractContextManager[object]:
        if self.training.precision != "bf16":
            return nullcontext()
        # Without its cache, whose copies of weights a captured step would not make anew.
        return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


class StepCritic:
    """The discriminator as a loss sees it: images to scores, at the growth and in the precision of a step."""

    def __init__(self, step: TrainingStep, growth: StepGrowth) -> None:
        self._step = step
        self._growth = growth

    def __call__(self, images: Tensor, batches: int = 1) -> Tensor:
        """Return scores, (B,)."""
        with self._step._autocast(images.device):
            return score(self._step.state.discriminator, images, self._growth.level, self._growth.alpha, batches)

    def both(self, real: Tensor, fake: Tensor) -> tuple[Tensor, ...]:
        """Return the scores of two batches in one pass; their statistics stay apart."""
        return self(torch.cat([real, fake]), batches=2).chunk(2)

    def run_concurrently(self, first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
        """Do two works that do not need each other, and return their results."""
        discriminator = self._step.state.discriminator
        if discriminator.block_name is not None:  # autograd warns of parameters used on streams of which none is theirs
            return first(), second()
        return run_concurrently(next(discriminator.parameters()).device, first, second)


def losses_of(seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the losses among what `TrainingStep.update` returned."""
    return {name: value for name, value in seen.items() if name not in _GRADIENTS.values()}
