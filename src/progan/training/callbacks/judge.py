"""The judge: measures samples against real images while a run trains, and finds its best checkpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from progan.arguments import check_flag, check_int
from progan.data import Feed
from progan.errors import warn
from progan.randomness import keyed_state
from progan.render import write_png
from progan.runs.average_choice import AverageChoice
from progan.runs.judging import Judged, JudgingRecord
from progan.runtime.autocast import without_autocast
from progan.sampling import GrownGenerator
from progan.schedule import Growth
from progan.storage.files import make_folder
from progan.training.callbacks.base import Callback, Run, ends_stage
from progan.training.callbacks.choice_record import choice_row
from progan.training.callbacks.judged_images import JudgedImages, RealImages, sample_images
from progan.training.callbacks.judging_intervals import JudgingIntervals
from progan.training.callbacks.measures import Measure, Measured, check_measures, judge, leading_value
from progan.training.step import StepMetrics

LEAST_SIZE = 16  # pixels; below, the measures have nothing to see

_LEADING = "feature_distance"


def built_in_measures() -> dict[str, Measure]:
    """Return the measures of every judgement; `progan.metrics` is imported here, when a run is made."""
    from progan.training.callbacks.built_in_measures import built_in_measures as found

    return found()


class Judge(Callback):
    """The judgements of a run: measures of samples against real images, logged as rows of their own.

    A run is judged at the end of each stage, and between at counts at which a checkpoint is written, from 16x16 pixels
    on. The checkpoint that is best by the leading measure is kept: see `load_generator`. The training's bits are the
    same with and without. A measure that fails has the value null, with a warning. Where the run keeps several averages
    of the generator, the judgement at the end of the schedule chooses the best of them: see `Trainer.choose_average`.

    Args:
        every: Number of real images between two judgements, rounded up to a multiple of the trainer's save_every. None
            = as often as 3 % of the training's time allow, the report included, but 10 s in a run in which that is
            less; the end of the last stage is judged in any case.
        measures: Your own measures in addition to the built-in ones, by name: functions of `JudgedImages` that return a
            number or a `Measured`. One with the name of a built-in measure replaces it.
        built_in: Whether to use the built-in measures.
        leading: Name of the measure by which checkpoints are compared, the lower the better. None =
            ``"feature_distance"``, or without the built-in measures your first one.
        n: Number of samples, and of real images at most.

    Raises:
        TypeError: If every or n is not an int, or measures are not functions by name.
        ValueError: If every is below 1 or n below 2.
    """

    def __init__(
        self,
        every: int | None = None,
        *,
        measures: Mapping[str, Measure] | None = None,
        built_in: bool = True,
        leading: str | None = None,
        n: int = 640,
    ) -> None:
        if every is not None:
            check_int("every", every, 1)
        check_int("n", n, 2)
        check_flag("built_in", built_in)
        self.every = every
        used = built_in_measures() if built_in else {}
        self.measures: dict[str, Measure] = used | check_measures(measures or {})
        self.leading: str | None = _LEADING if leading is None and used else leading
        self.n = n
        self._feed: Feed | None = None
        self._reals: RealImages | None = None
        self._record = JudgingRecord()
        self._failed: set[str] = set()
        self._warned = False

    @override
    def on_data(self, run: Run, feed: Feed) -> None:
        self._feed, self._reals = feed, None

    @override
    def on_start(self, run: Run) -> None:
        self._record = JudgingRecord() if run.run_dir is None else JudgingRecord.read(run.run_dir)
        if self._record.forget_after(run.images_seen):  # the run was killed after a judgement and before its checkpoint
            self._write_record(run)
        options = run.options
        self._intervals = JudgingIntervals(self.every, options.save_every, run.schedule, self._record.intervals)
        self._left = time.perf_counter()

    @override
    def on_return(self, run: Run) -> None:
        if self._record.forget_after(run.images_seen) and run.run_dir is not None:
            self._write_record(run)
        self._left = time.perf_counter()

    @override
    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        growth, after = metrics.growth, metrics.images_seen
        height, width = run.generator.architecture.size(growth.level)
        self._intervals.add_training(growth.stage, growth.batch_size, time.perf_counter() - self._left)
        try:
            if self.measures and min(height, width) >= LEAST_SIZE:
                before, ends = after - growth.batch_size, ends_stage(run, metrics)
                if self._intervals.is_due(before, after, growth.stage, height * width, ends=ends):
                    self._judge(run, growth, ends=ends)
        finally:
            self._left = time.perf_counter()

    @override
    def on_end(self, run: Run) -> None:
        self._feed = self._reals = None  # which hold the data

    def choose(self, run: Run) -> AverageChoice | None:
        """Judge each average of the generator by the leading measure, from the same latents; nothing is logged.

        Returns:
            The choice; None where no average has a value.
        """
        parameter = next(run.generator.parameters())
        device = _device_to_judge_on(parameter)
        values: dict[str, float | None] = {}
        leading = self.leading
        for name in run.training.ema.averages():
            grown, values[name] = run.grown(name), None
            with keyed_state(run.seed, "metrics", run.images_seen), without_autocast(parameter):
                sampled = sample_images(grown, self.n, run.seed, device)
                if sampled is not None:  # else its values are not finite
                    reals = self._reals_at(run, grown.level, device)
                    images = JudgedImages(run, reals, *sampled, grown=grown, thorough=True)
                    leading, values[name] = leading_value(images, self.measures, leading, self._failed)
        if leading is None or all(value is None for value in values.values()):
            return None
        return AverageChoice(run.images_seen, leading, values)

    def _judge(self, run: Run, growth: Growth, *, ends: bool) -> None:
        height, width = run.generator.architecture.size(growth.level)
        thorough = self._intervals.is_thorough(growth.stage, height * width, ends=ends)
        parameter = next(run.generator.parameters())
        device = _device_to_judge_on(parameter)
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # what the steps before take is not the judgement's time
        begun, n, result, before = time.perf_counter(), run.images_seen, None, (0.0, 0.0)
        if self._reals is not None and self._reals.level == growth.level:
            before = self._reals.prepared_s, self._reals.costly_s
        try:
            with keyed_state(run.seed, "metrics", n), without_autocast(parameter):
                result = self._measure(run, growth.level, device, thorough=thorough)
        except Exception as error:  # such as too little memory
            warn(f"no judgement at {n:,} images; training continues: {type(error).__name__}: {error}")
        seconds = time.perf_counter() - begun
        after = before if self._reals is None else (self._reals.prepared_s, self._reals.costly_s)
        prepared_s, costly_s = after[0] - before[0], after[1] - before[1]
        self._intervals.add_judgement(
            n, growth.stage, height * width, seconds, prepared_s=prepared_s, costly_s=costly_s if thorough else None
        )
        if result is None:
            return
        grown, found = result
        leading = next(iter(found.values), None) if self.leading is None else self.leading
        self._check_leading(leading, found)
        row = {
            "images_seen": n,
            "stage": growth.stage,
            "level": grown.level,
            "alpha": grown.alpha,
            "measures": dict(found.values),
            "floors": dict(found.floors),
            "leading": leading,
            "remarks": list(found.remarks),
            "judge_s": round(seconds, 3),
        }
        choice = self._choose_at_end(run)
        self._keep(run, row, found, choice)
        run.log(row)
        if choice is not None:
            run.log(choice_row(run, choice))
        when = f"at {n:,} images"
        if growth.alpha is not None:
            when += ", while a level fades in, which may pass"
        for alarm in found.alarms:
            warn(f"{when}: {alarm}")

    def _choose_at_end(self, run: Run) -> AverageChoice | None:
        """Choose among the averages at the end of the schedule, if there are several."""
        if run.images_seen < run.schedule.total_images or not run.training.ema.other_half_lives:
            return None
        try:
            choice = self.choose(run)
        except Exception as error:
            warn(f"no choice among the averages; the first one is used: {type(error).__name__}: {error}")
            return None
        if choice is None:
            warn("no choice among the averages, since none could be judged; the first one is used")
        return choice

    def _measure(
        self, run: Run, level: int, device: torch.device, *, thorough: bool
    ) -> tuple[GrownGenerator, Measured] | None:
        """Return the averaged generator and what the measures have found; None where it is not finite."""
        reals = self._reals_at(run, level, device)
        grown = run.grown()
        sampled = sample_images(grown, self.n, run.seed, device)
        if sampled is None:  # the training has diverged, which the next check reports
            return None
        images = JudgedImages(run, reals, *sampled, grown=grown, thorough=thorough)
        return grown, judge(images, self.measures, self._failed)

    def _reals_at(self, run: Run, level: int, device: torch.device) -> RealImages:
        """Return the real images of a level."""
        if self._reals is None or self._reals.level != level:
            assert self._feed is not None
            self._reals = None  # first, so that two levels are never held at once
            base_size = run.generator.architecture.base_size
            self._reals = RealImages.read(self._feed, level, base_size, self.n, run.seed, device)
        return self._reals

    def _keep(self, run: Run, row: Mapping[str, Any], found: Measured, choice: AverageChoice | None) -> None:
        """Record a judgement in judging.json, before the checkpoint is written, and draw the closest pairs."""
        if run.run_dir is None:
            return
        value = found.values.get(row["leading"]) if choice is None else choice.values[choice.chosen]
        if value is not None:
            self._record.judged[row["images_seen"]] = Judged(
                row["images_seen"], row["level"], row["alpha"], row["leading"], value
            )
        self._write_record(run)
        if found.sheet is not None:
            try:
                make_folder(run.run_dir / "samples")
                write_png(run.run_dir / "samples/closest.png", found.sheet)
            except OSError as error:
                warn(f"no sheet of the closest pairs at {row['images_seen']:,} images; training continues: {error}")

    def _check_leading(self, leading: str | None, found: Measured) -> None:
        """Warn once where no measure has the name of the leading one."""
        if leading is None or leading in found.values or self._failed or self._warned:
            return
        self._warned = True
        warn(
            f"no checkpoint can be the best: none of the measures is the leading one, {leading!r}; they are "
            f"{', '.join(found.values)}"
        )

    def _write_record(self, run: Run) -> None:
        assert run.run_dir is not None
        self._record.best = JudgingRecord.read(run.run_dir).best  # which a save has found
        try:
            self._record.write(run.run_dir)
        except OSError as error:
            warn(f"the judgement at {run.images_seen:,} images is not recorded yet; training continues: {error}")


def _device_to_judge_on(parameter: Tensor) -> torch.device:
    return parameter.device if parameter.device.type == "cuda" else torch.device("cpu")
