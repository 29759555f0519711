"""Signals that ask a run to end after the current step, and one that ends a command."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class SignalRecord:
    """The first signal that asked for the end.

    Attributes:
        number: Number of the signal; None = there was none.
    """

    number: int | None = None


@contextmanager
def recorded_signals() -> Iterator[SignalRecord]:
    """Record the first Ctrl-C, SIGTERM or, where the system has it, SIGUSR1; a second one of a kind acts as before.

    Nothing changes outside the main thread, for a signal that is ignored, and for one with a handler written in C.
    """
    record = SignalRecord()
    before: dict[int, Any] = {}

    def handle(number: int, _: object) -> None:
        signal.signal(number, before[number])  # first: a second signal may come before the next line
        record.number = number

    try:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) not in (None, signal.SIG_IGN):
                    before[number] = signal.getsignal(number)
                    signal.signal(number, handle)
        yield record
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Terminated(KeyboardInterrupt):
    """SIGTERM came while a command ran, see `terminable`.

    Attributes:
        signal: Number of the signal.
    """

    signal: int = signal.SIGTERM


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise `Terminated`, so that unfinished files are removed, as at Ctrl-C; a second one acts as before.

    Nothing changes outside the main thread, and where the signal is ignored or has a handler already.
    """
    number = signal.SIGTERM

    def handle(*_: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Terminated

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(number) is not signal.SIG_DFL:
        yield
        return
    signal.signal(number, handle)
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_DFL)


def exit_status(stopped: KeyboardInterrupt) -> int:
    """Return the exit status of a program that a signal has stopped: 128 + its number."""
    return 128 + int(getattr(stopped, "signal", signal.SIGINT))
