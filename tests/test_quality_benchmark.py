"""benchmarks/quality on a small scale: every setting is a recipe, and a run is trained, judged, logged and listed."""

import itertools
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from draw_icons import draw_icons
from safetensors.torch import load_file

from progan import Architecture, ImageFolder, Recipe, Stage, Trainer, load_generator, write_png
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
    for name in ("blind", "drawing", "run", "table", "flow", "classes", *SETTINGS):
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
    assert re.search(r"\| mel_icon \| 0 \| \(\d+\) \|", text)
    with pytest.raises(SystemExit, match=r"^there is no setting melicon; there are eight_gamma_fifth, eight_"):
        run.main(["melicon", *command[1:]])


def test_a_run_is_judged_as_it_is_drawn_in_several_ways(quality, tmp_path, monkeypatch, capsys):
    import drawing

    run, _ = quality
    icons = folder_of(tmp_path / "icons", draw_icons(20, size=16))
    monkeypatch.setattr(run, "SAMPLES", 20)
    architecture = Architecture((8, 6, 5), latent_shape=(7,), modulation=True, palette=4)
    recipe = Recipe(architecture, [Stage(2, 0, 8, batch_size=4)])
    Trainer.from_recipe(recipe, run_dir=tmp_path / "small", device="cpu", progress=False, judge_every=0).fit(
        ImageFolder(icons, 16)
    )
    command = [
        str(tmp_path / "small"),
        "--data",
        str(icons),
        "--resolution",
        "16",
        "--out",
        str(tmp_path / "found.json"),
    ]
    assert drawing.main([*command, "--drawings", "1x1", "4x2"]) == 0
    found = json.loads((tmp_path / "found.json").read_text())["drawings"]
    assert list(found) == ["small, 1x1", "small, 4x2"]
    assert found["small, 1x1"]["swd"] != found["small, 4x2"]["swd"]
    expected = run.compared(load_generator(tmp_path / "small").sample(20, seed=0), ImageFolder(icons, 16))
    assert found["small, 1x1"] == expected["measures"]


def test_an_experiment_with_several_averages_is_judged_by_the_best(quality, tmp_path, monkeypatch, capsys):
    run, _ = quality
    images = torch.randint(0, 256, (100, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    icons = folder_of(tmp_path / "icons", images)
    monkeypatch.setattr(run, "SAMPLES", 40)
    measures = {"feature_distance": lambda images: float(images.samples.float().mean())}
    monkeypatch.setattr("progan.training.callbacks.judge.built_in_measures", lambda: measures)
    command = ["few_images", "--data", str(icons), "--resolution", "16", "--images", "200", "--no-log"]
    assert run.main([*command, "--out", str(tmp_path / "runs")]) == 0
    assert "is the best of 3 by feature_distance after 200 real images" in "".join(capsys.readouterr())


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


def test_the_control_resumes_to_the_bit_and_its_row_has_the_measures_of_the_others(quality, tmp_path, monkeypatch):
    run, _ = quality
    import flow

    monkeypatch.setattr(run, "LOG", tmp_path / "log.jsonl")
    monkeypatch.setattr(run, "SAMPLES", 40)
    monkeypatch.setattr(flow, "WIDTHS", (16, 32))
    monkeypatch.setattr(flow, "STEPS", 2)
    monkeypatch.setattr(flow.time, "process_time", itertools.count().__next__)  # each step takes a second
    images = torch.randint(0, 256, (40, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    icons = folder_of(tmp_path / "icons", images)
    command = ["--data", str(icons), "--resolution", "16", "--minutes", "0.1", "--out", str(tmp_path / "runs")]
    assert flow.main(command) == 0
    (row,) = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert (row["setting"], row["images"], row["minutes"], row["sampling_s"]) == ("flow", 6 * flow.BATCH, 0.1, 1)
    assert row["measures"]["feature_distance"] > row["floors"]["feature_distance"]
    run_dir = tmp_path / "runs/flow-icons-16px-0.1min-seed0"
    assert (run_dir / "sheet.png").is_file()

    data = ImageFolder(icons, 16).images
    broken_off = flow.Flow(data, 0.1, 0, tmp_path / "state.safetensors")
    for _ in range(3):
        broken_off._step()
        broken_off.seconds += 1
    broken_off._save()
    flow.Flow(data, 0.1, 0, tmp_path / "state.safetensors").train()
    resumed, whole = (load_file(folder / "state.safetensors") for folder in (tmp_path, run_dir))
    assert resumed.keys() == whole.keys()
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name


def test_samples_of_each_class_are_given_to_a_classifier_of_the_real_images(quality, tmp_path, monkeypatch):
    import classes

    monkeypatch.setattr(classes, "RESULTS", tmp_path / "classes.json")
    monkeypatch.setattr(classes, "STEPS", 60)
    monkeypatch.setattr(classes, "SAMPLES", 10)
    (tmp_path / "halves").mkdir()
    for name, dark in (("left", slice(0, 4)), ("right", slice(4, 8))):
        images = torch.arange(195, 220, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 8, 8)
        images[..., dark] = 0
        folder_of(tmp_path / "halves" / name, images)
    halves = ImageFolder(tmp_path / "halves", 8, 1, labels="folders")
    out = tmp_path / "runs"
    classes.main(["--data", str(tmp_path / "halves"), "--resolution", "8", "--images", "320", "--out", str(out)])
    found = json.loads((tmp_path / "classes.json").read_text())
    assert (found["n_images"], found["classifier_on_held_out"]) == (50, 1)
    run = found["320 images, seed 0"]
    assert run["images"] == 320
    assert set(run["recognised"]) == set(run["variety"]) == {"left", "right"}
    assert run["passed"] == sum(share >= 0.9 for share in run["recognised"].values())
    assert (out / "halves-8px-320-seed0/classes.png").is_file()
    classifier, _ = classes.train_classifier(halves)
    assert classes.classes_of(classifier, halves.images / 255).tolist() == halves.labels.tolist()
