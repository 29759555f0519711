"""The loop of `Trainer.fit`: step after step, callbacks, and saves on the way, at the end, and before an error."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from typing import Protocol

from progan.data import Batch, Conversion, Feed
from progan.errors import DivergenceError, warn
from progan.runtime.contention import CoreSharing
from progan.runtime.signals import SignalRecord, recorded_signals
from progan.training.callbacks import CallbackList, Run, crosses
from progan.training.checkpointer import Checkpointer
from progan.training.engine import Engine
from progan.training.options import RunOptions
from progan.training.planning import Plan, worth_planning
from progan.training.recovery import CollapseError, Recoverer
from progan.training.step import StepMetrics

_STOP = 1  # what a rank sends for `Trainer.stop`: lower than the number of every signal that is recorded


class TrainableRun(Run, Protocol):
    """What the loop needs of a trainer."""

    def step(self, real: Batch) -> StepMetrics:
        """Train on one batch."""
        ...

    def plan(self, *, printed: bool) -> Plan:
        """Time a few steps of every stage to come."""
        ...


class TrainingLoop:
    """The loop of one call of fit.

    Args:
        run: Run that trains.
        engine: Engine of the run.
        checkpointer: Saves the run.
        callbacks: Callbacks to notify.
        options: Options of the run.
        stop_requested: Set when the run is to end early.
    """

    def __init__(
        self,
        run: TrainableRun,
        engine: Engine,
        checkpointer: Checkpointer,
        callbacks: CallbackList,
        options: RunOptions,
        stop_requested: threading.Event,
    ) -> None:
        self._run = run
        self._engine = engine
        self._checkpointer = checkpointer
        self._callbacks = callbacks
        self._options = options
        self._recoverer = Recoverer(engine, checkpointer, options)
        self._stop_requested = stop_requested
        self._signals = SignalRecord()
        self._in_step = False
        self._has_gone_back = False

    def train(self, feed: Feed, until: int) -> int | None:
        """Train until a count of images, a signal, or a request to stop.

        Args:
            feed: Training data.
            until: Count of images at which no further step begins.

        Returns:
            Number of the signal that ended the training, if one did.
        """
        run, engine = self._run, self._engine
        with engine.settings(), recorded_signals() as self._signals, ExitStack() as stack:
            self._checkpointer.open(stack)
            cores = stack.enter_context(engine.running())
            plans = self._options.progress and run.plan_made is None
            if plans and worth_planning(run.schedule, run.images_seen, until):
                run.plan(printed=False)
            with self._callbacks.ending(run), engine.tracker.own_changes():
                self._callbacks.on_start(run)
                if run.images_seen == 0:  # a callback may have loaded weights
                    engine.reconcile(together=True)
                self._checkpointer.save_start(run)
                self._recoverer.announce(run)
                self._train(feed, until, cores)
                engine.share_choice()
        return self._signals.number

    def _train(self, feed: Feed, until: int, cores: CoreSharing) -> None:
        """Take all steps, then save what is not saved."""
        try:
            while not self._has_trained(feed, until, cores):
                pass
        except KeyboardInterrupt as error:
            if self._signals.number is None:  # otherwise it is the second Ctrl-C, which ends fit at once
                if self._in_step:
                    error.add_note(
                        "raised within a step, so nothing was saved; the run resumes from its last checkpoint"
                    )
                else:
                    self._checkpointer.save_after(self._run, error, "raised between two steps")
            raise

    def _has_trained(self, feed: Feed, until: int, cores: CoreSharing) -> bool:
        """Take steps to the end; return False where the run has gone back after trouble, and is to train on."""
        try:
            if not self._is_ending():  # on_start may have asked for it
                self._take_steps(feed, until, cores)
            self._checkpointer.save_rest(self._run)
        except (DivergenceError, CollapseError) as trouble:
            self._in_step = True  # until it is all loaded, nothing must be saved
            self._recoverer.go_back(self._run, trouble)
            self._in_step = False
            self._has_gone_back = True
            return False
        return True

    def _take_steps(self, feed: Feed, until: int, cores: CoreSharing) -> None:
        with closing(self._batches(feed, until)) as batches:
            self._take_steps_on(batches, until, cores)

    def _take_steps_on(self, batches: Iterator[Batch], until: int, cores: CoreSharing) -> None:
        run, engine = self._run, self._engine
        for real in batches:
            before = run.images_seen
            self._in_step = True
            metrics = run.step(real)
            self._in_step = False
            cores.look()
            if (remark := cores.remark()) is not None:
                warn(remark)
            logs = crosses(self._options.log_every, before, run.images_seen)
            if logs or engine.device.type == "cpu":  # on other devices, the check waits for the device
                engine.check_finite(weights=logs)
            self._notify(metrics)
            self._recoverer.look(run)
            ending = self._end_requested()
            saves = engine.saves and crosses(self._options.save_every, before, run.images_seen)
            if saves and not ending and run.images_seen < until:
                self._checkpointer.save_during_fit(run)
                ending = self._end_requested()
            if ending:
                self._note_end(ending)
                break

    def _batches(self, feed: Feed, until: int) -> Generator[Batch]:
        """Yield this rank's batches; if the data set raises an error, save what was trained first."""
        schedule, ranks = self._run.schedule, self._engine.ranks
        conversion = Conversion(lambda count: schedule.at(count).level, self._engine.to_level)
        try:
            yield from feed.batches(
                self._run.images_seen,
                until,
                lambda count: schedule.at(count).batch_size,
                rank=ranks.rank,
                ranks=ranks.size,
                conversion=conversion,
            )
        except (Exception, SystemExit) as error:
            self._checkpointer.save_after(self._run, error, "raised by the data set")
            raise

    def _notify(self, metrics: StepMetrics) -> None:
        """Call the callbacks for a step; if one raises an error, save what was trained first."""
        run = self._run
        try:
            with self._engine.ranks.working_alone():
                self._callbacks.on_step(run, metrics)
                if run.growth.stage != metrics.growth.stage or run.images_seen >= run.schedule.total_images:
                    self._callbacks.on_stage_end(run, metrics.growth)
        except (Exception, SystemExit) as error:
            self._checkpointer.save_after(run, error, "raised by a callback")
            raise

    def _is_ending(self) -> bool:
        """Return whether fit is to end before its next step: at a signal only after a return to a checkpoint.

        Before its first step, a signal lets it take that step, so that there is something to save.
        """
        stopped = _STOP if self._stop_requested.is_set() else 0
        ending = self._end_requested() if self._has_gone_back else self._engine.ranks.maximum(stopped)
        self._note_end(ending)
        return bool(ending)

    def _note_end(self, ending: int) -> None:
        if self._signals.number is None and ending not in (0, _STOP):  # another rank got the signal
            self._signals.number = ending

    def _end_requested(self) -> int:
        """Return what asks for the end of fit on any rank: a signal's number, _STOP, or 0 for nothing."""
        return self._engine.ranks.maximum(self._signals.number or (_STOP if self._stop_requested.is_set() else 0))
