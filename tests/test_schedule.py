"""The schedule: whatever its stages and batches, a walk passes each stage once, in order, and no start ever moves."""

import json
import math
import re
from dataclasses import asdict, replace
from fractions import Fraction
from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progan.schedule import Growth, Schedule, Stage


@st.composite
def schedules(draw):
    """Draw any schedule, with batch sizes that need not divide its stages."""
    stages: list[Stage] = []
    level = draw(st.integers(0, 3))
    for _ in range(draw(st.integers(1, 6))):
        is_new = bool(stages) and draw(st.booleans())
        level += is_new
        batch = draw(st.integers(1, 17))
        least = max(batch, stages[-1].batch_size if stages else 0)
        fades = level > 0 and (is_new or not stages)
        fade = draw(st.integers(0, 60)) if fades else 0
        hold = draw(st.integers(max(0, least - fade), 60))
        stages.append(Stage(level, fade, hold, batch, draw(st.sampled_from([1e-3, 5e-4, 1e-4]))))
    return Schedule(stages)


def walk(schedule):
    """Return (images_seen, growth) of every step of a whole training, and where it ends."""
    steps, seen = [], 0
    while seen < schedule.total_images:
        steps.append((seen, schedule.at(seen)))
        seen += steps[-1][1].batch_size
    return steps, seen


properties = settings(max_examples=100, deadline=None, derandomize=True, database=None)


@properties
@given(schedules())
def test_a_walk_passes_each_stage_once_and_in_order(schedule):
    steps, end = walk(schedule)
    assert [stage for stage, _ in groupby(growth.stage for _, growth in steps)] == list(range(len(schedule.stages)))
    for _, growth in steps:
        stage = schedule.stages[growth.stage]
        assert (growth.level, growth.batch_size, growth.learning_rate) == (
            stage.level,
            stage.batch_size,
            stage.learning_rate,
        )
    assert 0 <= end - schedule.total_images < schedule.stages[-1].batch_size


@properties
@given(schedules())
def test_levels_rise_and_fades_go_from_0_to_1(schedule):
    steps, _ = walk(schedule)
    assert all(before.level <= after.level <= before.level + 1 for (_, before), (_, after) in pairwise(steps))
    for index, stage_steps in groupby(steps, key=lambda step: step[1].stage):
        stage, alphas = schedule.stages[index], []
        for seen, growth in stage_steps:
            shown = seen - schedule.starts[index]
            assert growth.alpha == (shown / stage.fade_images if shown < stage.fade_images else None)
            alphas.append(growth.alpha)
        fading = [alpha for alpha in alphas if alpha is not None]
        assert alphas == fading + [None] * (len(alphas) - len(fading))  # once grown, grown for good
        assert all(0 <= alpha < 1 for alpha in fading)
        assert all(before < after for before, after in pairwise(fading))


@properties
@given(schedules())
def test_starts_never_move(schedule):
    # The step that crosses into a stage runs over; the stage starts where it always did.
    ends = [sum(stage.images for stage in schedule.stages[: index + 1]) for index in range(len(schedule.stages))]
    assert schedule.starts == (0, *ends[:-1])
    assert [schedule.end(index) for index in range(len(ends))] == ends
    assert schedule.total_images == ends[-1]
    for index, start in enumerate(schedule.starts):
        assert schedule.at(start).stage == index
        assert schedule.at(start).alpha == (0.0 if schedule.stages[index].fade_images else None)
        assert start == 0 or schedule.at(start - 1).stage == index - 1


@properties
@given(schedules(), st.integers(0, 10**9))
def test_the_last_stage_holds_for_ever(schedule, more):
    last = schedule.stages[-1]
    held = schedule.at(schedule.total_images + more)
    assert replace(held, step=0) == Growth(
        len(schedule.stages) - 1, last.level, None, last.learning_rate, last.batch_size
    )


@properties
@given(schedules())
def test_steps_are_numbered_from_the_start_of_their_stage(schedule):
    for index, (start, stage) in enumerate(zip(schedule.starts, schedule.stages, strict=True)):
        begins = range(start, schedule.end(index), stage.batch_size)
        assert [schedule.at(begin).step for begin in begins] == list(range(len(begins)))


