"""A program for test_distributed: trains a small run, alone or as one of several ranks, as its settings say.

python ranked.py '{"run_dir": ..., "preset": ..., "batch_size": ...}'

It is what a user starts with torchrun. On request something happens to it in the middle, the first time it is started.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import time
import traceback
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from conftest import small_recipe

from progan import Callback, Judge, JudgedImages, Recipe, Run, Stage, StepMetrics, Trainer, presets
from progan.runtime import connections, ranks
from progan.training.step import TrainingStep

kept: list[object] = []  # what a program has in its globals when it ends
judgement_s = 0.3  # longer than a step


def make_recipe(preset: str, batch_size: int) -> Recipe:
    """A dozen steps over three levels, at any batch size."""
    b = batch_size
    stages = (Stage(0, 0, 3 * b, b), Stage(1, 3 * b, b, b, 2e-3), Stage(2, 2 * b, 2 * b, b))
    return replace(small_recipe(getattr(presets, preset)), stages=stages)


class Slow(Callback):
    """Wait after each step, so that a signal comes in the middle."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        time.sleep(self.seconds)


class Stopping(Callback):
    """End the run at a count of images; rank 0 alone has callbacks."""

    def __init__(self, at: int | None) -> None:
        self.at = at

    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        if metrics.images_seen == self.at:
            run.stop()


def slow_measure(images: JudgedImages) -> float:
    """Take long, while the other ranks wait."""
    time.sleep(judgement_s)
    scores = images.critic_scores()
    return float(images.samples.double().mean()) + (0.0 if scores is None else float(scores.held_out.mean()))


