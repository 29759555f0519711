"""How a run is ended from within: a callback that stops it, and interrupts that are no signals."""

from __future__ import annotations

import signal
import sys
import threading

import pytest
from conftest import Noisy, contents

from progan import Callback, Trainer
from progan.training.step import TrainingStep

INTERVALS = {"log_every": 8, "save_every": 24, "preview_every": 1000}


def make(recipe, run_dir=None, **keywords) -> Trainer:
    return Trainer.from_recipe(
        recipe, seed=3, run_dir=run_dir, device="cpu", progress=False, **{**INTERVALS, **keywords}
    )


def calling(event: str, at: int, work) -> Callback:
    """A callback that does something the first time that an event comes at a count of images."""
    callback, left = Callback(), [work]

    def listen(run, *_):
        if run.images_seen == at and left:
            left.pop()(run)

    setattr(callback, event, listen)
    return callback


class Record(Callback):
    def __init__(self):
        self.events = []

    def on_step(self, run, metrics):
        self.events.append(("step", run.images_seen))

    def on_stage_end(self, run, growth):
        self.events.append(("stage end", run.images_seen))

    def on_save(self, run, path):
        self.events.append(("save", int(path.name)))

    def on_end(self, run):
        self.events.append(("end", run.images_seen))


@pytest.mark.parametrize(
    ("event", "at", "end"),
    [
        ("on_start", 0, []),
        ("on_step", 16, [("step", 16), ("save", 16)]),
        ("on_stage_end", 32, [("step", 32), ("stage end", 32), ("save", 32)]),
        ("on_save", 24, [("step", 24), ("save", 24)]),
        ("on_step", 24, [("step", 24), ("save", 24)]),
        ("on_end", 40, [("step", 40), ("save", 40)]),
    ],
)
def test_a_callback_stops_a_run_which_then_goes_on_as_if_it_had_not(event, at, end, recipe, images, tmp_path):
    record = Record()
    stopping = calling(event, at, lambda run: run.stop())
    trainer = make(recipe, tmp_path / "run", callbacks=[stopping, record])
    trainer.fit(images, until=40)
    assert trainer.images_seen == at
    assert record.events[-len(end) - 1 :] == [*end, ("end", at)]
    assert record.events.count(("save", at)) == (at > 0)
    trainer.fit(images, until=56)
    assert trainer.images_seen == 56, "the next fit trains on"
    make(recipe, tmp_path / "run").fit(images)
    whole = make(recipe, tmp_path / "whole")
    whole.fit(images)
    for name in ("metrics.jsonl", "checkpoints/000000096/tensors.safetensors"):
        assert contents(tmp_path / "run")[name] == contents(tmp_path / "whole")[name]


def test_outside_fit_stop_does_nothing_and_another_thread_may_ask(recipe, images):
    trainer = make(recipe)
    trainer.stop()
    trainer.fit(images, until=8)
    assert trainer.images_seen == 8

    def stop(run):
        thread = threading.Thread(target=run.stop)
        thread.start()
        thread.join()

    trainer = make(recipe, callbacks=[calling("on_step", 16, stop)])
    trainer.fit(images)
    assert trainer.images_seen == 16


def interrupt(run) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("event", "at"), [("on_step", 16), ("on_stage_end", 32), ("on_save", 24)])
def test_a_keyboard_interrupt_of_a_callback_loses_no_step(event, at, recipe, images, tmp_path):
    """As a debugger raises it, or a program that takes Ctrl-C itself."""
    trainer = make(recipe, tmp_path / "run", callbacks=[calling(event, at, interrupt)])
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer.fit(images)
    assert type(caught.value) is KeyboardInterrupt
    notes = getattr(caught.value, "__notes__", [])
    saved = f"raised between two steps; all {at} images trained are saved in {tmp_path / 'run'}"
    assert notes == ([] if event == "on_save" else [saved])
    assert make(recipe, tmp_path / "run").images_seen == at


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_within_the_data_set_loses_no_step(error, recipe, images, tmp_path):
    class Interrupting(Noisy):
        fetched = 0

        def __getitem__(self, index):
            self.fetched += 1
            if self.fetched == 2 + 16 + 3:  # two to look at, then in the third batch
                raise error
            return super().__getitem__(index)

    with pytest.raises(error) as caught:
        make(recipe, tmp_path / "run").fit(Interrupting(images))
    assert "all 16 images trained are saved" in caught.value.__notes__[-1]
    assert make(recipe, tmp_path / "run").images_seen == 16


def test_an_interrupt_within_a_step_saves_nothing_of_it_and_says_so(recipe, images, tmp_path, monkeypatch):
    step = TrainingStep.__call__

    def interrupted(self, real, draws, growth, images_seen):
        losses = step(self, real, draws, growth, images_seen)
        if images_seen == 32:
            raise KeyboardInterrupt
        return losses

    monkeypatch.setattr(TrainingStep, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        make(recipe, tmp_path / "run").fit(images)
    assert caught.value.__notes__[0].startswith("raised within a step, so nothing was saved")
    assert make(recipe, tmp_path / "run").images_seen == 24


def test_a_second_ctrl_c_still_ends_at_once(recipe, images, tmp_path):
    def twice(run):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        make(recipe, tmp_path / "run", callbacks=[calling("on_step", 32, twice)]).fit(images)
    assert not hasattr(caught.value, "__notes__")
    assert make(recipe, tmp_path / "run").images_seen == 24


def test_a_signal_and_a_stop_in_one_step_are_a_signal(recipe, images, tmp_path):
    def both(run):
        signal.raise_signal(signal.SIGTERM)
        run.stop()

    with pytest.raises(KeyboardInterrupt, match=f"signal {int(signal.SIGTERM)}"):
        make(recipe, tmp_path / "run", callbacks=[calling("on_step", 16, both)]).fit(images)
    assert make(recipe, tmp_path / "run").images_seen == 16


def test_an_error_that_follows_from_on_save_is_told_beside_the_save(recipe, images, tmp_path):
    def fail(run):
        raise ValueError("and this")

    callbacks = [calling("on_step", 16, lambda run: sys.exit(3)), calling("on_save", 16, fail)]
    with pytest.raises(SystemExit) as caught:
        make(recipe, tmp_path / "run", callbacks=callbacks).fit(images)
    assert caught.value.__notes__ == [
        f"raised by a callback; all 16 images trained are saved in {tmp_path / 'run'}",
        "on_save of a callback then raised ValueError: and this",
    ]
    assert make(recipe, tmp_path / "run").images_seen == 16
