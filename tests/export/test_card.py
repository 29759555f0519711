"""The model card: what it says of a run, that its code runs, and the sheet beside it."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
from conftest import small_recipe
from running import make

from progan import GrownGenerator, export, presets
from progan.render import read_png

JUDGED = {
    "images_seen": 64,
    "measures": {"swd": 23.0, "copies": 0.0, "diversity": 0.62, "ms_ssim": None},
    "floors": {"swd": {"value": 9.0, "low": 8.5, "high": 9.5}, "diversity": {"value": 1.0, "low": 0.9, "high": 1.1}},
    "leading": "swd",
    "remarks": ["Sample 3 is close to /mnt/me/secret.png."],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that ended before its schedule's end, with a judgement of known numbers."""
    folder = tmp_path_factory.mktemp("runs") / "icons"
    images = torch.randint(0, 256, (21, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    make(small_recipe(), folder).fit(images, until=64)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(JUDGED) + "\n")
    return folder


@pytest.fixture
def file(run, tmp_path):
    return export.save_generator(run, tmp_path / "icons.safetensors", licence="CC-BY-4.0", note="Drawn by hand.")


def python_of(card: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return code


def test_the_card_says_how_it_was_trained_and_how_good_it_is(file):
    card = export.model_card(file)
    for text in (
        "# icons\n",
        "A generator of 8x8 pictures, RGB",
        "Drawn by hand.",
        "| **Licence** | CC-BY-4.0 |",
        "| **Latent** | 5x4x4 normally distributed numbers |",
        "Trained on 21 pictures. 64 real pictures were shown",
        "each about 3 times",
        "Loss: Wasserstein; penalties: GradientPenalty; augmentations: none.",
        "Training had not ended: 68 % of it was done.",
        "Measured after 64 real pictures",
        "| SWD | 23 | 9 (8.5 to 9.5) | 2.6 times the floor |",
        "| Diversity | 62 % | 100 % (90 % to 110 %) | 62 % of the data's |",
        "| MS-SSIM | not available |  |  |",
        "- 21 training pictures are few",
        "0 % were flagged as copies (no copies found)",
        'load_generator("icons.safetensors")',
        "(16, 3, 8, 8)",
    ):
        assert text in card
    assert "secret" not in card
    assert "fp16" not in card
    half = export.save_generator(file, file.with_name("half.safetensors"), precision="fp16")
    assert "The weights are rounded to fp16" in export.model_card(half)


def test_the_run_s_card_is_the_file_s(run, file):
    own = export.model_card(run, name="icons", file="icons.safetensors")
    theirs = export.model_card(file, file="icons.safetensors")
    assert own == theirs.replace("| CC-BY-4.0 |", "| not stated |").replace("Drawn by hand.\n\n", "")


def test_what_was_not_measured_is_not_claimed(tmp_path):
    grown = GrownGenerator(small_recipe().build()[0], 2)
    card = export.model_card(grown)
    for text in (
        "# generator\n",
        "The number of training pictures is not known.",
        "The run was not judged",
        "Whether samples are copies of training pictures was not measured.",
        "| **Licence** | not stated |",
    ):
        assert text in card
    assert not re.search(r"None|nan", card)


@pytest.mark.parametrize("classes", [0, 2])
def test_the_card_s_code_runs_beside_the_file(classes, tmp_path, monkeypatch):
    recipe = small_recipe(presets.karras2018)
    recipe = replace(recipe, architecture=replace(recipe.architecture, classes=classes))
    path = export.save_generator(GrownGenerator(recipe.build()[0], 2), tmp_path / "my icons.safetensors")
    card = export.write_card(path)
    assert card == tmp_path / "my icons.md"
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(compile(python_of(card.read_text()), "card", "exec"), found)
    assert found["images"].shape == (16, 3, 16, 16)
    assert read_png("samples.png").shape == (3, 64, 64)


@pytest.mark.parametrize("settings", [{}, {"image_channels": 1}, {"image_channels": 4}, {"classes": 3}])
def test_the_sheet_is_of_the_generator_s_samples(settings, tmp_path):
    recipe = small_recipe(presets.karras2018)
    recipe = replace(recipe, architecture=replace(recipe.architecture, **settings))
    grown = GrownGenerator(recipe.build()[0], 2)
    card = export.write_card(grown, tmp_path / "icons.md", seed=4)
    assert "![Random samples](<icons.png>)" in card.read_text()
    sheet = read_png(tmp_path / "icons.png")
    assert sheet.shape[0] == recipe.architecture.image_channels
    first = grown.of_class(0).sample(1, seed=4) if settings.get("classes") else grown.sample(1, seed=4)
    pixels = (first[0] * 255).round().to(torch.uint8)
    assert torch.equal(sheet[:, :96:6, :96:6], pixels)


def test_wrong_use(run, file, tmp_path):
    with pytest.raises(ValueError, match=r"path is needed for a source that is not a file, such as path='icons\.md'"):
        export.write_card(run)
    with pytest.raises(ValueError, match=r"ends in \.md, got .*icons\.txt"):
        export.write_card(run, tmp_path / "icons.txt")
    with pytest.raises(TypeError, match="file must be a text, or None"):
        export.model_card(file, file=b"a")
    with pytest.raises(TypeError, match="name must be a text"):
        export.model_card(file, name=3)


def test_a_failed_card_leaves_what_was_there(file, tmp_path, hooked):
    card = export.write_card(file)
    before = card.read_bytes(), card.with_suffix(".png").read_bytes()
    operations = []

    def hook(operation, path):
        operations.append(path.name)
        if operation == "open" and path.name.startswith(".icons.md"):
            raise OSError(28, "No space left on device", str(path))

    hooked(hook)
    with pytest.raises(OSError, match="what was there before is as it was"):
        export.write_card(file)
    assert (card.read_bytes(), card.with_suffix(".png").read_bytes()) == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["icons.md", "icons.png", "icons.safetensors"]


def test_a_run_that_moved_still_has_its_card(run, tmp_path):
    shutil.copytree(run, tmp_path / "elsewhere")
    assert export.model_card(tmp_path / "elsewhere", name="a") == export.model_card(run, name="a")
