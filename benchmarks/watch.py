"""Measure what it costs to notice, in every step, that something is not finite: a ratio of interleaved steps, as JSON.

python benchmarks/watch.py [--steps 60] [--out benchmarks/results/watch.json]

The article's networks at batch 8, each level. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import override

import progan
from progan import Average, Growth, presets
from progan.finite import Watch
from progan.randomness import uniform
from progan.step import Draws, TrainingStep


class Blind(Watch):
    """Look at nothing."""

    @staticmethod
    @override
    def measure(tensors: Sequence[Tensor]) -> Tensor:
        return torch.zeros(())

    @override
    def look(self, values: Mapping[str, Tensor], images_seen: int) -> None:
        pass


def ratio_at(step: TrainingStep, level: int, steps: int, device: torch.device) -> dict[str, float]:
    """Return the median over pairs of steps, one with the watch and one without, in turn, of their times' ratio."""
    architecture = step.generator.architecture
    growth = Growth(0, level, None, 1e-4, 8)
    real = uniform((8, 3, *architecture.size(level)), 0, "plan", 0).to(device)
    draws = Draws.at(0, 8, architecture.latent_shape, 0, 0).to(device, torch.float32)
    kinds = {"watched": Watch(), "blind": Blind()}
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(steps + 2):
        for name in sorted(kinds, reverse=number % 2 == 1):
            step.watch = kinds[name]
            begin = time.perf_counter()
            step(real, draws, growth, number * 8)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[name].append(time.perf_counter() - begin)
    ratios = [watched / blind for watched, blind in list(zip(times["watched"], times["blind"], strict=True))[2:]]
    return {
        "step_ms": round(1000 * statistics.median(times["blind"][2:]), 3),
        "ratio": round(statistics.median(ratios), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="pairs at 4x4; fewer where they take long")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    recipe = presets.mel_icon()
    generator, discriminator = (network.to(device) for network in recipe.build())
    step = TrainingStep(generator, discriminator, Average(generator, 0.995), recipe.training)
    result = {
        "by_resolution": {
            4 << level: ratio_at(step, level, max(7, options.steps >> max(0, level - 1)), device) for level in range(7)
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
