"""Planning: time and memory of a run, from a few timed steps of every stage, on copies of the networks."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from typing_extensions import override

from progan.arguments import check_number
from progan.compatibility import micro_batch_sizes
from progan.errors import CheckpointError
from progan.networks.discriminator import ProgressiveDiscriminator
from progan.networks.generator import ProgressiveGenerator
from progan.networks.layers import fitting_group_size
from progan.randomness import uniform
from progan.recipe import Recipe, Training
from progan.runs.directory import CONFIG
from progan.runs.record import RunRecord
from progan.runtime.cuda_graphs import CudaGraphs
from progan.runtime.memory import begin_peak, is_out_of_memory, memory_limit, peak
from progan.runtime.progress import duration
from progan.runtime.ranks import Ranks
from progan.schedule import Growth, Schedule, Stage
from progan.training.captured_step import WARM_UP, DeviceStep
from progan.training.draws import Draws
from progan.training.ema import averages_of
from progan.training.micro_batches import memory_remedy
from progan.training.state import TrainingState
from progan.training.step import TrainingStep

Kind = tuple[int, bool, int]  # of steps that take the same time: level, fading or not, batch


@dataclass(frozen=True)
class Plan:
    """The time and memory that each stage takes.

    Attributes:
        image_s: Seconds per real image, by stage; None for a stage that is over.
        stage_s: Seconds left, by stage.
        memory: Peak of memory in bytes: on CUDA of torch's tensors, on the CPU of the whole process; None if the system
            does not report it.
        memory_limit: Bytes that the process may use; None if the system does not report it.
    """

    image_s: tuple[float | None, ...]
    stage_s: tuple[float, ...]
    memory: int | None = None
    memory_limit: int | None = None

    @property
    def total_s(self) -> float:
        """Seconds left for the run."""
        return sum(self.stage_s)

    @property
    def fits(self) -> bool | None:
        """Whether the memory suffices; None if that is not known."""
        return None if self.memory is None or self.memory_limit is None else self.memory <= self.memory_limit

    def table(self, schedule: Schedule, base_size: tuple[int, int] = (4, 4)) -> str:
        """Return the plan as a text table.

        Args:
            schedule: Schedule of the plan.
            base_size: (height, width) in pixels at level 0.

        Example:
            >>> schedule = Schedule([Stage(0, hold_images=800), Stage(1, 800)])
            >>> print(Plan((0.01, 0.02), (8.0, 16.0), 400_000_000, 8_000_000_000).table(schedule))
            stage  resolution  batch  images/s  time left
                0         4x4      8     100.0        8 s
                1         8x8      8      50.0       16 s
            in all: 24 s; memory: 0.40 GB of 8.00 GB
        """
        if len(schedule.stages) != len(self.stage_s):
            raise ValueError(
                f"this plan is of {len(self.stage_s)} stages, and the schedule has {len(schedule.stages)}; pass "
                "the schedule of the plan"
            )
        rows = [["stage", "resolution", "batch", "images/s", "time left"]]
        for index, (stage, image_s, left) in enumerate(zip(schedule.stages, self.image_s, self.stage_s, strict=True)):
            height, width = (side << stage.level for side in base_size)
            pace = "done" if image_s is None else f"{1 / image_s:.1f}"
            rows.append([f"{index}", f"{height}x{width}", f"{stage.batch_size}", pace, duration(left)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([*lines, f"in all: {self}; memory: {self.memory_text()}"])

    def memory_text(self) -> str:
        """Return the memory used, and what is available, as text."""
        if self.memory is None:
            return "not measured here"
        memory_limit = "" if self.memory_limit is None else f" of {_gigabytes(self.memory_limit)}"
        return f"{_gigabytes(self.memory)}{memory_limit}{', too much' if self.fits is False else ''}"

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
    timed_steps: int = 10,
    ranks: int = 1,
    graph: bool = False,
    micro_batch: int | None = None,
    after_step: Callable[[], None] = lambda: None,
    rough: bool = False,
) -> Plan:
    """Time a few steps of every stage that is still to come, and measure their memory.

    The steps run on copies and on noise, so that weights, averages, draws and random states of the run do not change.
    The plan does not include reading data, previews and checkpoints.

    Args:
        generator: Generator on its device.
        discriminator: Discriminator on the same device.
        schedule: Stages of the run.
        training: How a step trains.
        images_seen: Real images shown so far.
        timed_steps: Number of timed steps per stage; fewer if they take longer than two seconds in total.
        ranks: Number of processes that share each batch; the plan does not include averaging their gradients.
        graph: Whether the run's steps are captured as CUDA graphs.
        micro_batch: Number of images that a process trains on at once; None = its whole batch.
        after_step: Called after each step; its time is not counted.
        rough: Whether to time one step of each level only, fading or not, and to measure the memory at the highest
            level only: several times as fast, and off by a fifth or so.

    Raises:
        ValueError: If a batch takes more memory than there is; the message names the largest one that fits.
    """
    device = next(generator.parameters()).device
    begin_peak(device)
    base = peak(device)
    size_of_copies = sum(
        copies * parameter.numel() * parameter.element_size()
        for copies, network in ((1 + len(training.ema.averages()), generator), (1, discriminator))
        for parameter in network.parameters()
    )
    generator, discriminator = copy.deepcopy(generator), copy.deepcopy(discriminator)
    averages = averages_of(generator, training.ema)
    state = TrainingState.for_training(generator, discriminator, averages, training)
    step = TrainingStep(state, training, micro_batch=micro_batch)
    sizes = micro_batch_sizes(generator.architecture, schedule, ranks)
    captured = DeviceStep(step, CudaGraphs(next(generator.parameters()).device)) if graph else None
    stopwatch = _Stopwatch(step, captured, 1 if rough else timed_steps, after_step, rough=rough)
    kinds = _kinds(schedule, images_seen, rough=rough)
    if rough:  # first, since the blocks of the highest level are those of all levels: its trial warms them up
        top = max((growth.level for growth in kinds.values()), default=0)
        for growth in kinds.values():
            if growth.level == top:
                _check_fits(step, growth, ranks, base, sizes, micro_batch)
    image_s_of = {}
    for kind, growth in kinds.items():
        if not rough:
            _check_fits(step, growth, ranks, base, sizes, micro_batch)
        step_s = stopwatch.seconds(replace(growth, batch_size=growth.batch_size // ranks))
        image_s_of[kind] = step_s / growth.batch_size
    image_s: list[float | None] = []
    stage_s = []
    for index, stage in enumerate(schedule.stages):
        left = schedule.end(index) - max(images_seen, schedule.starts[index])
        if left <= 0:
            image_s.append(None)
            stage_s.append(0.0)
            continue
        fade_left = min(left, max(0, left - stage.hold_images))
        total = sum(
            images * image_s_of[_kind(stage, fading, rough=rough)]
            for fading, images in ((True, fade_left), (False, left - fade_left))
            if images
        )
        stage_s.append(total)
        image_s.append(total / left)
    taken = peak(device)
    return Plan(tuple(image_s), tuple(stage_s), None if taken is None else taken - size_of_copies, memory_limit(device))


def _kind(stage: Stage, fading: bool, *, rough: bool) -> Kind:
    """Return the kind of a stage's steps, in its fade or after it, which a rough plan does not distinguish."""
    return stage.level, stage.hold_images == 0 if rough else fading, stage.batch_size


