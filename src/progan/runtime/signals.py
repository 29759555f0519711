"""Signals that ask a run to end after the current step."""

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
