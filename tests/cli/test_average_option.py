"""--average: the same choice for every command that uses the generator of a run, and what inspect shows of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import small_recipe
from running import make

from progan import Ema, Judge, load_generator
from progan.cli.program import main
from progan.render import read_png
from progan.runs.average_choice import recorded_choice
from progan.runs.record import RunRecord


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a run of three averages, of which another one than the first is the best."""
    folder = tmp_path_factory.mktemp("averages")
    ema = Ema(0.5, batch=60, ramp_up=0.25, other_half_lives=(1 / 3, 3.0))
    values = iter([9.0, 5.0, 7.0, 3.0, 5.0])
    judge = Judge(1000, measures={"order": lambda images: next(values)}, built_in=False, n=8)
    make(small_recipe(ema=ema), folder / "run", callbacks=[judge]).fit(torch.rand(20, 3, 16, 16))
    return folder


@pytest.fixture(autouse=True)
def in_the_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_inspect_shows_which_there_are_and_which_is_used(capsys):
    choice = recorded_choice(RunRecord.from_checkpoint(Path("run")))
    assert choice.chosen != "ema"
    assert main(["inspect", "run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["averages"] == ["ema", "ema_1", "ema_2"]
    assert found["average_used"] == choice.chosen
    assert found["average_choice"] == choice.to_json()
    assert main(["inspect", "run"]) == 0
    printed = capsys.readouterr().out
    assert "  averages        ema, ema_1, ema_2\n" in printed
    assert f"  average used    {choice.chosen}, the best by order after 96 real images\n" in printed
    older = sorted(Path("run/checkpoints").iterdir())[0]
    assert main(["inspect", str(older), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["averages"], found["average_used"], found["average_choice"]) == (
        ["ema", "ema_1", "ema_2"],
        "ema",
        None,
    )


def test_a_run_without_a_checkpoint_has_no_averages(capsys, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new/config.json").write_bytes(Path("run/config.json").read_bytes())
    assert main(["inspect", str(tmp_path / "new"), "--json"]) == 0
    assert "averages" not in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["ema", "ema_1", "ema_2"])
def test_generate_and_export_take_it(name, tmp_path):
    expected = load_generator("run", average=name).sample(2)
    assert main(["generate", "run", "--n", "2", "--out", str(tmp_path / "icons"), "--average", name]) == 0
    drawn = read_png(tmp_path / "icons/0001.png").float()
    assert (drawn - (expected[1] * 255).round()).abs().max() <= 1
    file = tmp_path / "icons.safetensors"
    assert main(["export", "run", str(file), "--average", name, "--no-card"]) == 0
    assert torch.equal(load_generator(file).sample(2), expected)
    assert main(["export", "run", str(tmp_path / "icons.pt2"), "--average", name]) == 0
    program = torch.export.load(tmp_path / "icons.pt2").module()
    torch.testing.assert_close(program(load_generator("run").latents(2)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "arguments", [["generate", "run", "--out", "new"], ["walk", "run", "new.png"], ["export", "run", "new.onnx"]]
)
def test_one_that_is_not_there(arguments, capsys):
    assert main([*arguments, "--average", "ema_7"]) == 2
    assert "are ema, ema_1, ema_2, got 'ema_7'" in capsys.readouterr().err
    assert not list(Path().glob("new*"))
