"""What watches: the progress and its estimate, the previews and the strip."""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import small_recipe

from progan import Callback, Plan, Schedule, Stage, StepMetrics, Trainer, image_grid, presets, to_uint8
from progan.randomness import latents
from progan.render import enlarge, read_png
from progan.runtime.progress import duration
from progan.training.callbacks import (
    CallbackList,
    FlipCheck,
    LossRows,
    MetricsLog,
    PaletteCheck,
    Previews,
    Progress,
    metrics_log,
    progress,
)
from progan.training.callbacks.metrics_log import JsonLines
from progan.training.callbacks.progress import Rate


def test_strip_has_one_row_per_resolution_of_the_same_latents(recipe, images, tmp_path):
    trainer = Trainer.from_recipe(recipe, seed=3, run_dir=tmp_path, device="cpu", progress=False, preview_every=1000)
    rows = []

    for until in (32, 64, 1000):
        trainer.fit(images, until=until)
        z = latents(range(16), recipe.architecture.latent_shape, trainer.seed, "preview")
        pictures = enlarge(to_uint8(torch.cat([trainer.grown().images(part) for part in z.split(8)])), 128)
        rows.append(image_grid(pictures[:8], 8))
        assert torch.equal(read_png(tmp_path / "progress.png"), torch.cat(rows, dim=1))
        assert torch.equal(read_png(tmp_path / f"samples/{trainer.images_seen:09d}.png"), image_grid(pictures, 4))


def test_a_row_that_a_person_changed_is_left_out(recipe, images, tmp_path):
    trainer = Trainer.from_recipe(recipe, run_dir=tmp_path, device="cpu", progress=False)
    trainer.fit(images, until=32)
    (tmp_path / "samples/level_0.png").write_text("mine")
    trainer.fit(images, until=64)
    assert read_png(tmp_path / "progress.png").shape == (3, 128, 8 * 128)


def test_rows_of_a_run_that_grew_on_are_enlarged(tmp_path, images):
    """A longer schedule may go to levels that are higher than the rows were drawn."""
    recipe = small_recipe()

    class Small(Previews):
        def __init__(self):
            super().__init__(10, least_height=8)

    short = replace(recipe, stages=recipe.stages[:2])
    for stages in (short, recipe):
        trainer = Trainer.from_recipe(stages, run_dir=tmp_path, device="cpu", progress=False)
        trainer._callbacks.callbacks = (Small(),)
        trainer.fit(images)
    assert read_png(tmp_path / "samples/level_1.png").shape == (3, 8, 8 * 8)
    assert read_png(tmp_path / "progress.png").shape == (3, 3 * 16, 8 * 16)


