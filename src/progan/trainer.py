"""The trainer: networks, schedule and data in; a run directory out, which the same command goes on with."""

from __future__ import annotations

import copy
import json
import operator
import platform
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any, Self, TypedDict

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from typing_extensions import Unpack

from progan import checkpoint
from progan.augment import HorizontalFlip
from progan.averaging import Average
from progan.callbacks import Callback, MetricsLog, Previews, Progress, crosses
from progan.checkpoint import CheckpointError
from progan.data import Feed, match_level, open_feed
from progan.files import make_folder, owned, write_file
from progan.networks import Block, ProgressiveDiscriminator, ProgressiveGenerator
from progan.planning import Plan, make_plan
from progan.randomness import key
from progan.recipe import Recipe, Training
from progan.run_directory import (
    CONFIG,
    FORMAT,
    VERSION,
    WRITTEN,
    changed_files,
    check_removable,
    read_config,
    remove_run,
    what_is_there,
    write_data,
)
from progan.sampling import GrownGenerator, check_block, check_shapes, same_block
from progan.schedule import Growth, Schedule
from progan.scoped import Interruption, interruption, numerics
from progan.step import Draws, StepMetrics, TrainingStep

_DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}


class DivergenceError(RuntimeError):
    """Say that a loss or a weight is no longer finite; the checkpoints before it stay."""


