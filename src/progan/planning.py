"""How long a run will take: a few timed steps of every stage, on copies."""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass

import torch
from typing_extensions import override

from progan.averaging import Average
from progan.graph import WARM_UP, CudaGraphs, DeviceStep
from progan.networks import ProgressiveDiscriminator, ProgressiveGenerator
from progan.progress import duration
from progan.randomness import uniform
from progan.recipe import Training
from progan.schedule import Growth, Schedule
from progan.step import Draws, TrainingStep


@dataclass(frozen=True)
class Plan:
    """Hold what the steps of each stage cost.

    Attributes:
        image_s: seconds per real image, by stage; None where a stage was over already.
        stage_s: seconds left, by stage.
    """

    image_s: tuple[float | None, ...]
    stage_s: tuple[float, ...]

    @property
    def total_s(self) -> float:
        """Seconds left for the run."""
        return sum(self.stage_s)

    @override
    def __str__(self) -> str:
        return duration(self.total_s)


def make_plan(
    generator: ProgressiveGenerator,
    discriminator: ProgressiveDiscriminator,
    schedule: Schedule,
    training: Training,
    images_seen: int,
    *,
    timed_steps: int = 3,
    ranks: int = 1,
    graph: bool = False,
) -> Plan:
    """Time a few steps of every stage that is still to come.

    They run on copies and on noise: weights, averages, draws and random states of the run stay as they are. Reading
    data, previews and checkpoints are not in it.

    Args:
        generator: on its device.
        discriminator: on the same.
        schedule: of the run.
        training: of the run.
        images_seen: real images shown so far.
        timed_steps: per stage; fewer where a step takes longer than two seconds.
        ranks: processes that share each batch; what they need to average the gradients is not in the plan.
        graph: whether the run's steps are captured as CUDA graphs.
    """
    generator, discriminator = copy.deepcopy(generator), copy.deepcopy(discriminator)
    step = TrainingStep(generator, discriminator, Average(generator, training.average_decay), training)
    captured = DeviceStep(step, CudaGraphs(next(generator.parameters()).device)) if graph else None
    seconds: dict[tuple[int, bool, int], float] = {}
    image_s: list[float | None] = []
    stage_s = []
    for index, stage in enumerate(schedule.stages):
        left = schedule.end(index) - max(images_seen, schedule.starts[index])
        if left <= 0:
            image_s.append(None)
            stage_s.append(0.0)
            continue
        per_image = {}
        for fading in {stage.fade_images > 0, stage.hold_images == 0}:
            kind = (stage.level, fading, stage.batch_size)
            if kind not in seconds:
                batch = stage.batch_size // ranks
                growth = Growth(index, stage.level, 0.5 if fading else None, stage.learning_rate, batch)
                seconds[kind] = _time(step, captured, growth, timed_steps)
            per_image[fading] = seconds[kind] / stage.batch_size
        fade_left = min(left, max(0, left - stage.hold_images))
        total = fade_left * per_image.get(True, 0.0) + (left - fade_left) * per_image.get(False, 0.0)
        stage_s.append(total)
        image_s.append(total / left)
    return Plan(tuple(image_s), tuple(stage_s))


def worth_planning(schedule: Schedule, begin: int, stop: int) -> bool:
    """Tell whether a run is so long that a few timed steps per stage do not matter."""
    last = schedule.at(begin).batch_size
    return (stop - begin) // last > 200 * len(schedule.stages)


def _time(step: TrainingStep, captured: DeviceStep | None, growth: Growth, timed_steps: int) -> float:
    """Return the seconds of one step: the median of a few, after one that is not counted, or those before a capture."""
    architecture = step.generator.architecture
    parameter = next(step.generator.parameters())
    low, high = architecture.image_range
    shape = (growth.batch_size, architecture.image_channels, *architecture.size(growth.level))
    real = (uniform(shape, 0, "plan", 0) * (high - low) + low).to(parameter.device, parameter.dtype)
    train, uncounted = (step, 1) if captured is None else (captured, WARM_UP + 1)
    times: list[float] = []
    while len(times) < uncounted + timed_steps and not (len(times) > uncounted and sum(times) > 4.0):
        begin = time.perf_counter()
        draws = Draws.at(len(times), growth.batch_size, architecture.latent_shape, 0, len(step.training.augment))
        train(real, draws, growth, len(times))
        if parameter.device.type == "cuda":
            torch.cuda.synchronize(parameter.device)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[uncounted:])
