"""How a run ends early: a callback that stops it, errors, interrupts, and signals that the process handles."""

from __future__ import annotations

import signal
import sys
import threading

import pytest
import torch
from conftest import Noisy, contents

from progan import Callback, Interrupted, Trainer
from progan.data.order import Order
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

    def interrupted(self, real, draws, growth, images_seen, *labels):
        losses = step(self, real, draws, growth, images_seen, *labels)
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


@pytest.mark.parametrize("recover", [0, 1])
def test_a_signal_before_the_first_step_lets_it_be_taken_and_saved(recover, recipe, images, tmp_path):
    interrupt = calling("on_start", 0, lambda run: signal.raise_signal(signal.SIGINT))
    record = Record()
    with pytest.raises(Interrupted):
        make(recipe, tmp_path, callbacks=[interrupt, record], recover=recover).fit(images)
    assert record.events == [("save", 0)] * recover + [("step", 8), ("save", 8), ("end", 8)]


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


def test_an_error_of_a_callback_tells_where_nothing_could_be_saved(recipe, images, tmp_path, monkeypatch):
    class Fails(Callback):
        def on_step(self, run, metrics):
            raise RuntimeError("a fault of mine")

    with pytest.raises(RuntimeError, match="a fault of mine") as caught:
        make(recipe, callbacks=[Fails()]).fit(images)
    assert not hasattr(caught.value, "__notes__")
    trainer = make(recipe, tmp_path / "run", callbacks=[Fails()])
    monkeypatch.setattr(trainer._checkpointer, "_write", lambda run: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(RuntimeError, match="a fault of mine") as caught:
        trainer.fit(images)
    assert caught.value.__notes__ == ["progan could not save after it: disk full"]


@pytest.mark.parametrize("event", ["on_step", "on_stage_end"])
def test_the_error_of_a_callback_is_raised_after_a_save_and_ends_every_other(event, recipe, images, tmp_path):
    class Fails(Callback):
        def on_end(self, run):
            raise RuntimeError("the end too")

    class Ends(Callback):
        ended = 0

        def on_end(self, run):
            self.ended += 1

    def fail(run, what):
        if run.images_seen >= 32:
            raise RuntimeError("a fault of mine")

    failing, ends = Fails(), Ends()
    setattr(failing, event, fail)
    with pytest.raises(RuntimeError, match="the end too") as caught:
        make(recipe, tmp_path / "run", callbacks=[failing, ends]).fit(images)
    first = caught.value.__context__
    assert str(first) == "a fault of mine"
    assert "all 32 images trained are saved in" in first.__notes__[0]
    assert ends.ended == 1
    assert make(recipe, tmp_path / "run").images_seen == 32


class Broken(Noisy):
    broken = True

    def __getitem__(self, index):
        if self.broken and index == 13:
            raise OSError("cannot read picture 13")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_error_of_an_item_is_raised_after_a_save(workers, recipe, images, tmp_path):
    # Image 13 comes in the third step.
    seed = next(seed for seed in range(1000) if list(Order(21, seed).of_epoch(0)).index(13) in range(16, 21))
    data = Broken(images)
    settings = {"seed": seed, "run_dir": tmp_path / "run", "device": "cpu", "progress": False, "workers": workers}
    with pytest.raises(OSError, match="cannot read picture 13") as caught:
        Trainer.from_recipe(recipe, **settings).fit(data, until=40)
    assert caught.value.__notes__[-1].startswith("raised by the data set; all 16 images trained are saved in")
    data.broken = False
    again = Trainer.from_recipe(recipe, **settings)
    assert again.images_seen == 16
    again.fit(data, until=40)
    whole = Trainer.from_recipe(recipe, **{**settings, "run_dir": None})
    whole.fit(data, until=40)
    for name, tensor in whole.state_dict()["tensors"].items():
        assert torch.equal(tensor, again.state_dict()["tensors"][name]), name


@pytest.mark.parametrize("before", [signal.SIG_IGN, None])
def test_where_ctrl_c_is_ignored_or_taken_it_stays_so(before, recipe, images, monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda number: before)
    monkeypatch.setattr(signal, "signal", lambda *_: pytest.fail("a handler was set"))
    make(recipe).fit(images, until=8)


def test_a_signal_that_is_ignored_stays_ignored(recipe, images):
    class Ask(Callback):
        def on_step(self, run, metrics):
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        trainer = make(recipe, callbacks=[Ask()])
        trainer.fit(images, until=16)
        assert trainer.images_seen == 16
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_fit_outside_the_main_thread_leaves_signals_alone(recipe, images):
    before = signal.getsignal(signal.SIGINT)
    trainer = make(recipe)
    thread = threading.Thread(target=trainer.fit, args=(images,), kwargs={"until": 8})
    thread.start()
    thread.join()
    assert (trainer.images_seen, signal.getsignal(signal.SIGINT)) == (8, before)
