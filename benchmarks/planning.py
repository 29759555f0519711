"""Compare the planner's time and memory with the example's quick run, and runs of given hours. Prints JSON.

python benchmarks/planning.py [--parts whole hours] [--hours 0.05] [--runs 3] [--out benchmarks/results/planning.json]

whole: the quick run: the estimates of `Trainer.plan`, and the time and peak memory of `Trainer.fit`.
hours: the command `train.py --quick --hours H`, from start to end, including the final comparison.

Run nothing else on the machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from measuring import report, timed

from progan import Trainer, presets
from progan.runtime.device import fastest_precision
from progan.runtime.memory import begin_peak, peak

EXAMPLE = Path(__file__).parent.parent / "examples/mel_icon"


def plan_and_train(line: Connection, run_dir: str, device: str) -> None:
    """Send the planned and the measured time and memory of a quick run."""
    sys.path.insert(0, str(EXAMPLE))
    import train
    from draw_icons import draw_icons

    precision = fastest_precision(torch.device(device))
    recipe = presets.few_images(train.QUICK_RESOLUTION, total_images=train.QUICK_IMAGES, precision=precision)
    data = draw_icons(size=train.QUICK_RESOLUTION)
    trainer = Trainer.from_recipe(recipe, run_dir=run_dir, device=device, progress=False)
    plan = trainer.plan(printed=False)
    begin_peak(trainer.device)
    seconds = timed(lambda: trainer.fit(data), trainer.device)
    line.send((plan.total_s, seconds, plan.memory, peak(trainer.device)))


def measure_whole(runs: int, device: str) -> dict[str, Any]:
    """Train the quick run several times, each in a new process; the ratios are medians."""
    found = [_planned_and_taken(device) for _ in range(runs)]
    planned_s, took_s, planned_bytes, took_bytes = zip(*found, strict=True)
    entry: dict[str, Any] = {
        "planned_s": [round(seconds, 1) for seconds in planned_s],
        "took_s": [round(seconds, 1) for seconds in took_s],
        "ratio": _median_ratio(planned_s, took_s),
    }
    if None not in planned_bytes + took_bytes:
        entry |= {
            "planned_mb": [round(size / 1e6) for size in planned_bytes],
            "took_mb": [round(size / 1e6) for size in took_bytes],
            "memory_ratio": _median_ratio(planned_bytes, took_bytes),
        }
    return {"whole": entry}


def _planned_and_taken(device: str) -> tuple[float, float, int | None, int | None]:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        line, theirs = context.Pipe()
        process = context.Process(target=plan_and_train, args=(theirs, f"{folder}/run", device))
        process.start()
        theirs.close()
        found: tuple[float, float, int | None, int | None] = line.recv()
        process.join()
    return found


def _median_ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    return round(statistics.median(one / other for one, other in zip(ones, others, strict=True)), 3)


def measure_hours(hours: float, runs: int, device: str) -> dict[str, Any]:
    """Run the example with --hours several times."""
    command = [sys.executable, str(EXAMPLE / "train.py"), "--quick", "--device", device, "--hours", str(hours)]
    took = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            took.append(timed(lambda: subprocess.run([*command, "--run-dir", f"{folder}/run"], check=True)))
    ratios = [seconds / (3600 * hours) for seconds in took]
    entry = {"took_s": [round(seconds, 1) for seconds in took], "median_ratio": round(statistics.median(ratios), 3)}
    return {"hours": {str(hours): entry}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["whole", "hours"], choices=["whole", "hours"])
    parser.add_argument("--hours", type=float, default=0.05)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    if "whole" in options.parts:
        report(measure_whole(options.runs, options.device), options.out, device)
    if "hours" in options.parts:
        report(measure_hours(options.hours, options.runs, options.device), options.out, device)


if __name__ == "__main__":
    main()
