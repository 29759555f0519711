"""A program for `launcher.Launcher`: trains small runs in forked processes, and says what they are doing when.

Reads lines of JSON, the arguments of `train`; for each prints ``began PID``, then ``phase NAME COUNT`` as phases begin,
``signalled NAME COUNT`` when a first signal is noted, ``stopped COUNT`` when it has ended the training, and
``ended STATUS``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

import torch
from conftest import small_recipe

from progan import Interrupted, Trainer, presets
from progan.runs import checkpoint
from progan.runtime import signals
from progan.training import checkpointer
from progan.training.callbacks import Judge, JudgedImages, Previews, metrics_log
from progan.training.callbacks import judge as judge_module
from progan.training.step import TrainingStep

SAVE_EVERY, LOG_EVERY, PREVIEW_EVERY = 16, 8, 16
LEFT_AT_ONCE = 77

doing: list[str] = []
waiting_in: list[str] = []


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def announced(owner: Any, name: str, phase: str, where: Trainer) -> None:
    work = getattr(owner, name)

    def call(*arguments: Any, **keywords: Any) -> Any:
        growth = where.growth
        begun = sum(stage.images for stage in where.schedule.stages[: growth.stage])
        grown = phase == "step" and growth.level > 0 and where.images_seen - begun < growth.batch_size
        doing.append("growth" if grown else phase)
        say("phase", doing[-1], where.images_seen)
        for _ in range(100 if doing[-1] in waiting_in else 0):
            time.sleep(0.001)
        try:
            return work(*arguments, **keywords)
        finally:
            doing.pop()

    setattr(owner, name, call)


def tell_of_signals(where: Trainer) -> None:
    def note(asked: signals.SignalRecord, name: str, value: int) -> None:
        object.__setattr__(asked, name, value)
        say("signalled", doing[-1] if doing else "between", where.images_seen)

    signals.SignalRecord.__setattr__ = note
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):  # one that comes before fit or after it
        signal.signal(getattr(signal, name), lambda *_: None)


def make_steps_long(step: int) -> None:
    """Let the steps from one on last longer than a test waits; in many short operations, as steps do."""
    work, times = TrainingStep.__call__, 0

    def call(*arguments: Any) -> Any:
        nonlocal times
        times += 1
        for _ in range(20_000 if times >= step else 0):
            time.sleep(0.001)
        return work(*arguments)

    TrainingStep.__call__ = call


def mean_image(images: JudgedImages) -> float:
    """How far the mean sample is from the mean real image, in levels of grey."""
    real = images.once("mean image", lambda: images.real.double().mean(0))
    return (images.samples.double().mean(0) - real).abs().mean().item()


def train(run_dir: str, preset: str, wait_in: list[str], keep: int = 2, long_step: int | None = None) -> None:
    waiting_in.extend(wait_in)
    torch.set_num_threads(1)
    made = Trainer.from_recipe(
        small_recipe(getattr(presets, preset)),
        run_dir=run_dir,
        device="cpu",
        progress=False,
        save_every=SAVE_EVERY,
        log_every=LOG_EVERY,
        preview_every=PREVIEW_EVERY,
        keep=keep,
        callbacks=[Judge(SAVE_EVERY, measures={"mean_image": mean_image}, built_in=False, n=8)],
    )
    say("resumed", made.images_seen)
    tell_of_signals(made)
    if long_step is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        make_steps_long(long_step)
    announced(TrainingStep, "__call__", "step", made)
    announced(checkpoint, "write_checkpoint", "save", made)
    announced(checkpoint, "remove_checkpoint", "rotation", made)
    announced(Previews, "_draw", "sampling", made)
    announced(metrics_log, "append_line", "logging", made)
    announced(judge_module, "judge", "judging", made)
    try:
        made.fit(torch.randint(0, 256, (21, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))
    except Interrupted as interrupted:
        say("stopped", made.images_seen)
        os._exit(128 + interrupted.signal)
    except KeyboardInterrupt:
        os._exit(LEFT_AT_ONCE)


def main() -> None:
    assert checkpointer.checkpoint is checkpoint
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
