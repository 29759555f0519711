"""All that watches a run: the metrics file, the previews, the progress. Watching changes no bit of the training."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from typing_extensions import override

from progan.arguments import check_flag, check_int, check_number
from progan.networks.progressive import ProgressiveDiscriminator, ProgressiveGenerator
from progan.randomness import latents
from progan.render import enlarge, image_grid, read_png, to_uint8, write_png
from progan.runtime.progress import duration, open_bar
from progan.sampling import GrownGenerator
from progan.schedule import Growth, Schedule
from progan.storage.files import append_line, make_folder, write_file
from progan.training.ema import EmaGenerator
from progan.training.planning import Plan
from progan.training.step import StepMetrics


class Run(Protocol):
    """What a callback sees of a trainer: to be looked at, not changed; `stop` ends it."""

    generator: ProgressiveGenerator
    discriminator: ProgressiveDiscriminator
    ema: EmaGenerator
    schedule: Schedule
    seed: int
    run_dir: Path | None
    plan_made: Plan | None

    @property
    def images_seen(self) -> int:
        """Real images shown to the critic so far."""
        ...

    @property
    def growth(self) -> Growth:
        """The growth of the next step."""
        ...

    def grown(self) -> GrownGenerator:
        """The averaged generator as far as it has grown, a copy."""
        ...

    def stop(self) -> None:
        """Ask `Trainer.fit` to finish the step that it is at, save, and return."""
        ...


class Callback:
    """Listen to a run; every method may be left out.

    A callback that calls ``run.stop()`` ends the run in good order: all callbacks see the step, fit saves, and returns.
    An error that a callback raises ends it too, after a save.
    """

    def on_start(self, run: Run) -> None:
        """Begin: fit has checked everything, the first step comes next."""

    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        """Look at a step; ``run.images_seen`` is past it, ``metrics.growth`` is its own."""

    def on_stage_end(self, run: Run, growth: Growth) -> None:
        """Look at the end of a stage, after its last step; growth is that step's."""

    def on_save(self, run: Run, path: Path) -> None:
        """Look at a checkpoint, complete at this path."""

    def on_end(self, run: Run) -> None:
        """End, however fit ends: done, interrupted, or with an error."""


def crosses(every: int, before: int, after: int) -> bool:
    """Tell whether a step from one count to another reaches a multiple of ``every``.

    Example:
        >>> crosses(1000, 992, 1000), crosses(1000, 1000, 1008)
        (True, False)
    """
    return before // every != after // every


def _check_every(every: int, callback: Callback) -> None:
    if not isinstance(every, int) or every < 1:
        raise ValueError(f"{type(callback).__name__} takes an int of at least 1, real images, got {every!r}")


def _run_dir(run: Run, callback: Callback) -> Path:
    """Return where a callback writes."""
    if run.run_dir is None:
        raise ValueError(f"{type(callback).__name__} writes into a run directory; give the trainer a run_dir")
    return run.run_dir


@contextmanager
def all_told(callbacks: Sequence[Callback], run: Run) -> Iterator[None]:
    """Tell every callback that fit ends, however it ends and whatever the others raise."""
    with ExitStack() as stack:
        for callback in reversed(callbacks):
            stack.callback(callback.on_end, run)
        yield


