"""Measure one training step of both networks, ours and others', by resolution: medians taken in turn, as JSON.

python benchmarks/step_time.py [--parts article peer data] [--precisions fp32 bf16] [--out FILE]

article: the Mel Icon networks at batch 8 in each of the article's eight phases, beside the plain loop (plain.py).
peer:    pro-gan-pth 3.4 and progan's networks of the same widths, 4 to 32 px; and the plain loop beside it.
data:    what opening and resizing 8 pictures of 256 px adds to a step, where a program does that in its loop.

All contenders are fed the same tensors, already in memory. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import plain
import pro_gan_pth
import torch
from measuring import Contender, in_turn, report, timed
from torch import Tensor

from progan import Average, Growth, Recipe, presets
from progan.randomness import normal, uniform
from progan.step import Draws, TrainingStep

BATCH = 8
PHASES = [(0, None), *((level, 0.5) for level in range(1, 7)), (6, None)]  # (level, alpha) of the article's, in order
STEPS_PER_PHASE = 7500
# What the plain loop's step may take of pro-gan-pth's, so that nobody makes the yardstick slow.
YARDSTICK = {4: 0.62, 8: 0.48, 16: 0.19}

Step = Callable[[], object]


def images(size: int, low: float, high: float) -> Tensor:
    return uniform((BATCH, 3, size, size), 0, "plan", size) * (high - low) + low


def progan_step(recipe: Recipe, level: int, alpha: float | None, precision: str, device: torch.device) -> Step:
    recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, precision=precision))
    generator, discriminator = (network.to(device) for network in recipe.build())
    step = TrainingStep(generator, discriminator, Average(generator, 0.995), recipe.training)
    growth = Growth(0, level, alpha, 5e-4, BATCH)
    real = images(4 << level, *recipe.architecture.image_range).to(device)
    draws = Draws.at(0, BATCH, recipe.architecture.latent_shape, 0, 0).to(device, torch.float32)
    return lambda: step(real, draws, growth, 0)


def plain_step(level: int, alpha: float | None, device: torch.device) -> Step:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loop = plain.Loop(plain.Generator().to(device), plain.Discriminator().to(device))
    real = images(4 << level, 0, 1).to(device)
    draws = Draws.at(0, BATCH, (512, 4, 4), 0, 0).to(device, torch.float32)
    return lambda: loop.step(real, draws.z_generator, draws.z_critic, draws.mix, level, alpha)


def measure_article(
    chosen: Sequence[tuple[int, float | None]], rounds: int, device: torch.device, precisions: Sequence[str]
) -> dict[str, Any]:
    """Time the eight phases, and add up what the article's steps would take."""
    recipe = presets.mel_icon()
    phases = []
    for level, alpha in chosen:
        contenders = {"plain": Contender(plain_step, (level, alpha, device))}
        contenders |= {name: Contender(progan_step, (recipe, level, alpha, name, device)) for name in precisions}
        times, memory = in_turn(contenders, rounds, device)
        ratios = {name: round(times["plain"] / times[name], 2) for name in precisions}
        phases.append({"px": 4 << level, "alpha": alpha, "ms": times, "mb": memory, "faster_than_plain": ratios})
        print(phases[-1], flush=True)
    sums = {name: sum(phase["ms"][name] for phase in phases) for name in ("plain", *precisions)}
    return {
        "article": phases,
        "article_hours": {name: round(STEPS_PER_PHASE * ms / 3.6e6, 2) for name, ms in sums.items()},
        "article_faster_than_plain": {name: round(sums["plain"] / sums[name], 2) for name in precisions},
    }


def measure_peer(rounds: int, device: torch.device, precisions: Sequence[str]) -> dict[str, Any]:
    """Time pro-gan-pth beside the plain loop, and beside our networks of its widths."""
    if not pro_gan_pth.installed():
        return {"peer": "not measured: pip install --no-deps pro-gan-pth==3.4"}
    recipe = presets.karras2018(32, channels=(512,) * 4)
    z = normal((BATCH, 512), 0, "z_critic", 0).to(device)
    sizes = []
    for level in range(4):
        alpha = 0.5 if level else None
        real = images(4 << level, -1, 1).to(device)
        contenders = {
            "pro_gan_pth": Contender(pro_gan_pth.make_step, (level, z, real)),
            "plain": Contender(plain_step, (level, alpha, device)),
        }
        contenders |= {name: Contender(progan_step, (recipe, level, alpha, name, device)) for name in precisions}
        times, memory = in_turn(contenders, rounds, device)
        ratios = {name: round(times["pro_gan_pth"] / times[name], 2) for name in precisions}
        share = round(times["plain"] / times["pro_gan_pth"], 3)
        px = 4 << level
        if share > YARDSTICK.get(px, 1):
            raise SystemExit(f"the plain loop takes {share} of pro-gan-pth at {px} px, at most {YARDSTICK[px]} is fair")
        sizes.append(
            {
                "px": px,
                "ms": times,
                "mb": memory,
                "faster_than_pro_gan_pth": ratios,
                "plain_share_of_pro_gan_pth": share,
            }
        )
        print(sizes[-1], flush=True)
    return {"peer": sizes}


def measure_data(rounds: int) -> dict[str, Any]:
    """Time what a loop adds that opens and resizes its pictures in every step."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.png" for index in range(BATCH)]
        for path, picture in zip(paths, images(256, 0, 255), strict=True):
            Image.fromarray(picture.permute(1, 2, 0).byte().numpy()).save(path)

        def read() -> None:
            for path in paths:
                with Image.open(path) as picture:
                    picture.convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)

        times = sorted(1000 * timed(read) for _ in range(rounds))
    return {"opening_and_resizing_8_pictures_ms": round(times[len(times) // 2], 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["article", "peer", "data"], choices=["article", "peer", "data"])
    parser.add_argument("--phases", nargs="+", type=int, default=list(range(len(PHASES))), help="of the eight")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "tf32", "bf16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    result: dict[str, Any] = {}
    if "article" in options.parts:
        result |= measure_article(
            [PHASES[index] for index in options.phases], options.rounds, device, options.precisions
        )
    if "peer" in options.parts:
        result |= measure_peer(options.rounds, device, options.precisions)
    if "data" in options.parts:
        result |= measure_data(options.rounds)
    report(result, options.out, device)


if __name__ == "__main__":
    main()
