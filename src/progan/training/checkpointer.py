"""Restoring, saving and rotating: rank 0 reads and writes, and what it restores is broadcast to the other ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from progan.data.held_out import held_out_identity
from progan.errors import CheckpointError, warn
from progan.runs import checkpoint
from progan.runs.average_choice import AverageChoice
from progan.runs.continuation import Continuation, current_continuation
from progan.runs.data_history import history_from_json
from progan.runs.directory import RunDirectory, differences
from progan.runs.record import RunRecord
from progan.runs.recovery import Setback
from progan.runs.start import Start, is_of_run, same_start
from progan.runs.transfer import find_source, take
from progan.training.callbacks import CallbackList, MetricsLog, Run
from progan.training.engine import Engine
from progan.training.identity import RunIdentity
from progan.training.options import RunOptions, recorded_options


class Checkpointer:
    """The run directory of a trainer, and the state that is saved to it and restored from it.

    Args:
        engine: Engine of the trainer.
        identity: Identity of the run.
        options: Options of the run.
        callbacks: Callbacks to notify of each save.
        log: Metrics log, of which no line up to a checkpoint may be missing.

    Attributes:
        saved_at: Count of images of the newest checkpoint, 0 before any; None = the state is not the saved one.
    """

    def __init__(
        self, engine: Engine, identity: RunIdentity, options: RunOptions, callbacks: CallbackList, log: MetricsLog
    ) -> None:
        self.saved_at: int | None = 0
        self._engine = engine
        self._state = engine.state
        self._ranks = engine.ranks
        self._identity = identity
        identity.held_out = held_out_identity(options.held_out)
        self._options = options
        self._notes = options.notes
        self._callbacks = callbacks
        self._log = log
        if options.recovery.times and not engine.saves:
            raise ValueError("recover needs a run_dir, whose checkpoints the run goes back to; pass run_dir=")
        self._directory: RunDirectory | None = None

    # Restoring

    def restore(self) -> None:
        """Begin where the run in run_dir stopped, or else with the weights of a start, on every rank.

        Raises:
            ValueError: If run_dir holds another run, or start lies in it; or the ranks have different settings.
            CheckpointError: If all checkpoints are damaged, or start cannot be used.
            RankError: If rank 0 failed.
        """
        self._ranks.on_rank_zero(self._restore)
        self._share()
        if self._identity.start is not None and "ema" in self._identity.start.taken:
            for average in self._state.averages.values():
                average.ramp_up = None  # which is for an average that begins with the run

    def _restore(self) -> None:
        continued, start, run_dir = current_continuation(), self._options.start, self._options.directory
        identity = self._identity
        if continued is not None:
            identity.start, identity.fork = continued.recorded.start, continued.fork
            identity.held_out = identity.held_out or continued.recorded.held_out
            self._notes = self._notes or continued.recorded.notes
        if run_dir is not None:
            if start is not None and is_of_run(start, run_dir):
                raise ValueError(
                    f"start {start} is in run_dir {run_dir}, which is for the new run; pass another run_dir"
                )
            overwrite, keep, keep_every = self._options.overwrite, self._options.keep, self._options.keep_every
            self._directory = RunDirectory(run_dir, overwrite=overwrite, keep=keep, keep_every=keep_every)
            record = None if overwrite else _record_in(run_dir, continued)
            if record is not None:
                self._notes = self._notes or record.notes
                if continued is None:
                    identity.start = same_start(record.start, start)
                identity.check_same(record, run_dir)
                if record.checkpoint is not None:
                    self._restore_from(record, run_dir)
                    return
        if continued is not None and continued.forks and continued.checkpoint is not None:
            self._restore_from(continued.checkpoint, continued.checkpoint.path)
            self.saved_at = None
        elif identity.fork is not None:
            raise CheckpointError(
                f"{run_dir} has no checkpoint yet of a run that continues from {identity.fork.path}; make the "
                "trainer with Trainer.from_run of that path, and run_dir="
            )
        elif start is not None:
            self._start_from(start)
        elif identity.start is not None:
            raise CheckpointError(
                f"{run_dir} has no checkpoint yet of a run that starts from {identity.start.path}; make the trainer "
                "with Trainer.from_recipe, and start="
            )

    def _start_from(self, path: str | PathLike[str]) -> None:
        """Take the weights of another run, or of a file."""
        source = find_source(path, self._identity.start)
        state = self._state
        assert state.ema is not None
        self._identity.start, notes = take(
            source, state.generator, state.discriminator, state.ema.module, self._identity.recipe.schedule
        )
        for average in state.averages.values():
            if average is not state.ema:
                average.take(state.ema.module)
        if source.architecture is not None and source.architecture.classes == state.generator.architecture.classes:
            self._identity.start_classes = source.classes
        if "ema" in self._identity.start.taken:
            state.set_warm_up(False)  # the first step would discard the weights taken
        self.saved_at = None
        if notes:
            warn(f"start {path} is not taken as it is: {'. '.join(notes)}")

    def _restore_from(self, record: RunRecord, path: Path) -> None:
        """Begin at a checkpoint.

        Args:
            record: Record of the checkpoint.
            path: Where the run or the checkpoint lies, for the message.
        """
        self._identity.start = record.start
        self._identity.take_data_of(record)
        self._take(record)
        then, now = record.contents.get("environment", {}), self._engine.environment()
        if then != now:
            warn(
                f"{path} was made in another environment ({differences(then, now)}); the run is intact, but its bits "
                "will differ from those of an uninterrupted run"
            )

    def _take(self, record: RunRecord) -> None:
        """Load the state of a checkpoint."""
        recipe = self._identity.recipe
        self._load(record.images_seen, checkpoint.read_tensors(record.path), record.contents)
        self.saved_at = record.images_seen
        before, after = (schedule.at(record.images_seen) for schedule in (record.schedule, recipe.schedule))
        if recipe.training.adam.resets(before, after):  # a schedule made longer grows where the old one ended
            self._state.reset_adam()

    def go_back(self, run: Run, counts: Sequence[int], setback: Callable[[int], Setback]) -> int | None:
        """Return to a checkpoint, on every rank, and save it anew with what led to it.

        The checkpoints past it are removed first. A run that is killed in between resumes before the trouble, and comes
        to the same end.

        Args:
            run: Run that goes back.
            counts: Counts of images of the checkpoints, the preferred one first; the first sound one is taken.
            setback: Returns what to record, from the count that the run goes back to.

        Returns:
            Count of the checkpoint; None where none is sound, and nothing has been changed.
        """
        back_to = self._ranks.on_rank_zero(lambda: self._go_back(run, counts, setback))
        if back_to is not None:
            self._share_state()
            history = [record.to_json() for record in self._identity.data_history]
            self._identity.data_history = history_from_json(self._ranks.broadcast(history))
            self._engine.check_finite.forget()
        return back_to

    def _go_back(self, run: Run, counts: Sequence[int], setback: Callable[[int], Setback]) -> int | None:
        folder = None if self._directory is None else self._directory.sound_checkpoint(counts)
        if self._directory is None or folder is None:
            return None
        record = RunRecord.from_checkpoint(folder)
        recovery, new = self._state.recovery, setback(record.images_seen)
        self._directory.go_back(new.back_to, new.at)
        setbacks = (*recovery.setbacks, new)
        self._take(record)
        self._identity.go_back_to(record)
        recovery.setbacks = setbacks  # also those that the checkpoint does not know of
        self._callbacks.on_return(run)
        self._write(run)
        return new.back_to

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state that `Trainer.state_dict` returned; see there."""
        try:
            images_seen, tensors = state["images_seen"], dict(state["tensors"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"this is not the state of a trainer: {error!r}") from error
        if not isinstance(images_seen, int) or images_seen < 0:
            raise CheckpointError(f"images_seen must be an int of at least 0, got {images_seen!r}")
        self._load(images_seen, tensors, state)
        self._engine.tracker.record()

    def _load(self, images_seen: int, tensors: Mapping[str, Tensor], contents: Mapping[str, Any]) -> None:
        default = {"ema_warm_up": self._identity.recipe.training.ema.warm_up}
        self._state.load(images_seen, tensors, contents.get("numbers", default))
        self._engine.check_finite.forget()
        self.saved_at = None

    def _share(self) -> None:
        """Give every rank the state of rank 0."""
        if self._ranks.size == 1:
            return
        identity = self._identity
        recorded = identity.to_json()
        own = {**recorded, **dict.fromkeys(("data", "data_history", "start", "fork")), "dtype": str(self._engine.dtype)}
        intervals = {name: value for name, value in recorded_options(self._options).items() if name != "keep_every"}
        own |= {"intervals": intervals, "held_out": held_out_identity(self._options.held_out)}
        self._ranks.check_same("networks or settings", own | {"recover": self._options.recovery.to_json()})
        sent = [identity.data, identity.held_out, recorded["start"], recorded["fork"], recorded.get("data_history")]
        identity.data, identity.held_out, start, fork, history = self._ranks.broadcast(sent)
        identity.data_history = history_from_json(history)
        identity.start, identity.fork = Start.from_json(start), Start.from_json(fork)
        self._share_state()

    def _share_state(self) -> None:
        if self._ranks.size == 1:
            return
        state = self._state
        sent = [state.images_seen, self.saved_at, list(state.adam_tensors()), state.numbers()]
        state.images_seen, self.saved_at, moments, numbers = self._ranks.broadcast(sent)
        state.set_warm_up(numbers["ema_warm_up"])
        state.choice = AverageChoice.from_json(numbers.get("average_choice"))
        if self._ranks.rank != 0:
            state.recovery.load(numbers.get("recovery"))
            state.load_adam_tensors(dict.fromkeys(moments, torch.zeros(())))
        self._ranks.broadcast_tensors(state.tensors())

    # The run directory

    def check(self) -> None:
        """Raise where fit could not write to run_dir."""
        self._ranks.on_rank_zero(lambda: self._directory.check() if self._directory is not None else None)

    def open(self, stack: ExitStack) -> None:
        """Own run_dir until a stack is closed, and write config.json."""
        self._ranks.on_rank_zero(lambda: self._open(stack))

    def _open(self, stack: ExitStack) -> None:
        if self._directory is not None:
            stack.enter_context(self._directory.owning())
            self._directory.begin(self._config(), self._identity.files)

    def tidy(self) -> None:
        """Complete the last save of a finished run, which may have been killed in the middle."""
        self._ranks.on_rank_zero(self._tidy)

    def _tidy(self) -> None:
        if self._directory is not None:
            self._directory.tidy(self._state.images_seen, self._needed())

    def _config(self) -> dict[str, Any]:
        """Return what config.json records of the run."""
        recovery = self._options.recovery
        return {
            **self._identity.to_json(),
            "dtype": str(self._engine.dtype).removeprefix("torch."),
            "intervals": recorded_options(self._options),
            **({"recover": recovery.to_json()} if recovery.times else {}),
            **({"notes": dict(self._notes)} if self._notes else {}),
            "environment": self._engine.environment(),
        }

    # Saving

    def save(self, run: Run) -> Path:
        """Write a checkpoint, then remove the oldest ones; return its folder.

        Raises:
            DivergenceError: If a value of the training is not finite.
            RankError: If the ranks do not hold the same weights.
        """
        self._check_state()
        path = Path(self._ranks.on_rank_zero(lambda: self._write(run)))
        self._notify(run, path)
        return path

    def save_rest(self, run: Run) -> None:
        """Save what has been trained since the last checkpoint, if anything."""
        if self._engine.saves and self.saved_at != self._state.images_seen:
            self.save(run)

    def save_start(self, run: Run) -> None:
        """Save weights that come from elsewhere, so that their source is no longer needed, or what to go back to."""
        from_elsewhere = self.saved_at is None and (self._identity.start or self._identity.fork)
        recovers = self._options.recovery.times and self._state.images_seen == 0
        if self._engine.saves and (from_elsewhere or recovers):
            self.save_during_fit(run)

    def save_during_fit(self, run: Run) -> None:
        """Save; where the disk does not allow it, raise or warn, as the options say."""
        self._check_state()
        path = self._ranks.on_rank_zero(lambda: self._try_to_write(run))
        if path is not None:
            self._notify(run, Path(path))

    def save_after(self, run: Run, error: BaseException, raised: str) -> None:
        """Save what was trained before an error; a note on the error says whether this succeeded.

        Args:
            run: Run that ends.
            error: Error that the caller raises next.
            raised: Where the error comes from, in words.
        """
        if self._directory is None or self.saved_at == self._state.images_seen:
            return
        try:
            self._engine.check_finite(weights=True)
            path = Path(self._write(run))
        except Exception as second:
            error.add_note(f"progan could not save after it: {second}")
            return
        error.add_note(
            f"{raised}; all {self._state.images_seen:,} images trained are saved in {self._options.directory}"
        )
        try:
            self._notify(run, path)
        except Exception as second:
            error.add_note(f"on_save of a callback then raised {type(second).__name__}: {second}")

    def _check_state(self) -> None:
        """Raise where the state must not be saved: it is not finite, or not the same on every rank."""
        self._engine.check_finite(weights=True)
        self._ranks.check_same_tensors(self._state.tensors())

    def _write(self, run: Run) -> str:
        """Write a checkpoint, then remove the oldest ones; return its folder."""
        assert self._directory is not None
        with self._directory.owning():
            self._directory.make_sure(self._config(), self._identity.files)
            self._log.write(run)  # first, so that no line up to a checkpoint is ever missing
            numbers, environment = self._state.numbers(), self._engine.environment()
            manifest = {**self._identity.to_json(), "numbers": numbers, "environment": environment}
            tensors = self._state.tensors()
            return str(self._directory.write(self._state.images_seen, manifest, tensors, self._needed()))

    def _needed(self) -> set[int]:
        """Return the counts whose checkpoints are kept, since the run may go back to them."""
        if not self._options.recovery.times:
            return set()
        schedule, recovery = self._identity.recipe.schedule, self._state.recovery
        return recovery.needed(schedule, self._options.save_every, self._state.images_seen)

    def _try_to_write(self, run: Run) -> str | None:
        try:
            return self._write(run)
        except OSError as error:
            if self._options.on_failed_save == "raise":
                raise
            warn(
                f"no checkpoint at {self._state.images_seen:,} images; training continues, and the next save will try "
                f"again: {error}"
            )
            return None

    def _notify(self, run: Run, path: Path) -> None:
        self.saved_at = self._state.images_seen
        self._callbacks.on_save(run, path)


def _record_in(run_dir: Path, continued: Continuation | None) -> RunRecord | None:
    """Return the record of the run in run_dir; `Trainer.from_run` has read it already where the run is its own."""
    if continued is not None and not continued.forks:
        return continued.checkpoint or continued.recorded
    return RunRecord.read(run_dir)