def test_a_log_and_previews_of_ones_own_take_the_place_of_the_trainers(tmp_path, images):
    class Own(Previews):
        """A derived one does, too."""

    own = [MetricsLog(24), Own(48)]
    trainer = Trainer.from_recipe(
        small_recipe(), run_dir=tmp_path, device="cpu", progress=False, log_every=8, preview_every=8, callbacks=own
    )
    trainer.fit(images, until=64)
    counts = [json.loads(line)["images_seen"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert counts == [24, 48]
    assert [path.name for path in sorted((tmp_path / "samples").glob("0*"))] == [
        *("000000032.png", "000000048.png", "000000064.png")  # and two ends of stages
    ]


@pytest.mark.parametrize("kind", [MetricsLog, Previews])
def test_what_writes_into_a_run_directory_needs_one(kind, images):
    with pytest.raises(ValueError, match=f"{kind.__name__} writes into a run directory; give the trainer a run_dir"):
        Trainer.from_recipe(small_recipe(), device="cpu", progress=False, callbacks=[kind(8)]).fit(images)
    for every in (0, 8.0):
        with pytest.raises(ValueError, match=f"{kind.__name__} takes an int of at least 1, real images, got {every}"):
            kind(every)


def test_what_is_no_callback_is_refused():
    with pytest.raises(TypeError, match=r"derived from progan.Callback, got the function print"):
        Trainer.from_recipe(small_recipe(), device="cpu", callbacks=[print])


def test_previews_may_be_few_and_small(recipe, images, tmp_path):
    """Each as large as at the highest level of the schedule, from the beginning."""
    assert Previews(10, n=4).row == 4
    own = [Previews(8, n=4, least_height=1)]
    trainer = Trainer.from_recipe(recipe, run_dir=tmp_path, device="cpu", progress=False, callbacks=own)
    trainer.fit(images, until=8)
    assert read_png(tmp_path / "samples/000000008.png").shape == (3, 2 * 16, 2 * 16)


def test_previews_of_classes_take_them_in_turn(tmp_path):
    class Grown:
        """A generator whose pictures are grey, the lighter the higher the class."""

        def __init__(self, architecture):
            self.generator, self.level = SimpleNamespace(architecture=architecture), 0

        def images(self, z, labels):
            return (labels / 2).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)

    architecture = small_recipe().with_classes(3).architecture
    run = SimpleNamespace(run_dir=tmp_path, seed=0, images_seen=8, schedule=Schedule([Stage(0, 0, 8)]))
    run.grown = lambda: Grown(architecture)
    Previews(8, n=9, least_height=1)._draw(run)
    shown = read_png(tmp_path / "samples/000000008.png")[0, ::4, ::4]
    assert shown.tolist() == [[0, 128, 255]] * 3


@pytest.mark.parametrize("safe", [True, None])
def test_mirrored_images_that_may_be_safe_are_no_warning(safe):
    verdict = SimpleNamespace(safe=safe)
    FlipCheck().on_data(None, SimpleNamespace(flip_verdict=lambda: verdict))


@pytest.mark.parametrize("flat", [True, None])
def test_a_palette_for_flat_colours_is_no_warning(flat):
    run = SimpleNamespace(generator=SimpleNamespace(architecture=SimpleNamespace(palette=12)))
    PaletteCheck().on_data(run, SimpleNamespace(colour_verdict=lambda: SimpleNamespace(flat=flat)))


def test_the_trainer_warns_of_a_palette_for_shaded_pictures_once(tmp_path):
    images = torch.rand(45, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    recipe = presets.few_images(32, 60, total_images=1000, channels=(4, 4, 4, 4))
    trainer = Trainer.from_recipe(recipe, device="cpu", progress=False, run_dir=tmp_path, judge_every=0)
    said = r"mixes its colours from a palette of 12, which is for flat ones, and colours look shaded: 0 % .*flat=False"
    with pytest.warns(UserWarning, match=said) as caught:
        trainer.fit(images, until=4)
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)]
    trainer.fit(images, until=8)
    (logged,) = (tmp_path / "warnings.jsonl").read_text().splitlines()
    assert json.loads(logged) == {"images_seen": 0, "text": str(caught[0].message)}
    shaded = presets.few_images(32, 60, total_images=1000, channels=(4, 4, 4, 4), flat=False)
    assert shaded.architecture.palette == 0
    Trainer.from_recipe(shaded, device="cpu", progress=False).fit(images, until=4)  # no warning


@pytest.mark.parametrize("name", [name for name in vars(Callback) if name.startswith("on_")])
def test_all_callbacks_are_notified_in_order(name):
    notified = []
    of = inspect.signature(getattr(Callback, name)).parameters
    values = [f"the {each}" for each in of if each != "self"]

    def callback(index):
        made = Callback()
        setattr(made, name, lambda *given: notified.append((index, *given)))
        return made

    getattr(CallbackList([callback(1), callback(2)]), name)(*values)
    assert notified == [(1, *values), (2, *values)]


def test_all_callbacks_end_whatever_others_raise():
    ended = []

    class Ends(Callback):
        def on_end(self, run):
            ended.append(self)
            raise OSError("full")

    both = Ends(), Ends()
    with pytest.raises(OSError, match="full"), CallbackList(both).ending(None):
        assert ended == []
    assert ended == [*both]


