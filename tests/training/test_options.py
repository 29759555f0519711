"""The options of a run: checked in one place, the same for type checkers and at run time."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest

from progan import Callback, RunOptions, Trainer, presets
from progan.training.options import ResumeKeywords, RunKeywords, recorded_options

RECIPE = presets.mel_icon(8, channels=(8, 4))


def test_the_keywords_are_the_options():
    """The annotations of the TypedDict, which type checkers read, are those of the dataclass, which checks values."""
    fields = {field.name: field.type for field in dataclasses.fields(RunOptions)}
    assert RunKeywords.__annotations__.keys() == fields.keys()
    assert {name: inspect.get_annotations(RunOptions)[name] for name in fields} == {
        name: reference.__forward_arg__ for name, reference in RunKeywords.__annotations__.items()
    }
    assert ResumeKeywords.__annotations__.items() <= RunKeywords.__annotations__.items()
    assert RunKeywords.__required_keys__ == frozenset(), "every option has a default"


def test_each_option_is_documented():
    described = inspect.getdoc(RunOptions).split("Args:")[1].split("Raises:")[0]
    for field in dataclasses.fields(RunOptions):
        assert f"\n    {field.name}: " in described


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"seed": "1"}, TypeError, "seed must be an int, got '1'"),
        ({"progress": "no"}, TypeError, "progress must be True or False, got 'no'"),
        ({"graph": 1}, TypeError, "graph must be True or False, got 1"),
        ({"callbacks": Callback()}, TypeError, r"callbacks must be a sequence of callbacks, .*; pass \[it\]"),
        ({"callbacks": [print]}, TypeError, "each of callbacks must be an instance of a class derived from"),
        ({"keep": 0}, ValueError, "keep must be an int of at least 1, got 0"),
        ({"keep_every": 1.5}, ValueError, "keep_every must be an int of at least 1, got 1.5"),
        ({"judge_every": -8}, ValueError, "judge_every must be an int of at least 0, got -8"),
        (
            {"held_out": 0.5},
            ValueError,
            "held_out must be a share of the images above 0 and below 0.5, or other images",
        ),
        ({"held_out": {1, 2}}, TypeError, "held_out must be a number, got a set"),
        ({"workers": -1}, ValueError, "workers must be an int of at least 0, got -1"),
        ({"on_failed_save": "ignore"}, ValueError, "on_failed_save must be 'raise' or 'go_on', got 'ignore'"),
        ({"sede": 1}, TypeError, "Trainer got an unexpected keyword argument 'sede'; did you mean seed?"),
        ({"x": 1}, TypeError, "unexpected keyword argument 'x'; it accepts callbacks, data_may_change, "),
    ],
)
def test_a_wrong_option_is_refused(options, error, text):
    with pytest.raises(error, match=text):
        Trainer.from_recipe(RECIPE, device="cpu", **options)


def test_a_run_that_resumes_keeps_its_own_intervals(tmp_path):
    options = {"device": "cpu", "progress": False}
    Trainer.from_recipe(RECIPE, run_dir=tmp_path, save_every=24, keep_every=48, seed=3, **options).save()
    trainer = Trainer.from_run(tmp_path, **options)
    assert (trainer.options.save_every, trainer.options.keep_every, trainer.options.seed) == (24, 48, 3)
    assert recorded_options(trainer.options).keys() == {
        "log_every",
        "save_every",
        "preview_every",
        "keep",
        "keep_every",
        "judge_every",
    }
    with pytest.raises(
        TypeError, match=r"Trainer.from_run got an unexpected keyword argument 'save_every'; it accepts"
    ):
        Trainer.from_run(tmp_path, save_every=8, **options)


def test_a_run_directory_is_an_absolute_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert RunOptions(run_dir="run").directory == Path(tmp_path, "run")
    assert RunOptions().directory is None
