"""One training step of both networks. What it draws is handed in, and what governs it too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from typing import NamedTuple

import torch
from torch import Tensor

from progan.augment.augmentation import augment
from progan.losses.critic import critic_loss, generator_loss
from progan.networks.fused import cached_weights, generate, scores
from progan.networks.patches import Scored, joint_score
from progan.ops.resampling import blend_with_lower
from progan.recipe import Training
from progan.reconstruction import coded
from progan.runtime.autocast import autocast, without_autocast
from progan.runtime.memory import hold_heap_beside
from progan.runtime.ranks import Ranks
from progan.runtime.streams import First, Second, run_concurrently_beside
from progan.schedule import Growth
from progan.training.divergence import Watch
from progan.training.draws import Draws
from progan.training.micro_batches import Derivatives, StepBatch
from progan.training.state import TrainingState
from progan.training.step_growth import StepGrowth

Update = tuple[str, Callable[[StepBatch, StepGrowth], Derivatives]]
_GRADIENTS = {"adam_generator": "the generator's gradient", "adam_discriminator": "the discriminator's gradient"}


class StepMetrics(NamedTuple):
    """What a step reports.

    Attributes:
        images_seen: Real images shown, this step's included.
        growth: Growth of the step.
        losses: 0-d tensors: generator_loss, critic_loss, and the critic's parts before their weights; those of a
            regulariser in the steps in which it is applied.
    """

    images_seen: int
    growth: Growth
    losses: dict[str, Tensor]


class TrainingStep:
    """Update both networks and the average once.

    Args:
        state: Networks, EMA and optimizers.
        training: Objective, regularisers, augmentations, order, precision.
        ranks: Processes that train together; None = this process alone.
        micro_batch: Number of images that are trained on at once, which divides the batches; None = a whole batch.

    Attributes:
        watch: Watch for losses and gradients that are not finite.
    """

    def __init__(
        self, state: TrainingState, training: Training, ranks: Ranks | None = None, micro_batch: int | None = None
    ) -> None:
        self.state = state
        self.training = training
        self.watch: Watch = Watch()
        self._ranks = ranks or Ranks()
        self._micro_batch = micro_batch
        self._heap = hold_heap_beside(next(state.generator.parameters()))

    def __call__(
        self, real: Tensor, draws: Draws, growth: Growth, images_seen: int, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Train on one batch.

        The order: one network, the average, the other network; latents are drawn anew for each of the two. Generated
        image i is of the class of real image i in both updates, so that the critic never tells the two batches apart by
        how often a class occurs, and their mixture in a penalty is of one class.

        Args:
            real: Real images, (B, C, H, W), in [0, 1], of the level's size; of several ranks, this one's part.
            draws: Random numbers of the step; this rank's part.
            growth: Growth of the step.
            images_seen: Real images shown when it begins.
            labels: Labels of the real images, (B,), int64, on their device; None where the networks have no classes.

        Returns:
            The losses, 0-d; of several ranks, their means.
        """
        now = self.growth_of(growth, images_seen).beside(real)
        return losses_of(self.update(real, draws.beside(real), now, labels))

    def growth_of(self, growth: Growth, images_seen: int) -> StepGrowth:
        """Return what governs the step that begins at ``images_seen``."""
        return StepGrowth.of(growth, images_seen, self.training, self.state.averages.values())

    def update(self, real: Tensor, draws: Draws, growth: StepGrowth, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Train on one batch; all tensors lie beside the images, and no value of theirs is looked at.

        Args:
            real: Real images, as for a call.
            draws: Random numbers, in the dtype of the images.
            growth: What governs the step.
            labels: Labels of the images.

        Returns:
            What the watch looks at, 0-d: the losses, and a number for each network's gradients.
        """
        with without_autocast(real):
            parts = StepBatch(self._as_shown(real, draws, growth), draws, labels).micro_batches(self._micro_batch)
            updates = ("adam_discriminator", self._critic_gradient), ("adam_generator", self._generator_gradient)
            first, second = updates if self.training.order == "critic_first" else reversed(updates)
            seen = self._apply(first, parts, growth)
            self.state.update_averages(growth.ema_weights)
            seen |= self._apply(second, parts, growth)
            self.watch.look(seen, growth.images_seen)
            return seen

    def moved(self) -> dict[str, list[Tensor]]:
        """Return all tensors that a step changes in place, by what they are."""
        return self.state.moved() | {"watch": self.watch.tensors()}

    def _as_shown(self, real: Tensor, draws: Draws, growth: StepGrowth) -> Tensor:
        """Return real images as the critic is given them: augmented, in image_range, blended while a level fades in."""
        real = augment(self.training.augment_real, real, draws.for_augment("real"))
        real = to_range(real, self.state.generator.architecture.image_range)
        if self.training.blend_real and growth.alpha is not None:
            real = blend_with_lower(real, growth.alpha)
        return real

    def _critic_gradient(self, batch: StepBatch, growth: StepGrowth) -> Derivatives:
        """Return the critic's loss and its parts, and the gradient by the discriminator."""
        real, draws, labels = batch
        with torch.no_grad(), cached_weights(growth.level, growth.alpha, self.state.generator):
            fake = self._generate(draws["z_critic"], growth, labels)
        with cached_weights(growth.level, growth.alpha, self.state.discriminator):
            critic = StepCritic(self, growth, draws.for_augment("critic"), labels)
            applied = list(compress(self.training.regularizers, growth.regularized))
            loss, parts = critic_loss(self.training.objective, applied, critic, real, fake, draws.get("mix"))
            return self._differentiate("adam_discriminator", {"critic_loss": loss, **parts}, growth)

    def _generator_gradient(self, batch: StepBatch, growth: StepGrowth) -> Derivatives:
        """Return the generator's loss and its parts, and its gradient."""
        real, draws, labels = batch
        z, reconstructed = coded(self.training.reconstruction, self.state.codes, real, draws)
        with cached_weights(growth.level, growth.alpha, self.state.generator, self.state.discriminator):
            fake = self._generate(z, growth, labels)
            critic = StepCritic(self, growth, draws.for_augment("generator"), labels)
            real_scores = critic.scores(real) if getattr(self.training.objective, "needs_real", False) else None
            loss, parts = reconstructed(fake, generator_loss(self.training.objective, critic.scores(fake), real_scores))
            return self._differentiate("adam_generator", {"generator_loss": loss, **parts}, growth)

    def _differentiate(self, role: str, losses: Mapping[str, Tensor], growth: StepGrowth) -> Derivatives:
        """Return the losses, and the gradient of the first one by the parameters in use that are not frozen."""
        _, network = self.state.optimizers()[role]
        parameters = [each for each in network.in_use(growth.level, growth.alpha).values() if each.requires_grad]
        found: Sequence[Tensor | None] = ()
        if parameters:  # else frozen by the user
            found = torch.autograd.grad(next(iter(losses.values())), parameters, allow_unused=True)
        pairs = zip(parameters, found, strict=True)
        gradients = {parameter: gradient for parameter, gradient in pairs if gradient is not None}
        return Derivatives({name: loss.detach() for name, loss in losses.items()}, gradients)

    def _apply(self, update: Update, parts: Sequence[StepBatch], growth: StepGrowth) -> dict[str, Tensor]:
        """Move a network's parameters along the mean gradient; all others stay where they are.

        Args:
            update: Role of the network's optimizer, and its losses and gradient on a part of the batch.
            parts: Parts of the batch.
            growth: What governs the step.

        Returns:
            The losses, and a number that is finite where all gradients are; means over the parts and the ranks.
        """
        role, gradient_of = update
        losses, by_parameter = Derivatives.mean(gradient_of(part, growth) for part in parts)
        means = self._ranks.average([*by_parameter.values(), *losses.values()])
        gradients, seen = means[: len(by_parameter)], dict(zip(losses, means[len(by_parameter) :], strict=True))
        if gradients:
            seen[_GRADIENTS[role]] = self.watch.measure(gradients)
            optimizer, _ = self.state.optimizers()[role]
            optimizer.step(dict(zip(by_parameter, gradients, strict=True)), growth.learning_rate)
        return seen

    def _generate(self, z: Tensor, growth: StepGrowth, labels: Tensor | None) -> Tensor:
        with autocast(z, self.training.precision):
            return generate(self.state.generator, z, growth.level, growth.alpha, labels).to(z.dtype)


class StepCritic:
    """The critic as a loss sees it, images to scores: the discriminator at the growth of a step, behind augmentations.

    Args:
        step: Step that it is for.
        growth: What governs the step.
        draws: Numbers of `Training.augment_all`, by name. Image i of every batch that it scores gets the same ones: the
            real and the generated image i, and their mixture in a penalty.
        labels: Labels of a batch, (B,); image i of every batch that it scores has the same one. None = no classes.
    """

    def __init__(
        self, step: TrainingStep, growth: StepGrowth, draws: Mapping[str, Tensor], labels: Tensor | None = None
    ) -> None:
        self._step = step
        self._growth = growth
        self._draws = draws
        self._labels = labels

    def __call__(self, images: Tensor, batches: int = 1) -> Tensor:
        """Return scores, (B,), of images in image_range."""
        return joint_score(self.scores(images, batches))

    def scores(self, images: Tensor, batches: int = 1) -> tuple[Scored, ...]:
        """Return the scores of images in image_range of each kind: of the whole, (B,), and of patches, (B, n)."""
        state, training = self._step.state, self._step.training
        if training.augment_all and state.augment_strength is not None:
            values = state.generator.architecture.image_range
            images = augment(training.augment_all, from_range(images, values), self._draws, state.augment_strength)
            images = to_range(images, values)
        labels = self._labels if self._labels is None or batches == 1 else self._labels.repeat(batches)
        with autocast(images, training.precision):
            return scores(state.discriminator, images, self._growth.level, self._growth.alpha, batches, labels)

    def both(self, real: Tensor, fake: Tensor) -> tuple[list[Scored], list[Scored]]:
        """Return the scores of two batches in one pass, as `scores` does; their statistics stay apart."""
        kinds = [(kind.chunk(2), weight) for kind, weight in self.scores(torch.cat([real, fake]), batches=2)]
        of_real, of_fake = ([Scored(halves[i], weight) for halves, weight in kinds] for i in (0, 1))
        return of_real, of_fake

    def run_concurrently(self, first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
        """Return the results of two functions that do not need each other."""
        discriminator = self._step.state.discriminator
        if discriminator.block_name is not None:  # autograd warns of parameters used on streams of which none is theirs
            return first(), second()
        return run_concurrently_beside(next(discriminator.parameters()), first, second)


def to_range(images: Tensor, image_range: tuple[float, float]) -> Tensor:
    """Return images in [0, 1] in another range: the one place that converts."""
    low, high = image_range
    return images if (low, high) == (0, 1) else images * (high - low) + low


def from_range(images: Tensor, image_range: tuple[float, float]) -> Tensor:
    """Return images of a range in [0, 1]."""
    low, high = image_range
    return images if (low, high) == (0, 1) else (images - low) / (high - low)


def losses_of(seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the losses among what `TrainingStep.update` returned."""
    return {name: value for name, value in seen.items() if name not in _GRADIENTS.values()}