def test_rows_of_losses_have_the_time_of_a_step_and_since_the_start(recipe, monkeypatch):
    now, rows = [0.0], []
    monkeypatch.setattr(metrics_log, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    growth = recipe.schedule.at(0)
    run = SimpleNamespace(images_seen=80, log=rows.append)
    log = LossRows(24)
    log.on_start(run)
    for count in (88, 96, 104, 112, 120, -96, 104, 112, 120):
        if count < 0:  # back to the checkpoint at 96, which takes a while
            now[0], run.images_seen = now[0] + 50.0, -count
            log.on_return(run)
        else:
            now[0] += 2.0 if count < 100 else 3.0
            log.on_step(run, StepMetrics(count, growth, {}))
    assert [(row["images_seen"], row["step_s"], row["elapsed_s"]) for row in rows] == [
        *((96, 2.0, 4.0), (120, 3.0, 13.0), (120, 3.0, 72.0))
    ]


def test_a_line_that_was_cut_off_is_written_once(tmp_path, monkeypatch):
    """A disk that becomes full in the middle of a line, and a return to before a line that could not be written."""
    lines, append = JsonLines("rows.jsonl"), metrics_log.append_line
    lines.begin(tmp_path, 0)

    def write(count):
        lines.add({"images_seen": count})
        lines.write(tmp_path, count)

    def full(path, text):
        path.write_bytes(path.read_bytes() + (text.encode() + b"\n")[:-3])
        raise OSError("full")

    def half(path, text):
        append(path, text)
        raise OSError("full, after all")

    write(8)
    for fails in (full, half):
        monkeypatch.setattr(metrics_log, "append_line", fails)
        with pytest.raises(OSError, match="full"):
            write(16)
    monkeypatch.setattr(metrics_log, "append_line", append)
    write(24)
    assert (tmp_path / "rows.jsonl").read_text() == "".join(f'{{"images_seen": {count}}}\n' for count in (8, 16, 24))
    lines.add({"images_seen": 32})
    lines.begin(tmp_path, 24)
    lines.write(tmp_path, 24)
    assert (tmp_path / "rows.jsonl").read_text().endswith("24}\n")


SCHEDULE = Schedule([Stage(0, 0, 80), Stage(1, 40, 40), Stage(2, 80, 0)])


def metrics(images_seen: int) -> StepMetrics:
    return StepMetrics(images_seen, SCHEDULE.at(images_seen - 8), {})


def test_time_left_follows_the_plan_at_the_pace_of_the_present_stage():
    rate = Rate(SCHEDULE, Plan((1.0, 2.0, 4.0), (80.0, 160.0, 320.0)))
    rate.update(metrics(8), 0.0)
    assert rate.left(metrics(8)) == (72.0, 72.0 + 160 + 320), "before two steps are timed, the plan's own word"
    rate.update(metrics(16), 12.0)  # 1.5 s an image, half as much again as planned
    assert rate.left(metrics(16)) == (64 * 1.5, 64 * 1.5 + 1.5 * 480)
    rate.update(metrics(88), 500.0)
    assert rate.left(metrics(88)) == (72 * 2.0, 72 * 2.0 + 320), "a new stage starts from its own plan"


def test_time_left_without_a_plan_is_told_only_where_it_is_known():
    rate = Rate(SCHEDULE, None)
    rate.update(metrics(8), 0.0)
    assert rate.left(metrics(8)) == (None, None)
    rate.update(metrics(16), 8.0)
    assert rate.left(metrics(16)) == (64.0, None)
    rate.update(metrics(168), 0.0)
    rate.update(metrics(176), 8.0)
    assert rate.left(metrics(176)) == (64.0, 64.0)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (3599.7, "1 h 00 min"), (None, "?")])
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_plain_lines_without_a_terminal(recipe, images, capsys):
    trainer = Trainer.from_recipe(recipe, device="cpu", progress=False, callbacks=[Progress(line_every_s=0.0)])
    trainer.fit(images, until=40)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6  # a line a step, and one for the end of the stage
    assert lines[-1].startswith("stage 2/3  8x8  alpha 0.10  40/93 images  ")
    assert "images/s  left: stage " in lines[-1]
    assert ", run ?" in lines[-1]