@properties
@given(schedules(), st.data())
def test_a_schedule_agrees_with_its_beginning_for_as_long_as_that_lasts(schedule, data):
    count = data.draw(st.integers(1, len(schedule.stages)))
    seen = data.draw(st.integers(0, schedule.total_images))
    beginning = Schedule(schedule.stages[:count])
    # Counts between two steps do not matter: the last step of the beginning may run over its end.
    begun = [growth for n, growth in walk(schedule)[0] if n < seen]
    agrees = all(growth.stage < count for growth in begun)
    assert schedule.agrees(beginning, seen) == beginning.agrees(schedule, seen) == agrees
    assert not agrees or begun == [growth for n, growth in walk(beginning)[0] if n < seen]


@properties
@given(schedules())
def test_reached_is_what_the_steps_have_trained(schedule):
    steps, end = walk(schedule)
    stage = 0
    for n, growth in steps:
        # Before the first step of a stage, the stage before is what there is to show, in full.
        grown = growth.stage == stage
        assert schedule.reached(n) == ((growth.level, growth.alpha) if grown else (schedule.stages[stage].level, None))
        stage = growth.stage
    assert schedule.reached(end) == (schedule.stages[-1].level, None)


FIRST = [Stage(0, hold_images=80), Stage(1, fade_images=80, hold_images=40)]


def test_agrees_where_a_longer_schedule_only_adds():
    short, long = Schedule(FIRST), Schedule([*FIRST, Stage(2, fade_images=80)])
    assert short.agrees(long, 200)
    assert not short.agrees(long, 201)
    # The last stage may be held longer, but its fade and its start are what they were.
    assert short.agrees(Schedule([FIRST[0], Stage(1, 80, 400)]), 200)
    assert not short.agrees(Schedule([FIRST[0], Stage(1, 40, 80)]), 81)
    assert short.agrees(Schedule([FIRST[0], Stage(1, 40, 80)]), 80)
    assert not short.agrees(Schedule([Stage(0, hold_images=81), FIRST[1]]), 81)
    assert not short.agrees(Schedule([Stage(0, hold_images=80, learning_rate=2e-3), FIRST[1]]), 8)


def test_stages_at_the_edge():
    schedule = Schedule(FIRST)
    assert schedule.at(79) == Growth(0, 0, None, 1e-3, 8, 9)
    assert schedule.at(80) == Growth(1, 1, 0.0, 1e-3, 8)
    assert schedule.at(159) == Growth(1, 1, 79 / 80, 1e-3, 8, 9)
    assert schedule.at(160) == Growth(1, 1, None, 1e-3, 8, 10)


@pytest.mark.parametrize(
    ("error", "settings", "text"),
    [
        (ValueError, {"level": -1}, "Stage.level must be at least 0, got -1"),
        (ValueError, {"hold_images": -8}, "Stage.hold_images must be at least 0, got -8"),
        (ValueError, {"fade_images": -8}, "Stage.fade_images must be at least 0, got -8"),
        (ValueError, {"batch_size": 0}, "Stage.batch_size must be at least 1, got 0"),
        (TypeError, {"level": 1.0}, "Stage.level must be an int, got 1.0"),
        (TypeError, {"hold_images": True}, "Stage.hold_images must be an int, got True"),
        (TypeError, {"batch_size": "8"}, "Stage.batch_size must be an int, got '8'"),
        (TypeError, {"learning_rate": "1e-3"}, "Stage.learning_rate must be a real number, got '1e-3'"),
        (TypeError, {"learning_rate": True}, "Stage.learning_rate must be a real number, got True"),
        (TypeError, {"learning_rate": 1j}, "Stage.learning_rate must be a real number, got 1j"),
        (ValueError, {"learning_rate": 0.0}, "Stage.learning_rate must be positive and finite, got 0.0"),
        (ValueError, {"learning_rate": math.nan}, "Stage.learning_rate must be positive and finite, got nan"),
        (ValueError, {"learning_rate": math.inf}, "Stage.learning_rate must be positive and finite, got inf"),
        (
            ValueError,
            {"level": 0, "fade_images": 8},
            "level 0 has no level below to fade from, got fade_images=8; use hold_images",
        ),
    ],
)
def test_stage_refusals(error, settings, text):
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        Stage(**{"level": 1, **settings})


