"""Worker processes that fetch the items of a data set, and the errors that come from them.

Where multiprocessing does not fork (``spawn``: macOS and Windows; ``forkserver``: Linux from Python 3.14 on), every
worker imports the main script before it fetches anything. A script that trains as it is imported would train again in
each worker, so this module refuses that and names the remedy.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from progan.data.batch import Batch, collate

_TO_FETCH_S = 30.0  # seconds that a worker has for its batch when it is asked to end
_GUARD = """put what the script does under a guard:

    if __name__ == "__main__":
        main()  # or the lines themselves, indented

or train with workers=0"""


def refuse_in_starting_process(what: str) -> None:
    """Raise RuntimeError in a process that multiprocessing is starting and that still imports the main script.

    Args:
        what: Name of the function that was called.
    """
    # What multiprocessing itself looks at before it starts a process. The fork server has it too, but no parent.
    if getattr(multiprocessing.process.current_process(), "_inheriting", False):
        raise RuntimeError(
            f"{what} was called by a worker process that is still starting: multiprocessing starts a worker by "
            f"importing the main script, and this script trains as it is imported; {_GUARD}"
        )


def fetch(items: Dataset[tuple[Tensor, Tensor | None]], batches: Iterator[range], workers: int) -> Iterator[Batch]:
    """Yield batches of items that worker processes fetch, in order.

    Args:
        items: Images, (C, H, W), and their labels, by position.
        batches: Positions of each batch.
        workers: Number of processes, at least 1.

    Raises:
        RuntimeError: If the workers end before they have fetched anything, as in a script without a main guard.
    """
    # Without a generator, iter(DataLoader) would draw from the global random state.
    loader = DataLoader(
        items,
        batch_sampler=batches,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_ignore_signals,
        generator=torch.Generator(),
    )
    refuse_in_starting_process("a DataLoader with workers")
    fetched: Iterator[Batch] | None = None
    deaths = _HeldDeaths()
    try:
        try:
            fetched = iter(loader)
            batch = next(fetched, None)
        except Exception as error:
            _explain(error, started=fetched is not None)
            raise
        while batch is not None:
            deaths.hold()
            yield batch
            deaths.deliver()
            batch = next(fetched, None)
    finally:
        deaths.release()
        _end_workers(fetched)


class _HeldDeaths:
    """Defers the signal of a worker's death during a step.

    torch's handler of SIGCHLD raises an error wherever the main thread is. In the middle of a step, the state would be
    neither that before nor that after it, and could not be saved. Handling the signal at the next fetch is enough.
    """

    def __init__(self) -> None:
        self._handler: Any = None
        self._died = False

    def hold(self) -> None:
        """Only record deaths from now on."""
        if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
            self._handler = signal.getsignal(signal.SIGCHLD)
            if callable(self._handler):
                signal.signal(signal.SIGCHLD, self._note)

    def release(self) -> None:
        """Restore the previous handler."""
        if callable(self._handler):
            signal.signal(signal.SIGCHLD, self._handler)

    def deliver(self) -> None:
        """Restore the previous handler, and call it if a death was recorded."""
        self.release()
        if self._died:
            self._died = False
            self._handler(signal.SIGCHLD, None)

    def _note(self, number: int, frame: object) -> None:
        self._died = True


def _explain(error: Exception, *, started: bool) -> None:
    """Raise a clear error if workers could not start; otherwise add a note that may help to the error.

    Args:
        error: Error that was raised before the first batch was fetched.
        started: Whether all processes were started.
    """
    if multiprocessing.get_start_method() == "fork":
        return
    # The pipe to a worker or to the fork server broke, or torch noticed the end of a worker.
    broken = isinstance(error, OSError | EOFError) and not started
    if broken or str(error).startswith("DataLoader worker"):
        raise RuntimeError(
            "the worker processes ended before they fetched an image, by the error that they printed above. If it says "
            f"that the script was imported, {_GUARD}"
        ) from error
    if not started:
        error.add_note(
            "the data set could not be sent to a worker process; define its class and functions at the top level of a "
            "module (no lambda), keep no open file in it, or train with workers=0"
        )


def _end_workers(fetched: Iterator[Batch] | None) -> None:
    """End the workers at once.

    An error keeps the iterator alive, which ends the workers only when it is deleted. By then the garbage collector
    may have closed the queues, so the workers would not be notified, and each would have to be waited for.
    """
    end = getattr(fetched, "_shutdown_workers", None)  # torch has no public name for it
    if end is not None:
        end()


def check_item_error(error: Exception, index: int) -> None:
    """Add the item's index to an error of the user's data set; raise another error if it cannot leave a worker.

    Args:
        error: Error that was raised.
        index: Index of the item in the data set.

    Raises:
        RuntimeError: Instead of a StopIteration, which would end a loop silently; and in a worker, instead of an error
            whose class the trainer's process cannot look up by name, for which it would wait forever.
    """
    error.add_note(f"raised for item {index} of the data set")
    hidden = get_worker_info() is not None and not _can_be_looked_up(type(error))
    if hidden or isinstance(error, StopIteration):
        raise RuntimeError(f"item {index} of the data set raised {type(error).__name__}: {error}") from error


def _can_be_looked_up(kind: type) -> bool:
    """Return whether a class is found by its module and qualified name, as pickle looks for it."""
    found: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is kind


def _ignore_signals(_: int) -> None:
    """Keep a worker alive when a signal reaches all processes, since the trainer still finishes its step.

    A worker ends with the trainer anyway. If it is asked to end, also by a trainer that has waited long enough, it
    finishes its current batch and exits after a while.
    """

    def go_on(*_: object) -> None:
        pass

    def end_soon(*_: object) -> None:
        timer = threading.Timer(_TO_FETCH_S, os._exit, (0,))
        timer.daemon = True
        timer.start()

    for name, handler in (("SIGINT", go_on), ("SIGUSR1", go_on), ("SIGTERM", end_soon)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