def run_at(images_seen):
    recipe = small_recipe()
    architecture = replace(recipe.architecture, base_size=(6, 4), latent_shape=(5, 6, 4))
    return SimpleNamespace(
        schedule=recipe.schedule,
        plan_made=None,
        images_seen=images_seen,
        generator=SimpleNamespace(architecture=architecture),
    )


def test_plain_lines_come_at_intervals(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    watch, run = Progress(line_every_s=30.0), run_at(0)
    watch.on_start(run)
    for count in range(8, 81, 8):
        now[0] += 10.0
        watch.on_step(run, StepMetrics(count, run.schedule.at(count - 8), {}))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[3] for line in lines] == [f"{count}/93 images" for count in (24, 48, 72)]
    assert lines[0] == "stage 1/3  6x4  grown  24/93 images  0.8 images/s  left: stage 8 s, run ?"


def test_a_bar_ends_full_and_goes_back_with_the_run(monkeypatch):
    class Bar:
        def __init__(self, total, n, form):
            self.total, self.n, self.shown = total, n, []

        def update(self, n):
            self.n += n

        def set_description_str(self, text, refresh):
            self.shown.append(text)

        def set_postfix_str(self, text, refresh):
            self.shown.append(text)

    monkeypatch.setattr(progress, "open_bar", Bar)
    watch, run = Progress(), run_at(80)
    watch.on_start(run)
    for count, shown in ((88, 88), (96, 93)):
        watch.on_step(run, StepMetrics(count, run.schedule.at(count - 8), {}))
        assert watch._bar.n == shown
    run.images_seen = 64
    watch.on_return(run)
    assert watch._bar.n == 64
    watch.on_step(run, StepMetrics(72, run.schedule.at(64), {}))
    assert watch._bar.n == 72
    assert watch._bar.shown[-2] == "stage 3/3  24x16  alpha 0.21"
    assert watch._bar.shown[-1].startswith("? images/s"), "the pace is measured anew"


def test_a_bar_on_a_terminal(recipe, images, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    trainer = Trainer.from_recipe(recipe, device="cpu", progress=True)
    trainer.fit(images, until=40)
    bar = capsys.readouterr().err.split("\r")[-1]
    assert "stage 2/3  8x8  alpha 0.10" in bar
    assert "40/93 images" in bar
    assert "left: stage" in bar


def test_lines_on_a_terminal_without_tqdm(recipe, images, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    Trainer.from_recipe(recipe, device="cpu", callbacks=[]).fit(images, until=32)
    assert capsys.readouterr().err.startswith("stage 1/3  4x4  grown  32/93 images")


@pytest.mark.usefixtures("short_plans")
def test_a_long_run_is_planned_for_its_bar(recipe, images, monkeypatch):
    monkeypatch.setattr("progan.training.loop.worth_planning", lambda *_: True)
    trainer = Trainer.from_recipe(recipe, device="cpu")
    trainer.fit(images, until=8)
    assert trainer.plan_made is not None


def test_rows_of_a_tall_base_are_of_one_size(images, tmp_path):
    recipe = small_recipe()
    architecture = replace(recipe.architecture, base_size=(6, 4), latent_shape=(5, 6, 4))
    trainer = Trainer.from_recipe(
        replace(recipe, architecture=architecture), run_dir=tmp_path, device="cpu", progress=False
    )
    trainer.fit(torch.rand(9, 3, 24, 16), until=64)
    assert read_png(tmp_path / "progress.png").shape == (3, 2 * 192, 8 * 128)
