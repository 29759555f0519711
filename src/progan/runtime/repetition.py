"""Something that is done again and again beside a computation, by a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def repeated(
    act: Callable[[], object], every_s: float, name: str, *, until: type[Exception] | None = None
) -> Iterator[None]:
    """Call a function again and again until the context ends, which waits for the last call.

    Args:
        act: Function to call.
        every_s: Seconds before each call.
        name: Name of the thread.
        until: Exception of the function that ends the calls, silently.
    """
    ended = threading.Event()

    def repeat() -> None:
        with suppress(*(() if until is None else (until,))):
            while not ended.wait(every_s):
                act()

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