def main(settings: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    if "patience_s" in settings:  # after which a rank gives another one up
        connections.TIMEOUT = timedelta(seconds=settings["patience_s"])
        ranks._SIGN_S, globals()["judgement_s"] = settings["sign_s"], settings["judgement_s"]
    sys.setswitchinterval(settings.get("switch_interval", sys.getswitchinterval()))
    rank = dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", "0"))
    batch_size = settings["batch_size"]
    recipe = make_recipe(settings["preset"], batch_size)
    if "classes" in settings:
        recipe = recipe.with_classes(settings["classes"], balanced=True)
    dtype = getattr(torch, settings.get("dtypes", [settings.get("dtype", "float32")] * 8)[rank])
    generator, discriminator = (network.to(dtype) for network in recipe.build(seed=rank))  # rank 0's are taken
    trainer = Trainer(
        generator,
        discriminator,
        recipe.schedule,
        replace(recipe.training, **settings.get("training", [{}] * 8)[rank]),
        seed=settings.get("seeds", [0] * 8)[rank],
        run_dir=settings["run_dir"] if rank in settings.get("with_run_dir", range(8)) else None,
        device="cpu",
        progress=False,
        log_every=batch_size,
        save_every=2 * batch_size,
        preview_every=4 * batch_size,
        workers=settings.get("workers", 0),
        callbacks=[
            *(Slow(settings.get("pause", 0)), Stopping(settings.get("stop_at"))),
            *([Judge(batch_size, measures={"worth": slow_measure}, built_in=False)] if settings.get("judged") else []),
        ],
        held_out=settings.get("held_out"),
        judge_every=0,
        start=settings.get("start") if rank == 0 else None,
        recover=settings.get("recovers", [0] * 8)[rank],
        micro_batch=settings.get("micro_batch"),
        data_may_change=settings.get("data_may_change", False),
    )
    kept.append(trainer)
    if "breaks" in settings:
        break_at(trainer, *settings["breaks"])
    if settings.get("loads") == rank:
        trainer.generator.load_state_dict(recipe.build(seed=9)[0].to(dtype).state_dict())
    print(f"rank {trainer.rank} of {trainer.ranks} begins at {trainer.images_seen}", flush=True)
    images = torch.randint(0, 256, (21, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = images[: settings.get("n_images")]
    images[0, 0, 0, 0] += settings.get("data_differs", 0) * rank
    data: Any = list(images) if "workers" in settings else images
    if "classes" in settings:
        data = [(image, index % settings["classes"]) for index, image in enumerate(images)]
    if settings.get("on_rank") == rank and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        {"step": fail_in_a_step, "save": die_in_a_save}[settings["within"]](settings)
    if settings.get("refuses") == rank:  # as a rank on another machine does, and rank 0 where the system has none
        Path.readlink = refuse  # type: ignore[method-assign]
    if "calls" in settings:  # on each rank
        call, *arguments = settings["calls"][rank]
        getattr(trainer, call)(*arguments) if call != "fit" else trainer.fit(images)
        return
    until = settings.get("untils", [settings.get("until")] * 8)[rank]
    trainer.fit(data, until=until)
    if "then" in settings:  # a second trainer beside the first one
        main({name: value for name, value in settings.items() if name != "then"} | settings["then"])
        if settings.get("destroys_between"):
            dist.destroy_process_group()
        trainer.fit(images)
    if trainer.training.ema.other_half_lives:
        print(f"chosen: {trainer._engine.state.current_choice}", flush=True)
    print("data", [(record.images_seen, record.n_images) for record in trainer.data_history], flush=True)
    print(f"ended at {trainer.images_seen}, memory shared: {trainer._engine.ranks._shared is not None}", flush=True)


def break_at(trainer: Trainer, count: int, rate: float) -> None:
    """Let the generator's gradients be NaN on every rank in the step that begins at a count, above a learning rate."""

    def broken(gradient: torch.Tensor) -> torch.Tensor:
        breaks = trainer.images_seen == count and trainer.growth.learning_rate > rate
        return gradient * float("nan") if breaks else gradient

    for parameter in trainer.generator.parameters():
        parameter.register_hook(broken)


def refuse(path: Path) -> Path:
    """Find nothing anywhere."""
    raise FileNotFoundError(path)


def as_rank(rank: int, ranks: int, store: str, log: str, settings: dict) -> None:
    """What each process does: join the others, train, and end as an interpreter ends; its output goes to a file."""
    file = os.open(log, os.O_CREAT | os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    status, own = 0, 0
    try:
        if "port" in settings:
            place = {"RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": settings["port"]}
            os.environ.update({name: str(value) for name, value in place.items()})
        elif ranks > 1:
            dist.init_process_group("gloo", store=dist.FileStore(store, ranks), rank=rank, world_size=ranks)
            own = 2  # threads of each of torch's groups
        main(settings)
        if settings.get("destroys"):
            dist.destroy_process_group()
            own = 0
    except BaseException as error:
        traceback.print_exc()
        sys.last_value = error  # as the interpreter does, before it calls the exit functions
        status = 1
    atexit._run_exitfuncs()
    print(f"threads of gloo left at the end: {max(0, gloo_threads() - own)}", flush=True)
    os._exit(status)


def gloo_threads() -> int:
    """Return how many threads of this process free gloo's tensors; 0 where the system does not show them."""
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    return sum(name.startswith("pt_gloo_runloop") for name in names)


def fail_in_a_step(settings: dict[str, Any]) -> None:
    """Let something happen in the first step from a count of images on."""
    step = TrainingStep.__call__

    def happen(self: TrainingStep) -> None:
        if settings["fault"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif settings["fault"] == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        elif settings["fault"] == "change":
            self.state.discriminator.from_rgb[0].bias.data.add_(1e-3)
        elif settings["fault"] == "freeze":
            self.state.discriminator.requires_grad_(False)
        else:
            raise RuntimeError("a fault of mine")

    def call(self: TrainingStep, real: Any, draws: Any, growth: Any, images_seen: int, *labels: Any) -> Any:
        if images_seen == settings["at"]:
            happen(self)
        return step(self, real, draws, growth, images_seen, *labels)

    TrainingStep.__call__ = call  # type: ignore[method-assign]


def die_in_a_save(settings: dict[str, Any]) -> None:
    """Die at a rename, counted from the first one on."""
    rename, left = os.replace, [settings["at"]]

    def dies(path: Any, target: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(path, target)

    os.replace = dies  # type: ignore[assignment]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
