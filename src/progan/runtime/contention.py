"""CPU contention: threads spin while the cores are free, and sleep while other programs use them too.

The threads of an operation wait for one another many times in a step. OpenMP lets them *spin*: they poll for some
milliseconds, which is fastest as long as each has a core of its own. If another program uses one of the cores, a
spinning thread keeps the very thread that it waits for from running, and a step takes three to ten times as long.

How long threads spin is read from the environment when torch is loaded (``GOMP_SPINCOUNT``). But libgomp, which is part
of torch's wheels for Linux, stops spinning almost at once while it manages more threads than there are cores. Idle
teams of threads, which cost nothing but entries in the system's tables, bring this about for as long as they live.
LLVM's and Intel's libraries read ``KMP_BLOCKTIME`` and are left alone: only C code can change it later.

No bit of any result depends on it. Measured by ``benchmarks/neighbours.py``.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from progan.runtime.repetition import repeated

_TASKS = Path("/proc/self/task")
_INTERVAL_S = 0.5  # between two looks
_BUSY, _FREE = 0.2, 0.15  # seconds of waiting per second: about 0.02 on free cores, 0.5 to 1 beside one busy process
_FREE_LOOKS = 4  # in a row, before threads spin again
_REMARK_S = 15.0  # of waiting, before it is reported
_GRAIN = 1 << 15  # elements for which torch takes one more thread

_watch = threading.Lock()  # held while a computation is watched

Waits = dict[str, int]  # nanoseconds that each of this process's threads has waited for a core, by thread


class CoreSharing:
    """The contention for the CPU cores during a training loop, measured after each step.

    Args:
        waits: Returns how long each thread has waited for a core; empty where the system does not report it.
        clock: Returns seconds.
        sleeping: Makes threads sleep instead of spin until the stack is closed; returns whether it can.

    Attributes:
        sleeps: Whether threads currently sleep.
    """

    def __init__(
        self,
        waits: Callable[[], Waits],
        clock: Callable[[], float] = time.perf_counter,
        sleeping: Callable[[ExitStack], bool] = lambda stack: False,
    ) -> None:
        self._waits = waits
        self._clock = clock
        self._sleeping = sleeping
        self._open = ExitStack()
        self._free_looks = 0
        self._waited_s = 0.0
        self._reported = False
        self.sleeps: bool = False
        self._before = waits()
        self._at = clock()

    def look(self) -> None:
        """Compare the time that threads have waited for a core with the time elapsed, and adapt."""
        now = self._clock()
        if not self._before or now - self._at < _INTERVAL_S:
            return
        waits = self._waits()
        waited_s = (
            sum(max(0, waits[thread] - before) for thread, before in self._before.items() if thread in waits) / 1e9
        )
        share = waited_s / (now - self._at)
        self._before, self._at = waits, now
        if share >= _BUSY:
            self._waited_s += waited_s
        self._free_looks = self._free_looks + 1 if share < _FREE else 0
        if share >= _BUSY and not self.sleeps:
            self.sleeps = self._sleeping(self._open)
        elif self.sleeps and self._free_looks >= _FREE_LOOKS:
            self.close()

    def close(self) -> None:
        """Let threads spin again."""
        self._open.close()
        self.sleeps = False

    def remark(self) -> str | None:
        """Return a message for the user, once, when threads have waited for a long time."""
        if self._reported or self._waited_s < _REMARK_S:
            return None
        self._reported = True
        threads, cores = torch.get_num_threads(), _cores()
        waited = f"training is slower than it could be: its threads have waited {self._waited_s:.0f} s for a CPU core"
        if threads > cores:
            return f"{waited}, since {threads} threads share {cores}; call torch.set_num_threads({cores})"
        slept = " (its threads sleep meanwhile instead of spinning, which costs least)" if self.sleeps else ""
        return (
            f"{waited} that other processes were using{slept}; stop those, or give them a lower priority, such as with "
            "'renice -n 19 PID'"
        )


@contextmanager
def shared_cores(device: torch.device) -> Iterator[CoreSharing]:
    """Watch the cores while a loop trains on the CPU; only Linux reports what is needed.

    Args:
        device: Device that the loop trains on.
    """
    sharing = CoreSharing(_waits if device.type == "cpu" else dict, sleeping=_start_idle_teams)
    try:
        yield sharing
    finally:
        sharing.close()


@contextmanager
def watched_cores() -> Iterator[None]:
    """Watch the cores during a computation on the CPU that is no loop: a thread of its own looks twice a second.

    A computation within another one is watched with it.
    """
    if torch.get_num_threads() == 1 or not _watch.acquire(blocking=False):
        yield
        return
    try:
        with (
            shared_cores(torch.device("cpu")) as sharing,
            repeated(sharing.look, _INTERVAL_S, "progan core watch"),
        ):
            yield
    finally:
        _watch.release()


def _waits() -> Waits:
    """Return how long each thread of this process has waited for a core, in nanoseconds; empty if not reported."""
    waits = {}
    try:
        for task in os.listdir(_TASKS):  # noqa: PTH208 (names are all that is needed, twice a second)
            with open(f"{_TASKS}/{task}/schedstat", "rb") as file:  # noqa: PTH123
                waits[task] = int(file.read().split()[1])
    except (OSError, IndexError, ValueError):  # a thread has ended, or the kernel does not count
        pass
    return waits


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _libgomp_is_loaded() -> bool:
    """Whether libgomp is loaded."""
    try:
        return re.search(r"/libgomp[^/\s]*\.so", Path("/proc/self/maps").read_text()) is not None
    except OSError:
        return False


def _start_idle_teams(stack: ExitStack) -> bool:
    """Have libgomp manage more threads than there are cores: each team adds its threads but one."""
    threads = torch.get_num_threads()
    if threads == 1 or not _libgomp_is_loaded():
        return False
    teams = (_cores() - threads) // (threads - 1) + 1
    for _ in range(max(1, teams)):
        end, there = threading.Event(), threading.Event()
        team = threading.Thread(target=_idle_team, args=(threads, there, end), name="progan idle team", daemon=True)
        team.start()
        there.wait()
        stack.callback(team.join)
        stack.callback(end.set)
    return True


def _idle_team(threads: int, there: threading.Event, end: threading.Event) -> None:
    """Own a team of OpenMP threads, which lives as long as this thread."""
    try:
        torch.ones(threads * _GRAIN)
    finally:
        there.set()
    end.wait()
