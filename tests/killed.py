"""A program for test_killed: trains small runs in forked processes, and says what they are doing when.

Reads lines of JSON, {"run_dir", "preset"}; for each prints ``began PID``, then ``phase NAME COUNT`` as phases begin,
then ``ended STATUS``.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import torch
from conftest import small_recipe

from progan import Trainer, callbacks, checkpoint, presets, trainer
from progan.step import TrainingStep

SAVE_EVERY, LOG_EVERY, PREVIEW_EVERY = 16, 8, 16


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def announced(owner: Any, name: str, phase: str, where: Trainer) -> None:
    work = getattr(owner, name)

    def call(*arguments: Any, **keywords: Any) -> Any:
        growth = where.growth
        begun = sum(stage.images for stage in where.schedule.stages[: growth.stage])
        grown = phase == "step" and growth.level > 0 and where.images_seen - begun < growth.batch_size
        say("phase", "growth" if grown else phase, where.images_seen)
        return work(*arguments, **keywords)

    setattr(owner, name, call)


def train(run_dir: str, preset: str) -> None:
    torch.set_num_threads(1)
    made = Trainer.from_recipe(
        small_recipe(getattr(presets, preset)),
        run_dir=run_dir,
        device="cpu",
        progress=False,
        save_every=SAVE_EVERY,
        log_every=LOG_EVERY,
        preview_every=PREVIEW_EVERY,
        keep=2,
    )
    say("resumed", made.images_seen)
    announced(TrainingStep, "__call__", "step", made)
    announced(checkpoint, "write_checkpoint", "save", made)
    announced(checkpoint, "remove_checkpoint", "rotation", made)
    announced(callbacks.Previews, "_draw", "sampling", made)
    announced(callbacks, "append_line", "logging", made)
    made.fit(torch.randint(0, 256, (21, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))


def main() -> None:
    assert trainer.checkpoint is checkpoint
    # Once here, so that the children have all that torch loads at the first step.
    Trainer.from_recipe(small_recipe(), device="cpu", progress=False).step(torch.rand(8, 3, 4, 4))
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                train(**json.loads(line))
            except BaseException as error:
                say("failed", repr(error))
                os._exit(1)
            os._exit(0)
        say("began", child)
        say("ended", os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main()
