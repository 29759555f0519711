"""Warnings point at the line of the user that led to them."""

from __future__ import annotations

import inspect
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import small_recipe

from progan import Trainer
from progan.errors import warn


def make(recipe=None, **options) -> Trainer:
    return Trainer.from_recipe(recipe or small_recipe(), device="cpu", progress=False, **options)


def images() -> torch.Tensor:
    return torch.randint(0, 256, (21, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def inside(module: str, program: str) -> SimpleNamespace:
    """Functions as a module of this name defines them."""
    names = {"__name__": module, "warn": warn, "contextmanager": contextmanager}
    exec(compile(program, module, "exec"), names)
    return SimpleNamespace(**names)


def test_frames_of_progan_and_of_what_calls_back_into_it_are_skipped(recwarn):
    deep = inside("progan.deep", "def work():\n    warn('deep')")
    between = inside("torch.nn.modules", "def call(function):\n    function()")
    inside("progan.top", "def enter(call, work):\n    call(work)").enter(between.call, deep.work)
    line = inspect.currentframe().f_lineno - 1
    within = inside("progan.scope", "@contextmanager\ndef scope():\n    warn('scope')\n    yield")
    with within.scope():
        scope_line = inspect.currentframe().f_lineno - 1
    assert [(each.filename, each.lineno) for each in recwarn.list] == [(__file__, line), (__file__, scope_line)]


def test_a_callback_of_the_user_is_nearer_than_its_fit(recwarn):
    progan = inside("progan.piece", "def work():\n    warn('mine')")
    inside("progan.loop", "def call(function):\n    function()").call(lambda: progan.work())
    assert recwarn.list[0].filename == __file__


def test_a_warning_with_progan_alone_on_the_stack_has_a_place_too(recwarn):
    module = inside("progan.thread", "def work():\n    warn('alone')")
    thread = threading.Thread(target=module.work)
    thread.start()
    thread.join()
    assert Path(recwarn.list[0].filename).name == "threading.py"


def changed_in_the_middle(run_dir: Path) -> None:
    trainer = make()
    trainer.fit(images(), until=8)
    with torch.no_grad():
        trainer.generator.to_rgb[0].bias.add_(1)
    trainer.fit(images(), until=16)


def resumed_elsewhere(run_dir: Path) -> None:
    make(run_dir=run_dir).fit(images(), until=8)
    torch.set_num_threads(2)
    try:
        make(run_dir=run_dir)
    finally:
        torch.set_num_threads(1)


def resumed_from_an_older_checkpoint(run_dir: Path) -> None:
    make(run_dir=run_dir, save_every=8).fit(images(), until=16)
    (run_dir / "checkpoints/000000016/manifest.json").write_text("{}")
    make(run_dir=run_dir)


def started_from_a_file(run_dir: Path) -> None:
    recipe = small_recipe()
    make(replace(recipe, stages=recipe.stages[:1]), run_dir=run_dir).save()
    make(replace(recipe, stages=(replace(recipe.stages[2], fade_images=0),)), start=run_dir)


def slow_in_bf16(run_dir: Path, monkeypatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    make(small_recipe(precision="bf16"))


CASES = {
    changed_in_the_middle: "were changed from outside",
    resumed_elsewhere: "was made in another environment",
    resumed_from_an_older_checkpoint: "newer checkpoints were skipped",
    started_from_a_file: "is not taken as it is",
    slow_in_bf16: "bf16 is many times slower",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_warnings_of_the_trainer_point_at_the_line_of_the_user(case, tmp_path, monkeypatch):
    needed = {"monkeypatch": monkeypatch} if "monkeypatch" in inspect.signature(case).parameters else {}
    with pytest.warns(UserWarning, match=CASES[case]) as caught:
        case(tmp_path / "run", **needed)
    # `make` is the user's too: it is where the trainer is made.
    assert {Path(each.filename) for each in caught} == {Path(__file__)}
