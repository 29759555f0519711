"""Measure images per second of the article's generator at 256 px: progan's as loaded, and the plain one. Prints JSON.

python benchmarks/sampling.py [--batch-size 8] [--rounds 9] [--out benchmarks/results/sampling.json]

Both get the same latents, generated in advance. Run nothing else on the machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import plain
import torch
from measuring import Contender, in_turn, report

from progan import GrownGenerator, presets
from progan.randomness import latents


def plain_samples(batch_size: int, device: torch.device) -> Callable[[], object]:
    generator = plain.Generator().to(device)
    z = latents(range(batch_size), (512, 4, 4), 0, "sample").to(device)

    def work() -> None:
        with torch.no_grad():
            generator(z, 6, None)

    return work


def our_samples(batch_size: int, device: torch.device, dtype: torch.dtype) -> Callable[[], object]:
    generator, _ = presets.mel_icon().build()
    grown = GrownGenerator(generator, 6).to(device, dtype)
    z = latents(range(batch_size), (512, 4, 4), 0, "sample").to(device)
    return lambda: grown.images(z)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    contenders = {
        "plain": Contender(plain_samples, (options.batch_size, device)),
        "fp32": Contender(our_samples, (options.batch_size, device, torch.float32)),
        "bf16": Contender(our_samples, (options.batch_size, device, torch.bfloat16)),
    }
    times, memory = in_turn(contenders, options.rounds, device)
    rates = {name: round(1000 * options.batch_size / ms, 1) for name, ms in times.items()}
    result = {
        "images_per_s_at_256_px": rates,
        "faster_than_plain": {name: round(rates[name] / rates["plain"], 2) for name in ("fp32", "bf16")},
        "mb": memory,
        "batch_size": options.batch_size,
    }
    report(result, options.out, device)


if __name__ == "__main__":
    main()
