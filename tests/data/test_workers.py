"""Processes that fetch a data set's items: how they start, and the errors that come from them."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from multiprocessing import process

import pytest
import torch
from conftest import small_recipe
from torch.utils.data import DataLoader, Dataset

from progan import Callback, Trainer

QUIET = {"device": "cpu", "progress": False}

SCRIPT = """
import multiprocessing
import torch
from torch.utils.data import Dataset
from progan import Trainer, presets

class Icons(Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, index):
        return torch.rand(3, 8, 8)

def main():
    recipe = presets.mel_icon(8, channels=(8, 8))
    trainer = Trainer.from_recipe(recipe, run_dir="run", device="cpu", progress=False, workers=1)
    trainer.fit(Icons(), until=16)
    print("ended at", trainer.images_seen)

multiprocessing.set_start_method("spawn", force=True)
"""
GUARD = 'if __name__ == "__main__":\n    main()'


def run(tmp_path, text: str) -> subprocess.CompletedProcess[str]:
    """Run a script from a file, which a spawned process imports."""
    (tmp_path / "train.py").write_text(text)
    command = [sys.executable, "-W", "error", "train.py"]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)


def test_a_script_without_a_main_guard_is_told_so(tmp_path):
    done = run(tmp_path, SCRIPT + "main()")
    assert (done.returncode, done.stdout) == (1, "")
    worker, trainer = done.stderr.split("RuntimeError: the worker processes ended before they fetched an image")
    assert "RuntimeError: Trainer.fit was called by a worker process that is still starting" in worker
    for said in (worker, trainer):
        assert '    if __name__ == "__main__":\n        main()' in said
    assert "is being written to" not in done.stderr


@pytest.mark.slow
def test_a_script_with_a_main_guard_trains_with_workers_that_are_not_forked(tmp_path):
    done = run(tmp_path, SCRIPT + GUARD)
    assert done.stdout == "ended at 16\n", done.stderr


@pytest.mark.parametrize("call", ["fit", "step", "plan", "save", "recipe_for_hours"])
def test_a_process_that_still_imports_the_script_does_not_train(call, recipe, images, tmp_path, monkeypatch):
    trainer = Trainer.from_recipe(recipe, run_dir=tmp_path / "run", **QUIET)
    monkeypatch.setattr(process.current_process(), "_inheriting", True, raising=False)
    arguments = {"fit": [images], "step": [torch.rand(8, 3, 4, 4)], "recipe_for_hours": [recipe, 1.0]}
    with pytest.raises(RuntimeError, match=rf"^Trainer.{call} was called by a worker process that is still starting"):
        getattr(trainer, call)(*arguments.get(call, []))
    assert not list(tmp_path.iterdir())
    Trainer.from_recipe(recipe, **QUIET)  # a script may make one outside its guard
    monkeypatch.setattr("progan.training.engine.world_size", lambda: 2)
    with pytest.raises(RuntimeError, match="that is still starting"):
        Trainer.from_recipe(recipe, **QUIET)


@pytest.mark.parametrize("error", [BrokenPipeError(), EOFError(), ConnectionResetError()])
def test_workers_that_end_while_they_start_are_told_of(error, recipe, images, monkeypatch):
    """As with the fork server of Python 3.14, which imports the script itself."""

    def breaks(self):
        raise error

    monkeypatch.setattr(DataLoader, "__iter__", breaks)
    trainer = Trainer.from_recipe(recipe, workers=1, **QUIET)
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "forkserver")
    with pytest.raises(RuntimeError, match="ended before they fetched an image") as caught:
        trainer.fit(list(images), until=8)
    assert caught.value.__cause__ is error
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "fork")
    with pytest.raises(type(error)):
        trainer.fit(list(images), until=8)


def test_a_data_set_that_cannot_be_sent_to_a_worker_is_told_of(recipe, images, monkeypatch):
    def refuses(self):
        raise AttributeError("Can't pickle local object")

    monkeypatch.setattr(DataLoader, "__iter__", refuses)
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "spawn")
    with pytest.raises(AttributeError, match="Can't pickle") as caught:
        Trainer.from_recipe(recipe, workers=1, **QUIET).fit(list(images), until=8)
    assert "could not be sent to a worker process; define its class" in caught.value.__notes__[0]


class TwoArgumentsError(Exception):
    def __init__(self, path, reason):
        super().__init__(f"{path}: {reason}")


class Failing(Dataset):
    def __init__(self, kind):
        self.kind = kind

    def __len__(self):
        return 21

    def __getitem__(self, index):
        if index == 13:
            self.fail()
        return torch.zeros(3, 16, 16)

    def fail(self):
        class HiddenError(Exception):
            """Of a class that no other process finds."""

        if self.kind == "several":
            raise TwoArgumentsError("13.png", "cut off")
        if self.kind == "hidden":
            raise HiddenError("cut off")
        if self.kind == "stop":
            next(iter(()))
        {}["13.png"]


@pytest.mark.parametrize(
    ("kind", "workers", "error", "text"),
    [
        ("several", 0, TwoArgumentsError, "13.png: cut off"),
        ("several", 1, RuntimeError, "TwoArgumentsError: 13.png: cut off"),
        ("hidden", 0, Exception, "cut off"),
        ("hidden", 1, RuntimeError, "item 13 of the data set raised HiddenError: cut off"),
        ("stop", 0, RuntimeError, "item 13 of the data set raised StopIteration"),
        ("stop", 1, RuntimeError, "item 13 of the data set raised StopIteration"),
        ("key", 0, KeyError, "13.png"),
        ("key", 1, KeyError, "KeyError: '13.png'"),
    ],
)
def test_the_error_of_an_item_names_it_and_keeps_its_type_where_it_can(kind, workers, error, text):
    with pytest.raises(error) as caught:
        Trainer.from_recipe(small_recipe(), workers=workers, **QUIET).fit(Failing(kind), until=40)
    assert text in str(caught.value)
    said = "\n".join([str(caught.value), *getattr(caught.value.__cause__ or caught.value, "__notes__", [])])
    assert "raised for item 13 of the data set" in said
    assert not multiprocessing.active_children(), "workers are gone, though the error is kept"


@pytest.mark.parametrize("end", ["all", "stopped"])
def test_workers_are_gone_when_fit_ends(end, recipe, images):
    class Stop(Callback):
        def on_step(self, run, metrics):
            run.stop()

    Trainer.from_recipe(recipe, workers=2, callbacks=[Stop()] if end == "stopped" else [], **QUIET).fit(
        list(images), until=24
    )
    assert not multiprocessing.active_children()


FORKED = multiprocessing.get_start_method() == "fork"  # else, workers are children of a server


class Noise(Dataset):
    def __len__(self):
        return 21

    def __getitem__(self, index):
        return torch.rand(3, 16, 16)


class KillsWorkersWithinAStep(Callback):
    """The generator's forward pass does it, in the step after 16 images."""

    def on_step(self, run, metrics):
        if run.images_seen == 16:
            self.hook = run.generator.register_forward_hook(self.kill)

    def kill(self, *_):
        self.hook.remove()
        for worker in multiprocessing.active_children():
            worker.kill()
            if FORKED:
                os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # it stays for torch to look at
            else:
                worker.join()


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="the system does not tell of a child's end")
def test_a_worker_that_is_killed_within_a_step_loses_no_step(tmp_path):
    """As where the system is out of memory: the step is finished, all are saved, and the error says what died."""
    run = {"run_dir": tmp_path / "run", "workers": 1, "callbacks": [KillsWorkersWithinAStep()]}
    trainer = Trainer.from_recipe(small_recipe(), **run, **QUIET)
    said = r"DataLoader worker .* " + ("is killed by signal: Killed" if FORKED else "exited unexpectedly")
    with pytest.raises(RuntimeError, match=said) as caught:
        trainer.fit(Noise())
    assert "all 24 images trained are saved" in caught.value.__notes__[0]
    assert (tmp_path / "run/checkpoints/000000024").is_dir()
