"""Listeners to a run's rows: trackers of any kind, TensorBoard, the report page, the log of warnings."""

from __future__ import annotations

import json
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
from running import make

from progan import (
    Callback,
    Judge,
    Measured,
    MetricsLog,
    Previews,
    Schedule,
    Stage,
    StepMetrics,
    TensorBoard,
    Tracker,
)
from progan.errors import listening, warn
from progan.training.callbacks import ReportPage, report_page, trackers
from progan.training.callbacks.trackers import numbers_of


class Target:
    """As a run of wandb is."""

    def __init__(self):
        self.logged = []

    def log(self, data, *, step):
        self.logged.append((step, data))


def worth(judged) -> float:
    return 2.0


@pytest.mark.parametrize("run_dir", [True, False])
def test_a_tracker_gets_losses_and_measures(run_dir, recipe, images, tmp_path):
    target = Target()
    own = [Judge(1000, measures={"worth": worth}, n=4), Tracker(target)]
    make(recipe, tmp_path if run_dir else None, log_every=24, callbacks=own).fit(images)
    assert [step for step, _ in target.logged] == [24, 48, 72, 96, 96]
    assert target.logged[0][1].keys() > {"critic_loss", "generator_loss", "level", "learning_rate", "step_s"}
    assert "alpha" not in target.logged[0][1]
    assert "alpha" in target.logged[1][1]
    judged = target.logged[4][1]
    assert judged.pop("judge_s") >= 0
    assert judged == {"stage": 2, "level": 2, "measures/worth": 2.0}
    if run_dir:
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        assert [line["images_seen"] for line in lines] == [24, 48, 72, 96, 96]
        assert lines[0]["critic_loss"] == target.logged[0][1]["critic_loss"]


def test_numbers_of_a_row_are_those_that_a_tracker_can_draw():
    row = {
        "images_seen": 8,
        "critic_loss": float("nan"),
        "is_new": True,
        "level": 2,
        "leading": "swd",
        "floors": {"swd": {"value": 9.0, "low": 8.0, "high": 10.0}, "density": {"value": None}},
    }
    assert numbers_of(row) == {"level": 2, "floors/swd": 9.0}


def test_a_callback_can_log_rows_of_its_own(recipe, images, tmp_path):
    class Own(Callback):
        def on_stage_end(self, run, growth):
            run.log({"mine": growth.level})

    make(recipe, tmp_path, log_every=8, judge_every=0, callbacks=[Own()]).fit(images)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line for line in lines if "mine" in line] == [
        {"images_seen": 32, "mine": 0},
        {"images_seen": 64, "mine": 1},
        {"images_seen": 96, "mine": 2},
    ]
    assert len(lines) == 12 + 3


def test_a_tracker_that_fails_is_one_warning(recipe, images):
    class Fails(Target):
        def log(self, data, *, step):
            raise ConnectionError("no network")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(recipe, callbacks=[Tracker(Fails())]).fit(images)
    (text,) = [str(each.message) for each in caught]
    assert text == "the tracker Fails failed and may lack rows; training continues: ConnectionError: no network"


def test_what_cannot_log_is_refused():
    with pytest.raises(TypeError, match=r"target must be an object with a method log\(dict, step=...\), got 3"):
        Tracker(3)
    with pytest.raises(TypeError, match=r"target must be an object .*, got the class Target"):
        Tracker(Target)


def test_tensorboard_shows_losses_measures_and_grids(recipe, images, tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def fit(run_dir, until=None):
        measures = {"worth": lambda judged: Measured({"worth": 2.0}, remarks=("Fine.", "Better."))}
        own = [Previews(24, n=4, least_height=8), Judge(8, measures=measures, n=4), TensorBoard()]
        make(recipe, run_dir, log_every=8, save_every=24, callbacks=own).fit(images, until=until)

    fit(tmp_path, until=72)
    fit(tmp_path)  # its writer hides nothing before
    found = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    assert [event.step for event in found.Scalars("critic_loss")] == list(range(8, 97, 8))
    assert [event.value for event in found.Scalars("measures/worth")] == [2.0, 2.0]
    remarks = [event.tensor_proto.string_val for event in found.Tensors("remarks/text_summary")]
    assert remarks == [[b"Fine.  \nBetter."]] * 2
    grids = found.Images("samples")
    assert [event.step for event in grids] == [24, 32, 48, 64, 72, 96]
    assert (grids[-1].width, grids[-1].height) == (32, 32)


def test_tensorboard_hides_what_comes_after_a_checkpoint(tmp_path, monkeypatch):
    """And a grid that cannot be read is a warning."""
    done = []

    class Writer:
        def __init__(self, log_dir, purge_step):
            assert log_dir == str(tmp_path / "tensorboard")
            done.append(purge_step)

        def close(self):
            done.append("close")

    monkeypatch.setattr(trackers, "_summary_writer", lambda: Writer)
    board, run = TensorBoard(), SimpleNamespace(run_dir=tmp_path, images_seen=80)
    board.on_start(run)
    run.images_seen = 64
    board.on_return(run)
    assert done == [81, "close", 65]
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples/000000072.png").write_bytes(b"GIF89a")
    with pytest.warns(UserWarning, match="TensorBoard lacks the samples at 72 images: .*is not a PNG"):
        board.on_step(run, StepMetrics(72, Schedule([Stage(2, 0, 96)]).at(64), {}))


def test_without_tensorboard_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r'pip install "progan\[tensorboard\]"$'):
        TensorBoard()


