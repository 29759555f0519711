"""Judging while a run trains: when, what, at what cost, and that nothing else changes."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import shutil
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import contents, small_recipe
from running import make

from progan import Callback, Judge, JudgedImages, Measured, MetricsLog, Schedule, Stage, Trainer
from progan.data import match_level, open_feed
from progan.render import read_png
from progan.runs.checkpoint import FOLDER, checkpoints, read_tensors
from progan.runs.judging import JudgingRecord, StageInterval
from progan.storage import files
from progan.training.callbacks import judge as judge_module
from progan.training.callbacks import judged_images, judging_intervals
from progan.training.callbacks.judged_images import CriticScores, LevelImages, _batch_size
from progan.training.callbacks.judging_intervals import SHARE, JudgingIntervals
from progan.training.step import to_range

# small_recipe is at 16x16, where it can be judged, from 64 images on: fading until 88, at its end at 96.


def mean_image(images: JudgedImages) -> float:
    real = images.once("mean image", lambda: images.real.double().mean(0))
    return (images.samples.double().mean(0) - real).abs().mean().item()


def judge(every: int | None = 8, n: int = 8, **measures) -> Judge:
    return Judge(every, measures=measures or {"mean_image": mean_image}, n=n)


def rows(run_dir: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "measures" in line]


def test_a_judgement_is_a_row_of_its_own(recipe, images, tmp_path):
    @dataclass(frozen=True)
    class Floor:
        value: float
        low: float
        high: float

    def several(judged: JudgedImages) -> Measured:
        return Measured(
            {"one": 1.0, "other": float("nan")},
            {"one": Floor(0.5, 0.25, 0.75)},
            ("It is fine.",),
            ("It has collapsed.",),
            torch.zeros(3, 4, 4, dtype=torch.uint8),
        )

    measures = {"several": several, "plain": lambda judged: 2.0}
    trainer = make(recipe, tmp_path, callbacks=[Judge(16, measures=measures, leading="one", n=4)])
    begun = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(images)
    took_s = time.perf_counter() - begun
    assert [str(each.message) for each in caught] == [
        "at 80 images, while a level fades in, which may pass: It has collapsed.",
        "at 96 images: It has collapsed.",
    ]
    assert 0 < sum(row["judge_s"] for row in rows(tmp_path)) < took_s
    assert [{name: value for name, value in row.items() if name != "judge_s"} for row in rows(tmp_path)] == [
        {
            "images_seen": count,
            "stage": 2,
            "level": 2,
            "alpha": alpha,
            "average": "ema",
            "measures": {"one": 1.0, "other": None, "plain": 2.0},
            "floors": {"one": {"value": 0.5, "low": 0.25, "high": 0.75}},
            "leading": "one",
            "remarks": ["It is fine.", "It has collapsed."],
        }
        for count, alpha in ((80, 21 / 24), (96, None))
    ]
    assert read_png(tmp_path / "samples/closest.png").shape == (3, 4, 4)
    texts = [json.loads(line) for line in (tmp_path / "warnings.jsonl").read_text().splitlines()]
    assert texts == [
        {"images_seen": int(str(each.message).split()[1].rstrip(",:")), "text": str(each.message)} for each in caught
    ]


def test_what_is_judged(recipe, images, tmp_path):
    """Samples and real images at the level, always the same ones; all training images at hand; no image twice."""
    seen: list[JudgedImages] = []
    recipe = replace(recipe, stages=(Stage(1, 0, 8), Stage(2, 8, 16)))
    trainer = make(recipe, tmp_path, save_every=8, callbacks=[judge(look=lambda judged: seen.append(judged))])
    large = images.repeat_interleave(2, 2).repeat_interleave(2, 3)  # twice the level
    trainer.fit(large)
    assert [judged.images_seen for judged in seen] == [16, 24, 32]
    assert all(torch.equal(judged.real, seen[0].real) and judged.samples.shape == (8, 3, 16, 16) for judged in seen)
    assert torch.equal(seen[0].latents, seen[2].latents)
    training = {image.numpy().tobytes() for image in images}
    assert {image.numpy().tobytes() for image in seen[0].real} < training
    assert len({image.numpy().tobytes() for image in seen[0].real}) == 8
    assert {seen[0].training[k].numpy().tobytes() for k in range(21)} == training
    with pytest.raises(IndexError, match="there are 21 images, got index 21"):
        seen[0].training[21]
    assert not torch.equal(seen[0].samples, seen[2].samples)
    from_grown = (trainer.grown().images(seen[2].latents) * 255).round().to(torch.uint8)
    assert torch.equal(seen[2].samples, from_grown)


def test_the_training_is_the_same_to_the_bit(images, tmp_path):
    """Whatever a measure draws from global random states, and with measures that take gradients."""

    def greedy(judged: JudgedImages) -> float:
        image = judged.samples[:1].float().requires_grad_()
        (image.square().sum() * torch.rand(())).backward()
        judged.critic_scores()
        judged.grown.sample(3)
        return float(np.random.rand() + random.random() + image.grad.sum())

    for name, keywords in {"without": {"judge_every": 0}, "with": {"callbacks": [judge(greedy=greedy)]}}.items():
        states = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
        make(small_recipe(), tmp_path / name, held_out=0.2, **keywords).fit(images)
        assert torch.equal(torch.get_rng_state(), states[0])
        assert (random.getstate(), str(np.random.get_state())) == states[1:]
        assert torch.is_grad_enabled()
    without, with_it = (contents(tmp_path / name) for name in ("without", "with"))
    assert with_it.pop("judging.json")
    assert [row for row in with_it.pop("metrics.jsonl") if "measures" not in row] == without.pop("metrics.jsonl")
    for each in (without, with_it):
        each["config.json"] = json.loads(each["config.json"])["recipe"]
    assert with_it == without
    assert len(rows(tmp_path / "with")) == 4


def test_a_surrounding_autocast_does_not_reach_the_measures(recipe, images):
    seen = []
    own = judge(1000, look=lambda judged: seen.append(torch.is_autocast_enabled("cpu")))
    with torch.autocast("cpu", torch.bfloat16):
        make(replace(recipe, stages=(Stage(2, 0, 8),)), callbacks=[own]).fit(images)
    assert seen == [False]


@pytest.mark.parametrize("stops", [(72,), (80, 88), (64, 96)], ids=str)
def test_a_run_that_resumes_has_the_same_rows(stops, recipe, images, tmp_path):
    make(recipe, tmp_path / "whole", keep=1, callbacks=[judge(16)]).fit(images)
    for until in (*stops, None):
        make(recipe, tmp_path / "run", keep=1, callbacks=[judge(16)]).fit(images, until=until)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    assert [row["images_seen"] for row in rows(tmp_path / "run")] == [80, 96]


class Killed(BaseException):
    """Stands for kill -9."""


def test_rows_past_the_checkpoint_are_dropped_and_written_again(recipe, images, tmp_path):
    class Die(Callback):
        def on_log(self, run, row):
            if "measures" in row and run.images_seen == 88:
                raise Killed

    make(recipe, tmp_path / "whole", callbacks=[judge()]).fit(images)
    with pytest.raises(Killed):
        make(recipe, tmp_path / "run", callbacks=[judge(), Die()]).fit(images)
    assert [row["images_seen"] for row in rows(tmp_path / "run")] == [72, 80, 88]
    assert list(JudgingRecord.read(tmp_path / "run").judged) == [72, 80, 88]
    assert checkpoints(tmp_path / "run")[-1].name == "000000080"
    shutil.copytree(tmp_path / "run", tmp_path / "rarely")
    rarely = judge(96)
    make(recipe, tmp_path / "rarely", callbacks=[rarely]).fit(images)
    assert list(JudgingRecord.read(tmp_path / "rarely").judged) == [72, 80, 96], "88 is not judged again"
    assert rarely._reals is None, "no data are held after fit"
    rarely.on_return(SimpleNamespace(run_dir=tmp_path / "rarely", images_seen=72))
    assert list(JudgingRecord.read(tmp_path / "rarely").judged) == [72], "nor what a return undoes"
    make(recipe, tmp_path / "run", callbacks=[judge()]).fit(images)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


# When


@pytest.mark.parametrize(
    ("every", "save_every", "expected"),
    [(8, 8, [72, 80, 88, 96]), (8, 24, [72, 96]), (25, 24, [96]), (1000, 8, [96]), (10, 16, [80, 96])],
)
def test_the_interval_is_a_multiple_of_that_of_checkpoints(every, save_every, expected, recipe, images, tmp_path):
    make(recipe, tmp_path, save_every=save_every, callbacks=[judge(every)]).fit(images)
    assert [row["images_seen"] for row in rows(tmp_path)] == expected
    saved = {int(path.name) for path in checkpoints(tmp_path)}
    assert saved >= set(expected)


def test_a_run_judges_by_itself_unless_it_may_not(recipe, images, tmp_path, monkeypatch):
    monkeypatch.setattr("progan.training.callbacks.judge.built_in_measures", lambda: {"feature_distance": mean_image})
    make(recipe, tmp_path / "on", judge_every=None).fit(images)
    assert [row["images_seen"] for row in rows(tmp_path / "on")][-1] == 96
    make(recipe, tmp_path / "off").fit(images)  # with judge_every=0
    assert rows(tmp_path / "off") == []
    assert not (tmp_path / "off/judging.json").exists()
    Trainer.from_recipe(recipe, device="cpu", progress=False).fit(images)


def test_nothing_below_16_pixels_is_judged(recipe, images, tmp_path):
    make(replace(recipe, stages=recipe.stages[:2]), tmp_path, callbacks=[judge()]).fit(images)
    assert rows(tmp_path) == []


SCHEDULE = Schedule([Stage(2, 0, 1000), Stage(3, 500, 500), Stage(4, 500, 1500)])
PIXELS = (256, 1024, 4096)


def counts_of(
    intervals: JudgingIntervals,
    image_s: float,
    judge_s: float,
    begin: int = 0,
    prepared_s: float = 0.0,
    costly_s: float = 0.0,
    others: int = 0,
    growth: int = 4,
):
    """The counts at which a run is judged, where a judgement at 16 px takes a time, and the time that all took.

    It grows by a factor from one level to the next. Half of a judgement are samples and the leading measure, which the
    choice at the end takes of each other average.
    """
    found, spent = [], 0.0
    for before in range(begin, SCHEDULE.total_images, 8):
        stage = SCHEDULE.at(before).stage
        intervals.add_training(stage, 8, 8 * image_s)
        ends = SCHEDULE.at(before + 8).stage != stage or before + 8 >= SCHEDULE.total_images
        if intervals.is_due(before, before + 8, stage, PIXELS[stage], ends=ends):
            each = judge_s * growth**stage
            prepared = prepared_s * (stage not in [SCHEDULE.at(k - 1).stage for k in found])
            costly = costly_s if intervals.is_thorough(stage, PIXELS[stage], ends=ends) else None
            choice = others * each / 2 if before + 8 >= SCHEDULE.total_images else 0.0
            seconds = each + prepared + (costly or 0.0) + choice
            times = {"prepared_s": prepared, "costly_s": costly, "average_s": each / 2, "choice_s": choice}
            intervals.add_judgement(before + 8, stage, PIXELS[stage], seconds, **times)
            found.append(before + 8)
            spent += seconds
    return found, spent


def test_the_interval_follows_from_the_time_that_judgements_take():
    # Two stages of 1000 s and one of 2000 s: 20 s, 20 s and 40 s may be spent, on judgements of 2 s, 8 s and 32 s.
    found, spent = counts_of(JudgingIntervals(None, 100, SCHEDULE, {}), image_s=1.0, judge_s=2.0)
    assert found == [104, 200, 400, 600, 800, 1000, 1104, 2000, 4000]
    assert spent == 6 * 2 + 2 * 8 + 32 <= SHARE * 4000
    cheap, _ = counts_of(JudgingIntervals(None, 100, SCHEDULE, {}), image_s=1.0, judge_s=0.001)
    assert len(cheap) >= 40, "at most at every checkpoint"


@pytest.mark.parametrize("judge_s", [0.01, 0.3, 2.0, 10.0])
@pytest.mark.parametrize("prepared_s", [0.0, 3.0])
@pytest.mark.parametrize("costly_s", [0.0, 15.0])
@pytest.mark.parametrize("others", [0, 2])
@pytest.mark.parametrize("image_s", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("growth", [1, 2, 4])
def test_judgements_take_their_share_of_the_time_at_most(judge_s, prepared_s, costly_s, others, image_s, growth):
    """All of them, with the costly measures and the choice among averages at the end of the run."""
    intervals = JudgingIntervals(None, 100, SCHEDULE, {}, others)
    times = {"prepared_s": prepared_s, "costly_s": costly_s, "others": others, "growth": growth}
    found, spent = counts_of(intervals, image_s, judge_s, **times)
    assert found[-1] == 4000, "the end of the run is always judged"
    last = growth**2 * judge_s * (1 + others / 2) + prepared_s + costly_s
    first = judge_s + prepared_s  # of which nothing was known
    share_s = SHARE * image_s * 4000
    assert spent - last <= share_s + first
    if growth < 4:  # the time of judgements at a higher level is expected to grow by 2
        assert spent <= max(last, share_s + costly_s) + first  # costly measures are taken once, or unknown
    if costly_s and image_s == 10.0 and judge_s <= 2:
        assert len(found) > 10, "the reserve leaves time for more"


def test_the_end_of_the_run_is_reserved():
    """In one stage of 1000 s, 20 s are for judgements of 1 s each."""

    def every(costly_s: float | None, average_s: float | None, others: int) -> int | None:
        intervals = JudgingIntervals(None, 10, Schedule([Stage(2, 0, 1000)]), {}, others)
        intervals.add_training(0, 10, 10.0)
        times = {"prepared_s": 0.0, "costly_s": costly_s, "average_s": average_s}
        intervals.add_judgement(10, 0, 256, 1.0 + (costly_s or 0.0), **times)
        return intervals.decided[0].every

    assert every(0.0, 0.5, 0) == 60, "18 judgements after the first one, and that at the end"
    assert every(None, 0.5, 0) == 70, "costly measures are expected to take 2 s, so that 16 are left"
    assert every(None, 1.0, 2) == 80, "and two more averages 2 s"
    assert every(0.0, 0.5, 2) == 60
    assert every(0.0, 4.0, 2) == 100
    assert every(0.0, None, 2) == 70, "an average whose leading measure is costly takes as long as a judgement"


def test_larger_images_are_expected_to_take_longer():
    """Of two stages of 1000 s, the second at four times the pixels, 2 % are 20 s each."""
    schedule = Schedule([Stage(2, 0, 1000), Stage(3, 0, 1000), Stage(3, 0, 1000)])

    def known(judge_s: float, prepared_s: float, costly_s: float | None = None) -> JudgingIntervals:
        """Intervals in the second stage, after a judgement in the first one."""
        intervals = JudgingIntervals(None, 100, schedule, {0: StageInterval(0, first=8, every=0, at_end=True)})
        intervals.add_training(0, 1000, 1000.0)
        seconds = judge_s + prepared_s + (costly_s or 0.0)
        intervals.add_judgement(1000, 0, 256, seconds, prepared_s=prepared_s, costly_s=costly_s, average_s=None)
        intervals.add_training(1, 100, 100.0)
        return intervals

    # One judgement within the stage, one at its end, and the preparation.
    for judge_s, prepared_s, due in ((4.9, 0.0, True), (5.1, 0.0, False), (2.0, 5.9, True), (2.0, 6.1, False)):
        intervals = known(judge_s, prepared_s)
        assert intervals.is_due(1000, 1100, 1, 1024, ends=False) is due
        assert (intervals.decided.get(1) == StageInterval(1, every=0)) is not due, "and that is decided"
    # At its end, 22 s are allowed in all: 1 s and costly measures once before, and twice as long now.
    for costly_s, thorough in ((6.2, True), (6.5, False)):
        assert known(1.0, 0.0, costly_s).is_thorough(1, 1024, ends=True) is thorough
    # Of 20 s, 2 s are for the preparation, and 4 s each for this judgement, two more and that at the end.
    intervals = known(1.0, 0.0)
    intervals.add_judgement(1100, 1, 1024, 6.0, prepared_s=2.0, costly_s=None, average_s=None)
    assert intervals.decided[1] == StageInterval(1, first=1100, every=500)


def test_short_runs_are_judged_at_the_end_of_a_stage_and_at_their_own():
    found, _ = counts_of(JudgingIntervals(None, 100, SCHEDULE, {}), image_s=0.001, judge_s=0.1)
    assert found == [1000, 4000]
    found, _ = counts_of(JudgingIntervals(None, 100, SCHEDULE, {}), image_s=0.019, judge_s=0.1)
    assert found == [1000, 2000, 4000], "of 1.5 s, 1.2 s are reserved"
    decided = {0: StageInterval(0, every=0, at_end=True)}
    found, _ = counts_of(JudgingIntervals(None, 100, SCHEDULE, decided), image_s=0.001, judge_s=0.1, begin=1000)
    assert found == [4000], "one that resumes has had its first judgement"


@pytest.mark.parametrize("begin", [96, 304, 1000, 1104, 1504, 2200])
def test_what_was_decided_holds_after_a_resume_at_another_pace(begin):
    decided = {}
    whole, _ = counts_of(JudgingIntervals(None, 100, SCHEDULE, decided), image_s=1.0, judge_s=0.5)
    again, _ = counts_of(JudgingIntervals(None, 100, SCHEDULE, dict(decided)), 0.01, judge_s=0.9, begin=begin)
    assert again == [count for count in whole if count > begin]


@pytest.mark.parametrize(("every", "thorough"), [(None, [96]), (16, [96]), (32, [96])])
def test_costly_measures_are_taken_at_the_end(every, thorough, recipe, images, tmp_path):
    def costly(judged: JudgedImages) -> float | None:
        return judged.costly(lambda: judged.once("three", lambda: 3.0))

    make(recipe, tmp_path, callbacks=[judge(every, costly=costly, worth=mean_image)]).fit(images)
    values = {row["images_seen"]: row["measures"]["costly"] for row in rows(tmp_path)}
    assert [count for count, value in values.items() if value == 3.0] == thorough
    assert {value for count, value in values.items() if count not in thorough} <= {None}


def test_times_are_those_of_training_judging_and_preparing(images, monkeypatch):
    """By a clock that ticks whenever somebody looks at it."""
    ticks, noted = itertools.count(), []
    clock = SimpleNamespace(perf_counter=lambda: next(ticks))
    for room in (judge_module, judged_images):
        monkeypatch.setattr(room, "time", clock)

    class Noting(JudgingIntervals):
        def add_training(self, stage, images, seconds):
            noted.append(seconds)
            super().add_training(stage, images, seconds)

        def add_judgement(self, images_seen, stage, pixels, seconds, **parts):
            noted.append((images_seen, pixels, seconds, parts["prepared_s"], parts["costly_s"]))
            super().add_judgement(images_seen, stage, pixels, seconds, **parts)

    def measure(judged: JudgedImages) -> float:
        judged.once("prepared", next_tick)
        judged.costly(lambda: judged.once("at the end", next_tick))
        return 1.0

    def next_tick() -> int:
        return next(ticks)

    monkeypatch.setattr(judge_module, "JudgingIntervals", Noting)
    recipe = small_recipe()
    architecture = replace(recipe.architecture, channels=(8, 6, 4, 4))
    recipe = replace(recipe, architecture=architecture, stages=(Stage(2, 0, 16), Stage(3, 0, 8)))
    large = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    make(recipe, None, callbacks=[judge(8, measure=measure)]).fit(large)
    # Reading takes 1 and what is prepared 2, within a costly measure 4 in all.
    assert noted == [
        *(1, (8, 256, 8, 3, None)),
        *(1, (16, 256, 8, 0, 4)),
        *(1, (24, 1024, 13, 3, 4)),
    ]


def test_a_stage_that_is_long_enough_ends_with_costly_measures():
    intervals = JudgingIntervals(None, 10_000, SCHEDULE, {})
    found = []
    for stage, image_s in ((0, 0.5), (1, 1.0), (2, 1.0)):
        intervals.add_training(stage, 1000, 1000 * image_s)
        found.append(intervals.is_thorough(stage, 256, ends=True))
        assert not intervals.is_thorough(stage, 256, ends=False)
        intervals.add_judgement(1000, stage, 256, 1.0, prepared_s=0.0, costly_s=None, average_s=None)
    assert found == [False, True, True], "2 % of 500 s do not suffice for the 15 s that are expected; of 1500 s they do"


def test_decisions_are_recorded(recipe, images, tmp_path, monkeypatch):
    monkeypatch.setattr(judging_intervals, "SHARE", 100.0)
    trainer = make(recipe, tmp_path, callbacks=[judge(None)])
    trainer.fit(images, until=80)
    (decided,) = JudgingRecord.read(tmp_path).intervals.values()
    assert (decided.stage, decided.first) == (2, 72)
    assert decided.every % 8 == 0
    make(recipe, tmp_path, callbacks=[judge(None)]).fit(images)
    counts = [row["images_seen"] for row in rows(tmp_path)]
    assert counts == [72, *[count for count in (80, 88) if count % decided.every == 0], 96]


# The best checkpoint


def scripted(values: dict[int, float]):
    return lambda judged: values.get(judged.images_seen)


def kept(run_dir: Path) -> list[int]:
    return sorted(int(path.name) for path in (run_dir / FOLDER).iterdir())


LONG = (Stage(1, 0, 16), Stage(2, 16, 64), Stage(2, 0, 32))  # judged at 24, 32, ... 128; fully grown from 32 on


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ({}, 128),
        ({56: 0.1}, 56),
        ({24: 0.1}, 128),  # it was still fading
        ({24: 0.1, 72: 0.2, 96: 0.2}, 96),
    ],
)
@pytest.mark.parametrize("stops", [(), tuple(range(8, 128, 8))], ids=len)
def test_the_best_checkpoint_is_kept(values, best, stops, recipe, images, tmp_path):
    recipe = replace(recipe, stages=LONG)
    own = {count: 1.0 - count / 1000 for count in range(24, 129, 8)} | values
    for until in (*stops, None):
        make(recipe, tmp_path, keep=2, callbacks=[judge(8, worth=scripted(own))]).fit(images, until=until)
    assert kept(tmp_path) == sorted({best, 120, 128})
    assert json.loads((tmp_path / "judging.json").read_text())["best"] == {
        "images_seen": best,
        "level": 2,
        "measure": "worth",
        "value": own[best],
    }


def test_a_higher_level_is_better(images, tmp_path):
    recipe = small_recipe()
    architecture = replace(recipe.architecture, channels=(8, 6, 4, 4))
    recipe = replace(recipe, architecture=architecture, stages=(Stage(2, 0, 32), Stage(3, 24, 24)))
    large = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    values = dict.fromkeys(range(8, 33, 8), 0.1) | dict.fromkeys(range(40, 81, 8), 0.9) | {40: 0.8}

    def worth(judged: JudgedImages) -> float:
        assert judged.real.shape == judged.samples.shape
        return values[judged.images_seen]

    trainer = make(recipe, tmp_path, keep=1, callbacks=[judge(8, worth=worth)])
    counts = []
    for until in (32, 40, 48, 56, 64, 80):
        trainer.fit(large, until=until)
        counts.append(json.loads((tmp_path / "judging.json").read_text())["best"]["images_seen"])
    assert counts == [32, 40, 40, 56, 64, 80]  # fading until 56, where its value is worse than before


def test_a_judgement_leaves_the_best_checkpoint_on_record(recipe, images, tmp_path):
    """Until its own checkpoint is written, the best one is that of the save before."""
    bests = []

    class Look(Callback):
        def on_log(self, run, row):
            if "measures" in row:
                bests.append(JudgingRecord.read(run.run_dir).best)

    recipe = replace(recipe, stages=(Stage(2, 0, 40),))
    values = {8: 0.5, 16: 0.2, 24: 0.9, 32: 0.1, 40: 0.3}
    own = Judge(8, measures={"other": lambda judged: 0.0, "worth": scripted(values)}, leading="worth", n=4)
    make(recipe, tmp_path, callbacks=[own, Look()]).fit(images)
    assert [best and best.images_seen for best in bests] == [None, 8, 16, 16, 32]


def test_only_one_measure_compares(recipe, images, tmp_path):
    recipe = replace(recipe, stages=LONG)
    make(recipe, tmp_path, keep=1, callbacks=[judge(8, one=scripted({56: 0.1}))]).fit(images, until=64)
    assert kept(tmp_path) == [56, 64]
    make(recipe, tmp_path, keep=1, callbacks=[judge(8, other=scripted({72: 5.0}))]).fit(images, until=88)
    assert kept(tmp_path) == [72, 88]


def test_a_leading_measure_that_is_none_is_one_warning(recipe, images, tmp_path):
    own = Judge(8, measures={"worth": lambda judged: 1.0}, built_in=False, leading="wroth", n=4)
    said = "no checkpoint can be the best: none of the measures is the leading one, 'wroth'; they are worth"
    with pytest.warns(UserWarning, match=said) as caught:
        make(recipe, tmp_path, callbacks=[own]).fit(images)
    assert len(caught) == 1
    assert JudgingRecord.read(tmp_path).judged == {}


def test_the_best_checkpoint_is_loaded(recipe, images, tmp_path):
    from progan import CheckpointError, load_generator

    recipe = replace(recipe, stages=LONG)
    with pytest.raises(CheckpointError, match="is not a checkpoint, nor a run with one"):
        load_generator(tmp_path)
    with pytest.raises(CheckpointError, match="is not a run with a checkpoint"):
        load_generator(tmp_path, best=True)
    make(recipe, tmp_path / "unjudged").fit(images, until=8)
    with pytest.raises(CheckpointError, match=r"has no best checkpoint: none was judged; the newest one loads without"):
        load_generator(tmp_path / "unjudged", best=True)
    values = {count: float(count) for count in range(40, 129, 8)}
    make(recipe, tmp_path, keep=1, keep_every=56, callbacks=[judge(8, worth=scripted(values))]).fit(images)
    assert kept(tmp_path) == [40, 56, 112, 128]

    def same_as(count: int) -> bool:
        loaded = load_generator(tmp_path, best=True).generator.state_dict()
        there = read_tensors(tmp_path / FOLDER / f"{count:09d}", "ema/")
        return all(torch.equal(tensor, there[name]) for name, tensor in loaded.items())

    assert same_as(40)
    (tmp_path / FOLDER / "000000040/tensors.safetensors").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match=r"000000056 is used; better checkpoints were skipped: .*000000040"):
        assert same_as(56)
    with pytest.raises(CheckpointError, match="is one checkpoint; pass the run directory"):
        load_generator(tmp_path / FOLDER / "000000056", best=True)
    for path in (tmp_path / FOLDER / "000000040").iterdir():
        path.unlink()
    (tmp_path / FOLDER / "000000040").rmdir()  # by a person: the next best one counts
    assert same_as(56)
    longer = replace(recipe, stages=(*LONG[:2], Stage(2, 0, 48)))
    make(longer, tmp_path, keep=1, callbacks=[judge(8, worth=scripted({}))]).fit(images)
    assert JudgingRecord.read(tmp_path).best.images_seen == 56


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "progan judging", "version": 1}', "\0" * 9, "null"])
def test_a_damaged_record_is_begun_anew(text, recipe, images, tmp_path):
    make(recipe, tmp_path, callbacks=[judge()]).fit(images, until=80)
    (tmp_path / "judging.json").write_text(text)
    make(recipe, tmp_path, callbacks=[judge()]).fit(images)
    assert list(JudgingRecord.read(tmp_path).judged) == [88, 96]


@pytest.mark.parametrize(
    "entry",
    [
        {"images_seen": "96", "level": 2, "alpha": None, "measure": "a", "value": 1.0},
        {"images_seen": -8, "level": 2, "alpha": None, "measure": "a", "value": 1.0},
        {"images_seen": 96, "level": 2, "alpha": None, "measure": "a", "value": True},
        {"images_seen": 96, "level": 2, "alpha": [], "measure": "a", "value": 1.0},
        {"images_seen": 96, "level": 2, "alpha": None, "measure": 7, "value": 1.0},
        ["images_seen"],
    ],
    ids=str,
)
def test_a_crafted_record_counts_as_none(entry, tmp_path):
    contents = {"format": "progan judging", "version": 1, "best": None, "intervals": [], "judged": [entry]}
    (tmp_path / "judging.json").write_text(json.dumps(contents))
    assert JudgingRecord.read(tmp_path) == JudgingRecord()


def test_a_kill_between_judgement_checkpoint_and_rotation_costs_no_best_checkpoint(
    recipe, images, tmp_path, monkeypatch
):
    """At each operation on the disk of the save at 128, which becomes the best one."""
    recipe, values = replace(recipe, stages=LONG), {112: 0.5, 120: 0.7, 128: 0.1}

    def fit(run_dir, until=None):
        make(recipe, run_dir, keep=1, callbacks=[judge(8, worth=scripted(values))]).fit(images, until=until)

    fit(tmp_path / "before", until=120)
    assert kept(tmp_path / "before") == [112, 120]
    shutil.copytree(tmp_path / "before", tmp_path / "whole")
    fit(tmp_path / "whole")
    expected = contents(tmp_path / "whole")
    assert kept(tmp_path / "whole") == [128]
    replace_file, calls, dies_at = os.replace, [0], [0]

    def dies(path, target):
        calls[0] += 1
        if calls[0] == dies_at[0]:
            raise Killed
        replace_file(path, target)

    for number in range(1, 30):
        run_dir = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "before", run_dir)
        calls[0], dies_at[0] = 0, number
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", dies)
            try:
                fit(run_dir)
                break
            except Killed:
                pass
        assert {112, 128} & set(kept(run_dir)), "the best one was removed before its successor was there"
        fit(run_dir)
        assert contents(run_dir) == expected, f"killed at rename {number}"
    assert number > 8


# Failures


def test_a_measure_that_fails_is_null_and_one_warning(recipe, images, tmp_path):
    def fails(judged):
        raise RuntimeError("no such thing\nat some place")

    measures = {"fails": fails, "text": lambda judged: "9", "mean_image": mean_image}
    own = Judge(8, measures=measures, leading="a value of fails", n=8)
    trainer = make(recipe, tmp_path, callbacks=[own])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(images)
    assert [str(each.message).split(" failed")[0] for each in caught] == ["the measure fails", "the measure text"]
    assert str(caught[0].message).endswith("RuntimeError: no such thing")
    assert "what a measure returns must be a number, None or a Measured, got '9'" in str(caught[1].message)
    assert all(row["measures"]["fails"] is None and row["measures"]["mean_image"] > 0 for row in rows(tmp_path))
    assert trainer.images_seen == 96


def test_a_sheet_that_cannot_be_written_is_a_warning(recipe, images, tmp_path, monkeypatch):
    def full(path, image):
        raise OSError("full")

    monkeypatch.setattr("progan.training.callbacks.judge.write_png", full)
    sheet = torch.zeros(3, 4, 4, dtype=torch.uint8)
    own = judge(1000, pairs=lambda judged: Measured({"pairs": 1.0}, sheet=sheet))
    with pytest.warns(UserWarning, match="no sheet of the closest pairs at 8 images; training continues: full"):
        make(replace(recipe, stages=(Stage(2, 0, 8),)), tmp_path, callbacks=[own]).fit(images)
    assert [row["measures"] for row in rows(tmp_path)] == [{"pairs": 1.0}]


def test_weights_that_are_not_finite_are_not_judged(recipe, images, tmp_path):
    class Break(Callback):
        def on_step(self, run, metrics):
            with torch.no_grad():
                next(run.ema.module.parameters()).fill_(float("nan"))

    called = []
    trainer = make(recipe, None, callbacks=[Break(), judge(8, never=called.append)])
    trainer.fit(images)
    assert called == []


def test_a_judgement_that_is_not_possible_does_not_end_the_run(recipe, images, tmp_path, monkeypatch):
    def fails(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("progan.training.callbacks.judge.sample_images", fails)
    trainer = make(recipe, tmp_path, callbacks=[judge(1000)])
    with pytest.warns(UserWarning, match="no judgement at 96 images; training continues: RuntimeError: out of memory"):
        trainer.fit(images)
    assert (trainer.images_seen, rows(tmp_path)) == (96, [])


def test_a_full_disk_costs_no_judgement(recipe, images, tmp_path, monkeypatch):
    make(recipe, tmp_path / "whole", callbacks=[judge()]).fit(images)
    write_file, append_line = files.write_file, files.append_line

    def full(path, *rest, **keywords):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    class Fill(Callback):
        """Full while 80 images are judged."""

        def on_step(self, run, metrics):
            here = run.images_seen == 80
            monkeypatch.setattr("progan.runs.judging.write_file", full if here else write_file)
            monkeypatch.setattr("progan.training.callbacks.metrics_log.append_line", full if here else append_line)

    class Empty(Callback):
        def on_step(self, run, metrics):
            monkeypatch.setattr("progan.runs.judging.write_file", write_file)
            monkeypatch.setattr("progan.training.callbacks.metrics_log.append_line", append_line)

    own = [MetricsLog(1000), Fill(), judge(), Empty()]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(recipe, tmp_path / "run", callbacks=own).fit(images)
    texts = [str(each.message).split(":")[0] for each in caught]
    assert texts == [
        "the judgement at 80 images is not recorded yet; training continues",
        "no line of metrics at 80 images yet; training continues",
    ]
    assert [row["images_seen"] for row in rows(tmp_path / "run")] == [72, 80, 88, 96]
    whole, run = contents(tmp_path / "whole"), contents(tmp_path / "run")
    assert run["judging.json"] == whole["judging.json"]
    assert run["checkpoints/000000096/tensors.safetensors"] == whole["checkpoints/000000096/tensors.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"every": 0}, ValueError, "every must be at least 1, got 0"),
        ({"n": 1}, ValueError, "n must be at least 2, got 1"),
        ({"measures": [len]}, TypeError, "measures must be a dict of functions by name, got a list"),
        ({"measures": {"a": 1}}, TypeError, r"measures\['a'\] must be a function of JudgedImages, got 1"),
    ],
)
def test_a_wrong_judge_is_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        Judge(**arguments)


# Held-out images


def test_a_share_is_never_trained_on(recipe, images, tmp_path):
    shown, held = set(), []

    class Look(Callback):
        def on_data(self, run, feed):
            held.append(feed.held_out.images_at(range(feed.held_out.n_images)))

    class Spy(torch.utils.data.Dataset):
        def __len__(self):
            return len(images)

        def __getitem__(self, index):
            shown.add(index)
            return images[index]

    make(recipe, None, held_out=0.2, callbacks=[Look()]).fit(images)
    make(recipe, None, held_out=0.2, callbacks=[Look()]).fit(Spy())
    assert held[0].shape == (4, 3, 16, 16)
    assert {image.numpy().tobytes() for image in held[0]} == {image.numpy().tobytes() for image in held[1]}
    feed = open_feed(Spy(), image_channels=3, base_size=(4, 4), level=2, seed=3, workers=0, device="cpu")
    first = feed.items.order[0]  # which was fetched to describe the data
    chosen = {image.numpy().tobytes() for image in held[0]}
    trained = {images[index].numpy().tobytes() for index in shown - {first}}
    assert len(trained) >= 16
    held_fetched_by_look = chosen & trained
    assert held_fetched_by_look <= chosen


@pytest.mark.parametrize("kind", ["tensor", "dataset"])
def test_the_batches_hold_no_held_out_image(kind, recipe, images):
    trainer = make(recipe, held_out=0.2)
    feed = trainer._engine.open_data(images if kind == "tensor" else list(images), trainer.options)
    assert (feed.n_images, feed.held_out.n_images) == (17, 4)
    held = {image.numpy().tobytes() for image in feed.held_out.images_at(range(4))}
    epoch = torch.cat([batch.images for batch in feed.batches(0, 17, lambda _: 17)])
    trained = {image.numpy().tobytes() for image in epoch}
    assert (len(held), len(trained), held & trained) == (4, 17, set())
    assert held | trained == {image.numpy().tobytes() for image in images}
    other = make(recipe, held_out=0.2)
    other = other._engine.open_data(images, other.options)
    assert {image.numpy().tobytes() for image in other.held_out.images_at(range(4))} == held


def test_a_share_is_part_of_the_run(recipe, images, tmp_path):
    make(recipe, tmp_path, held_out=0.2).fit(images, until=16)
    assert json.loads((tmp_path / "config.json").read_text())["held_out"] == {"share": 0.2}
    for held_out in (None, 0.3, images[:4]):
        with pytest.raises(ValueError, match=r"holds another run; differing \(there -> here\): .*held_out"):
            make(recipe, tmp_path, held_out=held_out)
    trainer = Trainer.from_run(tmp_path, device="cpu", progress=False)
    assert trainer.options.held_out == 0.2
    trainer.fit(images)
    make(recipe, tmp_path / "whole", held_out=0.2).fit(images)
    ended = [read_tensors(checkpoints(run)[-1]) for run in (tmp_path, tmp_path / "whole")]
    assert all(torch.equal(tensor, ended[1][name]) for name, tensor in ended[0].items())


@pytest.mark.parametrize("kind", ["tensor", "folder", "dataset"])
def test_other_images_can_be_held_out(kind, recipe, images, tmp_path):
    from PIL import Image

    held = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    (tmp_path / "held").mkdir()
    for index, image in enumerate(held):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"held/{index}.png")
    held_out = {"tensor": held, "folder": str(tmp_path / "held"), "dataset": list(held)}[kind]
    seen = []
    keywords = {"callbacks": [judge(look=lambda judged: seen.append(judged.held_out))]}
    make(recipe, tmp_path / "run", held_out=held_out, **keywords).fit(images, until=88)
    assert {image.numpy().tobytes() for image in seen[0]} == {image.numpy().tobytes() for image in held}
    recorded = json.loads((tmp_path / "run/config.json").read_text())["held_out"]
    assert recorded["data"]["shape"] == [6, 3, 16, 16]
    with pytest.raises(ValueError, match=r"the held-out images are not those of the run .*pass the same held_out="):
        make(recipe, tmp_path / "run", held_out=held[:3]).fit(images)
    with pytest.raises(ValueError, match=r"the held-out images are not those of the run .*none were passed"):
        Trainer.from_run(tmp_path / "run", device="cpu", progress=False).fit(images)
    with pytest.raises(ValueError, match="holds another run; differing"):
        make(recipe, tmp_path / "run", held_out=0.2)
    make(recipe, tmp_path / "run", held_out=held_out, **keywords).fit(images)


@pytest.mark.parametrize(
    ("held_out", "text"),
    [
        (0.05, "held_out=0.05 of 21 images is 1, and at least 2 are needed; pass a larger share"),
        (torch.zeros(1, 3, 16, 16), "held_out must be at least 2 images, got 1"),
        (torch.zeros(4, 1, 16, 16), "the networks take 3 channels"),
        ("the data", "held_out must be other images than those to train on"),
    ],
    ids=["few", "one", "grey", "same"],
)
def test_images_that_cannot_be_held_out_are_refused(held_out, text, recipe, images):
    with pytest.raises(ValueError, match=text):
        make(recipe, held_out=images if isinstance(held_out, str) else held_out).fit(images)


@pytest.mark.parametrize("record", [{"share": 0.7}, {"share": "0.2"}, {"data": 3}, {"other": 1}, 7, [0.2]])
def test_a_crafted_record_of_held_out_images_is_refused(record, recipe, images, tmp_path):
    from progan import CheckpointError

    make(recipe, tmp_path, held_out=0.2).check(images)
    trainer = make(recipe, tmp_path, held_out=0.2)
    trainer.save()
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"held_out": record}))
    with pytest.raises(CheckpointError, match=r"held_out must be null, a share below 0\.5 or a fingerprint"):
        Trainer.from_run(tmp_path, device="cpu")


@pytest.mark.parametrize(("every", "count"), [(16, 80), (1000, 96)])
def test_the_critic_scores_all_sets_in_batches_of_one_size(every, count, recipe, images):
    """By copies in evaluation mode, also while a level fades in, when real images are blended as in training."""
    found: list[CriticScores] = []
    modes = []

    def look(judged: JudgedImages) -> None:
        if judged.images_seen != count:
            return
        modes.clear()
        found.append(judged.critic_scores())
        assert modes
        assert not any(modes)
        alpha = judged.grown.alpha
        held, sets = LevelImages(feed.held_out, 2, (4, 4)).chosen(20, trainer.seed)[0], []
        for shown in (judged.real, held):
            blended = match_level(shown / 255, 2, alpha, blend=True, base_size=(4, 4))
            sets.append(to_range(blended[:8], trainer.generator.architecture.image_range))
        with torch.no_grad():
            sets += trainer.generator(judged.latents, 2, alpha).split(8)[:2]
            expected = [trainer.discriminator(shown, 2, alpha) for shown in sets]
        torch.testing.assert_close(found[0].training, expected[0])
        torch.testing.assert_close(found[0].held_out, expected[1])
        torch.testing.assert_close(found[0].generated, torch.cat(expected[2:]))

    recipe = replace(recipe, training=replace(recipe.training, blend_real=True))
    trainer = make(recipe, None, held_out=0.4, callbacks=[judge(every, n=20, look=look)])
    for network in (trainer.generator, trainer.discriminator):
        network.register_forward_pre_hook(lambda network, given: modes.append(network.training))
    feed = trainer._engine.open_data(images, trainer.options)
    trainer.fit(images)
    (scores,) = found
    assert [len(each) for each in scores] == [8, 8, 16], "13 and 8 and 20 images in batches of 8"
    assert trainer.discriminator.training


@pytest.mark.parametrize(("most", "group", "size"), [(99, 4, 8), (7, 4, 4), (3, 4, 3), (7, None, 7)])
def test_batches_that_are_scored_consist_of_whole_groups(most, group, size):
    assert _batch_size(8, most, group) == size


def test_without_held_out_images_there_are_no_scores(recipe, images):
    found = []
    make(recipe, None, callbacks=[judge(look=lambda judged: found.append(judged.critic_scores()))]).fit(images)
    assert found == [None] * len(found) != []


# Other files


def test_overwrite_removes_what_judging_has_written(recipe, images, tmp_path):
    make(recipe, tmp_path, callbacks=[judge()]).fit(images)
    for name in ("report.html", "warnings.jsonl", "samples/closest.png", "films/growth.gif", "films/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    make(recipe, tmp_path, overwrite=True, judge_every=0).fit(images, until=8)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left - {f"checkpoints/000000008/{name}" for name in ("manifest.json", "tensors.safetensors")} == {
        *("config.json", "metrics.jsonl", "films/notes.txt")
    }
