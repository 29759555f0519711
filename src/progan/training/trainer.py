"""The trainer: networks, schedule and data in; a run directory out, which the same command goes on with."""

from __future__ import annotations

import copy
import dataclasses
import math
import operator
import platform
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import Unpack

from progan._version import __version__
from progan.arguments import check_flag, check_instance, check_int, check_number, check_tensor, tuple_of, wrong_type
from progan.augment.augmentations import HorizontalFlip
from progan.data import Conversion, Feed, match_level, open_feed
from progan.data.workers import refuse_in_starting_process
from progan.errors import AnotherRunError, CheckpointError, DivergenceError, Interrupted
from progan.losses.wgan_gp import check_gradients_on
from progan.networks.progressive import Block, ProgressiveDiscriminator, ProgressiveGenerator
from progan.ops.functions import kernels_on
from progan.randomness import key
from progan.recipe import Recipe, Training, check_ranks
from progan.runs import checkpoint
from progan.runs.directory import CONFIG, RunDirectory, changed_files, differences
from progan.runs.rebuild import check_counts, check_networks, check_recipe, rebuild
from progan.runs.record import RunRecord
from progan.runs.start import Start, continuation, continuing, is_of_run, same_start
from progan.runs.transfer import find_source, take
from progan.runtime.connections import world_size
from progan.runtime.contention import CoreSharing, shared_cores
from progan.runtime.device import choose_device, precision_scope
from progan.runtime.memory import to_device
from progan.runtime.ranks import Ranks
from progan.runtime.signals import Interruption, interruption
from progan.sampling import GrownGenerator
from progan.schedule import Growth, Schedule, Stage
from progan.storage.paths import user_path
from progan.training.callbacks import Callback, MetricsLog, Previews, Progress, all_told, crosses
from progan.training.captured_step import device_step
from progan.training.divergence import not_finite
from progan.training.draws import DrawsAhead
from progan.training.ema import EmaGenerator
from progan.training.planning import Plan, make_plan, recorded_stages, worth_planning
from progan.training.state import TrainingState
from progan.training.step import StepMetrics, TrainingStep
from progan.training.upkeep import Upkeep, set_attribute

_STOP = 1  # how ranks tell of `Trainer.stop`: below the number of every signal that is noted


class TrainerKeywords(TypedDict, total=False):
    """Name the keywords that `Trainer` and `Trainer.from_recipe` share; see `Trainer`."""

    seed: int
    run_dir: str | PathLike[str] | None
    device: str | torch.device | None
    callbacks: Sequence[Callback]
    log_every: int
    save_every: int
    preview_every: int
    keep: int
    keep_every: int | None
    on_failed_save: Literal["raise", "go_on"]
    workers: int
    graph: bool | None
    progress: bool
    overwrite: bool
    start: str | PathLike[str] | None


