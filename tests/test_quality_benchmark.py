"""benchmarks/quality on a small scale: every setting is a recipe, and a run is trained, judged, logged and listed."""

import json
import sys
from pathlib import Path

import pytest
import torch

from progan import Recipe, write_png
from progan.render import read_png

QUALITY = Path(__file__).parents[1] / "benchmarks/quality"
SETTINGS = sorted(path.stem for path in (QUALITY / "settings").glob("*.py"))


@pytest.fixture
def quality(monkeypatch):
    for folder in (QUALITY, QUALITY / "settings"):
        monkeypatch.syspath_prepend(str(folder))
    import run
    import table

    yield run, table
    for name in ("blind", "run", "table", *SETTINGS):
        sys.modules.pop(name, None)


def folder_of(path, images):
    path.mkdir()
    for index, image in enumerate(images):
        write_png(path / f"{index}.png", image)
    return path


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_is_a_recipe_for_the_images_asked_for(setting, quality, tmp_path):
    run, _ = quality
    options = run.parse([setting, "--data", str(tmp_path), "--resolution", "32", "--images", "9000"])
    recipe, about = run.recipe_of(options, 640)
    assert isinstance(recipe, Recipe)
    assert recipe.schedule.total_images == 9000
    assert about.endswith(".")


def test_an_experiment_is_logged_once_it_is_finished(quality, tmp_path, monkeypatch, capsys):
    run, table = quality
    images = torch.randint(0, 256, (40, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    icons = folder_of(tmp_path / "icons", images)
    for module in (run, table):
        monkeypatch.setattr(module, "LOG", tmp_path / "log.jsonl")
    monkeypatch.setattr(run, "SAMPLES", 40)
    command = [
        "mel_icon",
        "--data",
        str(icons),
        "--resolution",
        "16",
        "--images",
        "80",
        "--out",
        str(tmp_path / "runs"),
    ]
    assert run.main(command) == 0
    (row,) = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert (row["setting"], row["data"], row["n_images"], row["images"]) == ("mel_icon", "icons", 40, 80)
    assert row["measures"]["feature_distance"] > 10 > row["floors"]["feature_distance"]
    assert (tmp_path / "runs/mel_icon-icons-16px-80-seed0/sheet.png").is_file()
    assert table.main([]) == 0
    text = capsys.readouterr().out
    assert "icons, 16x16, 80 images shown" in text
    assert "| mel_icon | 0 | (0) |" in text
    with pytest.raises(SystemExit, match=r"^there is no setting melicon; there are eight_gamma_fifth, eight_"):
        run.main(["melicon", *command[1:]])


def test_a_blind_sheet_shows_every_source_and_its_key_tells_them_apart(quality, tmp_path):
    import blind

    black, white = (torch.full((6, 3, 16, 16), value, dtype=torch.uint8) for value in (0, 255))
    sources = [f"{name}={folder_of(tmp_path / name, images)}" for name, images in (("a", black), ("b", white))]
    assert blind.main([*sources, "--each", "4", "--resolution", "16", "--out", str(tmp_path / "blind")]) == 0
    key = json.loads((tmp_path / "blind.json").read_text())
    sheet = read_png(tmp_path / "blind.png")
    assert sorted(key["a"] + key["b"]) == list(range(8))
    for index in range(8):
        assert sheet[0, 0, 66 * index] == (0 if index in key["a"] else 255)
    assert key["a"] != [0, 1, 2, 3]  # they are shuffled