class MetricsLog(Callback):
    """Write ``metrics.jsonl``: one JSON object per interval, that of the step which reaches it.

    Seconds stand in keys ending in ``_s``; all other values are the same in two equal runs.

    Args:
        every: real images between two lines.
        go_on: where a line cannot be written, warn, and write it with the next one.
    """

    def __init__(self, every: int, *, go_on: bool = False) -> None:
        _check_every(every, self)
        check_flag("go_on", go_on)
        self.every = every
        self.go_on = go_on
        self._waiting: dict[int, str] = {}  # lines, by images_seen
        self._failed = False

    @override
    def on_start(self, run: Run) -> None:
        self._begun = self._last = time.perf_counter()
        self._last_seen = run.images_seen
        self._waiting = {count: line for count, line in self._waiting.items() if count <= run.images_seen}
        self._mend(run)

    @override
    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        growth = metrics.growth
        if not crosses(self.every, metrics.images_seen - growth.batch_size, metrics.images_seen):
            return
        now = time.perf_counter()
        steps = max(1, (metrics.images_seen - self._last_seen) // growth.batch_size)
        line = {
            "images_seen": metrics.images_seen,
            "stage": growth.stage,
            "level": growth.level,
            "alpha": growth.alpha,
            "learning_rate": growth.learning_rate,
            **{name: loss.item() for name, loss in metrics.losses.items()},
            "step_s": round((now - self._last) / steps, 6),
            "elapsed_s": round(now - self._begun, 3),
        }
        self._last, self._last_seen = now, metrics.images_seen
        self._waiting[metrics.images_seen] = json.dumps(line)
        try:
            self.write(run)
        except OSError as error:
            if not self.go_on:
                raise
            warnings.warn(
                f"no line of metrics at {metrics.images_seen:,} images yet, the training goes on: {error}", stacklevel=2
            )

    def write(self, run: Run) -> None:
        """Write the lines that wait, if any.

        Raises:
            OSError: if they cannot be written; they go on waiting.
        """
        if not self._waiting:
            return
        if self._failed:
            self._mend(run)
        self._failed = True
        append_line(self._path(run), "\n".join(self._waiting.values()))
        self._failed = False
        self._waiting.clear()

    def _mend(self, run: Run) -> None:
        """Drop the lines past the run's count, those cut off, and those that wait."""
        path = self._path(run)
        if path.exists():
            lines = path.read_bytes().splitlines(keepends=True)
            counts = map(_images_seen, lines)
            kept = [
                line
                for line, count in zip(lines, counts, strict=True)
                if count <= run.images_seen and count not in self._waiting
            ]
            if kept != lines:  # a run went on past its last checkpoint, or died in the middle of a line
                write_file(path, b"".join(kept))

    def _path(self, run: Run) -> Path:
        return _run_dir(run, self) / "metrics.jsonl"


def _images_seen(line: bytes) -> float:
    """Return a metrics line's count; infinity where it was cut off."""
    try:
        return int(json.loads(line)["images_seen"]) if line.endswith(b"\n") else float("inf")
    except (ValueError, TypeError, KeyError):
        return float("inf")


class Previews(Callback):
    """Draw the same latents through the whole run.

    ``samples/000060000.png`` is a grid as of that count; ``samples/level_3.png`` the newest row of a level; and
    ``progress.png`` the progress strip, one row per resolution.

    Args:
        every: real images between two grids; the end of a stage is drawn too.
        n: latents in a grid, a square number looks best.
        row: latents in a row of the strip.
        least_height: pixels to which small pictures are enlarged.
    """

    def __init__(self, every: int, n: int = 16, row: int = 8, least_height: int = 128) -> None:
        _check_every(every, self)
        for name, value in (("n", n), ("row", row), ("least_height", least_height)):
            check_int(name, value, 1)
        self.every = every
        self.least_height = least_height
        self.n = n
        self.row: int = min(row, n)

    @override
    def on_start(self, run: Run) -> None:
        _run_dir(run, self)

    @override
    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        before = metrics.images_seen - metrics.growth.batch_size
        stage_ends = run.growth.stage != metrics.growth.stage or metrics.images_seen >= run.schedule.total_images
        if stage_ends or crosses(self.every, before, metrics.images_seen):
            try:
                self._draw(run)
            except OSError as error:  # a full disk, or a viewer that holds the file on Windows
                warnings.warn(
                    f"no preview at {metrics.images_seen:,} images, the training goes on: {error}", stacklevel=2
                )

    def _draw(self, run: Run) -> None:
        run_dir = _run_dir(run, self)
        folder = run_dir / "samples"
        make_folder(folder)
        grown = run.grown()
        architecture = grown.generator.architecture
        z = latents(range(self.n), architecture.latent_shape, run.seed, "preview")
        height = architecture.size(max(stage.level for stage in run.schedule.stages))[0]
        while height < self.least_height:  # by doublings, so that the rows of all levels are of one size
            height *= 2
        pictures = enlarge(to_uint8(torch.cat([grown.images(part) for part in torch.split(z, 8)])), height)
        write_png(folder / f"{run.images_seen:09d}.png", image_grid(pictures, round(self.n**0.5)))
        write_png(folder / f"level_{grown.level}.png", image_grid(pictures[: self.row], self.row))
        _, channels, height, width = pictures.shape
        shape = channels, height, self.row * width
        rows = [_row(folder / f"level_{level}.png", shape) for level in range(grown.level + 1)]
        write_png(run_dir / "progress.png", torch.cat([row for row in rows if row is not None], dim=1))


def _row(path: Path, shape: tuple[int, int, int]) -> Tensor | None:
    """Return a row drawn earlier, enlarged where the run has grown since; None where a person has changed it."""
    try:
        row = enlarge(read_png(path)[None], shape[1])[0]
    except (OSError, ValueError):
        return None
    return row if row.shape == shape else None


class Progress(Callback):
    """Show stage, resolution, alpha, images per second, and the time left for the stage and for the run.

    A tqdm bar on a terminal, plain lines elsewhere or where tqdm is missing.

    Args:
        line_every_s: seconds between two plain lines.
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
            self._bar.set_description_str(self._where(run, metrics), refresh=False)
            self._bar.set_postfix_str(self._left(metrics), refresh=False)
            self._bar.update(min(metrics.images_seen, self._bar.total) - self._bar.n)
        elif time.perf_counter() >= self._next_line:
            self._next_line = time.perf_counter() + self.line_every_s
            self._print(run, metrics)

    @override
    def on_stage_end(self, run: Run, growth: Growth) -> None:
        if self._bar is None:
            self._print(run, StepMetrics(run.images_seen, growth, {}))

    @override
    def on_end(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _print(self, run: Run, metrics: StepMetrics) -> None:
        share = f"{metrics.images_seen:,}/{run.schedule.total_images:,} images"
        print(f"{self._where(run, metrics)}  {share}  {self._left(metrics)}", file=sys.stderr, flush=True)

    @staticmethod
    def _where(run: Run, metrics: StepMetrics) -> str:
        growth = metrics.growth
        height, width = run.generator.architecture.size(growth.level)
        alpha = "grown" if growth.alpha is None else f"alpha {growth.alpha:.2f}"
        return f"stage {growth.stage + 1}/{len(run.schedule.stages)}  {height}x{width}  {alpha}"

    def _left(self, metrics: StepMetrics) -> str:
        stage, whole = self._rate.left(metrics)
        rate = f"{1 / self._rate.image_s:.1f} images/s" if self._rate.image_s else "? images/s"
        return f"{rate}  left: stage {duration(stage)}, run {duration(whole)}"


class Rate:
    """Tell the time left, from the pace of the present stage and, for the stages to come, from the plan.

    The plan's times are scaled by how the present stage really goes against it; without a plan the time of the whole
    run is known in its last stage only.

    Args:
        schedule: of the run.
        plan: seconds per stage, or None.
    """

    def __init__(self, schedule: Schedule, plan: Plan | None) -> None:
        self.schedule = schedule
        self.plan = plan
        self.image_s: float = 0.0
        self._stage = -1
        self._began = (0.0, 0)

    def update(self, metrics: StepMetrics, now: float) -> None:
        """Take in a step that ended at a time, in seconds."""
        if metrics.growth.stage != self._stage:
            self._stage, self._began, self.image_s = metrics.growth.stage, (now, metrics.images_seen), 0.0
        elif metrics.images_seen > self._began[1]:
            self.image_s = (now - self._began[0]) / (metrics.images_seen - self._began[1])

    def left(self, metrics: StepMetrics) -> tuple[float | None, float | None]:
        """Return the seconds left for the stage and for the run; None where they cannot be told."""
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
