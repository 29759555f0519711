"""Continuing a recorded run: what `Trainer.from_run` reads, and hands to the trainer that it makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from progan.errors import AnotherRunError, CheckpointError
from progan.runs import checkpoint
from progan.runs.record import RunRecord
from progan.runs.start import Start


@dataclass(frozen=True)
class Continuation:
    """A run that a new trainer continues.

    The recorded start is taken as it is; no path that a file names is opened.

    Attributes:
        recorded: Record of the run.
        checkpoint: Record of the checkpoint to continue from; None = there is none yet.
        run_dir: Run directory of the new trainer; None = it has none.
        forks: Whether the run continues in another directory, or in none.
    """

    recorded: RunRecord
    checkpoint: RunRecord | None
    run_dir: Path | None
    forks: bool

    @property
    def fork(self) -> Start | None:
        """Record of the checkpoint of another directory; None where the run continues in its own."""
        if not self.forks or self.checkpoint is None:
            return None
        return Start(str(self.checkpoint.path), self.checkpoint.images_seen, None, self.checkpoint.sha256, ())

    def options(self) -> dict[str, Any]:
        """Return the options that the new trainer takes over, run_dir included; without one, it cannot recover."""
        options = self.recorded.recorded_options() | {"run_dir": self.run_dir}
        return options if self.run_dir is not None else options | {"recover": 0}

    @classmethod
    def read(cls, path: Path, elsewhere: Path | None) -> Continuation:
        """Read the run that a path names.

        Args:
            path: Run directory, for its newest sound checkpoint; or the folder of one checkpoint.
            elsewhere: Run directory that was asked for, if any.

        Raises:
            CheckpointError: If there is no run, or its checkpoints are damaged.
            ValueError: If elsewhere is the directory that the checkpoint lies in.
        """
        at_checkpoint = checkpoint.is_checkpoint(path)
        recorded = RunRecord.from_checkpoint(path) if at_checkpoint else RunRecord.from_config(path)
        found = recorded if at_checkpoint else None
        if not at_checkpoint and checkpoint.checkpoints(path):
            found = RunRecord.from_checkpoint(path)
        home = path if elsewhere is None and not at_checkpoint else elsewhere
        forks = home is None or home.resolve() != path.resolve()
        if home is not None and forks and found is None:
            raise CheckpointError(f"{path} has no checkpoint yet that a run in {home} could continue from")
        if home is not None and at_checkpoint and home.resolve() == path.resolve().parent.parent:
            raise ValueError(
                f"{home} is where the checkpoint lies, and holds others of the same run; pass another run_dir, or "
                f"continue from the newest one with Trainer.from_run({str(home)!r})"
            )
        return cls(recorded, found, home, forks)


_current: ContextVar[Continuation | None] = ContextVar("continuation", default=None)


@contextmanager
def continuing(continuation: Continuation) -> Iterator[None]:
    """Let the trainer that is made within continue a run.

    Raises:
        CheckpointError: If config.json and the checkpoints of its directory are of different runs.
    """
    before = _current.set(continuation)
    try:
        yield
    except AnotherRunError as error:
        if continuation.forks:
            raise
        raise CheckpointError(
            f"{continuation.recorded.file} is not of the run that the checkpoints are of: {error}"
        ) from None
    finally:
        _current.reset(before)


def current_continuation() -> Continuation | None:
    """Return what the trainer that is being made continues; None where `Trainer.from_run` is not making it."""
    return _current.get()