class Interrupted(KeyboardInterrupt):
    """Say that a signal ended `Trainer.fit` in good order: the step is finished and, with a run_dir, saved.

    Attributes:
        signal: its number. ``sys.exit(128 + error.signal)`` is what a shell expects of a program that catches this.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.signal = number


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
    workers: int
    progress: bool
    overwrite: bool


class Trainer:
    """Train a pair of networks along a schedule.

    With a run directory that holds a run of the same settings, the trainer begins at its newest sound checkpoint.
    Making a trainer writes nothing; `fit` does.

    Args:
        generator: moved to the device.
        discriminator: of the same architecture; moved to the device.
        schedule: stages that the networks can do.
        training: how a step trains.
        seed: of every draw and of the data's order. The weights are those that the networks have.
        run_dir: where config.json, metrics.jsonl, samples/, progress.png and checkpoints/ go; None = nothing is
            written.
        device: ``cpu``, ``cuda``, ``mps``, ...; None = cuda where there is one, else mps, else the CPU.
        callbacks: listeners, beside the metrics file, the previews and the progress.
        log_every: real images between two lines of metrics.jsonl.
        save_every: real images between two checkpoints; the end of fit is saved too.
        preview_every: real images between two sample grids; the end of a stage is drawn too.
        keep: checkpoints that stay, newest first.
        workers: processes that fetch a data set's items; 0 = this one. Tensors and folders need none.
        progress: show a bar, or lines where there is no terminal.
        overwrite: let `fit` remove the run that is in run_dir, once settings and data have been checked, and start
            anew.

    Attributes:
        generator: as it is now.
        discriminator: as it is now.
        average: the running average of the generator.

    Raises:
        ValueError: if the parts do not fit, or run_dir holds a run of other settings (each is named).
        CheckpointError: if the run's checkpoints are all damaged.

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
        workers: int = 0,
        progress: bool = True,
        overwrite: bool = False,
    ) -> None:
        if generator.architecture != discriminator.architecture:
            raise ValueError(
                "generator and discriminator must have one architecture; differing: "
                + _differences(vars(generator.architecture), vars(discriminator.architecture))
            )
        intervals = {"log_every": log_every, "save_every": save_every, "preview_every": preview_every, "keep": keep}
        for name, value in (*intervals.items(), ("workers", workers)):
            if not isinstance(value, int) or value < (name != "workers"):
                raise ValueError(f"{name} must be an int of at least {int(name != 'workers')}, got {value!r}")
        dtypes = {parameter.dtype for network in (generator, discriminator) for parameter in network.parameters()}
        for role, network in (("generator", generator), ("discriminator", discriminator)):
            if not any(parameter.requires_grad for parameter in network.parameters()):
                raise ValueError(f"the {role} is frozen, nothing in it would train; call {role}.requires_grad_(True)")
        if len(dtypes) != 1:
            raise ValueError(
                f"generator and discriminator must have one dtype, got {', '.join(sorted(map(str, dtypes)))}; "
                "convert both alike, such as with .float()"
            )
        self.recipe = Recipe(generator.architecture, schedule.stages, training)
        self.schedule = schedule
        self.training = training
        self.seed = operator.index(seed)
        self.run_dir = None if run_dir is None else Path(run_dir).absolute()
        self.device = _device(device, training)
        self.generator = generator.to(self.device)
        self.discriminator = discriminator.to(self.device)
        self.average = Average(
            self.generator,
            training.average_decay,
            batch=training.average_batch,
            warm_up=training.average_warm_up,
        )
        self.plan_made: Plan | None = None
        self._step = TrainingStep(self.generator, self.discriminator, self.average, training)
        self._dtype = dtypes.pop()
        self._images_seen = 0
        self._intervals = intervals
        self._workers = workers
        self._callbacks = list(callbacks)
        if self.run_dir is not None:
            self._callbacks = [MetricsLog(log_every), Previews(preview_every), *self._callbacks]
        if progress:
            self._callbacks.append(Progress())
        self._progress = progress
        self._overwrite = overwrite
        self._fingerprint: dict[str, Any] | None = None
        self._files: dict[str, str] | None = None
        self._flips_judged = False
        self._owns = False
        if self.run_dir is not None:
            if self.run_dir.exists() and not self.run_dir.is_dir():
                raise NotADirectoryError(f"run_dir must be a folder, and {self.run_dir} is a file; pass another")
            self._found = what_is_there(self.run_dir)
            if not overwrite:
                self._resume(self.run_dir)

    @classmethod
    def from_recipe(cls, recipe: Recipe, **keywords: Unpack[TrainerKeywords]) -> Self:
        """Build the networks of a recipe, with weights keyed by the seed, and a trainer around them.

        Args:
            recipe: a preset, or one's own.
            **keywords: as for `Trainer`.
        """
        generator, discriminator = recipe.build(seed=keywords.get("seed", 0))
        return cls(generator, discriminator, recipe.schedule, recipe.training, **keywords)

    @classmethod
    def from_run(
        cls,
        run_dir: str | PathLike[str],
        *,
        device: str | torch.device | None = None,
        callbacks: Sequence[Callback] = (),
        workers: int = 0,
        progress: bool = True,
        generator_block: Block | None = None,
        discriminator_block: Block | None = None,
    ) -> Self:
        """Rebuild the trainer of a run directory, at its newest sound checkpoint.

        Args:
            run_dir: of the run; settings and intervals are taken from its config.json.
            device: as for `Trainer`.
            callbacks: as for `Trainer`.
            workers: as for `Trainer`.
            progress: as for `Trainer`.
            generator_block: the block of one's own that the generator was built with, if any.
            discriminator_block: the same, of the discriminator.

        Raises:
            CheckpointError: if run_dir holds no run, its checkpoints are damaged, or the blocks are not those recorded.
        """
        path = Path(run_dir)
        config = read_config(path)
        if config is None:
            raise CheckpointError(f"{path} holds no run of progan's: it has no {CONFIG}")
        try:
            recipe = Recipe.from_json(config["recipe"])
            seed, intervals, blocks = config["seed"], dict(config["intervals"]), config["blocks"]
            recorded, dtype = (blocks["generator"], blocks["discriminator"]), config["dtype"]
            if dtype not in _DTYPES:
                raise ValueError(f"dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path / CONFIG} does not describe a run: {error}") from error
        found = checkpoint.checkpoints(path)[-1:]
        if found and generator_block is None and recorded[0] is None:
            check_shapes(ProgressiveGenerator, recipe, found[0], "generator/")
        if found and discriminator_block is None and recorded[1] is None:
            check_shapes(ProgressiveDiscriminator, recipe, found[0], "discriminator/")
        with torch.random.fork_rng(devices=[]):
            generator = ProgressiveGenerator(recipe.architecture, block=generator_block)
            discriminator = ProgressiveDiscriminator(recipe.architecture, block=discriminator_block)
        check_block(generator.block_name, recorded[0], path, "generator_block")
        check_block(discriminator.block_name, recorded[1], path, "discriminator_block")
        for network in (generator, discriminator):
            network.initialize(seed)
            network.to(_DTYPES[dtype])
        return cls(
            generator,
            discriminator,
            recipe.schedule,
            recipe.training,
            seed=seed,
            run_dir=path,
            device=device,
            callbacks=callbacks,
            workers=workers,
            progress=progress,
            **intervals,
        )

    @property
    def images_seen(self) -> int:
        """Real images shown to the critic so far."""
        return self._images_seen

    @property
    def growth(self) -> Growth:
        """The growth of the next step."""
        return self.schedule.at(self._images_seen)

    def step(self, real: Tensor) -> StepMetrics:
        """Train on one batch.

        Args:
            real: (B, C, H, W), floats in the networks' image_range, of `growth`'s batch size and its level's size.

        Returns:
            The losses, as tensors on the device: nothing is fetched from it.

        Raises:
            TypeError: if the images are not floats.
            ValueError: if they are of another size or number.
        """
        growth = self.growth
        architecture = self.generator.architecture
        expected = (growth.batch_size, architecture.image_channels, *architecture.size(growth.level))
        if not real.is_floating_point():
            raise TypeError(f"step takes floats in image_range {architecture.image_range}, got {real.dtype}")
        if tuple(real.shape) != expected:
            raise ValueError(
                f"after {self._images_seen} images, at level {growth.level}, step takes {expected}, got "
                f"{tuple(real.shape)}; resize with progan.match_level"
            )
        n_augment = len(self.training.augment)
        draws = Draws.at(self._images_seen, growth.batch_size, architecture.latent_shape, self.seed, n_augment)
        real = real.to(self.device, self._dtype)
        with self._own_draws(keyed=True):
            losses = self._step(real, draws.to(self.device, self._dtype), growth, self._images_seen)
        self._images_seen += growth.batch_size
        if self.training.resets(growth, self.growth):
            self._step.reset_adam()
        return StepMetrics(self._images_seen, growth, losses)

    def fit(self, data: Tensor | Dataset[Any], *, until: int | None = None) -> None:
        """Train to the end of the schedule, or until a count of real images.

        Ctrl-C, SIGTERM and SIGUSR1 finish the step, save, and raise `Interrupted`; a second one of the kind acts as it
        would without fit. While fit runs, run_dir is this process's; another one is refused. An error of a callback
        is raised after a save, so that no step is lost. Every global state is left as it was found.

        Args:
            data: (N, C, H, W), uint8 or floats in [0, 1]; an `ImageFolder`; or a map-style data set whose items are an
                image (C, H, W) or a tuple that begins with one. Images are of the top level's size, or a power of two
                larger.
            until: real images, counted from the start of the run; the first step at or past it is not begun.

        Raises:
            TypeError: if the data is of a wrong kind.
            ValueError: if its images do not fit, it is not the data that the run began with, or another trainer has
                written to run_dir since this one was made.
            DivergenceError: if a loss or a weight is no longer finite.
            Interrupted: after a signal; a kind of KeyboardInterrupt.
            BlockingIOError: if another process trains in run_dir.
        """
        feed = self._take(data)
        stop = self.schedule.total_images if until is None else min(until, self.schedule.total_images)
        if self._images_seen >= stop:
            if self.run_dir is not None and (self.run_dir / CONFIG).exists():
                with suppress(OSError), self._owning():  # it may have been killed within its last save
                    checkpoint.remove_partial(self.run_dir)
                    self._rotate(self.run_dir)
            return
        with self._own_draws(), numerics(self.device, self.training), interruption() as asked, self._owning():
            if self.run_dir is not None:
                self._open_run_dir(self.run_dir)
            if self._progress and self.plan_made is None and _worth_planning(self.schedule, self._images_seen, stop):
                self.plan()
            with _all_told(self._callbacks, self):
                for callback in self._callbacks:
                    callback.on_start(self)
                self._train(feed, stop, asked)
        if asked.signal is not None:
            raise Interrupted(asked.signal)

    def check(self, data: Tensor | Dataset[Any]) -> None:
        """Check a data set and run_dir as `fit` does before it begins; nothing is written.

        Args:
            data: as for `fit`.

        Raises:
            TypeError: as `fit`.
            ValueError: as `fit`.
        """
        self._take(data)
        if self.run_dir is not None:
            self._check_run_dir(self.run_dir)

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
        if not self._flips_judged and any(isinstance(kind, HorizontalFlip) for kind in self.training.augment):
            self._flips_judged = True
            verdict = feed.flip_verdict()
            if verdict.safe is False:
                warnings.warn(f"HorizontalFlip is on, and {verdict}; leave it out of Training.augment", stacklevel=3)
        return feed

    def _train(self, feed: Feed, stop: int, asked: Interruption) -> None:
        saved = None
        for images in feed.batches(self._images_seen, stop, lambda count: self.schedule.at(count).batch_size):
            before = self._images_seen
            metrics = self.step(self._to_level(images))
            save = crosses(self._intervals["save_every"], before, self._images_seen)
            # Elsewhere than on the CPU a look at a loss waits for the device.
            if save or self.device.type == "cpu" or crosses(self._intervals["log_every"], before, self._images_seen):
                self._check_losses(metrics)
            try:
                for callback in self._callbacks:
                    callback.on_step(self, metrics)
                if self.growth.stage != metrics.growth.stage or self._images_seen >= self.schedule.total_images:
                    for callback in self._callbacks:
                        callback.on_stage_end(self, metrics.growth)
            except Exception as error:
                self._save_after(error)
                raise
            if save and self.run_dir is not None:
                self.save()
                saved = self._images_seen
            if asked.signal is not None:
                break
        if self.run_dir is not None and saved != self._images_seen:
            self.save()

    def _save_after(self, error: Exception) -> None:
        """Save what was trained before a callback failed; that error is raised, and tells whether this went well."""
        if self.run_dir is None:
            return
        try:
            path = self.save()
        except Exception as second:
            error.add_note(f"progan could not save after it: {second}")
        else:
            error.add_note(f"raised by a callback; all {self._images_seen:,} images trained are saved in {path}")

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
                seed = key(self.seed, "block", self._images_seen) & (2**63 - 1)
                torch.default_generator.manual_seed(seed)
                if self.device.type == "cuda":
                    torch.cuda.manual_seed(seed)
            yield

    def _to_level(self, images: Tensor) -> Tensor:
        """Return a batch of the data as `step` takes it: the one place that converts."""
        architecture = self.generator.architecture
        images = images.to(self.device, non_blocking=True)
        images = images.to(self._dtype) / 255 if images.dtype == torch.uint8 else images.to(self._dtype)
        low, high = architecture.image_range
        return match_level(images, self.growth.level, base_size=architecture.base_size) * (high - low) + low

    def _check_losses(self, metrics: StepMetrics) -> None:
        for name, loss in metrics.losses.items():
            if not torch.isfinite(loss):
                self._diverged(f"{name} is {loss.item()}", metrics.growth)

    def _check_weights(self) -> None:
        for role, network in (("generator", self.generator), ("discriminator", self.discriminator)):
            norms = torch.stack(torch._foreach_norm(list(network.parameters())))
            if not torch.isfinite(norms).all():
                names = [name for name, p in network.named_parameters() if not torch.isfinite(p).all()]
                # The step that led here began before this count.
                growth = self.schedule.at(max(0, self._images_seen - 1))
                self._diverged(f"the {role}'s {names[0] if names else 'weights'} is not finite", growth)

    def _diverged(self, what: str, growth: Growth) -> None:
        kept = (
            "nothing was saved of it; the checkpoints before stay" if self.run_dir is not None else "nothing is saved"
        )
        raise DivergenceError(
            f"training diverged: {what}, in stage {growth.stage} (level {growth.level}), after {self._images_seen:,} "
            f"real images; {kept}. Try a lower learning rate, or precision fp32"
        )

    def plan(self) -> Plan:
        """Time a few steps of every stage to come, on copies, and remember the times for the progress bar."""
        with numerics(self.device, self.training):
            self.plan_made = make_plan(
                self.generator, self.discriminator, self.schedule, self.training, self._images_seen
            )
        return self.plan_made

    def grown(self) -> GrownGenerator:
        """Return a copy of the averaged generator, at the level to which it has been trained."""
        averaged = copy.deepcopy(self.average.module)
        assert isinstance(averaged, ProgressiveGenerator)
        return GrownGenerator(averaged, *self.schedule.reached(self._images_seen))

    def save(self) -> Path:
        """Write a checkpoint, then drop all but the newest.

        Returns:
            Its folder.

        Raises:
            ValueError: if the trainer has no run_dir.
            DivergenceError: if a weight is no longer finite.
        """
        if self.run_dir is None:
            raise ValueError("the trainer has no run_dir to save to; pass run_dir=, or use state_dict()")
        self._check_weights()
        with self._owning():
            path = self._save(self.run_dir)
        for callback in self._callbacks:
            callback.on_save(self, path)
        return path

    def _save(self, run_dir: Path) -> Path:
        """Write a checkpoint, then drop all but the newest."""
        if self._overwrite or not (run_dir / CONFIG).exists():
            self._open_run_dir(run_dir)
        elif what_is_there(run_dir)[0] != self._found[0]:
            raise self._has_changed()
        manifest = {**self._identity(), "numbers": {}, "environment": self._environment()}
        path = checkpoint.write_checkpoint(run_dir, self._images_seen, manifest, self._tensors())
        self._rotate(run_dir)
        self._found = what_is_there(run_dir)
        return path

    def _rotate(self, run_dir: Path) -> None:
        """Remove the checkpoints that are not to stay."""
        # Those of a higher count are not older ones: a resume passed them over, as damaged or of a newer progan.
        so_far = [found for found in checkpoint.checkpoints(run_dir) if int(found.name) <= self._images_seen]
        for old in so_far[: -self._intervals["keep"]]:
            try:
                checkpoint.remove_checkpoint(old)
            except OSError as error:
                warnings.warn(f"the old checkpoint {old} could not be removed: {error}", stacklevel=4)

    @contextmanager
    def _owning(self) -> Iterator[None]:
        """Hold the run directory for this process, from the outermost use on."""
        if self.run_dir is None or self._owns:
            yield
            return
        self._check_run_dir(self.run_dir)
        make_folder(self.run_dir)
        with owned(self.run_dir):
            self._owns = True
            try:
                yield
            finally:
                self._owns = False

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes while training: images_seen, and the tensors by name (not copies)."""
        return {"images_seen": self._images_seen, "numbers": {}, "tensors": self._tensors()}

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
        own = {name: tensor for name, tensor in self._tensors().items() if not name.startswith("adam_")}
        moments = {name: tensors.pop(name) for name in list(tensors) if name.startswith("adam_")}
        if missing := sorted(own.keys() - tensors.keys()):
            raise CheckpointError(f"the state lacks {len(missing)} tensors, such as {missing[0]}")
        if unknown := sorted(tensors.keys() - own.keys()):
            raise CheckpointError(f"the state has {len(unknown)} tensors that are not known here, such as {unknown[0]}")
        for name, tensor in tensors.items():
            if tensor.shape != own[name].shape or tensor.dtype != own[name].dtype:
                raise CheckpointError(
                    f"{name} must be {tuple(own[name].shape)} of {own[name].dtype}, "
                    f"got {tuple(tensor.shape)} of {tensor.dtype}"
                )
        self._step.check_adam_tensors(moments)
        with torch.no_grad():
            for name, tensor in tensors.items():
                own[name].copy_(tensor)
        self._step.load_adam_tensors(moments)
        self._images_seen = images_seen

    def _tensors(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        roles: tuple[tuple[str, nn.Module], ...] = (
            ("generator", self.generator),
            ("discriminator", self.discriminator),
            ("average", self.average.module),
        )
        for role, network in roles:
            tensors |= {f"{role}/{name}": tensor for name, tensor in network.state_dict().items()}
        return tensors | self._step.adam_tensors()

    def _identity(self) -> dict[str, Any]:
        """Return what makes a run this run."""
        return {
            "recipe": self.recipe.to_json(),
            "seed": self.seed,
            "blocks": {"generator": self.generator.block_name, "discriminator": self.discriminator.block_name},
            "data": self._fingerprint,
        }

    def _environment(self) -> dict[str, Any]:
        """Return what may change on resume, at the price of differing bits."""
        return {
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "machine": platform.machine(),
        }

    def _resume(self, run_dir: Path) -> None:
        """Begin at the newest sound checkpoint of the run that is there, if any."""
        config = read_config(run_dir)
        if config is None:
            strangers = [name for name in (CONFIG, *WRITTEN) if (run_dir / name).exists()]
            if strangers:
                raise ValueError(
                    f"{run_dir} holds {', '.join(strangers)} but no sound {CONFIG} of progan's; pass another run_dir"
                )
            return
        found = bool(checkpoint.checkpoints(run_dir))
        path = checkpoint.find_checkpoint(run_dir) if found else None
        manifest = config if path is None else checkpoint.read_manifest(path)
        images_seen = 0 if path is None else int(manifest["images_seen"])
        self._check_same_run(manifest, images_seen, run_dir)
        self._fingerprint = manifest["data"]
        if path is None:
            return
        self.load_state_dict({"images_seen": images_seen, "tensors": checkpoint.read_tensors(path)})
        before, after = Schedule(Recipe.from_json(manifest["recipe"]).stages).at(images_seen), self.growth
        if self.training.resets(before, after):  # a schedule made longer grows where the old one ended
            self._step.reset_adam()
        then, now = manifest.get("environment", {}), self._environment()
        if then != now:
            warnings.warn(
                f"{run_dir} goes on elsewhere than it was made ({_differences(then, now)}); the run is sound, but its "
                "bits will not be those of an uninterrupted one",
                stacklevel=3,
            )

    def _check_same_run(self, there: Mapping[str, Any], images_seen: int, run_dir: Path) -> None:
        """Raise where a run directory holds a run of other settings; a longer schedule will do."""
        own = json.loads(json.dumps(self._identity()))
        theirs = {name: there.get(name) for name in own}
        own["data"] = theirs["data"]  # compared once the data is there
        try:
            if all(same_block(name, there["blocks"][role]) for role, name in own["blocks"].items()):
                own["blocks"] = theirs["blocks"]
            if self.schedule.agrees(Recipe.from_json(there["recipe"]).schedule, images_seen):
                own["recipe"]["stages"] = there["recipe"]["stages"]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{run_dir} holds a run that cannot be read: {error}") from error
        if own != theirs:
            raise ValueError(
                f"{run_dir} holds another run; differing (there -> here): {_differences(theirs, own)}. "
                "Pass another run_dir, the same settings, or overwrite=True"
            )

    def _take_fingerprint(self, feed: Feed) -> None:
        """Raise where a run goes on with other data than it began with."""
        if self._fingerprint is not None and self._fingerprint != feed.fingerprint:
            changed = ""
            if self.run_dir is not None and feed.files is not None:
                changed = changed_files(self.run_dir, self._fingerprint, feed.files)
            differing = _differences(self._fingerprint, feed.fingerprint)
            raise ValueError(
                f"the data is not that of the run (there -> here): {changed or differing}; pass the same data, or "
                "another run_dir"
            )
        self._fingerprint, self._files = feed.fingerprint, feed.files

    def _check_run_dir(self, run_dir: Path) -> None:
        """Raise where run_dir is no longer what it was when this trainer was made, or may not be overwritten."""
        if self._overwrite:
            check_removable(run_dir)
        elif what_is_there(run_dir) not in (self._found, (None, [])):  # one that a person emptied will do
            raise self._has_changed()

    def _has_changed(self) -> ValueError:
        return ValueError(
            f"{self.run_dir} has changed since this trainer was made or last saved: another one trains there, or files "
            "were moved. Make the trainer anew, which goes on from the newest checkpoint, or pass another run_dir"
        )

    def _open_run_dir(self, run_dir: Path) -> None:
        """Make the run directory, and write config.json."""
        self._check_run_dir(run_dir)
        if self._overwrite:
            remove_run(run_dir)
            self._overwrite = False
        make_folder(run_dir)
        checkpoint.remove_partial(run_dir)
        config = {
            "format": FORMAT,
            "version": VERSION,
            **self._identity(),
            "dtype": str(self._dtype).removeprefix("torch."),
            "intervals": self._intervals,
            "environment": self._environment(),
        }
        write_file(run_dir / CONFIG, (json.dumps(config, indent=1) + "\n").encode())
        if self._fingerprint is not None and self._files is not None:
            write_data(run_dir, self._fingerprint, self._files)
        self._found = what_is_there(run_dir)


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Name what differs between two nested dicts."""

    def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                yield from flat(inner, f"{name}.{key}" if name else str(key))
        elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
            for index, inner in enumerate(value):
                yield from flat(inner, f"{name}[{index}]")
        else:
            yield name, value

    left, right = dict(flat(there)), dict(flat(here))
    names = [name for name in {**left, **right} if left.get(name) != right.get(name)]
    shown = [f"{name} {left.get(name)!r} -> {right.get(name)!r}" for name in names[:8]]
    return "; ".join(shown) + (f"; and {len(names) - 8} more" if len(names) > 8 else "")


def _device(device: str | torch.device | None, training: Training) -> torch.device:
    """Return the device asked for, or the best there is."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:  # a torch built without CUDA asserts
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device {str(device)!r} cannot be used here: {reason}; pass device='cpu', or leave it out"
        ) from None
    if training.precision == "tf32" and chosen.type != "cuda":
        raise ValueError(f"precision tf32 is CUDA's, got device {chosen}; use fp32 or bf16")
    return chosen


def _worth_planning(schedule: Schedule, begin: int, stop: int) -> bool:
    """Tell whether a run is so long that a few timed steps per stage do not matter."""
    last = schedule.at(begin).batch_size
    return (stop - begin) // last > 200 * len(schedule.stages)


@contextmanager
def _all_told(callbacks: Sequence[Callback], run: Trainer) -> Iterator[None]:
    """Tell every callback that fit ends, however it ends and whatever the others raise."""
    with ExitStack() as stack:
        for callback in reversed(callbacks):
            stack.callback(callback.on_end, run)
        yield
