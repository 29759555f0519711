"""The progress display."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from progan.arguments import check_number
from progan.runtime.progress import duration, open_bar
from progan.schedule import Growth, Schedule
from progan.training.callbacks.base import Callback, Run
from progan.training.planning import Plan
from progan.training.step import StepMetrics


class Progress(Callback):
    """The progress display: stage, resolution, alpha, images per second, time left for the stage and for the run.

    It is a tqdm bar on a terminal, and plain lines elsewhere or without tqdm. A choice among averages is a line too.

    Args:
        line_every_s: Seconds between two plain lines.
    """

    def __init__(self, line_every_s: float = 30.0) -> None:
        check_number("line_every_s", line_every_s)
        self.line_every_s = line_every_s
        self._bar: Any = None

    @override
    def on_start(self, run: Run) -> None:
        self._rate = Rate(run.schedule, run.plan_made)
        self._next_line = time.perf_counter() + self.line_every_s
        self._bar = open_bar(
            run.schedule.total_images,
            run.images_seen,
            "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} images{postfix}",
        )

    @override
    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        self._rate.update(metrics, time.perf_counter())
        if self._bar is not None:
            self._bar.set_description_str(self._position(run, metrics), refresh=False)
            self._bar.set_postfix_str(self._left(metrics), refresh=False)
            self._bar.update(min(metrics.images_seen, self._bar.total) - self._bar.n)
        elif time.perf_counter() >= self._next_line:
            self._next_line = time.perf_counter() + self.line_every_s
            self._print(run, metrics)

    @override
    def on_log(self, run: Run, row: Mapping[str, Any]) -> None:
        if "average_choice" in row:
            if self._bar is not None:
                self._bar.write(row["text"], file=sys.stderr)
            else:
                print(row["text"], file=sys.stderr, flush=True)

    @override
    def on_stage_end(self, run: Run, growth: Growth) -> None:
        if self._bar is None:
            self._print(run, StepMetrics(run.images_seen, growth, {}))

    @override
    def on_return(self, run: Run) -> None:
        self._rate = Rate(run.schedule, run.plan_made)
        if self._bar is not None:
            self._bar.update(run.images_seen - self._bar.n)

    @override
    def on_end(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _print(self, run: Run, metrics: StepMetrics) -> None:
        share = f"{metrics.images_seen:,}/{run.schedule.total_images:,} images"
        print(f"{self._position(run, metrics)}  {share}  {self._left(metrics)}", file=sys.stderr, flush=True)

    @staticmethod
    def _position(run: Run, metrics: StepMetrics) -> str:
        growth = metrics.growth
        height, width = run.generator.architecture.size(growth.level)
        alpha = "grown" if growth.alpha is None else f"alpha {growth.alpha:.2f}"
        return f"stage {growth.stage + 1}/{len(run.schedule.stages)}  {height}x{width}  {alpha}"

    def _left(self, metrics: StepMetrics) -> str:
        stage, whole = self._rate.left(metrics)
        rate = f"{1 / self._rate.image_s:.1f} images/s" if self._rate.image_s else "? images/s"
        return f"{rate}  left: stage {duration(stage)}, run {duration(whole)}"


class Rate:
    """An estimate of the time left, from the pace of the current stage and, for later stages, from the plan.

    The plan's times are scaled by the measured pace of the current stage. Without a plan, the time of the whole run is
    known in its last stage only.

    Args:
        schedule: Schedule of the run.
        plan: Plan of the run, if there is one.
    """

    def __init__(self, schedule: Schedule, plan: Plan | None) -> None:
        self.schedule = schedule
        self.plan = plan
        self.image_s: float = 0.0
        self._stage = -1
        self._began = (0.0, 0)

    def update(self, metrics: StepMetrics, now: float) -> None:
        """Record a step that ended at a time, in seconds."""
        if metrics.growth.stage != self._stage:
            self._stage, self._began, self.image_s = metrics.growth.stage, (now, metrics.images_seen), 0.0
        elif metrics.images_seen > self._began[1]:
            self.image_s = (now - self._began[0]) / (metrics.images_seen - self._began[1])

    def left(self, metrics: StepMetrics) -> tuple[float | None, float | None]:
        """Return the seconds left for the stage and for the run; None if they are not known."""
        stage = metrics.growth.stage
        planned = self.plan.image_s[stage] if self.plan is not None else None
        image_s = self.image_s or planned
        if image_s is None:
            return None, None
        in_stage = max(0, self.schedule.end(stage) - metrics.images_seen) * image_s
        to_come = range(stage + 1, len(self.schedule.stages))
        if not to_come:
            return in_stage, in_stage
        if self.plan is None or planned is None:
            return in_stage, None
        pace = image_s / planned
        return in_stage, in_stage + pace * sum(
            self.schedule.stages[index].images * (self.plan.image_s[index] or 0.0) for index in to_come
        )