@pytest.mark.parametrize("number", [np.float32(0.25), np.float64(0.25), Fraction(1, 4)])
def test_any_real_number_is_a_learning_rate_and_is_kept_as_a_float(number):
    stage = Stage(0, hold_images=8, learning_rate=number)
    assert type(stage.learning_rate) is float
    assert stage == Stage(0, hold_images=8, learning_rate=0.25)
    assert json.loads(json.dumps(asdict(stage)))["learning_rate"] == 0.25


@pytest.mark.parametrize(
    ("stages", "text"),
    [
        ([], "a schedule needs at least one stage, got none"),
        (
            [Stage(0, hold_images=8), Stage(2, hold_images=8)],
            "stage 1 is at level 2 after level 0; levels must stay or rise by one, so give it level 0 or 1",
        ),
        (
            [Stage(1, hold_images=8), Stage(0, hold_images=8)],
            "stage 1 is at level 0 after level 1; levels must stay or rise by one, so give it level 1 or 2",
        ),
        (
            [Stage(1, hold_images=8), Stage(1, fade_images=8)],
            "stage 1 repeats level 1, which is there already, but has fade_images=8; use hold_images",
        ),
        (
            [Stage(0, hold_images=7)],
            "stage 0 has 7 images (fade + hold), less than a batch of 8, its own or the one before it, so it could be "
            "stepped over; give it at least 8",
        ),
        (
            [Stage(0, hold_images=16, batch_size=16), Stage(1, 8, 7)],
            "stage 1 has 15 images (fade + hold), less than a batch of 16, its own or the one before it, so it could "
            "be stepped over; give it at least 16",
        ),
    ],
)
def test_schedule_refusals(stages, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Schedule(stages)


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match=r"^images_seen must be 0 or more, got -1$"):
        Schedule(FIRST).at(-1)


def test_schedules_are_values():
    assert Schedule(FIRST) == Schedule(tuple(FIRST))
    assert hash(Schedule(FIRST)) == hash(Schedule(tuple(FIRST)))
    assert Schedule(FIRST) != Schedule(FIRST[:1])
    assert Schedule(FIRST) != FIRST
    assert repr(Schedule(FIRST)) == f"Schedule([{FIRST[0]!r}, {FIRST[1]!r}])"


def test_starting_at_keeps_the_images_of_every_level_from_one_on():
    stages = (Stage(0, 0, 80), Stage(1, 60, 20), Stage(2, 40, 40, 16, 5e-4), Stage(2, 0, 80), Stage(3, 80))
    schedule = Schedule(stages)
    assert schedule.starting_at(0) == schedule
    assert schedule.starting_at(2).stages == (Stage(2, 0, 80, 16, 5e-4), *stages[3:])
    assert schedule.starting_at(2, fade=True).stages == stages[2:]
    assert schedule.starting_at(3).stages == (Stage(3, 0, 80),)
    assert schedule.starting_at(1).starting_at(2) == schedule.starting_at(2)
    with pytest.raises(ValueError, match="the stages are at levels 0 to 3, and none is at level 4; pass one of these"):
        schedule.starting_at(4)
    with pytest.raises(ValueError, match="the stages are at levels 2 to 3, and none is at level 1"):
        schedule.starting_at(2).starting_at(1)
    with pytest.raises(ValueError, match="level 2 does not fade in in this schedule; leave fade=True out"):
        schedule.starting_at(2).starting_at(2, fade=True)
    with pytest.raises(TypeError, match="level must be an int, got '2'"):
        schedule.starting_at("2")


def test_table():
    schedule = Schedule([Stage(0, hold_images=1200, batch_size=128), Stage(1, 800, 400, learning_rate=5e-4)])
    assert schedule.table((6, 4)).splitlines() == [
        "stage  resolution  fade   hold  batch  learning rate",
        "    0         6x4     0  1,200    128          0.001",
        "    1        12x8   800    400      8         0.0005",
        "total: 2,400 images",
    ]
    assert schedule.table(n_images=600).splitlines() == [
        "stage  resolution  fade   hold  batch  learning rate  epochs",
        "    0         4x4     0  1,200    128          0.001     2.0",
        "    1         8x8   800    400      8         0.0005     2.0",
        "total: 2,400 images, 4.0 epochs over 600 images",
    ]
