"""The trainer, which trains a pair of networks along a schedule and resumes the run that it finds."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import Unpack

from progan.arguments import check_gradients_on
from progan.data import Batch, Feed
from progan.data.batch import as_batch
from progan.data.workers import refuse_in_starting_process
from progan.errors import Interrupted
from progan.networks.base import Block
from progan.networks.discriminator import ProgressiveDiscriminator
from progan.networks.generator import ProgressiveGenerator
from progan.optimization import FIRST_AVERAGE
from progan.recipe import Recipe, Training
from progan.runs.average_choice import AverageChoice
from progan.runs.continuation import Continuation, continuing
from progan.runs.data_history import DataRecord
from progan.runs.rebuild import rebuild
from progan.runs.recovery import Setback
from progan.runs.start import Start
from progan.sampling import GrownGenerator
from progan.schedule import Growth, Schedule
from progan.storage.paths import user_path
from progan.training.checkpointer import Checkpointer
from progan.training.checks import check_parts, check_recipe, last_count, set_attribute
from progan.training.choosing import choose_average
from progan.training.ema import EmaGenerator
from progan.training.engine import Engine
from progan.training.identity import RunIdentity
from progan.training.loop import TrainingLoop
from progan.training.options import ResumeKeywords, RunKeywords, RunOptions, build_callbacks, check_keywords
from progan.training.planning import Plan, check_hours, scale_to_hours
from progan.training.step import StepMetrics


class Trainer:
    """A pair of networks, and all that trains them along a schedule.

    If run_dir holds a run of the same settings, the trainer begins at its newest sound checkpoint. Creating a trainer
    writes nothing; `fit` does. When torchrun starts several processes, each takes its part of every batch. The first
    one reads and writes run_dir and calls the callbacks, and the others take its weights. The program calls `fit`,
    `step`, `save` and `check` on every process.

    Args:
        generator: Generator to train; it is moved to the device.
        discriminator: Discriminator of the same architecture; it is moved to the device.
        schedule: Stages, at levels that the networks have.
        training: How a step trains.
        **options: Options of the run, such as ``run_dir`` and ``seed``: see `RunOptions`.

    Attributes:
        generator: Generator that is trained. Load weights into it before `fit`, not in the middle of a run; the trainer
            detects it, and resets its average or warns.
        discriminator: Discriminator that is trained.
        ema: Moving average of the generator; the first of them, where there are several.
        averages: Moving averages of the generator by name: ``ema``, and ``ema_1``, ``ema_2``, ... of
            ``other_half_lives`` (see `Ema`).
        schedule: Stages of the run.
        training: How a step trains.
        recipe: Architecture, stages and training together.
        options: Options of the run.
        seed: Random seed of the run.
        run_dir: Run directory, an absolute path; None = nothing is written.
        device: Device that the networks are on.

    Raises:
        TypeError: If a part or an option is of a wrong type.
        ValueError: If the parts do not fit together, run_dir holds a run of other settings (each is named), the
            processes cannot share the schedule's batches, micro_batch does not divide them into whole groups,
            graph=True is not for this device, or start is in run_dir.
        CheckpointError: If the run's checkpoints are all damaged, or start cannot be read, or nothing in it fits.
        AttributeError: If one of the attributes is replaced later.
        RankError: If another process does not join, or the first one cannot begin.

    Example:
        >>> from progan import presets
        >>> trainer = Trainer.from_recipe(presets.mel_icon(8, channels=(16, 8)), device="cpu", progress=False)
        >>> trainer.fit(torch.rand(20, 3, 8, 8), until=16)
        >>> trainer.images_seen, trainer.grown().sample(2).shape
        (16, torch.Size([2, 3, 4, 4]))
    """

    def __init__(
        self,
        generator: ProgressiveGenerator,
        discriminator: ProgressiveDiscriminator,
        schedule: Schedule,
        training: Training = Training(),  # noqa: B008 (frozen, so shared safely)
        **options: Unpack[RunKeywords],
    ) -> None:
        check_keywords("Trainer", options, RunKeywords)
        check_parts(generator, discriminator, schedule, training)
        self.options: RunOptions = RunOptions(**options)
        self.recipe: Recipe = Recipe(generator.architecture, schedule.stages, training)
        self._engine = Engine(generator, discriminator, schedule, training, self.options)
        self.generator: ProgressiveGenerator = self._engine.state.generator
        self.discriminator: ProgressiveDiscriminator = self._engine.state.discriminator
        self.averages: Mapping[str, EmaGenerator] = MappingProxyType(self._engine.averages)
        self.ema: EmaGenerator = self.averages[FIRST_AVERAGE]
        self.schedule = schedule
        self.training = training
        self.seed: int = self.options.seed
        self.run_dir: Path | None = self.options.directory
        self.device: torch.device = self._engine.device
        self.plan_made: Plan | None = None
        blocks = {"generator": generator.block_name, "discriminator": discriminator.block_name}
        self._identity = RunIdentity(self.recipe, self.seed, blocks)
        parts = training, self._engine.state, self._identity
        self._callbacks, log = build_callbacks(self.options, *parts, self.rank == 0)
        self._checkpointer = Checkpointer(self._engine, self._identity, self.options, self._callbacks, log)
        self._stop_requested = threading.Event()
        self._checkpointer.restore()
        self._engine.tracker.record()

    if not TYPE_CHECKING:  # otherwise a type checker would accept any attribute
        __setattr__ = set_attribute

    @classmethod
    def from_recipe(cls, recipe: Recipe, **options: Unpack[RunKeywords]) -> Self:
        """Build the networks of a recipe, with weights drawn from the seed, and a trainer around them.

        Args:
            recipe: Recipe, from a preset or your own.
            **options: Options of the run: see `RunOptions`.
        """
        check_recipe(recipe)
        generator, discriminator = recipe.build(seed=options.get("seed", 0))
        return cls(generator, discriminator, recipe.schedule, recipe.training, **options)

    @classmethod
    def recipe_for_hours(cls, recipe: Recipe, hours: float, **options: Unpack[RunKeywords]) -> Recipe:
        """Return a recipe with as many images as this machine trains on in a number of hours.

        The images of all stages are scaled by the same factor, which a plan determines. If run_dir holds a run of these
        stages at another length, that length is returned without planning, so that the same program resumes its run.

        Args:
            recipe: Recipe, from a preset or your own.
            hours: Hours, above 0. They include planning, here and once more by the trainer that gets the recipe, but
                not reading data, previews and checkpoints.
            **options: Options that `from_recipe` will get: see `RunOptions`.

        Raises:
            ValueError: As for `Trainer` and `plan`; and if hours is not above 0.
        """
        refuse_in_starting_process("Trainer.recipe_for_hours")
        check_recipe(recipe)
        check_hours(hours)
        own: RunKeywords = {**options, "run_dir": None, "callbacks": (), "progress": False, "start": None, "recover": 0}
        trial = cls.from_recipe(recipe, **own)
        run_dir = None if options.get("overwrite") else RunOptions(run_dir=options.get("run_dir")).directory
        return scale_to_hours(recipe, hours, run_dir, trial._engine.ranks, lambda: trial.plan(printed=False))

    @classmethod
    def from_run(
        cls,
        path: str | PathLike[str],
        *,
        generator_block: Block | None = None,
        discriminator_block: Block | None = None,
        parts: Sequence[type] = (),
        **options: Unpack[ResumeKeywords],
    ) -> Self:
        """Rebuild the trainer of a run, at its newest sound checkpoint or at the checkpoint that path names.

        From a run directory, the trainer continues in that directory. From the folder of a checkpoint, such as
        ``runs/first/checkpoints/000060000``, it has no run_dir, since newer checkpoints may lie beside it. Pass run_dir
        to train on from there.

        Args:
            path: Run directory, or folder of one of its checkpoints. The settings are read from it.
            generator_block: Custom block that the generator was built with, if any.
            discriminator_block: Custom block that the discriminator was built with, if any.
            parts: Custom classes of objectives, regularisers and augmentations that the run trains with, if any.
            **options: ``run_dir``, for a run that continues from path in another directory, or resumes there; and
                ``device``, ``callbacks``, ``on_failed_save``, ``workers``, ``graph``, ``micro_batch``, ``progress``,
                ``recover``, ``data_may_change`` and ``held_out`` (a share is recorded): see `RunOptions`.

        Raises:
            CheckpointError: If path holds no run, its checkpoints are damaged, the blocks are not the recorded ones, or
                a class is missing in parts.
            ValueError: If run_dir is the directory that the checkpoint lies in, or holds another run.
        """
        check_keywords("Trainer.from_run", options, ResumeKeywords)
        path, elsewhere = user_path(path), RunOptions(run_dir=options.pop("run_dir", None)).directory
        continuation = Continuation.read(path, elsewhere)
        record = continuation.recorded
        training = record.recipe(parts).training
        averages = training.ema.averages()
        networks = rebuild(record, continuation.checkpoint, generator_block, discriminator_block, averages)
        settings: Any = continuation.options() | options
        with continuing(continuation):
            return cls(*networks, record.schedule, training, **settings)

    @property
    def images_seen(self) -> int:
        """Real images shown to the critic so far."""
        return self._engine.state.images_seen

    @property
    def start(self) -> Start | None:
        """Source of the run's first weights; None = the seed, or the networks that were passed."""
        return self._identity.start

    @property
    def data_history(self) -> tuple[DataRecord, ...]:
        """Data sets of the run, each with the count at which training on it began; empty before the first is opened."""
        return self._identity.whole_data_history

    @property
    def setbacks(self) -> tuple[Setback, ...]:
        """Returns to an earlier checkpoint after trouble, in their order; see the option ``recover``."""
        return self._engine.state.recovery.setbacks

    @property
    def rank(self) -> int:
        """Number of this process among those that train together; 0 is the one that writes."""
        return self._engine.ranks.rank

    @property
    def ranks(self) -> int:
        """Number of processes that train together."""
        return self._engine.ranks.size

    @property
    def growth(self) -> Growth:
        """The growth of the next step."""
        return self._engine.growth

    def step(self, real: Tensor | Batch) -> StepMetrics:
        """Train on one batch.

        Args:
            real: Real images, (B, C, H, W), floats in [0, 1], with `growth`'s batch size and its level's height
                and width; or a `Batch` of them. With several processes, images rank, rank + ranks, ... of the batch.

        Returns:
            The losses, as tensors on the device; nothing is fetched from it. With several processes, their means.

        Raises:
            TypeError: If the images are not floats.
            ValueError: If their size or number is wrong, or labels are not one per image.
            RuntimeError: Under ``torch.no_grad()`` or ``torch.inference_mode()``; or with a `Reconstruction`, from
                16x16 on, whose codes `fit` has not yet taken from the data.
        """
        refuse_in_starting_process("Trainer.step")
        check_gradients_on("a step trains by gradients")
        return self._engine.train(as_batch(real))

    def fit(self, data: Tensor | Dataset[Any], *, until: int | None = None) -> None:
        """Train to the end of the schedule, or until a count of real images.

        Ctrl-C, SIGTERM and SIGUSR1 finish the step, save, and raise `Interrupted`; a second signal of the kind acts as
        it would without fit. A callback that calls `stop` ends fit without an error. While fit runs, no other process
        can train in run_dir. An error of a callback or of the data set, and a KeyboardInterrupt between two steps, is
        raised after a save, so that no step is lost. Every global state is left as it was found.

        Args:
            data: (N, C, H, W), uint8 or floats in [0, 1]; an `ImageFolder`; or a map-style data set of images (C, H, W)
                or of tuples of an image and its label (see `Batch`), of the top level's size or 2, 4, ... times that.
            until: Count of real images since the start of the run; no step begins at or past it.

        Raises:
            TypeError: If the data is of a wrong kind, or until is not an int.
            ValueError: If the images do not fit, the data is not that of the run, or another trainer has written to
                run_dir since this one was made.
            RuntimeError: Under ``torch.no_grad()`` or ``torch.inference_mode()``.
            DivergenceError: If a loss or a weight is no longer finite, and the run does not recover.
            Interrupted: After a signal; a kind of KeyboardInterrupt.
            BlockingIOError: If another process trains in run_dir.
            RankError: If another of the processes that train together has died or failed, or holds other weights.
        """
        refuse_in_starting_process("Trainer.fit")
        check_gradients_on("fit trains by gradients")
        with self._engine.ranks.closing_on_error():
            feed = self._open(data)
            end = last_count(until, self.schedule)
            self._engine.reconcile(together=True)
            given = {"data": feed.fingerprint, "images_seen": self.images_seen, "until": end}
            self._engine.ranks.check_same("data or until", given)
            self._engine.fit_codes(feed)
            if self.images_seen >= end:
                self._checkpointer.save_rest(self)  # which the disk may not have accepted before
                self._checkpointer.tidy()
                return
            self._stop_requested.clear()
            parts = self._engine, self._checkpointer, self._callbacks, self.options, self._stop_requested
            signal = TrainingLoop(self, *parts).train(feed, end)
        if signal is not None:
            raise Interrupted(signal)

    def stop(self) -> None:
        """Ask `fit` to finish the current step, save, and return.

        For callbacks, as ``run.stop()``, and for other threads; outside `fit` nothing happens. After a call in
        `Callback.on_start`, no step begins. Several processes end at the same step. The next `fit` trains on.
        """
        self._stop_requested.set()

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a row to metrics.jsonl, and hand it to the trackers; for callbacks, as ``run.log({"my_loss": 0.5})``."""
        self._callbacks.on_log(self, {"images_seen": self.images_seen, **row})

    def check(self, data: Tensor | Dataset[Any]) -> None:
        """Check a data set and run_dir, and raise what `fit` would raise before it begins; nothing is written."""
        self._open(data)
        self._checkpointer.check()

    def _open(self, data: Tensor | Dataset[Any]) -> Feed:
        """Open a data set and check that it is that of the run."""
        feed = self._engine.open_data(data, self.options)
        self._identity.check_data(feed, self.run_dir, self.images_seen, may_change=self.options.data_may_change)
        self._callbacks.on_data(self, feed)
        return feed

    def plan(self, *, printed: bool = True, rough: bool = False) -> Plan:
        """Time a few steps of every stage to come, on copies; the progress display uses the result.

        Args:
            printed: Whether to print the plan's table.
            rough: Whether one step of each level is enough: several times as fast, and off by a fifth or so.

        Raises:
            ValueError: If a batch takes more memory than there is; the message names the largest one that fits.
        """
        refuse_in_starting_process("Trainer.plan")
        self.plan_made = self._engine.plan(rough=rough)
        if printed and self.rank == 0:
            print(self.plan_made.table(self.schedule, self.generator.architecture.base_size))
        return self.plan_made

    def choose_average(self, data: Tensor | Dataset[Any]) -> AverageChoice:
        """Judge all averages of the generator, and record which is the best, for `grown` and `load_generator`.

        Each is measured by the leading measure of the run's `Judge`, from the same latents, as at the end of the
        schedule. A run that is not judged there (``judge_every=0``, or no run_dir) uses the first average until this is
        called. A choice holds for one count of images; a checkpoint is written anew with it.

        Args:
            data: Training data, as for `fit`.

        Raises:
            ValueError: If there is one average only, none could be judged, or the data is not that of the run.
        """
        refuse_in_starting_process("Trainer.choose_average")
        with self._engine.ranks.closing_on_error():
            feed = self._open(data)
            self._engine.reconcile_before_reading(together=True)
            return choose_average(self, feed, self._engine, self._checkpointer, self._callbacks)

    def grown(self, average: str | None = None) -> GrownGenerator:
        """Return a copy of the averaged generator, at the level to which it has been trained.

        Args:
            average: Name of the average, one of ``averages``; None = the chosen one (see `choose_average`), or the
                first one where there has been no choice at this count of images.

        Raises:
            ValueError: If there is no such average.
        """
        self._engine.reconcile_before_reading()
        averaged = copy.deepcopy(self._engine.state.average(average).module)
        assert isinstance(averaged, ProgressiveGenerator)
        return GrownGenerator(averaged, *self.schedule.reached(self.images_seen), classes=self._identity.classes)

    def save(self) -> Path:
        """Write a checkpoint, then remove the oldest ones; return the checkpoint's folder.

        Raises:
            ValueError: If the trainer has no run_dir.
            DivergenceError: If a weight is no longer finite.
        """
        refuse_in_starting_process("Trainer.save")
        if not self._engine.saves:
            raise ValueError("the trainer has no run_dir to save to; pass run_dir=, or use state_dict()")
        self._engine.reconcile_before_reading(together=True)
        return self._checkpointer.save(self)

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes while training: images_seen, numbers, and tensors by name (not copies)."""
        self._engine.reconcile_before_reading()
        return self._engine.state.to_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned; one that does not fit raises `CheckpointError`, and changes nothing."""
        self._checkpointer.load_state_dict(state)
