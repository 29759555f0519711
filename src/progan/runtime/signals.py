"""Signals that ask a run to end in good order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interruption:
    """Tell whether a signal asked for the end.

    Attributes:
        signal: its number; None while there was none.
    """

    signal: int | None = None


@contextmanager
def interruption() -> Iterator[Interruption]:
    """Note the first Ctrl-C, SIGTERM or, where the system has it, SIGUSR1; the second of its kind acts as before.

    Nothing changes outside the main thread, for a signal that is ignored, and for one that a program in C has taken.
    """
    asked = Interruption()
    before: dict[int, Any] = {}

    def note(number: int, _: object) -> None:
        signal.signal(number, before[number])  # first: a second one may come before the next line
        asked.signal = number

    try:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) not in (None, signal.SIG_IGN):
                    before[number] = signal.getsignal(number)
                    signal.signal(number, note)
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
