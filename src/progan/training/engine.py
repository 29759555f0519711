"""The engine of a trainer: the networks on their device, the step that trains them, and the processes that share it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from progan.compatibility import check_micro_batch, check_ranks, micro_batch_sizes
from progan.data import Batch, Feed, match_level, open_feed
from progan.data.held_out import hold_out
from progan.data.workers import refuse_in_starting_process
from progan.networks.classes import check_labels
from progan.networks.discriminator import ProgressiveDiscriminator
from progan.networks.generator import ProgressiveGenerator
from progan.recipe import Training
from progan.runs.average_choice import AverageChoice
from progan.runtime.connections import world_size
from progan.runtime.contention import CoreSharing, shared_cores
from progan.runtime.device import choose_device, precision_scope
from progan.runtime.memory import to_device
from progan.runtime.ranks import Ranks
from progan.schedule import Growth, Schedule
from progan.training.block_randomness import BlockRandomness
from progan.training.captured_step import DeviceStep, device_step
from progan.training.divergence import DivergenceCheck
from progan.training.draws import DrawsAhead
from progan.training.ema import EmaGenerator, averages_of
from progan.training.identity import environment
from progan.training.micro_batches import naming_remedy
from progan.training.options import RunOptions
from progan.training.planning import Plan, make_plan
from progan.training.reconciliation import WeightReconciler
from progan.training.state import TrainingState, code_level
from progan.training.step import StepMetrics, TrainingStep, to_range
from progan.training.tracking import ParameterTracker

_CODED = 2000  # images that codes are made of, at most


class Engine:
    """The networks of a trainer on their device, and all that a step needs.

    Args:
        generator: Generator; it is moved to the device.
        discriminator: Discriminator; it is moved to the device.
        schedule: Stages of the run.
        training: How a step trains.
        options: Options of the run.

    Attributes:
        device: Device of the networks.
        dtype: Data type of the networks.
        ranks: Processes that train together.
        saves: Whether the run writes checkpoints; the same on every rank.
        averages: Moving averages of the generator by name.
        state: State of the training.
        step: Training step.
        device_step: How steps run on a CUDA device; None on other devices.
        draws: Random numbers of the steps.
        tracker: Tracker of changes to the weights.
        check_finite: Raises DivergenceError where a value of the training is not finite.
    """

    def __init__(
        self,
        generator: ProgressiveGenerator,
        discriminator: ProgressiveDiscriminator,
        schedule: Schedule,
        training: Training,
        options: RunOptions,
    ) -> None:
        self.device: torch.device = choose_device(options.device, training.precision)
        self.dtype: torch.dtype = next(generator.parameters()).dtype
        generator, discriminator = generator.to(self.device), discriminator.to(self.device)
        self.averages: dict[str, EmaGenerator] = averages_of(generator, training.ema)
        if world_size() > 1:  # a second process would join under the same rank
            refuse_in_starting_process("Trainer, of several that train together,")
        self.ranks: Ranks = Ranks.join(self.device)
        self.saves: bool = self.ranks.broadcast(options.run_dir is not None)  # the other ranks need no run_dir
        check_ranks(generator.architecture, schedule, self.ranks.size)
        if options.micro_batch is not None:
            check_micro_batch(generator.architecture, schedule, self.ranks.size, options.micro_batch)
        self.state: TrainingState = TrainingState.for_training(generator, discriminator, self.averages, training)
        self.step: TrainingStep = TrainingStep(self.state, training, self.ranks, options.micro_batch)
        custom_blocks = generator.block_name is not None or discriminator.block_name is not None
        self.device_step: DeviceStep | None = device_step(
            self.step, self.device, options.graph, self.ranks, own_blocks=custom_blocks
        )
        self.draws: DrawsAhead = DrawsAhead(generator.architecture.latent_shape, options.seed, training)
        self._random = BlockRandomness(
            custom_blocks=custom_blocks, device=self.device, seed=options.seed, ranks=self.ranks
        )
        self.check_finite: DivergenceCheck = DivergenceCheck(self.step.watch, self.state, schedule, saves=self.saves)
        self._reconciler = WeightReconciler(self.step, self.averages, self.ranks)
        self.tracker: ParameterTracker = self._reconciler.tracker
        self._schedule = schedule
        self._seed = options.seed
        self._training = training
        self._micro_batch = options.micro_batch
        self._sizes = micro_batch_sizes(generator.architecture, schedule, self.ranks.size)

    @property
    def growth(self) -> Growth:
        """The growth of the next step."""
        images_seen = self.state.images_seen
        return self.state.recovery.lowered(self._schedule.at(images_seen), images_seen)

    @property
    def captures(self) -> bool:
        """Whether steps are captured as CUDA graphs."""
        return self.device_step is not None and self.device_step.captures

    def environment(self) -> dict[str, Any]:
        """Return what may change when a run resumes."""
        return environment(self.device, self.ranks.size, graph=self.captures, micro_batch=self._micro_batch)

    def open_data(self, data: Tensor | Dataset[Any], options: RunOptions) -> Feed:
        """Open a data set and the images that are held out, and check that they fit the networks.

        Args:
            data: As for `Trainer.fit`.
            options: Options of the run.
        """
        architecture = self.state.generator.architecture
        open_images = partial(
            open_feed,
            image_channels=architecture.image_channels,
            base_size=architecture.base_size,
            level=max(stage.level for stage in self._schedule.stages),
            seed=self._seed,
            workers=options.workers,
            device=self.device,
            classes=architecture.classes,
        )
        feed = open_images(data)
        if options.held_out is not None:
            feed = hold_out(feed, options.held_out, open_images)
        if architecture.classes:
            feed.classes(architecture.classes)  # of which each must have an image
        if self._training.balance_classes:
            feed.balance()
        return feed

    def fit_codes(self, feed: Feed) -> None:
        """Fit the codes of a reconstruction to the data, where the run has not done so; on every rank.

        Args:
            feed: Feed of the data.
        """
        codes = self.state.codes
        if codes is None or codes.is_fitted:
            return
        architecture = self.state.generator.architecture
        small = feed.some(lambda images: self.to_level(images, code_level(architecture)), _CODED)
        codes.fit(to_range(small, architecture.image_range))
        self.ranks.broadcast_tensors(codes.tensors())  # whose last bits may differ from machine to machine

    def train(self, batch: Batch) -> StepMetrics:
        """Train on one batch; outside fit, adapt first to weights that were changed from outside."""
        if self.tracker.trusts:  # within fit
            return self._train(batch)
        codes = self.state.codes
        if codes is not None and batch.images.shape[2] >= codes.size[1] and not codes.is_fitted:
            raise RuntimeError(
                "Training.reconstruction takes codes from the data, and step has only a batch; call fit(data, "
                "until=trainer.images_seen) first, which trains nothing, or fit instead of step"
            )
        if self.state.images_seen == 0 or not self.tracker.is_untouched():
            self.reconcile(together=self.state.images_seen == 0)
        with self.tracker.own_changes():
            return self._train(batch)

    def _train(self, batch: Batch) -> StepMetrics:
        growth, state, real = self.growth, self.state, batch.images
        architecture = state.generator.architecture
        share = growth.batch_size // self.ranks.size
        expected = (share, architecture.image_channels, *architecture.size(growth.level))
        if not real.is_floating_point():
            raise TypeError(f"step takes floats in [0, 1], got {real.dtype}")
        if tuple(real.shape) != expected:
            raise ValueError(
                f"after {state.images_seen} images, at level {growth.level}, step takes {expected}, got "
                f"{tuple(real.shape)}; resize with progan.match_level"
            )
        labels = batch.labels if architecture.classes else None
        if labels is not None and not (labels.is_floating_point() or labels.is_complex()):
            labels = labels.to(torch.int64)
        check_labels(architecture.classes, labels, share)
        draws = self.draws.at(state.images_seen, growth.batch_size)
        real = real.to(self.device, self.dtype)
        labels = None if labels is None else to_device(labels, self.device)
        at_once = min(share, self._micro_batch or share)
        with self._random.keyed(state.images_seen), naming_remedy(self._sizes, at_once, growth.stage):
            step = self.device_step or self.step
            losses = step(real, draws.part(self.ranks.rank, self.ranks.size), growth, state.images_seen, labels)
        state.images_seen += growth.batch_size
        if self._training.adam.resets(growth, self.growth):
            state.reset_adam()
        return StepMetrics(state.images_seen, growth, losses)

    def reconcile(self, *, together: bool, before: str = "begin fit") -> None:
        """Adapt to weights that were changed from outside, or warn; see `WeightReconciler.reconcile`."""
        stale = self._reconciler.reconcile(self.state.images_seen, together=together, before=before)
        if stale and self.device_step is not None:
            self.device_step.forget()

    def reconcile_before_reading(self, *, together: bool = False) -> None:
        """Adapt to weights that were changed from outside before something is made from them, outside fit.

        Args:
            together: Whether all ranks do so now; with several ranks, nothing is done otherwise.
        """
        alone = self.ranks.size == 1 and not self.tracker.is_untouched()
        if not self.tracker.trusts and (together or alone):
            self.reconcile(together=together, before="compare weights")

    def share_choice(self) -> None:
        """Give every rank the choice among the averages that rank 0 has made."""
        if len(self.averages) > 1:
            choice = self.state.choice
            sent = self.ranks.broadcast(None if choice is None else choice.to_json())
            self.state.choice = AverageChoice.from_json(sent)

    def to_level(self, images: Tensor, level: int) -> Tensor:
        """Return images of the data as a step at a level takes them: floats in [0, 1]."""
        images = to_device(images, self.device)
        images = images.to(self.dtype) / 255 if images.dtype == torch.uint8 else images.to(self.dtype)
        return match_level(images, level, base_size=self.state.generator.architecture.base_size)

    @contextmanager
    def settings(self) -> Iterator[None]:
        """Set the precision, and restore it and torch's random state at the end."""
        with self._random.preserved(), precision_scope(self.device, self._training.precision):
            yield

    @contextmanager
    def running(self) -> Iterator[CoreSharing]:
        """Prepare for many steps: watch the CPU cores, and let a CUDA device work ahead.

        Yields:
            What watches the cores.
        """
        with ExitStack() as stack:
            cores = stack.enter_context(shared_cores(self.device))
            if self.device_step is not None:
                stack.enter_context(self.device_step.anew())
                stack.enter_context(self.draws.running())
            yield cores

    def plan(self, *, rough: bool = False) -> Plan:
        """Time a few steps of every stage to come, on copies; roughly, one of each level."""
        with self.settings(), shared_cores(self.device) as cores:
            return make_plan(
                self.state.generator,
                self.state.discriminator,
                self._schedule,
                self._training,
                self.state.images_seen,
                ranks=self.ranks.size,
                graph=self.captures,
                micro_batch=self._micro_batch,
                after_step=cores.look,
                rough=rough,
            )
