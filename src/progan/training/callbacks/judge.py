"""The judge: measures samples against real images while a run trains, and finds its best checkpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from typing_extensions import override

from progan.arguments import check_flag, check_int
from progan.data import Feed
from progan.errors import warn
from progan.optimization import FIRST_AVERAGE
from progan.randomness import keyed_state
from progan.render import write_png
from progan.runs.average_choice import AverageChoice
from progan.runs.judging import Judged, JudgingRecord
from progan.runtime.autocast import without_autocast
from progan.schedule import Growth
from progan.storage.files import make_folder
from progan.training.callbacks.base import Callback, Run, ends_stage
from progan.training.callbacks.choice_record import choice_row
from progan.training.callbacks.judged_average import Comparison, JudgedAverage, compare_averages
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
    of the generator, the best of them by the leading measure is chosen at the end of the schedule, and the judgement
    there is of that one: see `Trainer.choose_average`.

    Args:
        every: Number of real images between two judgements, rounded up to a multiple of the trainer's save_every. None
            = as often as 2 % of the training's time allow, the end of the run included; the end of the last stage and
            that of the first one of 16x16 pixels or more are judged in any case.
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
        others = len(run.training.ema.other_half_lives)
        self._intervals = JudgingIntervals(self.every, options.save_every, run.schedule, self._record.intervals, others)
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
        return self._compare(run).choice

    def _judge(self, run: Run, growth: Growth, *, ends: bool) -> None:
        height, width = run.generator.architecture.size(growth.level)
        thorough = self._intervals.is_thorough(growth.stage, height * width, ends=ends)
        device = _device_to_judge_on(run)
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # what the steps before take is not the judgement's time
        begun, n, result = self._clock(growth.level), run.images_seen, None
        try:
            result = self._measure(run, thorough=thorough)
        except Exception as error:  # such as too little memory
            warn(f"no judgement at {n:,} images; training continues: {type(error).__name__}: {error}")
        seconds, prepared_s, costly_s = self._since(begun, growth.level)
        averages = Comparison(None, None) if result is None else result[0]
        judged = averages.judged
        self._intervals.add_judgement(
            n,
            growth.stage,
            height * width,
            seconds,
            prepared_s=prepared_s,
            costly_s=costly_s if thorough else None,
            average_s=judged.seconds if judged is not None and judged.is_cheap else None,
            choice_s=averages.others_s,
        )
        if result is not None and judged is not None:
            self._log(run, growth, averages.choice, judged, result[1], seconds)

    def _log(
        self,
        run: Run,
        growth: Growth,
        choice: AverageChoice | None,
        judged: JudgedAverage,
        found: Measured,
        seconds: float,
    ) -> None:
        """Record a judgement, log it, and warn of what it has found."""
        grown = judged.images.grown
        leading = next(iter(found.values), None) if self.leading is None else self.leading
        self._check_leading(leading, found)
        row = {
            "images_seen": run.images_seen,
            "stage": growth.stage,
            "level": grown.level,
            "alpha": grown.alpha,
            "average": judged.name,
            "measures": dict(found.values),
            "floors": dict(found.floors),
            "leading": leading,
            "remarks": list(found.remarks),
            "judge_s": round(seconds, 3),
        }
        self._keep(run, row, found)
        if choice is not None:
            run.log(choice_row(run, choice))  # first, so that `Run.grown` returns what the judgement is of
        run.log(row)
        when = f"at {run.images_seen:,} images"
        if growth.alpha is not None:
            when += ", while a level fades in, which may pass"
        for alarm in found.alarms:
            warn(f"{when}: {alarm}")

    def _measure(self, run: Run, *, thorough: bool) -> tuple[Comparison, Measured] | None:
        """Choose among the averages at the end of the schedule, and apply all measures to the chosen or first one.

        Returns:
            What the leading measure has found, of all averages or of the first one, and what all measures have found of
            the one that is judged; None where its samples are not finite.
        """
        averages = Comparison(None, None)
        if run.images_seen >= run.schedule.total_images and run.training.ema.other_half_lives:
            averages = self._choose_at_end(run)
        if averages.judged is None:
            averages = Comparison(None, self._judge_average(run, FIRST_AVERAGE, self.leading, thorough=thorough))
        judged = averages.judged
        if judged is None:  # the training has diverged, which the next check reports
            return None
        with keyed_state(run.seed, "metrics", run.images_seen), without_autocast(next(run.generator.parameters())):
            return averages, judge(judged.images, self.measures, self._failed, judged.found)

    def _choose_at_end(self, run: Run) -> Comparison:
        """Choose among the averages at the end of the schedule; a failure is a warning."""
        try:
            found = self._compare(run)
        except Exception as error:
            warn(f"no choice among the averages; the first one is used: {type(error).__name__}: {error}")
            return Comparison(None, None)
        if found.choice is None and found.judged is not None:
            warn("no choice among the averages, since none could be judged; the first one is used")
        return found

    def _compare(self, run: Run) -> Comparison:
        """Judge all averages by the leading measure."""
        averages = run.training.ema.averages()
        return compare_averages(
            averages, partial(self._judge_average, run, thorough=True), self.leading, run.images_seen
        )

    def _judge_average(self, run: Run, name: str, leading: str | None, *, thorough: bool) -> JudgedAverage | None:
        """Sample an average, and apply the leading measure; None where a sample is not finite."""
        device = _device_to_judge_on(run)
        with keyed_state(run.seed, "metrics", run.images_seen), without_autocast(next(run.generator.parameters())):
            grown = run.grown(name)
            begun = self._clock(grown.level)
            reals = self._reals_at(run, grown.level, device)
            sampled = sample_images(grown, self.n, run.seed, device)
            if sampled is None:
                return None
            images = JudgedImages(run, reals, *sampled, grown=grown, thorough=thorough)
            leading, value, found = leading_value(images, self.measures, leading, self._failed)
            seconds, prepared_s, costly_s = self._since(begun, grown.level)
        is_cheap = value is not None and not costly_s
        return JudgedAverage(name, images, leading, value, found, seconds - prepared_s - costly_s, is_cheap)

    def _clock(self, level: int) -> tuple[float, float, float]:
        """Return the time, and the seconds that preparation and costly measures of a level have taken so far."""
        reals = self._reals
        if reals is None or reals.level != level:
            return time.perf_counter(), 0.0, 0.0
        return time.perf_counter(), reals.prepared_s, reals.costly_s

    def _since(self, begun: tuple[float, float, float], level: int) -> tuple[float, float, float]:
        """Return the seconds since what `_clock` returned: all, those of preparation, and those of costly measures."""
        total, prepared, costly = (now - then for now, then in zip(self._clock(level), begun, strict=True))
        return total, prepared, costly

    def _reals_at(self, run: Run, level: int, device: torch.device) -> RealImages:
        """Return the real images of a level."""
        if self._reals is None or self._reals.level != level:
            assert self._feed is not None
            self._reals = None  # first, so that two levels are never held at once
            base_size = run.generator.architecture.base_size
            self._reals = RealImages.read(self._feed, level, base_size, self.n, run.seed, device)
        return self._reals

    def _keep(self, run: Run, row: Mapping[str, Any], found: Measured) -> None:
        """Record a judgement in judging.json, before the checkpoint is written, and draw the closest pairs."""
        if run.run_dir is None:
            return
        value = found.values.get(row["leading"])
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


def _device_to_judge_on(run: Run) -> torch.device:
    device = next(run.generator.parameters()).device
    return device if device.type == "cuda" else torch.device("cpu")
