"""Going on after trouble: back to an earlier checkpoint, with a lower learning rate, and a record of it."""

from __future__ import annotations

from progan.errors import DivergenceError, warn
from progan.runs.recovery import COLLAPSED_IN_A_ROW, Setback, read_setbacks, write_setbacks
from progan.training.callbacks import Run
from progan.training.checkpointer import Checkpointer
from progan.training.engine import Engine
from progan.training.options import RunOptions


class CollapseError(Exception):
    """The generator has collapsed.

    Attributes:
        images_seen: Real images shown when that was found.
        what: What has collapsed, in words.
    """

    def __init__(self, images_seen: int) -> None:
        self.images_seen = images_seen
        self.what = "the samples"
        super().__init__(f"collapse after {images_seen:,} real images")


Trouble = DivergenceError | CollapseError


class Recoverer:
    """What takes a run back after a divergence or a collapse, on every rank alike.

    Args:
        engine: Engine of the run.
        checkpointer: Restores and saves the run.
        options: Options of the run.
    """

    def __init__(self, engine: Engine, checkpointer: Checkpointer, options: RunOptions) -> None:
        self._engine = engine
        self._record = engine.state.recovery
        self._checkpointer = checkpointer
        self._options = options
        self._settings = options.recovery
        self._has_given_up = False

    def look(self, run: Run) -> None:
        """Look for a collapse, after a step and its judgement.

        Raises:
            CollapseError: If there is one, and the run may go back.
        """
        if not (self._settings.collapse and self._settings.times) or self._has_given_up:
            return
        record = self._record
        has_collapsed = record.collapsed >= COLLAPSED_IN_A_ROW and record.sound is not None
        if self._engine.ranks.maximum(int(has_collapsed)):  # rank 0 alone judges
            if len(record.setbacks) < self._settings.times:
                raise CollapseError(run.images_seen)
            self._give_up(run, f"{record.describe()}, as often as it may")

    def go_back(self, run: Run, trouble: Trouble) -> None:
        """Return to an earlier checkpoint.

        Raises:
            DivergenceError: If the run has gone back as often as it may, or there is no checkpoint to go back to.
        """
        record, at, collapsed = self._record, trouble.images_seen, isinstance(trouble, CollapseError)
        back_to = None
        if self._engine.saves and len(record.setbacks) < self._settings.times:
            counts = self._counts(run, at, collapsed=collapsed)
            reason = "the samples collapsed" if collapsed else f"{trouble.what} was not finite"
            factor = self._settings.factor
            back_to = self._checkpointer.go_back(run, counts, lambda count: Setback(at, count, factor, reason))
        if back_to is not None:
            self.announce(run)
        elif isinstance(trouble, DivergenceError):
            raise trouble
        else:
            self._give_up(run, "there is no sound checkpoint from before it")

    def _counts(self, run: Run, at: int, *, collapsed: bool) -> list[int]:
        """Return the counts of the checkpoints to go back to; rank 0 decides."""
        save_every = self._options.save_every
        ways = self._engine.ranks.on_rank_zero(
            lambda: self._record.ways_back(run.schedule, save_every, at, collapsed=collapsed)
        )
        return list(ways)

    def announce(self, run: Run) -> None:
        """Report the setbacks that setbacks.json does not have yet: in metrics.jsonl, as warnings, and then there.

        Outside of it, nothing tells whether they have been reported. So a run that was killed in between reports them
        again, in place of what was reported before.
        """
        if run.run_dir is None or self._engine.ranks.rank != 0:
            return
        setbacks, reported = self._record.setbacks, read_setbacks(run.run_dir)
        same = [one == other for one, other in zip(setbacks, reported, strict=False)]
        n_same = same.index(False) if False in same else len(same)
        for number, setback in enumerate(setbacks[n_same:], n_same + 1):
            text = (
                f"training went back from {setback.at:,} to {setback.back_to:,} real images, since {setback.reason}; "
                f"from there on, the learning rate is multiplied by {setback.factor:g} (return {number} of at most "
                f"{self._settings.times})"
            )
            run.log({"images_seen": setback.back_to, "text": text, "setback": setback.to_json()})
            warn(text)
        if setbacks != reported:
            try:
                write_setbacks(run.run_dir, setbacks)
            except OSError as error:
                warn(f"the setbacks could not be recorded in a file of their own; training continues: {error}")

    def _give_up(self, run: Run, reason: str) -> None:
        """Go on with a collapsed generator, as without recovery, and say why."""
        self._has_given_up = True
        if self._engine.ranks.rank == 0:
            warn(
                f"after {run.images_seen:,} real images the samples have collapsed, and training continues as it is: "
                f"{reason}"
            )
