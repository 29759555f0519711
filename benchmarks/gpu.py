"""Measure training on a CUDA device. The JSON file is rewritten after every measurement.

PYTHONPATH=src python benchmarks/gpu.py --part check|time|fit|train --out gpu.json [--minutes 8]

check: compare captured and eager steps, in every phase and over a short schedule with a save in between.
time:  time a step of every phase: eager, as a graph, and as a graph in TF32 and bf16; the plain loop (plain.py); and
       pro-gan-pth 3.4 if it is installed. Count the kernels that a step launches.
fit:   time a step within the trainer, at every level; at 4 px, also by where random numbers are generated; and sample
       what the trainer's thread does.
train: train the article's full recipe; its sheet is progress.png in --run-dir.

This needs torch, numpy and the checkout. Icons are drawn, or read with --images: a .npy file, (N, 3, 256, 256), uint8.
Measurements that do not fit into --minutes are skipped, with an entry that says so; run the same command again to make
them. --device cpu --smoke does everything on a small scale.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import plain
import pro_gan_pth
import torch
from measuring import circumstances, name_of, peak_of_memory, start_of_memory, timed
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import progan
from progan import (
    Adam,
    Architecture,
    Callback,
    EmaGenerator,
    Growth,
    Interrupted,
    ProgressiveDiscriminator,
    ProgressiveGenerator,
    Recipe,
    Stage,
    Trainer,
    presets,
)
from progan.randomness import normal, uniform
from progan.runtime.cuda_graphs import CudaGraphs
from progan.runtime.device import precision_scope
from progan.training.captured_step import WARM_UP, DeviceStep
from progan.training.draws import Draws, DrawsAhead
from progan.training.state import TrainingState
from progan.training.step import TrainingStep

BATCH = 8
AFTER_CAPTURE = 5  # number of steps after the capture that are compared
TAKEN = 8  # steps of the full recipe that are timed together: few such groups contain a save or a preview


class Rehearsal:
    """A substitute for CUDA graphs on the CPU, which runs the work again instead of replaying it."""

    @contextmanager
    def beside(self) -> Iterator[None]:
        yield

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        return work

    def wait(self) -> None:
        pass


class Sheet:
    """The measurements. Every entry rewrites the file; earlier entries in the file remain."""

    def __init__(self, out: Path, part: str, device: torch.device, minutes: float) -> None:
        self._out, self._part = out, part
        self._whole = json.loads(out.read_text()) if out.exists() else {}
        self._end = time.monotonic() + 60 * minutes
        self._whole[part] = {**self._whole.get(part, {}), **circumstances(device)}

    def put(self, name: str, value: Any) -> None:
        self._whole[self._part][name] = value
        self._out.parent.mkdir(parents=True, exist_ok=True)
        self._out.write_text(json.dumps(self._whole, indent=1) + "\n")
        print(name, json.dumps(value), flush=True)

    def has_time(self, name: str, seconds: float = 20) -> bool:
        """Return whether a measurement is missing and there is time for it; record when there is not."""
        if isinstance(self._whole[self._part].get(name), dict):  # measured by an earlier run
            return False
        if time.monotonic() + seconds < self._end:
            return True
        self.put(name, "not measured: out of time")
        return False

    def seconds_left(self) -> float:
        return self._end - time.monotonic()


def small(recipe: Recipe) -> Recipe:
    """Return a similar recipe with two small levels, for smoke tests."""
    architecture = recipe.architecture
    architecture = dataclasses.replace(
        architecture, channels=(8, 6), latent_shape=(5, *architecture.latent_shape[1:]), head_channels=None
    )
    stages = (Stage(0, 0, 72, BATCH), Stage(1, 72, 72, BATCH))
    return dataclasses.replace(recipe, architecture=architecture, stages=stages)


def with_training(recipe: Recipe, **settings: Any) -> Recipe:
    return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, **settings))


def phases(recipe: Recipe) -> list[tuple[int, float | None]]:
    """Return every (level, alpha) that has a graph."""
    return [
        (0, None),
        *((level, alpha) for level in range(1, recipe.architecture.top_level + 1) for alpha in (0.5, None)),
    ]


def graphs_on(device: torch.device) -> CudaGraphs | Rehearsal:
    return CudaGraphs(device) if device.type == "cuda" else Rehearsal()


@cache
def built(architecture: Architecture, device: torch.device) -> tuple[ProgressiveGenerator, ProgressiveDiscriminator]:
    """Build both networks once for all phases, since initialising them takes up to a second of device time."""
    generator, discriminator = Recipe(architecture, (Stage(0, 0, BATCH, BATCH),)).build()
    return generator.to(device), discriminator.to(device)


def steps_of(recipe: Recipe, device: torch.device, *, graph: bool) -> tuple[TrainingStep, DeviceStep]:
    """Return a recipe's training step, and the object that runs it on a device."""
    generator, discriminator = copy.deepcopy(built(recipe.architecture, device))
    step = TrainingStep(
        TrainingState(generator, discriminator, EmaGenerator(generator, 0.995), recipe.training.adam), recipe.training
    )
    return step, DeviceStep(step, graphs_on(device) if graph else None)


