"""Measure a step, or sampling, without single fast paths of the CPU: time and memory relative to all paths, as JSON.

python benchmarks/paths.py [--operations batch reflection ...] [--levels 6 5] [--recipe mel_icon] [--precision fp32]
                           [--batch 8] [--sample 0] [--rounds 9] [--out FILE]

An operation of `progan.ops.dispatch.TABLE` is computed by its reference, and everything else as usual. An operation
with several paths can be named with one of them, such as convolution=bilinear. With --sample N, N images are sampled at
once in fp32, instead of a step. To limit torch, oneDNN and MKL to AVX2, set ATEN_CPU_CAPABILITY=avx2
ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2. Run nothing else on the machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from measuring import Contender, in_turn, name_of, report
from sampling import our_samples
from step_time import Step, progan_step

from progan import presets
from progan.ops.dispatch import REFERENCE, cpu_kind, force

ALL = "all paths"


def forced(operation: str, settings: dict[str, Any]) -> Step:
    """Return a step, or the sampling of images, that computes one operation by another path."""
    name, _, path = operation.partition("=")
    paths = {} if operation == ALL else {name: path or REFERENCE}
    with force(None, **paths):
        if settings["sample"]:
            work: Step = our_samples(settings["sample"], torch.device("cpu"), torch.float32)
        else:
            recipe = getattr(presets, settings["recipe"])()
            alpha = settings["alpha"] if settings["level"] else None
            batch = settings["batch"]
            work = progan_step(recipe, settings["level"], alpha, settings["precision"], torch.device("cpu"), batch)

    def run() -> None:
        with force(None, **paths):
            work()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", nargs="+", default=["batch", "reflection", "convolution=bilinear"])
    parser.add_argument("--levels", type=int, nargs="+", default=[6, 5])
    parser.add_argument("--recipe", default="mel_icon")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    settings = {key: value for key, value in vars(options).items() if key not in ("operations", "levels", "out")}
    result = {}
    for level in [6] if options.sample else options.levels:
        work = name_of(level, 0.5 if level else None, options.precision)
        work = f"{options.recipe} {work}, {options.batch} images"
        name = f"{f'{options.sample} samples of 256 px' if options.sample else work}, {cpu_kind()}"
        arguments = {**settings, "level": level, "alpha": 0.5}
        contenders = {each: Contender(forced, (each, arguments)) for each in (ALL, *options.operations)}
        times, memory = in_turn(contenders, options.rounds)
        ratios = {each: round(times[each] / times[ALL], 3) for each in options.operations}
        result[name] = {"ms": times, "mb": memory, "slower_without": ratios}
        print(name, result[name], flush=True)
    report(result, options.out)


if __name__ == "__main__":
    main()