def _kinds(schedule: Schedule, images_seen: int, *, rough: bool) -> dict[Kind, Growth]:
    """Return each kind of step that is still to come, with the growth of one."""
    kinds: dict[Kind, Growth] = {}
    for index, stage in enumerate(schedule.stages):
        if schedule.end(index) <= images_seen:
            continue
        for fading in {stage.fade_images > 0, stage.hold_images == 0}:
            kind = _kind(stage, fading, rough=rough)
            alpha = 0.5 if kind[1] else None
            kinds.setdefault(kind, Growth(index, stage.level, alpha, stage.learning_rate, stage.batch_size))
    return kinds


def _check_fits(
    step: TrainingStep, growth: Growth, ranks: int, base: int | None, sizes: Sequence[int], micro_batch: int | None
) -> None:
    """Raise where a batch takes more memory than there is.

    Batches of doubled size are tried, from the smallest one: each only if the earlier ones predict that it fits. Of a
    batch that is split, these are batches of up to the micro-batch; then the whole batch is tried.
    """
    device = next(step.state.generator.parameters()).device
    limit, batch = memory_limit(device), growth.batch_size
    whole = min(batch, (micro_batch or batch) * ranks)
    group = fitting_group_size(batch, step.state.generator.architecture.minibatch_std_group) * ranks
    size, tried = min(group, whole), [(0, base or 0)]  # images, bytes

    def too_large(largest: int, wanted: int | None) -> ValueError:
        parts = f"{batch}" if whole == batch else f"{batch} in parts of {micro_batch}"
        takes = "more memory than there is" if wanted is None else f"about {_gigabytes(wanted)} of memory"
        there = "" if limit is None else f", and {_gigabytes(limit)} is available"
        found = f"the largest that fits is {largest}" if largest else "not even the smallest fits"
        remedy = memory_remedy(sizes, largest // ranks, growth.stage)
        return ValueError(
            f"stage {growth.stage} does not fit: a batch of {parts} at level {growth.level} takes {takes}{there}; "
            f"{found}. {remedy[0].upper()}{remedy[1:]}"
        )

    while True:
        try:
            _step_on_noise(step, replace(growth, batch_size=size // ranks), 0)
            if size == whole < batch:
                _step_on_noise(step, replace(growth, batch_size=batch // ranks), 0)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise too_large(tried[-1][0], None) from None
        taken = peak(device)
        if size == whole or limit is None or taken is None:
            return
        slope = (taken - tried[-1][1]) / (size - tried[-1][0])
        following = whole if taken + slope * (whole - size) <= limit else min(2 * size, whole)
        if taken + slope * (following - size) > limit:
            largest = size + max(0, int((limit - taken) / slope)) // group * group
            raise too_large(largest, int(taken + slope * (whole - size)))
        tried.append((size, taken))
        size = following


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.2f} GB"


def worth_planning(schedule: Schedule, begin: int, stop: int) -> bool:
    """Return whether a run is so long that a few timed steps per stage do not matter."""
    last = schedule.at(begin).batch_size
    return (stop - begin) // last > 200 * len(schedule.stages)


class _Stopwatch:
    """The seconds of a step: the mean of a few; those before a capture are not counted.

    The first step at a level takes longer, so one of that level or of a higher one must have run, as a trial does. The
    time of a run is the sum of its steps. Their median is 3 % below the mean on a CPU that other processes use.

    Args:
        step: Step that is timed.
        captured: The same, captured; None = it is not.
        timed_steps: Number of timed steps; fewer if they take longer than two seconds in total.
        after_step: Called after each step; its time is not counted.
        rough: Whether what lazy regularisers add is measured once, as a share of the step, instead of each time.
    """

    def __init__(
        self,
        step: TrainingStep,
        captured: DeviceStep | None,
        timed_steps: int,
        after_step: Callable[[], None],
        *,
        rough: bool,
    ) -> None:
        self._step, self._captured = step, captured
        self._timed_steps, self._after_step = timed_steps, after_step
        self._rough = rough
        self._added: float | None = None  # by lazy regularisers, as a share of a step without them

    def seconds(self, growth: Growth) -> float:
        """Return the mean seconds of a stage's steps; growth is that of step 0, which applies all penalties."""
        intervals = [each.every for each in self._step.training.regularizers if each.every > 1]
        if not intervals:
            return self._time(growth)
        without = self._time(replace(growth, step=1))
        if self._added is None or not self._rough:
            share = sum(1 / every for every in intervals) / len(intervals)
            self._added = (self._time(growth) / without - 1) * share
        return without * (1 + self._added)

    def _time(self, growth: Growth) -> float:
        uncounted = 0 if self._captured is None else WARM_UP + 1
        times: list[float] = []
        while len(times) < uncounted + self._timed_steps and sum(times[uncounted:]) < 2.0:
            times.append(_step_on_noise(self._step, growth, len(times), self._captured))
            self._after_step()
        return sum(times[uncounted:]) / len(times[uncounted:])


def scale_to_hours(
    recipe: Recipe, hours: float, run_dir: Path | None, ranks: Ranks, plan: Callable[[], Plan]
) -> Recipe:
    """Return a recipe with as many images as can be trained on in a number of hours: see `Trainer.recipe_for_hours`.

    Args:
        recipe: Recipe whose stages are scaled.
        hours: Hours that the training may take, with planning, here and once more.
        run_dir: Run directory whose stages are returned where they are the recipe's at another length, if any.
        ranks: Processes that train together; rank 0 decides.
        plan: Makes the plan of the recipe.
    """
    recorded = None if run_dir is None else _recorded_stages(run_dir, recipe)
    stages = ranks.broadcast([asdict(stage) for stage in recorded] if recorded else None)
    if stages is not None:
        return replace(recipe, stages=tuple(Stage(**stage) for stage in stages))
    begin = time.perf_counter()
    planned_s = plan().total_s
    available_s = hours * 3600
    left_s = max(available_s - 2 * (time.perf_counter() - begin), available_s / 2)
    return replace(recipe, stages=recipe.schedule.scaled(ranks.broadcast(left_s / planned_s)).stages)


def check_hours(hours: float) -> None:
    """Raise where hours are not a finite number above 0."""
    check_number("hours", hours)
    if not 0 < hours < math.inf:
        raise ValueError(f"hours must be a number above 0, got {hours!r}")


def _recorded_stages(run_dir: Path, recipe: Recipe) -> tuple[Stage, ...] | None:
    """Return the stages of the run in a directory if they are the recipe's at another length."""
    if not (run_dir / CONFIG).exists():
        return None
    try:
        stages = RunRecord.from_config(run_dir).schedule.stages
    except CheckpointError:
        return None  # the trainer will say what is wrong with it
    kinds = [
        [(one.level, one.fade_images > 0, one.hold_images > 0, one.batch_size, one.learning_rate) for one in each]
        for each in (stages, recipe.stages)
    ]
    return tuple(stages) if kinds[0] == kinds[1] else None


def _step_on_noise(step: TrainingStep, growth: Growth, number: int, captured: DeviceStep | None = None) -> float:
    """Take one step on random images, and return its time in seconds."""
    architecture = step.state.generator.architecture
    parameter = next(step.state.generator.parameters())
    shape = (growth.batch_size, architecture.image_channels, *architecture.size(growth.level))
    real = uniform(shape, 0, "plan", 0).to(parameter.device, parameter.dtype)
    begin = time.perf_counter()
    draws = Draws.at(number, growth.batch_size, architecture.latent_shape, 0, step.training)
    classes = architecture.classes
    labels = torch.arange(growth.batch_size, device=parameter.device) % classes if classes else None
    (captured or step)(real, draws, growth, number, labels)
    if parameter.device.type == "cuda":
        torch.cuda.synchronize(parameter.device)
    return time.perf_counter() - begin
