"""The errors that a caller may want to catch, beside Python's own."""

from __future__ import annotations

from progan.schedule import Growth


class CheckpointError(Exception):
    """Say why a checkpoint cannot be used: damaged, incomplete, or another run's."""


class AnotherRunError(ValueError):
    """Say that a run directory holds a run of other settings."""


class RankError(RuntimeError):
    """Say that the ranks cannot go on together: one has died or left, failed at its part, or holds other weights."""


class DivergenceError(RuntimeError):
    """Say that a loss, a gradient or a weight is no longer finite; the checkpoints before it stay.

    Attributes:
        what: is not finite.
        images_seen: Real images shown when the step began; of a weight, when it was noticed.
    """

    def __init__(self, what: str, images_seen: int, growth: Growth, *, saved: bool) -> None:
        kept = "nothing was saved of it; the checkpoints before stay" if saved else "nothing is saved"
        super().__init__(
            f"training diverged: {what} is not finite, in stage {growth.stage} (level {growth.level}), after "
            f"{images_seen:,} real images; {kept}. Try a lower learning rate, or precision fp32"
        )
        self.what = what
        self.images_seen = images_seen


class Interrupted(KeyboardInterrupt):
    """Say that a signal ended `Trainer.fit` in good order: the step is finished and, with a run_dir, saved.

    Attributes:
        signal: its number. ``sys.exit(128 + error.signal)`` is what a shell expects of a program that catches this.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.signal = number
