"""The interface of callbacks, what they see of a run, and the list that notifies all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from typing_extensions import override

from progan.data import Feed
from progan.networks.discriminator import ProgressiveDiscriminator
from progan.networks.generator import ProgressiveGenerator
from progan.recipe import Training
from progan.sampling import GrownGenerator
from progan.schedule import Growth, Schedule
from progan.training.ema import EmaGenerator
from progan.training.planning import Plan
from progan.training.step import StepMetrics

if TYPE_CHECKING:
    from progan.training.options import RunOptions


class Run(Protocol):
    """What a callback sees of a trainer, read-only except for `stop`."""

    generator: ProgressiveGenerator
    discriminator: ProgressiveDiscriminator
    ema: EmaGenerator
    schedule: Schedule
    training: Training
    options: RunOptions
    seed: int
    run_dir: Path | None
    plan_made: Plan | None

    @property
    def images_seen(self) -> int:
        """Real images shown to the critic so far."""
        ...

    @property
    def growth(self) -> Growth:
        """The growth of the next step."""
        ...

    def grown(self, average: str | None = None) -> GrownGenerator:
        """A copy of the averaged generator, at the level to which it has grown: see `Trainer.grown`."""
        ...

    def stop(self) -> None:
        """Ask `Trainer.fit` to finish the current step, save, and return."""
        ...

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a row to metrics.jsonl, and hand it to all callbacks' `Callback.on_log`.

        Args:
            row: Values that JSON can hold, by name; images_seen is added.
        """
        ...


class Callback:
    """A listener to a run; override the methods that you need.

    A callback that calls ``run.stop()`` ends the run early: all callbacks see the step, then fit saves and returns. An
    error that a callback raises ends the run too, after a save.
    """

    def on_data(self, run: Run, feed: Feed) -> None:
        """Handle a data set that `Trainer.fit` or `Trainer.check` has opened and checked."""

    def on_start(self, run: Run) -> None:
        """Handle the start of fit: everything has been checked, the first step comes next."""

    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        """Handle a finished step; ``run.images_seen`` includes it, ``metrics.growth`` is the growth of the step."""

    def on_stage_end(self, run: Run, growth: Growth) -> None:
        """Handle the end of a stage, after its last step; growth is that of the step."""

    def on_log(self, run: Run, row: Mapping[str, Any]) -> None:
        """Handle a row of metrics.jsonl: the losses of a step, a judgement, or what a callback has logged.

        Trainers without a run_dir have these rows too.
        """

    def on_save(self, run: Run, path: Path) -> None:
        """Handle a checkpoint, which is complete at this path."""

    def on_return(self, run: Run) -> None:
        """Handle the return to an earlier checkpoint, after trouble; ``run.images_seen`` is that of the checkpoint.

        What comes after it is trained again, so rows and other results past this count no longer belong to the run.
        """

    def on_end(self, run: Run) -> None:
        """Handle the end of fit, whether it is complete, interrupted or failed."""


class CallbackList(Callback):
    """Several callbacks as one, which notifies each of them in order.

    Args:
        callbacks: Callbacks to notify.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks: tuple[Callback, ...] = tuple(callbacks)

    @override
    def on_data(self, run: Run, feed: Feed) -> None:
        for callback in self.callbacks:
            callback.on_data(run, feed)

    @override
    def on_start(self, run: Run) -> None:
        for callback in self.callbacks:
            callback.on_start(run)

    @override
    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        for callback in self.callbacks:
            callback.on_step(run, metrics)

    @override
    def on_stage_end(self, run: Run, growth: Growth) -> None:
        for callback in self.callbacks:
            callback.on_stage_end(run, growth)

    @override
    def on_log(self, run: Run, row: Mapping[str, Any]) -> None:
        for callback in self.callbacks:
            callback.on_log(run, row)

    @override
    def on_save(self, run: Run, path: Path) -> None:
        for callback in self.callbacks:
            callback.on_save(run, path)

    @override
    def on_return(self, run: Run) -> None:
        for callback in self.callbacks:
            callback.on_return(run)

    @override
    def on_end(self, run: Run) -> None:
        with self.ending(run):
            pass

    @contextmanager
    def ending(self, run: Run) -> Iterator[None]:
        """Call every `on_end` when the context ends, however it ends and whatever the others raise."""
        with ExitStack() as stack:
            for callback in reversed(self.callbacks):
                stack.callback(callback.on_end, run)
            yield


def crosses(every: int, before: int, after: int) -> bool:
    """Return whether a step from one count to another reaches a multiple of ``every``.

    Example:
        >>> crosses(1000, 992, 1000), crosses(1000, 1000, 1008)
        (True, False)
    """
    return before // every != after // every


def ends_stage(run: Run, metrics: StepMetrics) -> bool:
    """Return whether a step was the last one of its stage."""
    return run.growth.stage != metrics.growth.stage or metrics.images_seen >= run.schedule.total_images


def listens_to_rows(callback: Callback) -> bool:
    """Return whether a callback handles the rows of metrics.jsonl."""
    return type(callback).on_log is not Callback.on_log


def check_every(every: int, callback: Callback) -> None:
    """Raise ValueError where the interval of a callback is not a count of real images."""
    if not isinstance(every, int) or every < 1:
        raise ValueError(f"{type(callback).__name__} takes an int of at least 1, real images, got {every!r}")


def run_dir_of(run: Run, callback: Callback) -> Path:
    """Return the run directory that a callback writes to.

    Raises:
        ValueError: If the run has none.
    """
    if run.run_dir is None:
        raise ValueError(f"{type(callback).__name__} writes into a run directory; give the trainer a run_dir")
    return run.run_dir
