"""Errors that a caller may want to catch, in addition to Python's own, and warnings that point at the caller's line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from progan.schedule import Growth

# Packages whose frames can lie between a line of the user and a warning: progan, and what calls back into it.
_INNER = {"progan", "torch", "contextlib"}
_listeners: list[Callable[[str], None]] = []


class CheckpointError(Exception):
    """A checkpoint cannot be used: it is damaged, incomplete, or of another run."""


class AnotherRunError(ValueError):
    """A run directory holds a run of other settings."""


class RankError(RuntimeError):
    """The ranks cannot continue together: one has died, left or failed, or holds other weights."""


class DivergenceError(RuntimeError):
    """A loss, a gradient or a weight is no longer finite; earlier checkpoints are kept.

    Attributes:
        what: Name of the value that is not finite.
        images_seen: Real images shown when the step began; for a weight, when it was noticed.
    """

    def __init__(self, what: str, images_seen: int, growth: Growth, *, saved: bool, tried: str = "") -> None:
        kept = "its state was not saved; earlier checkpoints are kept" if saved else "nothing is saved"
        kept += f"; {tried}" if tried else ""
        super().__init__(
            f"training diverged: {what} is not finite, in stage {growth.stage} (level {growth.level}), after "
            f"{images_seen:,} real images; {kept}. Try a lower learning rate, or precision fp32"
        )
        self.what = what
        self.images_seen = images_seen


class Interrupted(KeyboardInterrupt):
    """A signal ended `Trainer.fit` after a finished step, which is saved if there is a run_dir.

    Attributes:
        signal: Number of the signal. A program that catches this error should call ``sys.exit(128 + error.signal)``,
            the exit status that a shell expects.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.signal = number


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line outside progan that led here, however many calls lie between.

    Args:
        message: Text of the warning.
        category: Class of the warning.
    """
    report(message)
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INNER:
        frame = frame.f_back
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        frame.f_globals.get("__name__", "<unknown>"),
        frame.f_globals.setdefault("__warningregistry__", {}),
    )


def report(message: str) -> None:
    """Hand a text to all who listen to warnings, such as one that was given before they listened."""
    for listener in tuple(_listeners):
        listener(message)


@contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    """Call a function with the text of each warning of progan's, shown or not, within the context."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
