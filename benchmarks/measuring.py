"""Helpers of the benchmarks: timing in turn, and results with their machine, versions and date."""

from __future__ import annotations

import datetime
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

import progan

_LONG = 5.0  # seconds, in which cold caches do not matter


def timed(work: Callable[[], object], device: torch.device | str = "cpu") -> float:
    """Return the seconds that some work takes on its device."""
    on_cuda = torch.device(device).type == "cuda"
    if on_cuda:
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    work()
    if on_cuda:
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def name_of(level: int, alpha: float | None, precision: str = "") -> str:
    """Return the name of a level's steps in results."""
    return f"{4 << level} px{' fading' if alpha is not None else ''}{f' {precision}' if precision else ''}"


@dataclass(frozen=True)
class Contender:
    """A function and its arguments that create the work to time, in a form that can be sent to another process."""

    make: Callable[..., Callable[[], object]]
    arguments: tuple[Any, ...]


def in_turn(
    contenders: Mapping[str, Contender], rounds: int, device: torch.device | str = "cpu"
) -> tuple[dict[str, float], dict[str, float | None]]:
    """Return the median time of each contender, in ms, and its memory, in MB.

    Each contender has its own process, so that none benefits from another's warm memory. In every round they work one
    after the other; the first round is not counted. Other load on the machine then affects all of them equally, so the
    ratio of two times is more reliable than the times. The memory is the peak above the memory before the first round;
    None if the system does not report it.
    """
    context = multiprocessing.get_context("spawn")
    times: dict[str, list[float]] = {name: [] for name in contenders}
    memory: dict[str, float | None] = {}
    with ExitStack() as stack:
        lines = {}
        for name, contender in contenders.items():
            lines[name], theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, contender, str(device)))
            process.start()
            theirs.close()
            stack.callback(process.join)
            stack.callback(lines[name].close)  # ends the process
            lines[name].recv()
        for number in range(rounds + 1):
            for name, line in lines.items():
                line.send(None)
                seconds, memory[name] = line.recv()
                if number:
                    times[name].append(1000 * seconds)
    return {name: round(statistics.median(values), 3) for name, values in times.items()}, memory


def _work(line: Connection, contender: Contender, device: str) -> None:
    """Create the work to time, then run it on every request."""
    work = contender.make(*contender.arguments)
    before = start_of_memory(device)
    line.send(None)
    while True:
        try:
            line.recv()
        except EOFError:
            return
        seconds = timed(work, device)
        if seconds < _LONG:  # other contenders leave the caches cold; within a run they are warm
            seconds = timed(work, device)
        line.send((seconds, peak_of_memory(before, device)))


def start_of_memory(device: torch.device | str) -> float | None:
    """Reset the peak, and return the MB in use now."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 1e6
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _resident("VmRSS")


def peak_of_memory(before: float | None, device: torch.device | str) -> float | None:
    """Return the difference between the peak and the memory before, in MB."""
    if before is None:
        return None
    cuda = torch.device(device).type == "cuda"
    peak = torch.cuda.max_memory_allocated(device) / 1e6 if cuda else _resident("VmHWM")
    return round(peak - before, 1)


def _resident(entry: str) -> float:
    with Path("/proc/self/status").open() as file:
        return next(int(line.split()[1]) for line in file if line.startswith(entry)) / 1000


def circumstances(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return the facts that make a result interpretable: device, machine, versions, date."""
    on_cuda = torch.device(device).type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_cuda else "cpu",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "progan": progan.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def report(result: Mapping[str, Any], out: Path | None, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Print a result as JSON and return it, merged with the file's earlier results.

    Entries that are objects are merged with existing entries of the same name, so that a file can be rewritten after
    every measurement.
    """
    result = {**result, **circumstances(device)}
    print(json.dumps(result, indent=1), flush=True)
    if out is None:
        return result
    there = json.loads(out.read_text()) if out.exists() else {}
    both = {
        name: {**value, **result[name]}
        for name, value in there.items()
        if isinstance(value, dict) and isinstance(result.get(name), dict)
    }
    whole = {**there, **result, **both}
    out.write_text(json.dumps(whole, indent=1) + "\n")
    return whole