@pytest.mark.parametrize("method", ["add_scalar", "close"])
def test_a_tensorboard_that_cannot_write_is_given_up_with_one_warning(method, recipe, images, tmp_path, monkeypatch):
    class Full:
        """A writer whose disk is full."""

        def __init__(self, *_, **__):
            pass

        def __getattr__(self, name):
            def call(*_):
                if name == method:
                    raise OSError(28, "No space left on device")

            return call

    monkeypatch.setattr(trackers, "_summary_writer", lambda: Full)
    trainer = make(recipe, tmp_path, callbacks=[TensorBoard()])
    with pytest.warns(UserWarning, match="^TensorBoard's files cannot be written, .*No space left on device") as caught:
        trainer.fit(images)
    assert len(caught) == 1
    assert trainer.images_seen == 96


def test_tensorboard_needs_a_directory(recipe, images):
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    with pytest.raises(ValueError, match="TensorBoard needs a directory to write to; pass log_dir="):
        make(recipe, callbacks=[TensorBoard()]).fit(images)


# The report page


def test_the_report_follows_previews_and_judgements(recipe, images, tmp_path, monkeypatch):
    counts = []

    class Count(Callback):
        def on_step(self, run, metrics):
            self.now = run.images_seen

    count = Count()
    monkeypatch.setattr(report_page, "write_report", lambda run_dir, training: counts.append((count.now, training)))
    judge = Judge(24, measures={"worth": worth}, n=4)
    make(recipe, tmp_path, preview_every=56, callbacks=[count, judge]).fit(images)
    # three ends of stages, of which the last is judged, a preview, another judgement, and the end of fit
    assert counts == [*((count, True) for count in (32, 56, 64, 72, 96)), (96, False)]


def test_the_report_hides_no_error_of_a_callback_that_cannot_start(recipe, images, tmp_path):
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(FileExistsError, match="file"):
        make(recipe, tmp_path / "run", callbacks=[TensorBoard(tmp_path / "file")]).fit(images)
    assert not (tmp_path / "run/report.html").exists()


def test_a_run_that_has_not_started_has_no_report():
    ReportPage(8, lambda run_dir, training: pytest.fail("it is written")).on_end(SimpleNamespace(run_dir="a run"))


def test_a_report_that_cannot_be_written_is_one_warning(recipe, images, tmp_path, monkeypatch):
    def fails(run_dir, training):
        raise OSError("full")

    monkeypatch.setattr(report_page, "write_report", fails)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = make(recipe, tmp_path, judge_every=0)
        trainer.fit(images)
    assert [str(each.message) for each in caught] == [
        "the report could not be written; training continues: OSError: full"
    ]
    assert trainer.images_seen == 96


def test_the_report_takes_its_share_of_the_time_at_most(recipe, monkeypatch):
    """A run of 40 minutes, a preview a minute, and a report that takes 3 s."""
    now, written = [0.0], []

    def write(run_dir, training):
        written.append(now[0])
        now[0] += 3.0

    monkeypatch.setattr(report_page.time, "perf_counter", lambda: now[0])
    trainer = make(recipe, None)
    trainer.__dict__["run_dir"] = "a run"
    page = ReportPage(8, write)
    page.on_start(trainer)
    metrics = trainer.step(torch.rand(8, 3, 4, 4))
    for _ in range(40):
        now[0] += 60.0
        page.on_step(trainer, metrics)
    assert 5 <= len(written) <= 9
    assert written[0] == 60.0
    assert 3.0 * len(written) <= 0.01 * 2400


# The log of warnings


class Warns(Callback):
    def __init__(self, *counts):
        self.counts = counts

    def on_step(self, run, metrics):
        if run.images_seen in self.counts:
            warn(f"at {run.images_seen}")


@pytest.mark.filterwarnings("ignore:at ")
def test_warnings_are_logged_once_each(recipe, images, tmp_path):
    def logged():
        return [tuple(json.loads(line).values()) for line in (tmp_path / "warnings.jsonl").read_text().splitlines()]

    make(recipe, tmp_path, save_every=24, callbacks=[Warns(16, 40), Warns(16)]).fit(images, until=40)
    warn("at another place")  # after fit
    assert logged() == [(16, "at 16"), (40, "at 40")]
    with (tmp_path / "warnings.jsonl").open("a") as file:
        file.write('{"images_seen": 64, "text": "past the checkpoint"}\n{"images_se')
    make(recipe, tmp_path, callbacks=[Warns(48)]).fit(images)
    assert logged() == [(16, "at 16"), (40, "at 40"), (48, "at 48")]


@pytest.mark.filterwarnings("ignore:at ")
def test_a_log_of_warnings_never_fails_a_run(recipe, images, tmp_path, monkeypatch):
    make(recipe, tmp_path).fit(images, until=8)
    (tmp_path / "warnings.jsonl").mkdir()

    class Mends(Callback):
        def on_stage_end(self, run, growth):
            (tmp_path / "warnings.jsonl").rmdir()

    trainer = make(recipe, tmp_path, callbacks=[Warns(16), Mends()])
    trainer.fit(images, until=32)
    assert trainer.images_seen == 32
    assert (tmp_path / "warnings.jsonl").read_text() == '{"images_seen": 16, "text": "at 16"}\n', "at the end of fit"


def test_a_listener_hears_what_the_filters_hide():
    heard = []
    with warnings.catch_warnings(), listening(heard.append):
        warnings.simplefilter("ignore")
        warn("hidden")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warn("later")
    assert heard == ["hidden"]


def test_a_log_of_ones_own_gets_judgements_too(recipe, images, tmp_path):
    make(recipe, tmp_path, callbacks=[MetricsLog(48), Judge(1000, measures={"worth": worth}, n=4)]).fit(images)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert ["measures" in line for line in lines] == [False, False, True]