class Trainer:
    """Train a pair of networks along a schedule.

    With a run directory that holds a run of the same settings, the trainer begins at its newest sound checkpoint.
    Making a trainer writes nothing; `fit` does.

    Of several processes that torchrun starts, each takes its part of every batch; the first reads and writes run_dir,
    alone has callbacks, and its weights are taken by all. Such a program calls `fit`, `step`, `save` and `check` on
    every one of them.

    Args:
        generator: moved to the device.
        discriminator: of the same architecture; moved to the device.
        schedule: stages that the networks can do.
        training: how a step trains.
        seed: of every draw and of the data's order. The weights are those that the networks have.
        run_dir: where config.json, metrics.jsonl, samples/, progress.png and checkpoints/ go; None = nothing is
            written.
        device: ``cpu``, ``cuda``, ``mps``, ...; None = cuda where there is one, else mps, else the CPU. Of several
            processes on a machine, each takes a GPU of its own.
        callbacks: listeners, beside the metrics file, the previews and the progress. A `MetricsLog` or `Previews` among
            them takes the place of the trainer's own.
        log_every: real images between two lines of metrics.jsonl.
        save_every: real images between two checkpoints; the end of fit is saved too.
        preview_every: real images between two sample grids; the end of a stage is drawn too.
        keep: checkpoints that stay, newest first.
        keep_every: real images; the first checkpoint at or after each multiple stays for good. None = no such ones.
        on_failed_save: what fit does when the disk does not take a checkpoint, or a line of metrics, on the way:
            ``"raise"`` the error; or warn, ``"go_on"``, and try again at the next save. The save at the end of fit
            and the one at a signal always raise.
        workers: Worker processes that fetch a data set's items; 0 = this one. Tensors and folders need none. Where
            processes are not forked (macOS, Windows, Python 3.14), the script needs ``if __name__ == "__main__":``.
        graph: on CUDA, launch the kernels of a step all at once, as a CUDA graph; None = unless the networks have a
            block of one's own, or several processes train. Where it cannot be, a warning says so.
        progress: show a bar, or lines where there is no terminal.
        overwrite: let `fit` remove the run that is in run_dir, once settings and data have been checked, and start
            anew.
        start: Run directory, folder of a checkpoint or ``.safetensors`` file whose weights a new run begins with:
            generator, discriminator and average, layer by layer where names and shapes fit; a warning names what does
            not. The count of images and Adam begin anew. Once run_dir holds a checkpoint of the new run, it is no
            longer read.

    Attributes:
        generator: Generator being trained. Load weights into it before `fit`, not in the middle of a run; the trainer
            notices, and takes its average anew or warns.
        discriminator: Discriminator being trained.
        ema: the running average of the generator.
        schedule: Stages of the run.
        training: How a step trains.
        recipe: Architecture, stages and training together.
        seed: Random seed of the run.
        run_dir: Run directory, an absolute path; None = nothing is written.
        device: Device that the networks are on.

    Raises:
        TypeError: if a callback is none.
        ValueError: if the parts do not fit, or run_dir holds a run of other settings (each is named), or the processes
            cannot share the schedule's batches, or a graph is asked for on a device other than CUDA's, or start is the
            run in run_dir.
        CheckpointError: if the run's checkpoints are all damaged; or if start cannot be read, or nothing in it fits.
        AttributeError: If one of the attributes is replaced later.
        RankError: if the other processes do not come, or the first cannot begin.

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
        *,
        seed: int = 0,
        run_dir: str | PathLike[str] | None = None,
        device: str | torch.device | None = None,
        callbacks: Sequence[Callback] = (),
        log_every: int = 1000,
        save_every: int = 10_000,
        preview_every: int = 10_000,
        keep: int = 3,
        keep_every: int | None = None,
        on_failed_save: Literal["raise", "go_on"] = "raise",
        workers: int = 0,
        graph: bool | None = None,
        progress: bool = True,
        overwrite: bool = False,
        start: str | PathLike[str] | None = None,
    ) -> None:
        check_networks(generator, discriminator)
        check_instance(
            "schedule", schedule, Schedule, [(Sequence, "pass Schedule(stages)"), (Recipe, "pass recipe.schedule")]
        )
        check_instance(
            "training", training, Training, [(Mapping, "pass Training(**it)"), (Recipe, "pass recipe.training")]
        )
        check_int("seed", seed)
        for name, flag in (("progress", progress), ("overwrite", overwrite), ("graph", graph)):
            if name != "graph" or flag is not None:
                check_flag(name, flag)
        if isinstance(callbacks, Callback):
            raise wrong_type("callbacks", "a sequence of callbacks", callbacks, "pass [it]")
        callbacks = tuple_of("callbacks", callbacks, "callbacks")
        if generator.architecture != discriminator.architecture:
            raise ValueError(
                "generator and discriminator must have one architecture; differing: "
                + differences(vars(generator.architecture), vars(discriminator.architecture))
            )
        intervals = {"log_every": log_every, "save_every": save_every, "preview_every": preview_every, "keep": keep}
        check_counts({**intervals, "keep_every": keep_every, "workers": workers})
        if on_failed_save not in ("raise", "go_on"):
            raise ValueError(f"on_failed_save must be 'raise' or 'go_on', got {on_failed_save!r}")
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise wrong_type("each of callbacks", "an instance of a class derived from progan.Callback", callback)
        dtypes = {parameter.dtype for network in (generator, discriminator) for parameter in network.parameters()}
        for role, network in (("generator", generator), ("discriminator", discriminator)):
            if any(parameter.is_inference() for parameter in network.parameters()):
                raise ValueError(f"the {role} was made under torch.inference_mode() and cannot train; make it outside")
            if not any(parameter.requires_grad for parameter in network.parameters()):
                raise ValueError(f"the {role} is frozen, nothing in it would train; call {role}.requires_grad_(True)")
        if len(dtypes) != 1:
            raise ValueError(
                f"generator and discriminator must have one dtype, got {', '.join(sorted(map(str, dtypes)))}; "
                "convert both alike, such as with .float()"
            )
        self.recipe: Recipe = Recipe(generator.architecture, schedule.stages, training)
        self.schedule = schedule
        self.training = training
        self.seed: int = operator.index(seed)
        self.run_dir: Path | None = None if run_dir is None else user_path(run_dir, "run_dir").absolute()
        self.device: torch.device = choose_device(device, training.precision)
        self.generator: ProgressiveGenerator = generator.to(self.device)
        self.discriminator: ProgressiveDiscriminator = discriminator.to(self.device)
        self.ema: EmaGenerator = EmaGenerator(
            self.generator,
            training.ema.decay,
            batch=training.ema.batch,
            warm_up=training.ema.warm_up,
        )
        self.plan_made: Plan | None = None
        if world_size() > 1:  # a second process would join under the same rank
            refuse_in_starting_process("Trainer, of several that train together,")
        self._ranks = Ranks.join(self.device)
        self._saves: bool = self._ranks.broadcast(self.run_dir is not None)  # rank 0 does; the others need no run_dir
        check_ranks(generator.architecture, schedule, self._ranks.size)
        self._state = TrainingState(self.generator, self.discriminator, self.ema, training.adam)
        self._step = TrainingStep(self._state, training, self._ranks)
        own_blocks = generator.block_name is not None or discriminator.block_name is not None
        self._device_step = device_step(self._step, self.device, graph, self._ranks, own_blocks=own_blocks)
        self._draws = DrawsAhead(generator.architecture.latent_shape, self.seed, len(training.augment))
        self._dtype = dtypes.pop()
        self._intervals = intervals
        self._keep_every = keep_every
        self._on_failed_save = on_failed_save
        self._workers = workers
        self._callbacks = list(callbacks)
        logs = [callback for callback in callbacks if isinstance(callback, MetricsLog)]
        self._log = logs[0] if logs else MetricsLog(log_every, go_on=on_failed_save == "go_on")
        if self.run_dir is not None:
            own: tuple[Callback, ...] = () if logs else (self._log,)
            if not any(isinstance(callback, Previews) for callback in callbacks):
                own = (*own, Previews(preview_every))
            self._callbacks = [*own, *callbacks]
        if progress:
            self._callbacks.append(Progress())
        if self._ranks.rank != 0:
            self._callbacks = []
        self._progress = progress
        self._directory: RunDirectory | None = None  # where this process writes
        self._fingerprint: dict[str, Any] | None = None
        self._files: dict[str, str] | None = None
        self._flips_judged = False
        self._saved_at: int | None = 0
        self._start: Start | None = None
        self._fork: Start | None = None
        self._upkeep = Upkeep(self._step, self.ema, self._ranks)
        self._tracker = self._upkeep.tracker
        self._stop_asked = False
        self._ranks.first(lambda: self._begin(overwrite, start))
        self._follow()
        self._tracker.record()

    if not TYPE_CHECKING:  # else any attribute could be set, for all that a type checker knows
        __setattr__ = set_attribute

    @classmethod
    def from_recipe(cls, recipe: Recipe, **keywords: Unpack[TrainerKeywords]) -> Self:
        """Build the networks of a recipe, with weights keyed by the seed, and a trainer around them.

        Args:
            recipe: a preset, or one's own.
            **keywords: as for `Trainer`.

        Example:
            Fine-tune: begin with the weights of another run, at full size from the first step on.

            >>> from dataclasses import replace
            >>> from tempfile import TemporaryDirectory
            >>> from progan import Stage, presets
            >>> recipe, folder = presets.mel_icon(8, channels=(16, 8)), TemporaryDirectory()
            >>> old = replace(recipe, stages=(Stage(1, 0, 16),))
            >>> Trainer.from_recipe(old, run_dir=folder.name, progress=False).fit(torch.rand(20, 3, 8, 8))
            >>> new = replace(recipe, stages=(Stage(1, 0, 60_000, learning_rate=1e-4),))
            >>> trainer = Trainer.from_recipe(new, start=folder.name, progress=False)
            >>> trainer.images_seen, trainer.start.images_seen
            (0, 16)
            >>> folder.cleanup()
        """
        check_recipe(recipe)
        generator, discriminator = recipe.build(seed=keywords.get("seed", 0))
        return cls(generator, discriminator, recipe.schedule, recipe.training, **keywords)

    @classmethod
    def recipe_for_hours(cls, recipe: Recipe, hours: float, **keywords: Unpack[TrainerKeywords]) -> Recipe:
        """Return a recipe with as many images as this machine trains on in a number of hours.

        The images of all stages are scaled alike, up or down, by a plan. Where run_dir holds a run of these stages at
        whatever length, that length is returned and nothing is timed: so the same program goes on with its run.

        Args:
            recipe: a preset, or one's own.
            hours: above 0. Reading data, previews and checkpoints are not in it; planning is, here and once more by the
                trainer that gets the recipe.
            **keywords: as for `Trainer`, those that `from_recipe` will get.

        Raises:
            ValueError: as `Trainer` and `plan`; and if hours is not above 0.

        Example:
            >>> from progan import presets
            >>> recipe = Trainer.recipe_for_hours(presets.mel_icon(8, channels=(16, 8)), 0.001, device="cpu")
            >>> recipe.schedule.total_images < 120_000
            True
        """
        refuse_in_starting_process("Trainer.recipe_for_hours")
        check_recipe(recipe)
        check_number("hours", hours)
        if not 0 < hours < math.inf:
            raise ValueError(f"hours must be a number above 0, got {hours!r}")
        alone = keywords.copy()
        alone["run_dir"], alone["callbacks"], alone["progress"], alone["start"] = None, (), False, None
        trial = cls.from_recipe(recipe, **alone)
        run_dir = keywords.get("run_dir")
        path = None if run_dir is None or keywords.get("overwrite") else user_path(run_dir, "run_dir")
        there = None if path is None else recorded_stages(path, recipe)
        there = trial._ranks.broadcast([dataclasses.asdict(stage) for stage in there] if there else None)
        if there is not None:
            return dataclasses.replace(recipe, stages=tuple(Stage(**stage) for stage in there))
        begin = time.perf_counter()
        planned_s = trial.plan(printed=False).total_s
        there_s = hours * 3600
        factor = trial._ranks.broadcast(max(there_s - 2 * (time.perf_counter() - begin), there_s / 2) / planned_s)
        return dataclasses.replace(recipe, stages=recipe.schedule.scaled(factor).stages)

    @classmethod
    def from_run(
        cls,
        path: str | PathLike[str],
        *,
        run_dir: str | PathLike[str] | None = None,
        device: str | torch.device | None = None,
        callbacks: Sequence[Callback] = (),
        on_failed_save: Literal["raise", "go_on"] = "raise",
        workers: int = 0,
        graph: bool | None = None,
        progress: bool = True,
        generator_block: Block | None = None,
        discriminator_block: Block | None = None,
    ) -> Self:
        """Rebuild the trainer of a run directory, at its newest sound checkpoint, or at the checkpoint that is named.

        Of a run directory, the trainer goes on in that directory. Of a checkpoint's folder, such as
        ``runs/first/checkpoints/000060000``, it has no run_dir: there may be newer checkpoints, and nothing writes over
        them. Give it a run_dir to train on from there.

        Args:
            path: Run directory, or the folder of one of its checkpoints. Settings are taken from it.
            run_dir: Directory for a run that continues from path, with the same settings, seed and data. Where it holds
                that run already, the trainer goes on with it. None = path, where it is a run directory.
            device: as for `Trainer`.
            callbacks: as for `Trainer`.
            on_failed_save: as for `Trainer`.
            workers: as for `Trainer`.
            graph: as for `Trainer`.
            progress: as for `Trainer`.
            generator_block: the block of one's own that the generator was built with, if any.
            discriminator_block: the same, of the discriminator.

        Raises:
            CheckpointError: if path holds no run, its checkpoints are damaged, or the blocks are not those recorded.
            ValueError: If run_dir is the directory that the checkpoint lies in, or holds another run.
        """
        path = user_path(path)
        elsewhere = None if run_dir is None else user_path(run_dir, "run_dir")
        settings, found, generator, discriminator = rebuild(path, generator_block, discriminator_block)
        at_checkpoint = checkpoint.is_checkpoint(path)
        home = path if elsewhere is None and not at_checkpoint else elsewhere
        fork = home is None or home.resolve() != path.resolve()
        if home is not None and fork and found is None:
            raise CheckpointError(f"{path} has no checkpoint yet that a run in {home} could continue from")
        if home is not None and at_checkpoint and home.resolve() == path.resolve().parent.parent:
            raise ValueError(
                f"{home} is where the checkpoint lies, and holds others of the same run; pass another run_dir, or go "
                f"on from the newest one with Trainer.from_run({str(home)!r})"
            )
        try:
            with continuing(settings.start, found if fork else None):
                return cls(
                    generator,
                    discriminator,
                    settings.recipe.schedule,
                    settings.recipe.training,
                    seed=settings.seed,
                    run_dir=home,
                    device=device,
                    callbacks=callbacks,
                    on_failed_save=on_failed_save,
                    workers=workers,
                    graph=graph,
                    progress=progress,
                    **settings.intervals,
                )
        except AnotherRunError as error:
            if fork:
                raise
            raise CheckpointError(f"{path / CONFIG} is not of the run that the checkpoints are of: {error}") from None

    @property
    def images_seen(self) -> int:
        """Real images shown to the critic so far."""
        return self._state.images_seen

    @property
    def start(self) -> Start | None:
        """Where the run's first weights came from; None = from the seed, or the networks that were passed."""
        return self._start

    @property
    def rank(self) -> int:
        """The number of this process among those that train together; 0 is the one that writes."""
        return self._ranks.rank

    @property
    def ranks(self) -> int:
        """The processes that train together."""
        return self._ranks.size

    @property
    def growth(self) -> Growth:
        """The growth of the next step."""
        return self.schedule.at(self.images_seen)

    def step(self, real: Tensor) -> StepMetrics:
        """Train on one batch.

        Args:
            real: (B, C, H, W), floats in the networks' image_range, of `growth`'s batch size and its level's size; of
                several ranks, this one's part, images rank, rank + ranks, ... of the batch.

        Returns:
            The losses, as tensors on the device; nothing is fetched from it. Of several ranks, their means.

        Raises:
            TypeError: if the images are not floats.
            ValueError: if they are of another size or number.
            RuntimeError: under ``torch.no_grad()`` or ``torch.inference_mode()``.
        """
        refuse_in_starting_process("Trainer.step")
        check_gradients_on("a step trains by gradients")
        check_tensor("real", real)
        if self._tracker.trusts:  # within fit
            return self._step_on(real)
        if self.images_seen == 0 or not self._tracker.is_untouched():
            self._see_to_changes(together=self.images_seen == 0)
        with self._tracker.meanwhile():
            return self._step_on(real)

    def _step_on(self, real: Tensor) -> StepMetrics:
        """Train on one batch, with the weights as they are."""
        growth = self.growth
        architecture = self.generator.architecture
        share = growth.batch_size // self._ranks.size
        expected = (share, architecture.image_channels, *architecture.size(growth.level))
        if not real.is_floating_point():
            raise TypeError(f"step takes floats in image_range {architecture.image_range}, got {real.dtype}")
        if tuple(real.shape) != expected:
            raise ValueError(
                f"after {self.images_seen} images, at level {growth.level}, step takes {expected}, got "
                f"{tuple(real.shape)}; resize with progan.match_level"
            )
        draws = self._draws.at(self.images_seen, growth.batch_size)
        real = real.to(self.device, self._dtype)
        with self._own_draws(keyed=True):
            train = self._device_step or self._step
            losses = train(real, draws.part(self._ranks), growth, self.images_seen)
        self._state.images_seen += growth.batch_size
        if self.training.adam.resets(growth, self.growth):
            self._state.reset_adam()
        return StepMetrics(self.images_seen, growth, losses)

    def fit(self, data: Tensor | Dataset[Any], *, until: int | None = None) -> None:
        """Train to the end of the schedule, or until a count of real images.

        Ctrl-C, SIGTERM and SIGUSR1 finish the step, save, and raise `Interrupted`; a second one of the kind acts as it
        would without fit. A callback that calls `stop` ends fit without an error. While fit runs, run_dir is this
        process's; another one is refused. An error of a callback or of the data set, and a KeyboardInterrupt between
        two steps, is raised after a save, so that no step is lost. Every global state is left as it was found.

        Args:
            data: (N, C, H, W), uint8 or floats in [0, 1]; an `ImageFolder`; or a map-style data set whose items are an
                image (C, H, W) or a tuple that begins with one. Images are of the top level's size, or a power of two
                larger.
            until: real images, counted from the start of the run; the first step at or past it is not begun.

        Raises:
            TypeError: if the data is of a wrong kind, or until is no int.
            ValueError: if its images do not fit, it is not the data that the run began with, or another trainer has
                written to run_dir since this one was made.
            RuntimeError: under ``torch.no_grad()`` or ``torch.inference_mode()``.
            DivergenceError: if a loss or a weight is no longer finite.
            Interrupted: after a signal; a kind of KeyboardInterrupt.
            BlockingIOError: if another process trains in run_dir.
            RankError: if another of the processes that train together has died or failed, or holds other weights.
        """
        refuse_in_starting_process("Trainer.fit")
        check_gradients_on("fit trains by gradients")
        with self._ranks.together():
            feed = self._take(data)
            stop = self.schedule.total_images
            if until is not None:
                check_int("until", until)
                stop = min(operator.index(until), stop)
            self._see_to_changes(together=True)
            self._ranks.check_same(
                "data or until", {"data": feed.fingerprint, "images_seen": self.images_seen, "until": stop}
            )
            if self.images_seen >= stop:
                self._save_rest()  # which the disk may not have taken before
                self._ranks.first(self._tidy)
                return
            self._stop_asked = False
            with (
                self._own_draws(),
                self._precision(),
                interruption() as asked,
                ExitStack() as held,
            ):
                self._ranks.first(lambda: self._open(held))
                cores = held.enter_context(shared_cores(self.device))
                if self._device_step is not None:
                    held.enter_context(self._device_step.anew())
                    held.enter_context(self._draws.running())
                if self._progress and self.plan_made is None and worth_planning(self.schedule, self.images_seen, stop):
                    self.plan(printed=False)
                with all_told(self._callbacks, self), self._tracker.meanwhile():
                    for callback in self._callbacks:
                        callback.on_start(self)
                    if self.images_seen == 0:  # a callback may have loaded weights
                        self._see_to_changes(together=True)
                    if self._saves and self._saved_at is None and (self._start or self._fork):
                        self._save_on_the_way()  # from now on the run does not need what it began with
                    self._train(feed, stop, asked, cores)
        if asked.signal is not None:
            raise Interrupted(asked.signal)

    def stop(self) -> None:
        """Ask `fit` to end in good order: it finishes the step that it is at, saves, and returns.

        For callbacks, as ``run.stop()``, and for other threads. Asked in `Callback.on_start`, no step is begun. With
        several processes, all of them end at the same step. The next `fit` trains on; outside `fit` nothing happens.
        """
        self._stop_asked = True

    def _see_to_changes(self, *, together: bool) -> None:
        """Bring what was made from the weights in line with weights that were set from outside, or warn."""
        if self._upkeep.see_to_changes(self.images_seen, together=together) and self._device_step is not None:
            self._device_step.forget()

    def _open(self, held: ExitStack) -> None:
        """Take hold of run_dir, and make what is written to."""
        if self._directory is not None:
            held.enter_context(self._directory.owning())
            self._directory.begin(self._config(), self._files)

    def _tidy(self) -> None:
        """Finish the last save of a finished run, within which it may have been killed."""
        if self._directory is not None:
            self._directory.tidy(self.images_seen)

    def check(self, data: Tensor | Dataset[Any]) -> None:
        """Check a data set and run_dir as `fit` does before it begins; nothing is written.

        Args:
            data: as for `fit`.

        Raises:
            TypeError: as `fit`.
            ValueError: as `fit`.
        """
        self._take(data)
        self._ranks.first(lambda: self._directory.check() if self._directory is not None else None)

    def _take(self, data: Tensor | Dataset[Any]) -> Feed:
        """Take a data set in."""
        architecture = self.generator.architecture
        feed = open_feed(
            data,
            image_channels=architecture.image_channels,
            base_size=architecture.base_size,
            level=max(stage.level for stage in self.schedule.stages),
            seed=self.seed,
            workers=self._workers,
            device=self.device,
        )
        self._take_fingerprint(feed)
        if (
            self._ranks.rank == 0
            and not self._flips_judged
            and any(isinstance(kind, HorizontalFlip) for kind in self.training.augment)
        ):
            self._flips_judged = True
            verdict = feed.flip_verdict()
            if verdict.safe is False:
                warnings.warn(f"HorizontalFlip is on, and {verdict}; leave it out of Training.augment", stacklevel=3)
        return feed

    def _train(self, feed: Feed, stop: int, asked: Interruption, cores: CoreSharing) -> None:
        """Take step after step, and save in between and at the end."""
        self._in_step = False
        try:
            if not self._ranks.highest(int(self._stop_asked)):  # by on_start
                self._take_steps(feed, stop, asked, cores)
            self._save_rest()
        except KeyboardInterrupt as error:
            if asked.signal is None:  # else it is the second Ctrl-C, which ends all at once
                if self._in_step:
                    error.add_note("raised within a step, so nothing was saved; a run goes on from its last checkpoint")
                else:
                    self._save_after(error, "raised between two steps")
            raise

    def _take_steps(self, feed: Feed, stop: int, asked: Interruption, cores: CoreSharing) -> None:
        rank, ranks = self._ranks.rank, self._ranks.size
        batch_size_at = lambda count: self.schedule.at(count).batch_size  # noqa: E731
        conversion = Conversion(lambda count: self.schedule.at(count).level, self._to_level)
        for real in self._or_save(
            feed.batches(self.images_seen, stop, batch_size_at, rank=rank, ranks=ranks, conversion=conversion)
        ):
            before = self.images_seen
            self._in_step = True
            metrics = self.step(real)
            self._in_step = False
            cores.look()
            if (remark := cores.remark()) is not None:
                warnings.warn(remark, stacklevel=4)
            save = crosses(self._intervals["save_every"], before, self.images_seen)
            log = crosses(self._intervals["log_every"], before, self.images_seen)
            if log or self.device.type == "cpu":  # elsewhere a look waits for the device
                self._check_finite(weights=log)
            try:
                for callback in self._callbacks:
                    callback.on_step(self, metrics)
                if self.growth.stage != metrics.growth.stage or self.images_seen >= self.schedule.total_images:
                    for callback in self._callbacks:
                        callback.on_stage_end(self, metrics.growth)
            except (Exception, SystemExit) as error:
                self._save_after(error, "raised by a callback")
                raise
            ending = self._end_asked(asked)
            if save and not ending and self.images_seen < stop and self._saves:
                self._save_on_the_way()
                ending = self._end_asked(asked)
            if ending:
                if asked.signal is None and ending != _STOP:  # the signal came to another rank
                    asked.signal = ending
                break

    def _end_asked(self, asked: Interruption) -> int:
        """Return what asks for the end of fit on any rank: a signal's number, _STOP, or 0 for nothing."""
        return self._ranks.highest(asked.signal or (_STOP if self._stop_asked else 0))

    def _save_rest(self) -> None:
        """Save what has been trained since the last checkpoint, if anything."""
        if self._saves and self._saved_at != self.images_seen:
            self.save()

    def _check_ranks(self) -> None:
        """Raise where the state is not to be saved: not finite, or not the same on every rank."""
        self._check_finite(weights=True)
        self._ranks.check_equal(self._state.tensors())

    def _save_on_the_way(self) -> None:
        """Save; where the disk does not let it, raise or warn, as asked."""
        self._check_ranks()
        path = self._ranks.first(self._try_save)
        if path is not None:
            self._tell_of_save(Path(path))

    def _try_save(self) -> str | None:
        try:
            return self._save()
        except OSError as error:
            if self._on_failed_save == "raise":
                raise
            warnings.warn(
                f"no checkpoint at {self.images_seen:,} images, the training goes on and saves when it can: {error}",
                stacklevel=6,
            )
            return None

    def _tell_of_save(self, path: Path) -> None:
        self._saved_at = self.images_seen
        for callback in self._callbacks:
            callback.on_save(self, path)

    def _or_save(self, batches: Iterator[Tensor]) -> Iterator[Tensor]:
        """Yield batches; where one cannot be had, save what was trained on those before."""
        try:
            yield from batches
        except (Exception, SystemExit) as error:
            self._save_after(error, "raised by the data set")
            raise

    def _save_after(self, error: BaseException, raised: str) -> None:
        """Save what was trained before an error, which is raised then, and tells whether this went well.

        Args:
            error: gets a note.
            raised: where the error comes from, in words.
        """
        if self._directory is None or self._saved_at == self.images_seen:
            return
        try:
            self._check_finite(weights=True)
            path = Path(self._save())
        except Exception as second:
            error.add_note(f"progan could not save after it: {second}")
            return
        error.add_note(f"{raised}; all {self.images_seen:,} images trained are saved in {self.run_dir}")
        try:
            self._tell_of_save(path)
        except Exception as second:
            error.add_note(f"on_save of a callback then raised {type(second).__name__}: {second}")

    @contextmanager
    def _own_draws(self, *, keyed: bool = False) -> Iterator[None]:
        """Put torch's random state back behind blocks of one's own, which may draw from it; seed it by key of the step.

        Args:
            keyed: whether to seed it.
        """
        if self.generator.block_name is None and self.discriminator.block_name is None:
            yield
            return
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            if keyed:
                position = self.images_seen if self._ranks.size == 1 else f"{self.images_seen} {self._ranks.rank}"
                seed = key(self.seed, "block", position) & (2**63 - 1)
                torch.default_generator.manual_seed(seed)
                if self.device.type == "cuda":
                    torch.cuda.manual_seed(seed)
            yield

    def _precision(self) -> AbstractContextManager[None]:
        return precision_scope(self.device, self.training.precision)

    def _to_level(self, images: Tensor, level: int) -> Tensor:
        """Return images of the data as a `step` at a level takes them: the one place that converts."""
        architecture = self.generator.architecture
        images = to_device(images, self.device)
        images = images.to(self._dtype) / 255 if images.dtype == torch.uint8 else images.to(self._dtype)
        images = match_level(images, level, base_size=architecture.base_size)
        low, high = architecture.image_range
        return images if (low, high) == (0, 1) else images * (high - low) + low

    def _check_finite(self, *, weights: bool) -> None:
        """Raise where a loss or a gradient was not finite, or a weight is not; on every rank alike."""
        networks = {"generator": self.generator, "discriminator": self.discriminator} if weights else {}
        if found := self._step.watch.found() or not_finite(networks, self.images_seen):
            raise DivergenceError(*found, self.schedule.at(found[1]), saved=self._saves)

    def plan(self, *, printed: bool = True) -> Plan:
        """Time a few steps of every stage to come, on copies, and remember the times for the progress bar.

        Args:
            printed: whether to print the plan's table.

        Raises:
            ValueError: if a stage's batch takes more memory than there is; the message names the largest that does not.
        """
        refuse_in_starting_process("Trainer.plan")
        with (
            self._own_draws(),
            self._precision(),
            shared_cores(self.device) as cores,
        ):
            self.plan_made = make_plan(
                self.generator,
                self.discriminator,
                self.schedule,
                self.training,
                self.images_seen,
                ranks=self._ranks.size,
                graph=self._graph,
                after_step=cores.look,
            )
        if printed and self._ranks.rank == 0:
            print(self.plan_made.table(self.schedule, self.generator.architecture.base_size))
        return self.plan_made

    @property
    def _graph(self) -> bool:
        """Whether steps are captured as CUDA graphs."""
        return self._device_step is not None and self._device_step.captures

    def grown(self) -> GrownGenerator:
        """Return a copy of the averaged generator, at the level to which it has been trained."""
        averaged = copy.deepcopy(self.ema.module)
        assert isinstance(averaged, ProgressiveGenerator)
        return GrownGenerator(averaged, *self.schedule.reached(self.images_seen))

    def save(self) -> Path:
        """Write a checkpoint, then drop all but the newest.

        Returns:
            Its folder.

        Raises:
            ValueError: if the trainer has no run_dir.
            DivergenceError: if a weight is no longer finite.
        """
        refuse_in_starting_process("Trainer.save")
        if not self._saves:
            raise ValueError("the trainer has no run_dir to save to; pass run_dir=, or use state_dict()")
        self._check_ranks()
        path = Path(self._ranks.first(self._save))
        self._tell_of_save(path)
        return path

    def _save(self) -> str:
        """Write a checkpoint, then drop all but the newest; return its folder."""
        assert self._directory is not None
        with self._directory.owning():
            self._directory.make_sure(self._config(), self._files)
            self._log.write(self)  # so that no line up to a checkpoint is ever missing
            manifest = {**self._identity(), "numbers": self._state.numbers(), "environment": self._environment()}
            return str(self._directory.write(self.images_seen, manifest, self._state.tensors()))

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes while training: images_seen, and the tensors by name (not copies)."""
        return {
            "images_seen": self.images_seen,
            "numbers": self._state.numbers(),
            "tensors": self._state.tensors(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `state_dict` returned. All of it is checked before anything is changed.

        Raises:
            CheckpointError: if it does not fit these networks.
        """
        try:
            images_seen, tensors = state["images_seen"], dict(state["tensors"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"this is no state of a trainer: {error!r}") from error
        if not isinstance(images_seen, int) or images_seen < 0:
            raise CheckpointError(f"images_seen must be an int of at least 0, got {images_seen!r}")
        numbers = state.get("numbers", {"ema_warm_up": self.training.ema.warm_up})
        self._state.load(images_seen, tensors, numbers)
        self._step.watch.forget()
        self._saved_at = None
        self._tracker.record()

    def _identity(self) -> dict[str, Any]:
        """Return what makes a run this run."""
        return {
            "recipe": self.recipe.to_json(),
            "seed": self.seed,
            "blocks": {"generator": self.generator.block_name, "discriminator": self.discriminator.block_name},
            "data": self._fingerprint,
            "start": None if self._start is None else self._start.to_json(),
            "fork": None if self._fork is None else self._fork.to_json(),
        }

    def _config(self) -> dict[str, Any]:
        """Return what config.json records of the run."""
        return {
            **self._identity(),
            "dtype": str(self._dtype).removeprefix("torch."),
            "intervals": {**self._intervals, "keep_every": self._keep_every},
            "environment": self._environment(),
        }

    def _environment(self) -> dict[str, Any]:
        """Return what may change on resume, at the price of differing bits."""
        kernels: dict[str, dict[str, Any]] = {
            "cuda": {"graph": self._graph, "kernels": self._own_kernels()},
            "cpu": {"cpu_capability": torch.backends.cpu.get_cpu_capability()},
        }
        return {
            **kernels.get(self.device.type, {}),
            "device": self.device.type,
            "ranks": self._ranks.size,
            "threads": torch.get_num_threads(),
            "progan": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "machine": platform.machine(),
        }

    def _own_kernels(self) -> str | None:
        """Return what compiles kernels of our own for a CUDA device; None where none are used."""
        kernels = kernels_on(self.device) if self.device.type == "cuda" else None
        return None if kernels is None else f"triton {kernels.triton_version}"

    def _begin(self, overwrite: bool, start: str | PathLike[str] | None) -> None:
        """Begin where the run in run_dir stopped, else with the weights of a start."""
        continued = continuation()
        if continued is not None:
            self._start, self._fork = continued.start, continued.fork
        if self.run_dir is not None:
            if start is not None and is_of_run(start, self.run_dir):
                raise ValueError(
                    f"start {start} is in run_dir {self.run_dir}, which is for the new run; pass another run_dir"
                )
            keep = self._intervals["keep"]
            self._directory = RunDirectory(self.run_dir, overwrite=overwrite, keep=keep, keep_every=self._keep_every)
            recorded = None if overwrite else RunRecord.read(self.run_dir)
            if recorded is not None:
                self._check_same(recorded, start)
                if recorded.checkpoint is not None:
                    self._restore(recorded)
                    return
        if continued is not None and continued.checkpoint is not None:
            self._restore(RunRecord.at(continued.checkpoint))
            self._saved_at = None
        elif self._fork is not None:
            raise CheckpointError(
                f"{self.run_dir} has no checkpoint yet of a run that continues from {self._fork.path}; make the "
                "trainer with Trainer.from_run of that path, and run_dir="
            )
        elif start is not None:
            self._start_from(start)
        elif self._start is not None:
            raise CheckpointError(
                f"{self.run_dir} has no checkpoint yet of a run that starts from {self._start.path}; make the trainer "
                "with Trainer.from_recipe, and start="
            )

    def _start_from(self, path: str | PathLike[str]) -> None:
        """Take the weights of another run, or of a file."""
        source = find_source(path, self._start)
        self._start, notes = take(source, self.generator, self.discriminator, self.ema.module, self.schedule)
        if "ema" in self._start.taken:
            self.ema.warm_up = False  # its first step would forget what was taken
        self._saved_at = None
        if notes:
            warnings.warn(f"start {path} is not taken as it is: {'. '.join(notes)}", stacklevel=3)

    def _follow(self) -> None:
        """Take over the state of rank 0, which alone reads and writes run_dir."""
        if self._ranks.size == 1:
            return
        own = {**self._identity(), **dict.fromkeys(("data", "start", "fork")), "intervals": self._intervals}
        own["dtype"] = str(self._dtype)
        self._ranks.check_same("networks or settings", own)
        moments = list(self._state.adam_tensors())
        identity = self._identity()
        told = [
            self.images_seen,
            self._saved_at,
            self._fingerprint,
            identity["start"],
            identity["fork"],
            moments,
        ]
        self._state.images_seen, self._saved_at, self._fingerprint, start, fork, moments = self._ranks.broadcast(told)
        self._start, self._fork = Start.from_json(start), Start.from_json(fork)
        self.ema.warm_up = self._ranks.broadcast(self.ema.warm_up)
        if self._ranks.rank != 0:
            self._state.load_adam_tensors(dict.fromkeys(moments, torch.zeros(())))
        self._ranks.take(self._state.tensors())

    def _check_same(self, recorded: RunRecord, start: str | PathLike[str] | None) -> None:
        """Raise where the run in run_dir is not this one."""
        if continuation() is None:
            self._start = same_start(recorded.start, start)
        recorded.check_same(self._identity(), self.schedule)
        self._start, self._fork, self._fingerprint = recorded.start, recorded.fork, recorded.data

    def _restore(self, recorded: RunRecord) -> None:
        """Begin at a checkpoint."""
        assert recorded.checkpoint is not None
        self._start, self._fingerprint = recorded.start, recorded.data
        tensors = checkpoint.read_tensors(recorded.checkpoint)
        numbers = recorded.manifest.get("numbers", {"ema_warm_up": self.training.ema.warm_up})
        self.load_state_dict({"images_seen": recorded.images_seen, "numbers": numbers, "tensors": tensors})
        self._saved_at = recorded.images_seen
        before, after = recorded.recipe.schedule.at(recorded.images_seen), self.growth
        if self.training.adam.resets(before, after):  # a schedule made longer grows where the old one ended
            self._state.reset_adam()
        then, now = recorded.manifest.get("environment", {}), self._environment()
        if then != now:
            warnings.warn(
                f"{recorded.run_dir} goes on elsewhere than it was made ({differences(then, now)}); the run is sound, "
                "but its bits will not be those of an uninterrupted one",
                stacklevel=3,
            )

    def _take_fingerprint(self, feed: Feed) -> None:
        """Raise where a run goes on with other data than it began with."""
        if self._fingerprint is not None and self._fingerprint != feed.fingerprint:
            changed = ""
            if self.run_dir is not None and feed.files is not None:
                changed = changed_files(self.run_dir, self._fingerprint, feed.files)
            differing = differences(self._fingerprint, feed.fingerprint)
            raise ValueError(
                f"the data is not that of the run (there -> here): {changed or differing}; pass the same data, or "
                "another run_dir"
            )
        self._fingerprint, self._files = feed.fingerprint, feed.files