def images(recipe: Recipe, level: int, position: int) -> Tensor:
    """Return noise in [0, 1]."""
    size = 4 << level
    return uniform((BATCH, recipe.architecture.image_channels, size, size), 0, "plan", position)


def drawn(n: int, size: int) -> Tensor:
    """Draw simple icons, heads on shoulders with random colours and positions; (n, 3, size, size), uint8."""
    generator = torch.Generator().manual_seed(0)
    row = torch.linspace(-1, 1, size)
    y, x = row[:, None], row[None, :]
    pictures = torch.empty(n, 3, size, size, dtype=torch.uint8)
    for picture in pictures:
        numbers = torch.rand(13, generator=generator)
        background, skin, shirt = (255 * numbers[first : first + 3].reshape(3, 1, 1) for first in (0, 3, 6))
        right, up, wide, tall = numbers[9:] * 0.2
        shoulders = ((x - right) / (0.7 + wide)) ** 2 + ((y - 1) / 0.6) ** 2 < 1
        head = ((x - right) / (0.3 + wide)) ** 2 + ((y + up) / (0.4 + tall)) ** 2 < 1
        picture.copy_(torch.where(head, skin, torch.where(shoulders, shirt, background)))
    return pictures


@torch.no_grad()
def distance(ones: list[Tensor], others: list[Tensor]) -> float:
    """Return the Euclidean distance between two lists of tensors."""
    return math.sqrt(
        sum(float((one.double() - other.double()).square().sum()) for one, other in zip(ones, others, strict=True))
    )


def trained(recipe: Recipe, level: int, alpha: float | None, device: torch.device, *, graph: bool) -> dict[str, Any]:
    """Run some steps of a phase; return the state before and after, the losses, and whether a graph was used."""
    step, run = steps_of(recipe, device, graph=graph)
    before = {name: [tensor.detach().clone() for tensor in tensors] for name, tensors in step.moved().items()}
    told = []
    for number in range(WARM_UP + AFTER_CAPTURE):
        now = None if alpha is None else (number + 1) / 16
        growth = Growth(0, level, now, 1e-3 / (1 + number), BATCH)
        count = number * BATCH
        draws = Draws.at(count, BATCH, recipe.architecture.latent_shape, 0, recipe.training)
        told.append(run(images(recipe, level, count).to(device), draws, growth, count))
    return {
        "before": before,
        "after": step.moved(),
        "losses": [list(losses.values()) for losses in told],
        "captured": graph and run.captures,
    }


