"""The plan: time, memory, whether a batch fits, and a schedule for a number of hours."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import small_recipe

from progan import R1, Plan, Schedule, Stage, Trainer, presets
from progan.runtime.memory import memory_limit, peak
from progan.training import planning

CPU = torch.device("cpu")
needs_linux = pytest.mark.skipif(memory_limit(CPU) is None, reason="the system does not tell of its memory")


def make(recipe, **keywords):
    return Trainer.from_recipe(recipe, device="cpu", progress=False, **keywords)


@pytest.fixture
def recipe():
    return small_recipe(presets.mel_icon)


@needs_linux
def test_a_plan_tells_of_memory(recipe):
    plan = make(recipe).plan(printed=False)
    assert 0 < plan.memory < plan.memory_limit
    assert plan.fits
    assert plan.memory <= 1.01 * peak(CPU)  # the system counts in rough steps


def test_a_plan_is_printed(recipe, capsys):
    plan = make(recipe).plan()
    printed = capsys.readouterr().out
    assert plan.table(recipe.schedule) in printed
    assert f"in all: {plan}; memory: " in printed


def test_what_does_not_fit_is_told():
    plan = Plan((0.5,), (4.0,), 3_000_000_000, 2_000_000_000)
    assert plan.fits is False
    assert plan.memory_text() == "3.00 GB of 2.00 GB, too much"
    assert Plan((0.5,), (4.0,)).fits is None
    assert Plan((0.5,), (4.0,)).memory_text() == "not measured here"


@pytest.mark.parametrize(("limit", "largest"), [(3_000, 16), (2_999, 8), (9_000, 64), (1_000, 8)])
def test_the_largest_batch_that_fits_is_named(recipe, limit, largest, monkeypatch):
    steps = []

    def step(_, growth, number, captured=None):
        steps.append(growth.batch_size)
        return 1.0

    # A process of 1,000 bytes, and 125 more for every image of the batch.
    monkeypatch.setattr(planning, "_step_on_noise", step)
    monkeypatch.setattr(planning, "memory_limit", lambda _: limit)
    monkeypatch.setattr(planning, "begin_peak", lambda _: None)
    monkeypatch.setattr(planning, "peak", lambda _: 1_000 + 125 * max(steps, default=0))
    too_large = replace(recipe, stages=(Stage(0, hold_images=1000, batch_size=128),))
    with pytest.raises(
        ValueError, match=r"stage 0 does not fit: a batch of 128 at level 0 takes about 0\.00 GB"
    ) as error:
        make(too_large).plan()
    assert f"the largest that fits is {largest}. " in str(error.value) or limit == 1_000
    assert max(steps) <= max(largest, 8), "none beyond it was tried"
    fits = replace(recipe, stages=(Stage(0, hold_images=1000, batch_size=largest),))
    if limit > 1_000:
        steps.clear()
        assert make(fits).plan(printed=False).fits


@pytest.mark.parametrize(("micro_batch", "tried"), [(None, [8, 16]), (32, [8, 16]), (16, [8, 16, 128]), (8, [8, 128])])
def test_a_batch_that_does_not_fit_may_do_so_in_parts(recipe, micro_batch, tried, monkeypatch):
    steps, at_once = [], []

    def step(step, growth, number, captured=None):
        steps.append(growth.batch_size)
        at_once.append(min(growth.batch_size, step._micro_batch or 128))
        return 1.0

    monkeypatch.setattr(planning, "_step_on_noise", step)
    monkeypatch.setattr(planning, "memory_limit", lambda _: 3_000)  # of 16 images
    monkeypatch.setattr(planning, "begin_peak", lambda _: None)
    monkeypatch.setattr(planning, "peak", lambda _: 1_000 + 125 * max(at_once, default=0))
    trainer = make(replace(recipe, stages=(Stage(0, hold_images=1000, batch_size=128),)), micro_batch=micro_batch)
    if micro_batch in (None, 32):
        parts = "" if micro_batch is None else " in parts of 32"
        remedy = (
            "Pass micro_batch=16 to train on the same batch in parts, give stage 0 a smaller batch_size, or train a"
        )
        with pytest.raises(
            ValueError, match=rf"batch of 128{parts} at level 0 takes .* fits is 16\. {remedy} lower res"
        ):
            trainer.plan()
        assert steps == tried
    else:
        assert trainer.plan(printed=False).fits
        assert steps[: len(tried)] == tried


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you ...")],
)
def test_out_of_memory_names_the_largest_batch_tried(error, recipe, monkeypatch):
    def step(_, growth, number, captured=None):
        if growth.batch_size > 32:
            raise error
        return 1.0

    monkeypatch.setattr(planning, "_step_on_noise", step)
    monkeypatch.setattr(planning, "memory_limit", lambda _: 1_000)
    monkeypatch.setattr(planning, "begin_peak", lambda _: None)
    monkeypatch.setattr(planning, "peak", lambda _: 0)
    too_large = replace(recipe, stages=(Stage(0, hold_images=1000, batch_size=128),))
    with pytest.raises(ValueError, match=r"takes more memory than there is, and 0\.00 GB is available"):
        make(too_large).plan()


def test_other_errors_of_a_step_stay_what_they_are(recipe, monkeypatch):
    def step(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(planning, "_step_on_noise", step)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        make(recipe).plan()


@pytest.mark.parametrize("factor", [0.001, 0.3, 1.0, 7.5])
def test_a_scaled_schedule_is_sound(factor):
    schedule = presets.karras2018(64).schedule
    scaled = schedule.scaled(factor)
    for stage, before in zip(scaled.stages, schedule.stages, strict=True):
        for images, original in ((stage.fade_images, before.fade_images), (stage.hold_images, before.hold_images)):
            assert bool(images) == bool(original)
            if original * factor > 1000:
                assert images == round(original * factor)
    assert schedule.scaled(1.0) == schedule


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_schedule_is_not_scaled_by_nonsense(factor):
    with pytest.raises(ValueError, match="factor must be a number above 0"):
        Schedule([Stage(0, hold_images=8)]).scaled(factor)


def test_hours_scale_a_recipe_once(recipe, tmp_path, monkeypatch):
    data = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(planning, "_step_on_noise", lambda *_: 10.0)  # seconds
    keywords = {"run_dir": tmp_path / "run", "device": "cpu", "progress": False}
    clock = SimpleNamespace(perf_counter=itertools.count().__next__)  # planning takes a second, here and once more
    monkeypatch.setattr(planning, "time", clock)
    hours = (3 * recipe.schedule.total_images * 10 / 8 + 2) / 3600  # batches of 8
    scaled = Trainer.recipe_for_hours(recipe, hours, **keywords)
    assert scaled.schedule == recipe.schedule.scaled(3)
    short = Trainer.recipe_for_hours(recipe, 2 / 3600, device="cpu")  # which planning would take whole
    assert short.schedule == recipe.schedule.scaled(1 / (recipe.schedule.total_images * 10 / 8))
    Trainer.from_recipe(scaled, **keywords).fit(data, until=16)
    # The same command again, on a machine that is slower now: the run's own length stays.
    monkeypatch.setattr(planning, "_step_on_noise", lambda *_: pytest.fail("timed again"))
    again = Trainer.recipe_for_hours(recipe, hours, **keywords)
    assert again == scaled
    trainer = Trainer.from_recipe(again, **keywords)
    assert trainer.images_seen == 16
    # Another recipe is timed, and then refused by the trainer.
    monkeypatch.setattr(planning, "_step_on_noise", lambda *_: 10.0)
    faster = replace(recipe, stages=tuple(replace(stage, learning_rate=0.1) for stage in recipe.stages))
    with pytest.raises(ValueError, match="holds another run"):
        Trainer.from_recipe(Trainer.recipe_for_hours(faster, 0.1, **keywords), **keywords)


@pytest.mark.parametrize("hours", [0, -1, float("nan"), float("inf")])
def test_hours_are_a_number_above_0(recipe, hours):
    with pytest.raises(ValueError, match="hours must be a number above 0"):
        Trainer.recipe_for_hours(recipe, hours)


def test_a_lazy_regulariser_counts_as_often_as_it_is_applied(recipe, monkeypatch):
    lazy = replace(recipe, training=replace(recipe.training, regularizers=R1(every=4)))
    monkeypatch.setattr(planning, "_check_fits", lambda *_: None)
    monkeypatch.setattr(planning._Stopwatch, "_time", lambda _, growth: 1.0 if growth.step % 4 else 5.0)
    plan, plain = make(lazy).plan(printed=False), make(recipe).plan(printed=False)
    assert set(plan.image_s) == {(1 * 3 + 5) / 4 / 8}
    assert set(plain.image_s) == {5 / 8}


def test_a_rough_plan_times_one_step_of_each_level(recipe, monkeypatch):
    lazy = replace(recipe, training=replace(recipe.training, regularizers=R1(every=4)))
    timed = []

    def step_on_noise(step, growth, *_):
        timed.append((growth.level, growth.step % 4 == 0))
        return 10.0 * 4**growth.level * (3 if growth.step % 4 == 0 else 1)

    monkeypatch.setattr(planning, "_step_on_noise", step_on_noise)
    monkeypatch.setattr(planning, "_check_fits", lambda step, growth, *_: timed.append(f"trial at {growth.level}"))
    plan = make(lazy).plan(printed=False, rough=True)
    assert timed == ["trial at 2", (0, False), (0, True), (1, False), (2, False)]
    for level, image_s in enumerate(plan.image_s):
        assert image_s == pytest.approx(10 * 4**level * 1.5 / 8)  # every fourth step takes three times as long
