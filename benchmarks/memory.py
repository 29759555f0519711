"""Measure the peak of memory of steps with micro-batches and without, each in a process of its own. Prints JSON.

python benchmarks/memory.py [--resolution 128] [--batch 16] [--micro-batches 8 4] [--steps 16] [--out FILE]

`few_images` on the CPU, fully grown, all regularisers in the first step. Memory is the peak above that of a process
which has imported progan and made the trainer.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from measuring import report

from progan import Stage, Trainer, presets
from progan.randomness import uniform
from progan.runtime.memory import begin_peak, peak

CPU = torch.device("cpu")


def measured(resolution: int, batch: int, micro_batch: int | None, steps: int) -> dict[str, float | int | None]:
    """Return the peak of memory in MB above that of the trainer, and the seconds of a step, in this process."""
    recipe = presets.few_images(resolution)
    stage = Stage(recipe.architecture.top_level, 0, 100 * batch, batch)
    recipe = replace(recipe, stages=(stage,))
    trainer = Trainer.from_recipe(recipe, micro_batch=micro_batch, device="cpu", progress=False)
    real = uniform((batch, 3, resolution, resolution), 0, "plan", 0)
    begin_peak(CPU)
    before = peak(CPU)
    begin = time.perf_counter()
    for _ in range(steps):
        trainer.step(real)
    after = peak(CPU)
    if before is None or after is None:
        raise SystemExit("this system does not report the memory of a process")
    step_s = (time.perf_counter() - begin) / steps
    return {"micro_batch": micro_batch, "mb": round((after - before) / 1e6), "step_s": round(step_s, 3)}


def main() -> None:
    """Measure in processes of their own, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--micro-batches", type=int, nargs="+", default=[8, 4], help="0 = none, in this process")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    common = options.resolution, options.batch
    if len(options.micro_batches) == 1:
        print(json.dumps(measured(*common, options.micro_batches[0] or None, options.steps)))
        return
    names = ("--resolution", f"{options.resolution}", "--batch", f"{options.batch}", "--steps", f"{options.steps}")
    rows = []
    for size in (0, *options.micro_batches):
        command = [sys.executable, __file__, *names, "--micro-batches", str(size)]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    report({"resolution": options.resolution, "batch": options.batch, "rows": rows}, options.out)


if __name__ == "__main__":
    main()
