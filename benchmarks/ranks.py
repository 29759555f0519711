"""Measure the speedup of a second process: mel_icon at 64 px, each process with one thread, gloo. Prints JSON.

python benchmarks/ranks.py [--level 4] [--rounds 7] [--out benchmarks/results/ranks.json]

One process takes batches of 8 and of 16; two take 8 each and 16 each. Run nothing else on the machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.distributed as dist
from measuring import Contender, in_turn, report

from progan import EmaGenerator, Growth, presets
from progan.randomness import uniform
from progan.runtime.ranks import Ranks
from progan.training.draws import Draws
from progan.training.state import TrainingState
from progan.training.step import TrainingStep

CPU = torch.device("cpu")


def make_step(level: int, batch_size: int) -> Callable[[], object]:
    """Return a step on this process's part of the batch."""
    torch.set_num_threads(1)
    recipe = presets.mel_icon()
    generator, discriminator = recipe.build()
    ranks = Ranks.join(CPU)
    step = TrainingStep(
        TrainingState(generator, discriminator, EmaGenerator(generator, 0.995), recipe.training.adam),
        recipe.training,
        ranks,
    )
    real = ranks.part(uniform((batch_size, 3, 4 << level, 4 << level), 0, "plan", 0))
    draws = Draws.at(0, batch_size, recipe.architecture.latent_shape, 0, recipe.training).part(ranks.rank, ranks.size)
    return lambda: step(real, draws, Growth(0, level, 0.5, 5e-4, batch_size), 0)


def two_ranks(level: int, batch_size: int) -> Callable[[], object]:
    """Start a second process, and return a step that both share."""
    context = multiprocessing.get_context("spawn")
    folder = tempfile.mkdtemp()
    mine, theirs = context.Pipe()
    context.Process(target=_second, args=(theirs, folder, level, batch_size)).start()
    theirs.close()
    _join(folder, 0)
    step = make_step(level, batch_size)

    def work() -> None:
        mine.send(None)
        step()

    return work


def _second(line: Connection, folder: str, level: int, batch_size: int) -> None:
    _join(folder, 1)
    step = make_step(level, batch_size)
    while True:
        try:
            line.recv()
        except EOFError:
            return
        step()


def _join(folder: str, rank: int) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--level", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    contenders = {
        "one_batch_8": Contender(make_step, (options.level, 8)),
        "one_batch_16": Contender(make_step, (options.level, 16)),
        "two_batch_16": Contender(two_ranks, (options.level, 16)),
        "two_batch_32": Contender(two_ranks, (options.level, 32)),
    }
    times, _ = in_turn(contenders, options.rounds)
    rates = {name: round(1000 * int(name.rpartition("_")[2]) / ms, 2) for name, ms in times.items()}
    result = {
        "px": 4 << options.level,
        "ms": times,
        "images_per_s": rates,
        "two_of_8_faster_than_one_of_8": round(rates["two_batch_16"] / rates["one_batch_8"], 2),
        "two_of_16_faster_than_one_of_16": round(rates["two_batch_32"] / rates["one_batch_16"], 2),
        "two_of_8_faster_than_one_of_16": round(rates["two_batch_16"] / rates["one_batch_16"], 2),
        "rounds": options.rounds,
        "threads_per_process": 1,
    }
    report(result, options.out)


if __name__ == "__main__":
    main()
