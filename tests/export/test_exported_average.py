"""A run with several averages: which one is exported, and whose measures are stated."""

from __future__ import annotations

import pytest
import torch
from conftest import small_recipe
from running import make

from progan import Ema, Judge, export, load_generator
from progan.runs.average_choice import recorded_choice
from progan.runs.record import RunRecord

NAMES = ["ema", "ema_1", "ema_2"]


def brightness(images) -> float:
    return images.samples.double().mean().item()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("averages") / "run"
    ema = Ema(0.5, batch=60, ramp_up=0.25, other_half_lives=(1 / 3, 3.0))
    judge = Judge(1000, measures={"brightness": brightness, "one": lambda images: 1.0}, built_in=False, n=8)
    make(small_recipe(ema=ema), folder, callbacks=[judge]).fit(torch.rand(20, 3, 16, 16))
    return folder


@pytest.fixture(scope="module")
def choice(run):
    return recorded_choice(RunRecord.from_checkpoint(run))


@pytest.mark.parametrize("name", [None, *NAMES])
def test_each_average_is_exported_with_its_own_measures(run, choice, name, tmp_path):
    path = export.save_generator(run, tmp_path / "icons.safetensors", average=name)
    assert torch.equal(load_generator(path).sample(3), load_generator(run, average=name).sample(3))
    measures = export.describe(path).judgement["measures"]
    which = choice.chosen if name is None else name
    assert measures["brightness"] == choice.values[which]
    assert measures.keys() == ({"brightness", "one"} if which == choice.chosen else {"brightness"})
    assert export.describe(run, average=name).judgement == export.describe(path).judgement


def test_without_a_choice_other_averages_have_no_measures(run, tmp_path):
    path = export.save_generator(
        sorted((run / "checkpoints").iterdir())[-2], tmp_path / "a.safetensors", average="ema_2"
    )
    assert export.describe(path).judgement is None


def test_programs_of_an_average(run, tmp_path):
    grown = load_generator(run, average="ema_2")
    program = torch.export.load(export.save_program(run, tmp_path / "icons.pt2", average="ema_2")).module()
    torch.testing.assert_close(program(grown.latents(2)), grown.sample(2), rtol=0, atol=1e-5)
    assert not torch.equal(grown.sample(2), load_generator(run, average="ema_1").sample(2))


def test_wrong_averages_are_refused(run, tmp_path):
    target = tmp_path / "icons.safetensors"
    with pytest.raises(ValueError, match=r"the averages in .* are ema, ema_1, ema_2, got 'ema_9'"):
        export.save_generator(run, target, average="ema_9")
    path = export.save_generator(run, tmp_path / "own.safetensors")
    for call in (
        lambda: export.save_generator(path, target, average="ema"),
        lambda: export.describe(path, average="ema"),
        lambda: export.save_program(load_generator(run), tmp_path / "icons.pt2", average="ema"),
    ):
        with pytest.raises(ValueError, match="average chooses among the averages of a run; pass its directory"):
            call()
    assert not target.exists()
