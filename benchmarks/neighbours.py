"""Measure a training step beside other busy processes: with spinning, sleeping and adaptive threads.

python benchmarks/neighbours.py [--levels 0 4 6] [--neighbours 0 1 2] [--out benchmarks/results/neighbours.json]

spin:     threads spin as long as libgomp lets them, as without `progan.runtime.contention`.
adaptive: what `Trainer.fit` does: threads spin while the cores are free, and sleep while they are not.
passive:  OMP_WAIT_POLICY=passive, set before torch is loaded: threads always sleep.
nice:     `spin` and `adaptive` beside neighbours of the lowest priority.

Every contender has its own process. They take turns, and the median of their steps is compared with that of `spin`
alone. Run nothing else on the machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from measuring import name_of, report

from progan import presets
from progan.runtime.contention import CoreSharing, shared_cores

CONTENDERS = {"spin": {}, "adaptive": {}, "passive": {"OMP_WAIT_POLICY": "passive"}}
SETTLES_S = 3.0  # seconds in which `adaptive` switches; not counted


def serve(level: int, precision: str) -> None:
    """On every request, run steps for the requested seconds and answer with their times."""
    from step_time import progan_step

    device = torch.device("cpu")
    step = progan_step(presets.mel_icon(), level, None if level in (0, 6) else 0.5, precision, device)
    step()
    print("ready", flush=True)
    for line in sys.stdin:
        kind, seconds = line.split()
        with shared_cores(device) as cores:
            times = list(steps(step, float(seconds), cores if kind == "adaptive" else None))
        print(*times, flush=True)


def steps(step: Any, seconds: float, cores: CoreSharing | None) -> Iterator[float]:
    """Run steps, and yield the seconds of each after the settling time."""
    begin = time.perf_counter()
    while (before := time.perf_counter()) < begin + SETTLES_S + seconds:
        step()
        after = time.perf_counter()
        if cores is not None:
            cores.look()
        if before > begin + SETTLES_S:
            yield after - before


@contextmanager
def busy(number: int, nice: int = 0) -> Iterator[None]:
    """Run the given number of busy processes."""
    command = ["nice", "-n", str(nice), sys.executable, "-c", "while True: pass"]
    neighbours = [subprocess.Popen(command) for _ in range(number)]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


def measure(level: int, options: argparse.Namespace) -> dict[str, Any]:
    """Time one level beside each number of busy neighbours."""
    program = [sys.executable, __file__, "--serve", str(level), "--precision", options.precision]
    processes = {
        name: subprocess.Popen(
            program, env={**os.environ, **variables}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name, variables in CONTENDERS.items()
    }

    def answer(name: str) -> list[float]:
        process = processes[name]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{name} {options.seconds}\n")
        process.stdin.flush()
        return [float(word) for word in process.stdout.readline().split()]

    for process in processes.values():
        assert process.stdout is not None
        process.stdout.readline()
    cases = [(str(number), number, 0, list(CONTENDERS)) for number in options.neighbours]
    cases += [(f"{number} nice", number, 19, ["spin", "adaptive"]) for number in options.neighbours if number]
    times: dict[str, dict[str, list[float]]] = {case: {name: [] for name in names} for case, _, _, names in cases}
    for _ in range(options.rounds):
        for case, number, nice, names in cases:
            with busy(number, nice):
                for name in names:
                    times[case][name] += answer(name)
    for process in processes.values():
        process.communicate()
    medians = {case: {name: statistics.median(each) for name, each in those.items()} for case, those in times.items()}
    alone = medians["0"]["spin"]
    return {
        "neighbours": {
            f"{name_of(level, None if level in (0, 6) else 0.5, options.precision)}": {
                "ms": {
                    case: {name: round(1000 * s, 1) for name, s in those.items()} for case, those in medians.items()
                },
                "times_as_long_as_spin_alone": {
                    case: {name: round(s / alone, 2) for name, s in those.items()} for case, those in medians.items()
                },
            }
        }
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", type=int, nargs="+", default=[0, 4, 6])
    parser.add_argument("--neighbours", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=6.0, help="time of each contender in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve, options.precision)
        return
    for level in options.levels:
        report(measure(level, options), options.out)


if __name__ == "__main__":
    main()
