"""Measure a training step of progan and others by resolution: medians of steps taken in turn, as JSON.

python benchmarks/step_time.py [--parts article convolutions peer data] [--precisions fp32 bf16] [--out FILE]

article:      the Mel Icon networks at batch 8 in each of the article's eight phases, and the plain loop (plain.py).
convolutions: a step in each phase, and its convolutions run alone on the same inputs.
peer:         pro-gan-pth 3.4, progan's networks with the same channels, and the plain loop, at 4 to 32 px.
data:         the time that opening and resizing 8 pictures of 256 px would add to each step.

All contenders get the same tensors, already in memory. Run nothing else on the machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import plain
import pro_gan_pth
import torch
from measuring import Contender, in_turn, name_of, report, timed
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from progan import EmaGenerator, Growth, Recipe, Training, presets
from progan.randomness import normal, uniform
from progan.training.draws import Draws
from progan.training.state import TrainingState
from progan.training.step import TrainingStep

BATCH = 8
PHASES = [(0, None), *((level, 0.5) for level in range(1, 7)), (6, None)]  # the article's (level, alpha), in order
STEPS_PER_PHASE = 7500
PEER_LEVELS = 4
PARTS = ["article", "convolutions", "peer", "data"]
# Upper limits of the plain loop's step time relative to pro-gan-pth's, so that nobody makes the baseline slow.
YARDSTICK = {4: 0.62, 8: 0.48, 16: 0.19}

Step = Callable[[], object]


def images(size: int, batch: int = BATCH) -> Tensor:
    return uniform((batch, 3, size, size), 0, "plan", size)


def progan_step(
    recipe: Recipe, level: int, alpha: float | None, precision: str, device: torch.device, batch: int = BATCH
) -> Step:
    recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, precision=precision))
    generator, discriminator = (network.to(device) for network in recipe.build())
    step = TrainingStep(
        TrainingState(generator, discriminator, EmaGenerator(generator, 0.995), recipe.training.adam), recipe.training
    )
    growth = Growth(0, level, alpha, 5e-4, batch)
    real = images(4 << level, batch).to(device)
    draws = Draws.at(0, batch, recipe.architecture.latent_shape, 0, recipe.training).beside(real)
    return lambda: step(real, draws, growth, 0)


class Convolutions(TorchDispatchMode):
    """A recorder of a step's convolutions and their derivatives, which can run them again."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step  # keeps the heap
        self.calls: list[Step] = []
        step()
        with self:
            step()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        call = partial(func, *args, **(kwargs or {}))
        if func.name() in ("aten::convolution", "aten::convolution_backward"):
            self.calls.append(call)
        return call()

    def again(self) -> None:
        with torch.no_grad():
            for call in self.calls:
                call()


def convolutions_alone(recipe: Recipe, level: int, alpha: float | None, precision: str, device: torch.device) -> Step:
    return Convolutions(progan_step(recipe, level, alpha, precision, device)).again


def plain_step(level: int, alpha: float | None, device: torch.device) -> Step:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loop = plain.Loop(plain.Generator().to(device), plain.Discriminator().to(device))
    real = images(4 << level).to(device)
    draws = Draws.at(0, BATCH, (512, 4, 4), 0, Training()).beside(real)
    return lambda: loop.step(real, draws["z_generator"], draws["z_critic"], draws["mix"], level, alpha)


def measure_article(phase: tuple[int, float | None], options: argparse.Namespace) -> dict[str, Any]:
    """Time one of the eight phases."""
    device, (level, alpha) = options.device, phase
    recipe = presets.mel_icon()
    contenders = {"plain": Contender(plain_step, (level, alpha, device))}
    contenders |= {name: Contender(progan_step, (recipe, level, alpha, name, device)) for name in options.precisions}
    times, memory = in_turn(contenders, options.rounds, device)
    ratios = {name: round(times["plain"] / times[name], 2) for name in options.precisions}
    return {"article": {name_of(*phase): {"ms": times, "mb": memory, "faster_than_plain": ratios}}}


def measure_convolutions(phase: tuple[int, float | None], options: argparse.Namespace) -> dict[str, Any]:
    """Time one of the eight phases and its convolutions alone."""
    works = {"step": progan_step, "convolutions": convolutions_alone}
    contenders = {
        f"{name} {what}": Contender(work, (presets.mel_icon(), *phase, name, options.device))
        for name in options.precisions
        for what, work in works.items()
    }
    times, _ = in_turn(contenders, options.rounds, options.device)
    shares = {name: round(times[f"{name} convolutions"] / times[f"{name} step"], 2) for name in options.precisions}
    return {"convolutions": {name_of(*phase): {"ms": times, "share": shares}}}


def add_up(whole: dict[str, Any]) -> dict[str, Any]:
    """Return the total time of the article's steps, if every phase was measured."""
    phases = whole["article"].values()
    if len(phases) < len(PHASES):
        return {}
    names = set.intersection(*({*phase["ms"]} for phase in phases))
    sums = {name: sum(phase["ms"][name] for phase in phases) for name in sorted(names)}
    return {
        "article_hours": {name: round(STEPS_PER_PHASE * ms / 3.6e6, 2) for name, ms in sums.items()},
        "article_faster_than_plain": {name: round(sums["plain"] / ms, 2) for name, ms in sums.items()},
    }


def measure_peer(level: int, options: argparse.Namespace) -> dict[str, Any]:
    """Time pro-gan-pth, the plain loop, and progan's networks with the same channels as pro-gan-pth's."""
    if not pro_gan_pth.installed():
        return {"peer_not_measured": "pip install --no-deps pro-gan-pth==3.4"}
    device, px, alpha = options.device, 4 << level, 0.5 if level else None
    recipe = presets.karras2018(4 << PEER_LEVELS - 1, channels=(512,) * PEER_LEVELS)
    z, real = normal((BATCH, 512), 0, "z_critic", 0).to(device), images(px, -1, 1).to(device)
    contenders = {
        "pro_gan_pth": Contender(pro_gan_pth.make_step, (level, PEER_LEVELS, z, real)),
        "plain": Contender(plain_step, (level, alpha, device)),
    }
    contenders |= {name: Contender(progan_step, (recipe, level, alpha, name, device)) for name in options.precisions}
    times, memory = in_turn(contenders, options.rounds, device)
    entry = {
        "ms": times,
        "mb": memory,
        "faster_than_pro_gan_pth": {name: round(times["pro_gan_pth"] / times[name], 2) for name in options.precisions},
        "plain_share_of_pro_gan_pth": round(times["plain"] / times["pro_gan_pth"], 3),
        "of_at_most": YARDSTICK.get(px),
    }
    return {"peer": {f"{px} px": entry}}


def measure_data(rounds: int) -> dict[str, Any]:
    """Time opening and resizing a batch of pictures, which some loops do in every step."""
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
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument(
        "--phases",
        nargs="+",
        type=int,
        default=range(len(PHASES)),
        help="phases to measure, of the eight; 0 to 3 for peer",
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "tf32", "bf16"])
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if "article" in options.parts:
        for phase in options.phases:
            whole = report(measure_article(PHASES[phase], options), options.out, options.device)
            report(add_up(whole), options.out, options.device)
    if "convolutions" in options.parts:
        for phase in options.phases:
            report(measure_convolutions(PHASES[phase], options), options.out, options.device)
    if "peer" in options.parts:
        for level in (phase for phase in options.phases if phase < PEER_LEVELS):
            report(measure_peer(level, options), options.out, options.device)
    if "data" in options.parts:
        report(measure_data(options.rounds), options.out, options.device)


if __name__ == "__main__":
    main()
