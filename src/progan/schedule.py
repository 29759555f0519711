"""When the networks grow: the stages of training, and the growth at each count of real images shown.

Everything that changes while training is a pure function of one counter, ``images_seen``: the real images shown to the
critic so far. A schedule is a list of stages; ``Schedule.at(images_seen)`` returns the growth of the step that begins
there.
"""

from __future__ import annotations

import math
import numbers
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from typing_extensions import override

from progan.arguments import check_flag, check_instance, check_int, check_number, check_size, tuple_of, wrong_type

_MOST_STAGES = 1000  # so that a crafted file cannot make them take long


@dataclass(frozen=True)
class Stage:
    """One entry of a schedule: first the newest level fades in, then it is held.

    Args:
        level: Index of the resolution: 0 for the base size (4x4), and twice the size for each next one.
        fade_images: Number of real images over which the newest level fades in.
        hold_images: Number of real images shown after the fade, at full weight.
        batch_size: Real images per step, over all ranks.
        learning_rate: Learning rate of Adam; the generator's is multiplied by ``Adam.generator_factor``.

    Raises:
        TypeError: If a count is not an int, or the learning rate is not a real number.
        ValueError: If a number is out of its range, or level 0 fades.
    """

    level: int
    fade_images: int = 0
    hold_images: int = 0
    batch_size: int = 8
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        """Check each number once, here."""
        for name, least in (("level", 0), ("fade_images", 0), ("hold_images", 0), ("batch_size", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"Stage.{name} must be an int, got {value!r}")
            if value < least:
                raise ValueError(f"Stage.{name} must be at least {least}, got {value}")
        if not isinstance(self.learning_rate, numbers.Real) or isinstance(self.learning_rate, bool):
            raise TypeError(f"Stage.learning_rate must be a real number, got {self.learning_rate!r}")
        object.__setattr__(self, "learning_rate", float(self.learning_rate))  # of numpy's kinds JSON knows none
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"Stage.learning_rate must be positive and finite, got {self.learning_rate!r}")
        if self.level == 0 and self.fade_images:
            raise ValueError(
                f"level 0 has no level below to fade from, got fade_images={self.fade_images}; use hold_images"
            )

    @property
    def images(self) -> int:
        """Number of real images in the whole stage."""
        return self.fade_images + self.hold_images


@dataclass(frozen=True)
class Growth:
    """The stage, level, alpha, learning rate and batch size of one step.

    Attributes:
        stage: Index of the stage in the schedule.
        level: Index of the resolution.
        alpha: Weight of the newest level, in [0, 1) while it fades in; None once it is fully grown.
        learning_rate: Learning rate of Adam; the generator's is multiplied by ``Adam.generator_factor``.
        batch_size: Real images per step, over all ranks.
        step: Number of the step within its stage, from 0.
    """

    stage: int
    level: int
    alpha: float | None
    learning_rate: float
    batch_size: int
    step: int = 0


