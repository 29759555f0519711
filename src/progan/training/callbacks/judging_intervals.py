"""When a run is judged: at the end of each stage, and between at counts at which a checkpoint is written."""

from __future__ import annotations

import math
from dataclasses import replace

from progan.runs.judging import StageInterval
from progan.schedule import Schedule
from progan.training.callbacks.base import crosses

SHARE = 0.02  # of the training's time; the report has another hundredth
_UNKNOWN_S = 15.0  # what costly measures are expected to take before they have been taken
_COSTLY = 2  # times a cheap judgement: what is reserved for them then; built-in ones take once to twice as long


class JudgingIntervals:
    """The counts of images at which a run is judged.

    Where no interval was asked for, it follows from the time that a judgement takes and the pace of the training, so
    that judgements take at most 2 % of its time; the first judgement of a stage decides for the rest of it. Two are
    always made: the first one at the end of a stage, from which the others are planned, and that at the end of the run,
    so its time is reserved: that of all measures, and of the choice among averages. Decisions are recorded, and a run
    that resumes keeps to them.

    Args:
        every: Number of real images between two judgements; None = it follows from the time that they take.
        save_every: Number of real images between two checkpoints.
        schedule: Schedule of the run.
        decided: What has been decided for each stage, by its index; changed in place.
        others: Number of averages beside the first one, among which the end of the run chooses.
    """

    def __init__(
        self, every: int | None, save_every: int, schedule: Schedule, decided: dict[int, StageInterval], others: int = 0
    ) -> None:
        self.decided = decided
        self._others = others
        self._every = None if every is None else math.ceil(every / save_every) * save_every
        self._save_every = save_every
        self._schedule = schedule
        self._trained_s = 0.0
        self._spent_s = 0.0
        self._stage = -1
        self._stage_s, self._stage_images = 0.0, 0
        self._before_stage = 0.0, 0.0  # seconds trained and spent
        self._last: tuple[float, int] | None = None  # seconds of a judgement; pixels
        self._prepared: tuple[float, int] | None = None  # seconds of the preparation of a level; pixels
        self._costly: tuple[float, int] | None = None  # seconds of the costly measures; pixels
        self._average: tuple[float, int] | None = None  # seconds of an average in the choice; pixels

    def add_training(self, stage: int, images: int, seconds: float) -> None:
        """Add the time of a training step."""
        if stage != self._stage:
            self._stage, self._stage_s, self._stage_images = stage, 0.0, 0
            self._before_stage = self._trained_s, self._spent_s
        self._trained_s += seconds
        self._stage_s += seconds
        self._stage_images += images

    def add_judgement(
        self,
        images_seen: int,
        stage: int,
        pixels: int,
        seconds: float,
        *,
        prepared_s: float,
        costly_s: float | None,
        average_s: float | None,
        choice_s: float = 0.0,
    ) -> None:
        """Add the time of a judgement, and decide on the interval of its stage if it is the first one there.

        Args:
            images_seen: Count of images.
            stage: Index of the stage.
            pixels: Number of pixels of an image.
            seconds: Time that it took.
            prepared_s: Part of that time that later judgements of the level do not take.
            costly_s: Part of that time that costly measures took; None = they were not taken.
            average_s: Part of that time that samples and the leading measure of one average took; None = not known, or
                the leading measure is a costly one.
            choice_s: Part of that time that the averages took that were not chosen.
        """
        self._spent_s += seconds
        each_s = seconds - prepared_s - (costly_s or 0.0) - choice_s
        self._last = each_s, pixels
        self._average = None if average_s is None else (average_s, pixels)
        if self._prepared is None or pixels != self._prepared[1]:
            self._prepared = prepared_s, pixels
        if costly_s is not None:
            self._costly = costly_s, pixels
        known = self.decided.get(stage, StageInterval(stage))
        if self._every is not None or known.every is not None or known.at_end is not None:
            return
        spare_s = self._stage_budget(stage, pixels) - prepared_s - each_s
        if not self._is_last(stage):
            spare_s -= each_s + self._expected_costly(pixels, 0.0)  # the stage's end
        more = int(spare_s / each_s) if each_s > 0 else 0
        stage_images, save_every = self._schedule.stages[stage].images, self._save_every
        every = stage_images / more if more > 0 else self._schedule.end(stage) + 1
        self.decided[stage] = replace(known, first=images_seen, every=math.ceil(every / save_every) * save_every)

    def is_due(self, before: int, after: int, stage: int, pixels: int, *, ends: bool) -> bool:
        """Return whether to judge after a step.

        Args:
            before: Count of images before the step.
            after: Count of images after it.
            stage: Index of the stage.
            pixels: Number of pixels of an image.
            ends: Whether the step is the last one of its stage.
        """
        if ends:
            return self._end_is_due(stage, pixels)
        if not crosses(self._save_every, before, after):
            return False
        if self._every is not None:
            return crosses(self._every, before, after)
        known = self.decided.get(stage, StageInterval(stage))
        if known.every is None:
            if self._can_afford_stage(stage, pixels):
                return True
            self.decided[stage] = replace(known, every=0)
            return False
        if known.every == 0 or known.first is None or after <= known.first:
            return after == known.first
        return crosses(known.every, before, after)

    def is_thorough(self, stage: int, pixels: int, *, ends: bool) -> bool:
        """Return whether to take costly measures at a judgement: at the end of the run, and of a stage if affordable.

        Args:
            stage: Index of the stage.
            pixels: Number of pixels of an image.
            ends: Whether the judgement is at the end of its stage.
        """
        if self._every is not None or not ends or self._is_last(stage):
            return ends
        known = self.decided.get(stage, StageInterval(stage))
        if known.thorough is None:
            seconds = sum(self._expected(pixels)) + self._expected_costly(pixels, _UNKNOWN_S)
            known = replace(known, thorough=self._can_afford(seconds, stage, pixels))
            self.decided[stage] = known
        return bool(known.thorough)

    def _end_is_due(self, stage: int, pixels: int) -> bool:
        """Return whether to judge the end of a stage: that of the last one and the first judgement of a run always."""
        if self._every is not None or self._is_last(stage):
            return True
        known = self.decided.get(stage, StageInterval(stage))
        if known.at_end is None:
            is_first = all(each.first is None and not each.at_end for each in self.decided.values())
            at_end = is_first or self._can_afford(sum(self._expected(pixels)), stage, pixels)
            known = replace(known, at_end=at_end)
            self.decided[stage] = known
        return bool(known.at_end)

    def _is_last(self, stage: int) -> bool:
        return stage == len(self._schedule.stages) - 1

    def _can_afford(self, seconds: float, stage: int, pixels: int) -> bool:
        """Return whether the time trained so far allows a judgement of some seconds, and that at the end of the run."""
        left_s = SHARE * self._total_time() - self._expected_end(stage, pixels)
        return self._spent_s + seconds <= min(SHARE * self._trained_s, left_s)

    def _can_afford_stage(self, stage: int, pixels: int) -> bool:
        """Return whether one judgement within a stage and one at its end are within the stage's share of the time."""
        seconds, prepared_s = self._expected(pixels)
        ends = 0 if self._is_last(stage) else 1  # the end of the run is no part of the budget
        return prepared_s + (1 + ends) * seconds <= self._stage_budget(stage, pixels)

    def _stage_budget(self, stage: int, pixels: int) -> float:
        """Return the seconds for the judgements of the whole stage, without that at the end of the run."""
        left_s = SHARE * self._total_time() - self._expected_end(stage, pixels) - self._before_stage[1]
        return min(SHARE * self._stage_time(), left_s)

    def _expected_end(self, stage: int, pixels: int) -> float:
        """Return the expected time of the judgement at the end of the run, and of the choice that it begins with.

        Args:
            stage: Index of the current stage.
            pixels: Number of pixels of an image there.
        """
        pixels <<= 2 * (self._schedule.stages[-1].level - self._schedule.stages[stage].level)
        each_s, prepared_s = self._expected(pixels)
        return each_s + prepared_s + self._reserved_costly(pixels) + self._others * self._expected_average(pixels)

    def _expected_average(self, pixels: int) -> float:
        """Return the expected time of one more average in the choice; 0 before any judgement."""
        if self._last is None:
            return 0.0
        if self._average is None:
            return self._expected(pixels)[0] + self._reserved_costly(pixels)
        return _scaled(self._average, pixels)

    def _reserved_costly(self, pixels: int) -> float:
        """Return the time to reserve for the costly measures."""
        return self._expected_costly(pixels, _COSTLY * self._expected(pixels)[0] if self._last else _UNKNOWN_S)

    def _expected_costly(self, pixels: int, unknown_s: float) -> float:
        """Return the expected time of the costly measures, from the last time that they were taken, if any."""
        return unknown_s if self._costly is None else _scaled(self._costly, pixels)

    def _expected(self, pixels: int) -> tuple[float, float]:
        """Return the expected time of a judgement and of its preparation, which is done once per level.

        Both are from those of the last judgement, and 0 before any.
        """
        if self._last is None or self._prepared is None:
            return 0.0, 0.0
        return _scaled(self._last, pixels), 0.0 if pixels == self._prepared[1] else _scaled(self._prepared, pixels)

    def _stage_time(self) -> float:
        """Return the expected time of training the whole stage, in seconds."""
        return self._image_time() * self._schedule.stages[self._stage].images

    def _total_time(self) -> float:
        """Return the least expected time of training the whole run, in seconds: later levels are not faster."""
        to_come = sum(stage.images for stage in self._schedule.stages[self._stage + 1 :])
        return self._before_stage[0] + self._stage_time() + self._image_time() * to_come

    def _image_time(self) -> float:
        """Return the time of training on an image in this stage, in seconds."""
        return self._stage_s / max(1, self._stage_images)


def _scaled(known: tuple[float, int], pixels: int) -> float:
    """Return the seconds expected at a number of pixels, of those known at another one: twice as many at each level.

    The built-in measures take 1.4 to 1.9 times as long from one level to the next.
    """
    seconds, before = known
    return seconds * math.sqrt(pixels / before)
