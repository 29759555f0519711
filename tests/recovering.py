"""What the tests of recovery share: runs that diverge at some counts, or collapse, and a program that dies in between.

python recovering.py FOLDER FIRST STEP: train a run that goes back, in forked processes of which each dies at another
operation on the disk while it goes back; then again to the end. Prints the number of operations, and of those tried.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from conftest import contents, small_recipe
from running import make, pixels

from progan import Callback, Run, StepMetrics, Trainer
from progan.storage import files
from progan.training.recovery import Recoverer

# Steps of small_recipe end at 8, 16, ..., 96; the runs are saved at 16, 32, ..., 96, and at the beginning.
SETTINGS = {"save_every": 16, "preview_every": 16, "log_every": 8, "keep": 1, "recover": 2}


class Breaks(Callback):
    """Let the gradients be NaN in the step that begins at each of some counts, at a learning rate above a bound."""

    def __init__(self, bounds: dict[int, float]) -> None:
        self.bounds = bounds
        self.breaks, self.is_hooked = False, False

    def on_start(self, run: Run) -> None:
        self._prepare(run)

    def on_return(self, run: Run) -> None:
        self._prepare(run)

    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        self._prepare(run)

    def _prepare(self, run: Run) -> None:
        if not self.is_hooked:
            self.is_hooked = True
            for parameter in run.generator.parameters():
                parameter.register_hook(lambda gradient: gradient * math.nan if self.breaks else gradient)
        self.breaks = run.growth.learning_rate > self.bounds.get(run.images_seen, math.inf)


def brittle(run_dir: Path | None, bounds: dict[int, float], **keywords: Any) -> Trainer:
    """A trainer of a run that breaks at these counts."""
    callbacks = [Breaks(bounds), *keywords.pop("callbacks", [])]
    return make(small_recipe(), run_dir, callbacks=callbacks, **{**SETTINGS, **keywords})


TWICE = {72: 9e-4, 80: 4e-4}
"""Rates of a run that goes back twice: at 72 from the schedule's rate, and at 80 from half of it."""


def in_a_fork(work: Callable[[], None]) -> int:
    """Do work in a forked process, and return the status that it ends with."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


DEAD = 9


def die_at(operation: int) -> None:
    """Let this process end at an operation on the disk, counted while the run goes back, before it is done."""
    seen = 0
    is_going_back = False

    def count() -> None:
        nonlocal seen
        seen += is_going_back
        if is_going_back and seen > operation:
            os._exit(DEAD)

    go_back = Recoverer.go_back

    def watched(*arguments: Any) -> None:
        nonlocal is_going_back
        is_going_back = True
        try:
            go_back(*arguments)
        finally:
            is_going_back = False

    def counted(owner: Any, name: str) -> None:
        work = getattr(owner, name)
        setattr(owner, name, lambda *given, **named: (count(), work(*given, **named))[1])

    Recoverer.go_back = watched
    for name in ("replace", "unlink", "rmdir", "mkdir", "fsync"):
        counted(os, name)
    for name in ("write_file", "append_line"):
        counted(files, name)


def main(folder: Path, first: int, step: int) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")

    def train(run_dir: Path) -> None:
        brittle(run_dir, TWICE).fit(pixels())

    def train_and_die(run_dir: Path, operation: int) -> None:
        die_at(operation)
        train(run_dir)

    assert in_a_fork(lambda: train(folder / "whole")) == 0
    assert in_a_fork(lambda: brittle(folder / "begun", TWICE).fit(pixels(), until=64)) == 0
    expected = contents(folder / "whole")
    warned = (folder / "whole/warnings.jsonl").read_bytes()
    tried = 0
    for operation in range(first, 10_000, step):
        run_dir = folder / f"{operation}"
        shutil.copytree(folder / "begun", run_dir)
        status = in_a_fork(lambda: train_and_die(run_dir, operation))  # noqa: B023 (called at once)
        if status == 0:
            break
        assert status == DEAD
        tried += 1
        assert in_a_fork(lambda: train(run_dir)) == 0  # noqa: B023
        found = contents(run_dir)
        differing = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
        assert not differing, f"operation {operation}: {differing}"
        assert (run_dir / "warnings.jsonl").read_bytes() == warned, f"operation {operation}: warnings"
    print(operation, tried)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