class Schedule:
    """The stages of a run, which determine the growth at any count of real images.

    A step belongs to the stage that it begins in and may run over its end by less than a batch; the starts of the
    stages never move. In a stage that starts at s, alpha is (n - s) / fade_images while n < s + fade_images, then None.

    Args:
        stages: At least one stage; from any first level on, levels stay the same or rise by one.

    Raises:
        TypeError: If the stages are not a sequence of `Stage`.
        ValueError: If levels skip or go down, a stage fades although it repeats the level before it, or a stage is
            smaller than its own or the previous stage's batch.

    Example:
        >>> schedule = Schedule([Stage(0, hold_images=800), Stage(1, fade_images=800, hold_images=400)])
        >>> schedule.at(0)
        Growth(stage=0, level=0, alpha=None, learning_rate=0.001, batch_size=8, step=0)
        >>> schedule.at(1000).alpha
        0.25
        >>> schedule.total_images
        2000
    """

    stages: tuple[Stage, ...]
    starts: tuple[int, ...]
    total_images: int

    def __init__(self, stages: Sequence[Stage]) -> None:
        if isinstance(stages, Stage):
            raise wrong_type("stages", "a sequence of Stage", stages, "pass [it]")
        if not isinstance(stages, Iterable) and hasattr(stages, "stages"):  # a Schedule or a Recipe
            raise wrong_type("stages", "a sequence of Stage", stages, "pass its stages")
        self.stages = tuple_of("stages", stages, "Stage")
        for index, stage in enumerate(self.stages):
            check_instance(f"stages[{index}]", stage, Stage, [(Sequence, "pass Stage(...)")])
        if not self.stages:
            raise ValueError("a schedule needs at least one stage, got none")
        if len(self.stages) > _MOST_STAGES:
            raise ValueError(f"a schedule has at most {_MOST_STAGES:,} stages, got {len(self.stages):,}")
        for index, stage in enumerate(self.stages):
            _check_stage(index, stage, self.stages[index - 1] if index else None)
        self.starts = tuple(accumulate((stage.images for stage in self.stages[:-1]), initial=0))
        self.total_images = self.starts[-1] + self.stages[-1].images

    @override
    def __repr__(self) -> str:
        return f"Schedule({list(self.stages)!r})"

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and self.stages == other.stages

    @override
    def __hash__(self) -> int:
        return hash(self.stages)

    def at(self, images_seen: int) -> Growth:
        """Return the growth of the step that begins when ``images_seen`` real images have been shown.

        Args:
            images_seen: Number of real images, at least 0; from ``total_images`` on, it is the last stage, fully grown.

        Raises:
            ValueError: If the count is negative.
        """
        if not isinstance(images_seen, int):  # else it is numpy's, or none
            check_int("images_seen", images_seen)
        if images_seen < 0:
            raise ValueError(f"images_seen must be 0 or more, got {images_seen}")
        index = bisect_right(self.starts, images_seen) - 1
        stage = self.stages[index]
        shown = images_seen - self.starts[index]
        alpha = shown / stage.fade_images if shown < stage.fade_images else None
        return Growth(index, stage.level, alpha, stage.learning_rate, stage.batch_size, shown // stage.batch_size)

    def end(self, stage: int) -> int:
        """Return the count of real images at which a stage ends."""
        return self.starts[stage] + self.stages[stage].images

    def reached(self, images_seen: int) -> tuple[int, float | None]:
        """Return (level, alpha) up to which the steps so far have trained, for samples.

        They are those of `at`; but before the first step of a stage, those of the previous stage, fully grown.
        """
        growth = self.at(images_seen)
        if growth.stage and images_seen <= self._first_step(growth.stage):
            return self.stages[growth.stage - 1].level, None
        return growth.level, growth.alpha

    def step_from(self, images_seen: int) -> int:
        """Return the first count, from ``images_seen`` on, at which a step begins or the run ends.

        Example:
            >>> Schedule([Stage(0, hold_images=20), Stage(1, 80, batch_size=16)]).step_from(30)
            40
        """
        stage = self.at(images_seen).stage
        first, batch_size = self._first_step(stage), self.stages[stage].batch_size
        return first + max(0, -(-(images_seen - first) // batch_size)) * batch_size

    def _first_step(self, stage: int) -> int:
        """Return the count at which a stage's first step begins: the steps before may run over its start."""
        first = 0
        for before, end in zip(self.stages[:stage], self.starts[1:], strict=False):
            first += -(-(end - first) // before.batch_size) * before.batch_size
        return first

    def agrees(self, other: Schedule, images_seen: int) -> bool:
        """Return whether both schedules are the same for every step that began before ``images_seen``.

        Args:
            other: Schedule to compare with.
            images_seen: Number of real images at which a step of the run begins.
        """

        def begun(schedule: Schedule) -> list[tuple[int, int, int, int, float]]:
            return [
                (start, stage.level, stage.fade_images, stage.batch_size, stage.learning_rate)
                for index, (start, stage) in enumerate(zip(schedule.starts, schedule.stages, strict=True))
                if schedule._first_step(index) < images_seen
            ]

        return begun(self) == begun(other)

    def scaled(self, factor: float) -> Schedule:
        """Return a schedule of the same stages with their images multiplied by a factor, rounded, as far as is allowed.

        Args:
            factor: Factor of every fade and every hold, above 0.

        Example:
            >>> Schedule([Stage(0, hold_images=800), Stage(1, 800, 400)]).scaled(0.5).total_images
            1000
        """
        check_number("factor", factor)
        if not 0 < factor < float("inf"):
            raise ValueError(f"factor must be a number above 0, got {factor!r}")
        stages: list[Stage] = []
        for stage in self.stages:
            fade, hold = (
                max(1, round(images * factor)) if images else 0 for images in (stage.fade_images, stage.hold_images)
            )
            missing = max(each.batch_size for each in (stage, *stages[-1:])) - fade - hold
            if missing > 0:
                fade, hold = (fade, hold + missing) if hold else (fade + missing, hold)
            stages.append(replace(stage, fade_images=fade, hold_images=hold))
        return Schedule(stages)

    def starting_at(self, level: int, *, fade: bool = False) -> Schedule:
        """Return the schedule without the stages below a level, for networks that start from a trained run.

        Args:
            level: Level of the first stage.
            fade: Whether the level fades in, as for a run that has grown to the level below. Else it has been trained
                already, and the images of its fade are added to its hold.

        Raises:
            ValueError: If no stage is at the level, or it is to fade in and does not.

        Example:
            >>> schedule = Schedule([Stage(0, hold_images=800), Stage(1, 800, 400), Stage(2, 800, 400)])
            >>> print(schedule.starting_at(1).table())
            stage  resolution  fade   hold  batch  learning rate
                0         8x8     0  1,200      8          0.001
                1       16x16   800    400      8          0.001
            total: 2,400 images
        """
        check_int("level", level)
        check_flag("fade", fade)
        stages = [stage for stage in self.stages if stage.level >= level]
        if not stages or stages[0].level != level:
            raise ValueError(
                f"the stages are at levels {self.stages[0].level} to {self.stages[-1].level}, and none is at level "
                f"{level}; pass one of these"
            )
        first = stages[0]
        if fade and not first.fade_images:
            raise ValueError(f"level {level} does not fade in in this schedule; leave fade=True out")
        if not fade:
            first = replace(first, fade_images=0, hold_images=first.images)
        return Schedule([first, *stages[1:]])

    def table(self, base_size: tuple[int, int] = (4, 4), n_images: int | None = None) -> str:
        """Return the stages as a text table.

        Args:
            base_size: Size at level 0, (height, width) in pixels.
            n_images: Number of images in the data set; adds a column with the epochs of each stage.

        Example:
            >>> print(Schedule([Stage(0, hold_images=800), Stage(1, 800, 400)]).table(n_images=400))
            stage  resolution  fade  hold  batch  learning rate  epochs
                0         4x4     0   800      8          0.001     2.0
                1         8x8   800   400      8          0.001     3.0
            total: 2,000 images, 5.0 epochs over 400 images
        """
        if n_images is not None:
            check_int("n_images", n_images, 1)
        check_size("base_size", base_size)
        header = ["stage", "resolution", "fade", "hold", "batch", "learning rate"]
        rows = []
        for index, stage in enumerate(self.stages):
            height, width = (side << stage.level for side in base_size)
            row = [f"{index}", f"{height}x{width}", f"{stage.fade_images:,}", f"{stage.hold_images:,}"]
            rows.append([*row, f"{stage.batch_size}", f"{stage.learning_rate:g}"])
        if n_images is not None:
            header.append("epochs")
            for row, stage in zip(rows, self.stages, strict=True):
                row.append(f"{stage.images / n_images:.1f}")
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]
        ]
        epochs = "" if n_images is None else f", {self.total_images / n_images:,.1f} epochs over {n_images:,} images"
        return "\n".join([*lines, f"total: {self.total_images:,} images{epochs}"])


def _check_stage(index: int, stage: Stage, before: Stage | None) -> None:
    """Raise ValueError if a stage cannot follow the one before it."""
    if before is not None:
        if stage.level not in (before.level, before.level + 1):
            raise ValueError(
                f"stage {index} is at level {stage.level} after level {before.level}; "
                f"levels must stay or rise by one, so give it level {before.level} or {before.level + 1}"
            )
        if stage.level == before.level and stage.fade_images:
            raise ValueError(
                f"stage {index} repeats level {stage.level}, which is there already, but has "
                f"fade_images={stage.fade_images}; use hold_images"
            )
    batch = max(stage.batch_size, before.batch_size if before is not None else 0)
    if stage.images < batch:
        raise ValueError(
            f"stage {index} has {stage.images} images (fade + hold), less than a batch of {batch}, its own or the one "
            f"before it, so it could be stepped over; give it at least {batch}"
        )