def compared(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the distance between two training runs of one phase, as a share of the change they made."""
    shares = {
        name: distance(one["after"][name], other["after"][name])
        / max(distance(one["after"][name], one["before"][name]), 1e-30)
        for name in ("generator", "discriminator", "ema")
    }
    pairs = [*zip(one["losses"], other["losses"], strict=True)]
    pairs += [(one["after"][name], other["after"][name]) for name in one["after"]]
    return {
        "apart": {name: float(f"{share:.3g}") for name, share in shares.items()},
        "equal_to_the_bit": all(torch.equal(a, b) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True)),
    }


def measure_check(sheet: Sheet, recipes: dict[str, Recipe], device: torch.device, pictures: Tensor) -> None:
    for kind, recipe in recipes.items():
        for precision in ("fp32", "bf16"):
            for level, alpha in phases(recipe):
                name = f"{kind} {name_of(level, alpha, precision)}"
                if not sheet.has_time(name):
                    continue
                exact = with_training(recipe, precision=precision)
                with precision_scope(device, exact.training.precision):
                    plain_one, plain_two = (trained(exact, level, alpha, device, graph=False) for _ in range(2))
                    captured = trained(exact, level, alpha, device, graph=True)
                entry = {"captured": captured["captured"], "graph_and_plain": compared(plain_one, captured)}
                sheet.put(name, {**entry, "plain_and_plain": compared(plain_one, plain_two)})
        name = f"{kind} a schedule"
        if sheet.has_time(name, 60):
            sheet.put(name, check_schedule(recipe, device, pictures))


def check_schedule(recipe: Recipe, device: torch.device, pictures: Tensor) -> dict[str, Any]:
    """Train a short schedule with the trainer: eager, captured, and captured with a stop and a load in between."""
    top = min(2, recipe.architecture.top_level)
    grown = (Stage(level, 80, 80, BATCH, 2e-3) for level in range(1, top + 1))
    stages = (Stage(0, 0, 80, BATCH), *grown, Stage(top, 0, 40, 4))
    recipe = dataclasses.replace(with_training(recipe, adam=Adam(reset="level_and_fade")), stages=stages)

    def trainer(graph: bool) -> Trainer:
        return Trainer.from_recipe(recipe, device=device, graph=graph, progress=False)

    def run(graph: bool, stop: int | None = None) -> dict[str, Tensor]:
        one = trainer(graph)
        one.fit(pictures, until=stop)
        if stop is not None:
            state, one = one.state_dict(), trainer(graph)
            one.load_state_dict(state)
            one.fit(pictures)
        return dict(one.state_dict()["tensors"])

    graph = device.type == "cuda"
    start, plain_run = trainer(False).state_dict()["tensors"], run(False)
    names = [name for name in start if name.startswith(("generator/", "discriminator/"))]

    def apart(other: dict[str, Tensor]) -> float:
        ours = [plain_run[name] for name in names]
        moved = distance(ours, [start[name] for name in names])
        return float(f"{distance(ours, [other[name] for name in names]) / moved:.3g}")

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        entry = {
            "plain": apart(run(False)),
            "captured": apart(run(graph)),
            "stopped_and_captured": apart(run(graph, 200)),
        }
    return {"apart_from_plain": entry, "graph": graph, "warnings": [str(one.message) for one in told]}


def kernels_of(work: Callable[[], object], device: torch.device) -> int:
    """Return the number of kernels that some work launches; on the CPU, the number of operations."""
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as found:
        timed(work, device)
    events = [event for event in found.events() if (event.device_type == torch.autograd.DeviceType.CUDA) == cuda]
    return sum(not event.name.startswith(("Memcpy", "Memset")) for event in events)


def ms_of(work: Callable[[], object], device: torch.device, steps: int, rounds: int) -> float:
    """Return the median time of some work, in ms, over rounds that repeat it without waiting in between.

    A round has at most the given number of steps, and fewer if it would take longer than a tenth of a second.
    """
    steps = max(1, min(steps, int(0.1 / timed(work, device))))

    def several() -> None:
        for _ in range(steps):
            work()

    return round(float(np.median([1000 * timed(several, device) / steps for _ in range(rounds)])), 3)


def step_of(
    recipe: Recipe, level: int, alpha: float | None, device: torch.device, *, graph: bool
) -> Callable[[], object]:
    """Return one warmed-up step of a phase, captured if graph=True; draws and images are prepared in advance."""
    _, run = steps_of(recipe, device, graph=graph)
    real = images(recipe, level, 0).to(device)
    draws = Draws.at(0, BATCH, recipe.architecture.latent_shape, 0, recipe.training)
    growth = Growth(0, level, alpha, 5e-4, BATCH)
    for number in range(WARM_UP + 2):
        run(real, draws, growth, number * BATCH)
    if graph and not run.captures:
        raise RuntimeError("it could not be captured")
    return lambda: run(real, draws, growth, 0)


def loop_of(recipe: Recipe, level: int, alpha: float | None, device: torch.device) -> Callable[[], object]:
    """Return one step of the plain loop, which is the article's."""
    latent_shape = recipe.architecture.latent_shape
    widths = (latent_shape[0], *recipe.architecture.channels)
    loop = plain.Loop(plain.Generator(widths).to(device), plain.Discriminator(widths).to(device))
    real = images(recipe, level, 0).to(device)
    draws = Draws.at(0, BATCH, latent_shape, 0, recipe.training).beside(real)
    return lambda: loop.step(real, draws["z_generator"], draws["z_critic"], draws["mix"], level, alpha)


def peer_of(level: int, levels: int, device: torch.device) -> Callable[[], object]:
    """Return one step of pro-gan-pth."""
    real = (uniform((BATCH, 3, 4 << level, 4 << level), 0, "plan", 0) * 2 - 1).to(device)
    return pro_gan_pth.make_step(level, levels, normal((BATCH, 512), 0, "z_critic", 0).to(device), real)


def first_line(error: Exception) -> str:
    return (str(error) or repr(error)).splitlines()[0]


def measured(make: Callable[[], Callable[[], object]], device: torch.device, steps: int, rounds: int) -> dict[str, Any]:
    """Return the time, the kernels and the additional memory of one step."""
    before = start_of_memory(device)
    work = make()
    work()
    found = {"ms": ms_of(work, device, steps, rounds), "mb": peak_of_memory(before, device)}
    try:
        return {**found, "kernels": kernels_of(work, device)}
    except Exception as error:  # the times are useful without the count
        return {**found, "kernels": f"not counted: {first_line(error)}"}


def measured_or_why(
    make: Callable[[], Callable[[], object]], device: torch.device, steps: int, rounds: int
) -> dict[str, Any]:
    try:
        return measured(make, device, steps, rounds)
    except Exception as error:  # the other contenders are useful without this one
        return {"ms": f"not measured: {first_line(error)}"}


def measure_time(sheet: Sheet, recipe: Recipe, device: torch.device, steps: int, rounds: int) -> None:
    tf32, bf16 = (with_training(recipe, precision=precision) for precision in ("tf32", "bf16"))
    built(recipe.architecture, device)  # in advance, so that no step's memory includes it
    whole_levels_first = sorted(phases(recipe), key=lambda phase: (phase[1] is not None, phase[0]))
    for level, alpha in whole_levels_first:
        name = name_of(level, alpha)
        if not sheet.has_time(name, 10):
            continue
        contenders: dict[str, tuple[Recipe, Callable[[], Callable[[], object]]]] = {
            "loop": (recipe, partial(loop_of, recipe, level, alpha, device)),
            "plain": (recipe, partial(step_of, recipe, level, alpha, device, graph=False)),
            "graph": (recipe, partial(step_of, recipe, level, alpha, device, graph=True)),
            "graph tf32": (tf32, partial(step_of, tf32, level, alpha, device, graph=True)),
            "graph bf16": (bf16, partial(step_of, bf16, level, alpha, device, graph=True)),
        }
        entry: dict[str, dict[str, Any]] = {"ms": {}, "kernels": {}, "mb": {}}
        for contender, (its, make) in contenders.items():
            with precision_scope(device, its.training.precision):  # TF32 only where the precision says so
                found = measured_or_why(make, device, steps, rounds)
            for what, value in found.items():
                entry[what][contender] = value
        times = entry["ms"]
        entry["faster_by_graph"] = {
            other: round(times[other] / times["graph"], 2)
            for other in times
            if other != "graph" and not isinstance(times[other], str) and not isinstance(times["graph"], str)
        }
        sheet.put(name, entry)
    if not pro_gan_pth.installed():
        sheet.put("pro_gan_pth", "not measured: pip install --no-deps pro-gan-pth==3.4")
        return
    levels = recipe.architecture.top_level + 1
    for level in range(levels):  # last, since its step at 256 px takes a second
        if sheet.has_time(f"{name_of(level, None)} pro_gan_pth", 15):
            with precision_scope(device, recipe.training.precision):
                found = measured_or_why(partial(peer_of, level, levels, device), device, steps, rounds)
            sheet.put(f"{name_of(level, None)} pro_gan_pth", found)


class Pace(Callback):
    """Time the steps of each stage without waiting in between, except the first fifth, which contains the capture."""

    def __init__(self, device: torch.device, steps: int) -> None:
        self.ms: dict[str, float] = {}
        self._device, self._steps, self._begun = device, steps, 0.0

    def on_step(self, run: Any, metrics: Any) -> None:
        number = (metrics.images_seen // BATCH - 1) % self._steps
        if number in (self._steps // 5, self._steps - 1):
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            now = time.perf_counter()
            if number == self._steps - 1:
                taken = now - self._begun
                self.ms[name_of(metrics.growth.level, None)] = round(1000 * taken / (number - self._steps // 5), 3)
            self._begun = now


@contextmanager
def sampled(lines: Counter[str]) -> Iterator[None]:
    """Sample this thread's position every 2 ms: the innermost line in progan, and the current line."""
    thread, ended = threading.get_ident(), threading.Event()

    def sample() -> None:
        while not ended.wait(0.002):
            frames = [*traceback.walk_stack(sys._current_frames()[thread])]
            ours = [pair for pair in frames if "/progan/" in pair[0].f_code.co_filename]
            told = [f"{Path(frame.f_code.co_filename).name}:{line}" for frame, line in [*ours[:1], frames[0]]]
            lines[": ".join(dict.fromkeys(told))] += 1

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield
    finally:
        ended.set()
        sampler.join()


class DrawsHere(DrawsAhead):
    """Generate random numbers in the trainer's thread."""

    @contextmanager
    def running(self) -> Iterator[None]:
        yield


class DrawsOnce(DrawsHere):
    """Reuse the first step's random numbers in every step, which shows the total cost of generating them."""

    _first: Draws | None = None

    def at(self, images_seen: int, batch_size: int) -> Draws:
        if self._first is None:
            self._first = super().at(images_seen, batch_size)
        return self._first


def measure_fit(sheet: Sheet, recipe: Recipe, device: torch.device, pictures: Tensor, steps: int) -> None:
    precision = recipe.training.precision

    def fit(levels: Sequence[int], steps: int, draws: type[DrawsAhead] = DrawsAhead) -> dict[str, float]:
        stages = tuple(Stage(level, 0, BATCH * steps, BATCH) for level in levels)
        pace = Pace(device, steps)
        trainer = Trainer.from_recipe(
            dataclasses.replace(recipe, stages=stages), device=device, callbacks=[pace], progress=False
        )
        trainer._engine.draws = draws(recipe.architecture.latent_shape, trainer.seed, recipe.training)
        trainer.fit(pictures)
        return pace.ms

    sheet.put(f"ms a step, {precision}", fit(range(recipe.architecture.top_level + 1), steps))
    kinds = {"in threads": DrawsAhead, "in the trainer's thread": DrawsHere, "once": DrawsOnce}
    by_kind = {name: fit([0], steps, draws)[name_of(0, None)] for name, draws in kinds.items()}
    sheet.put(f"ms a step at {name_of(0, None)} by where random numbers are made, {precision}", by_kind)
    lines: Counter[str] = Counter()
    with sampled(lines):
        fit([0], 5 * steps)
    shares = {line: f"{100 * count / lines.total():.1f} %" for line, count in lines.most_common(20)}
    sheet.put(f"where the trainer's thread is at {name_of(0, None)}, {precision}", shares)


class Clock(Callback):
    """Record the pace of the stages, and end the training with a signal, which saves it, when the time is up."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet, self._begin, self._asked = sheet, time.monotonic(), False
        self._ends: dict[str, float] = {}
        self._paces: dict[str, dict[str, float]] = {}
        self._forget()

    def _forget(self) -> None:
        self._since, self._steps, self._ms = time.monotonic(), 0, list[float]()

    def on_step(self, run: Any, metrics: Any) -> None:
        self._steps += 1
        if self._steps % TAKEN == 0:
            now = time.monotonic()
            self._ms.append(1000 * (now - self._since) / TAKEN)
            self._since = now
        if self._sheet.seconds_left() < 15 and not self._asked:
            self._asked = True
            signal.raise_signal(signal.SIGINT)

    def on_stage_end(self, run: Any, growth: Growth) -> None:
        name = f"stage {growth.stage}, {4 << growth.level} px"
        self._ends[name] = round(time.monotonic() - self._begin, 1)
        self._sheet.put("seconds_to_the_end_of", self._ends)
        if self._ms:
            middle = float(np.median(self._ms))
            beyond = (sum(self._ms) - middle * len(self._ms)) * TAKEN / 1000
            self._paces[name] = {"median_ms_a_step": round(middle, 3), "seconds_beyond": round(beyond, 1)}
            self._sheet.put("paces", self._paces)
        self._forget()


def measure_train(sheet: Sheet, recipe: Recipe, device: torch.device, pictures: Tensor, run_dir: Path) -> None:
    before = start_of_memory(device)
    begin = time.monotonic()
    trainer = Trainer.from_recipe(
        recipe, run_dir=run_dir, device=device, callbacks=[Clock(sheet)], keep=1, overwrite=True, progress=False
    )
    sheet.put("began_with", {"images": len(pictures), "precision": recipe.training.precision})
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            trainer.fit(pictures)
        except Interrupted:
            sheet.put("out_of_time", True)
    seconds = time.monotonic() - begin
    steps = sum(stage.images // stage.batch_size for stage in recipe.stages)
    sheet.put(
        "whole",
        {
            "images_seen": trainer.images_seen,
            "of": recipe.schedule.total_images,
            "minutes": round(seconds / 60, 2),
            "ms_a_step": round(1000 * seconds * recipe.schedule.total_images / max(trainer.images_seen, 1) / steps, 3),
            "mb": peak_of_memory(before, device),
            "warnings": [str(one.message) for one in told],
            "sheet": str(run_dir / "progress.png"),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", required=True, choices=["check", "time", "fit", "train"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=7.5, help="start no measurement after this time")
    parser.add_argument(
        "--images", type=Path, help="images for fit and train: .npy, (N, 3, 256, 256), uint8 (default: drawn)"
    )
    parser.add_argument("--n-drawn", type=int, default=1024)
    parser.add_argument("--run-dir", type=Path, help="run directory of train (default: beside --out)")
    parser.add_argument(
        "--precision", default="fp32", choices=["fp32", "tf32", "bf16"], help="precision of fit and train"
    )
    parser.add_argument("--smoke", action="store_true", help="do everything with small networks of two levels")
    options = parser.parse_args()
    device = torch.device(options.device)
    recipes = {"mel_icon": presets.mel_icon(), "karras2018": presets.karras2018(256)}
    if options.smoke:
        recipes = {name: small(recipe) for name, recipe in recipes.items()}
    size = 4 << recipes["mel_icon"].architecture.top_level
    sheet = Sheet(options.out, options.part, device, options.minutes)
    if options.part == "check":
        measure_check(sheet, recipes, device, drawn(64, size))
    elif options.part == "time":
        steps, rounds = (1, 1) if options.smoke else (20, 5)
        measure_time(sheet, recipes["mel_icon"], device, steps, rounds)
    else:
        if options.images is not None:
            pictures = torch.from_numpy(np.load(options.images, allow_pickle=False))
        else:
            pictures = drawn(16 if options.smoke else options.n_drawn, size)
        recipe = with_training(recipes["mel_icon"], precision=options.precision)
        run_dir = options.run_dir or options.out.with_name(f"{options.out.stem}_run")
        if options.part == "fit":
            steps = 10 if options.smoke else 250
            measure_fit(sheet, recipe, device, pictures, steps)
        else:
            measure_train(sheet, recipe, device, pictures, run_dir)
    sheet.put("done", progan.__version__)


if __name__ == "__main__":
    main()
