"""Measure the cost of checking in every step that all values are finite, as a share of the step's time. Prints JSON.

python benchmarks/watch.py [--steps 30] [--levels 7] [--out benchmarks/results/watch.json]

The article's networks at batch 8, at each level. Run nothing else on the machine.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

import progan
from progan import EmaGenerator, Growth, presets
from progan.randomness import uniform
from progan.training.divergence import Watch
from progan.training.draws import Draws
from progan.training.state import TrainingState
from progan.training.step import TrainingStep


def cost_at(step: TrainingStep, level: int, steps: int, device: torch.device) -> dict[str, float]:
    """Return the median times of a step and of its checks, in ms, taken in turn, and their ratio."""
    architecture = step.generator.architecture
    growth = Growth(0, level, None, 1e-4, 8)
    real = uniform((8, 3, *architecture.size(level)), 0, "plan", 0).to(device)
    draws = Draws.at(0, 8, architecture.latent_shape, 0, step.training).beside(real)
    gradients = [
        [torch.rand_like(parameter) for parameter in network.in_use(level, None).values()]
        for network in (step.state.generator, step.state.discriminator)
    ]
    watch = Watch()
    losses = {name: torch.zeros((), device=device) for name in "abcde"}
    step_s: list[float] = []
    watch_s: list[float] = []
    for number in range(steps + 1):
        step_s.append(timed(lambda number=number: step(real, draws, growth, number * 8), device))
        for _ in range(5):
            watch_s.append(
                timed(
                    lambda: watch.look(losses | {str(k): watch.measure(some) for k, some in enumerate(gradients)}, 0),
                    device,
                )
            )
    medians = statistics.median(step_s[1:]), statistics.median(watch_s[5:])
    return {
        "step_ms": round(1000 * medians[0], 3),
        "watch_ms": round(1000 * medians[1], 3),
        "share": round(medians[1] / medians[0], 5),
    }


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that some work takes on its device."""
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30, help="number of steps at 4x4; fewer at higher levels")
    parser.add_argument("--levels", type=int, default=7, help="number of levels, from 4x4 up to seven")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    recipe = presets.mel_icon()
    generator, discriminator = (network.to(device) for network in recipe.build())
    step = TrainingStep(
        TrainingState(generator, discriminator, EmaGenerator(generator, 0.995), recipe.training.adam), recipe.training
    )
    result = {
        "by_resolution": {
            4 << level: cost_at(step, level, max(3, options.steps >> level), device) for level in range(options.levels)
        },
        "progan": progan.__version__,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "date": datetime.date.today().isoformat(),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
