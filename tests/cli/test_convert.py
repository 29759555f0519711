"""progan convert: a pack becomes pictures, a foreign checkpoint a generator, and for the rest it names the command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from conftest import small_recipe
from draw_icons import draw_icons
from foreign_programs import WRITE
from running import make

from progan import ImageFolder, export, importers, load_generator, write_png
from progan.cli.program import main
from progan.data import Pack


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def pack_of_icons() -> None:
    Path("icons").mkdir()
    for index, icon in enumerate(draw_icons(3, size=16)):
        write_png(f"icons/{index}.png", icon)
    assert main(["pack", "icons", "icons.pack", "--resolution", "8"]) == 0


def test_a_pack_becomes_a_folder(capsys):
    pack_of_icons()
    assert main(["convert", "icons.pack", "again"]) == 0
    assert "3 pictures of 8x8 with 3 channels are in again.\n" in capsys.readouterr().out
    assert torch.equal(ImageFolder("again", 8).images, Pack("icons.pack").images)
    assert main(["convert", "icons.pack", "again"]) == 2
    assert "OUT again exists and is not an empty folder; pass a new one" in capsys.readouterr().err
    assert main(["convert", "icons.pack", "new.safetensors"]) == 2
    assert "a pack becomes a folder of PNG files, got OUT new.safetensors; pass the name" in capsys.readouterr().err


@pytest.mark.parametrize("program", ["image_generator_2", "pro_gan_pth", "pytorch_gan_zoo"])
def test_a_checkpoint_of_another_program_becomes_a_generator(program, tmp_path, capsys):
    path = WRITE[program](tmp_path).path
    assert main(["convert", str(path), "new.safetensors"]) == 0
    assert f"pictures, from {program}, " in capsys.readouterr().out
    grown = importers.load(path).grown
    torch.testing.assert_close(load_generator("new.safetensors").sample(2), grown.sample(2))
    record = export.describe("new.safetensors")
    assert record.note == f"Converted from a checkpoint of {program}."
    assert record.images_seen is None
    assert main(["convert", str(path), "new.safetensors"]) == 2
    assert "new.safetensors exists; pass --overwrite or another OUT" in capsys.readouterr().err
    assert main(["convert", str(path), "low.safetensors", "--level", "0", "--program", program]) == 0
    assert export.describe("low.safetensors").level == 0


def test_what_other_commands_convert(images, tmp_path, capsys):
    make(small_recipe(), tmp_path / "run").fit(images, until=64)
    export.save_generator("run", "icons.safetensors")
    checkpoint = sorted(Path("run/checkpoints").iterdir())[-1]
    for path, text in (
        ("run", "run is a run: progan export run OUT writes its generator"),
        (str(checkpoint), f"is a checkpoint of progan: progan export {checkpoint} OUT writes its generator"),
        ("icons.safetensors", "progan export icons.safetensors OUT --precision fp16 writes it again in half the size"),
        (str(next(checkpoint.glob("*.safetensors"))), "holds tensors without the architecture that they are of; pass"),
    ):
        assert main(["convert", path, "new.safetensors"]) == 2
        assert text in capsys.readouterr().err
        assert not Path("new.safetensors").exists()


def test_a_damaged_pack_is_not_taken_for_something_else(capsys):
    pack_of_icons()
    data = Path("icons.pack").read_bytes()
    Path("icons.pack").write_bytes(data[: len(data) // 2])
    shutil.rmtree("icons")
    assert main(["convert", "icons.pack", "again"]) == 2
    assert "icons.pack is damaged: " in (said := capsys.readouterr().err)
    assert "; pack the folder again" in said
    assert main(["inspect", "icons.pack"]) == 2
    assert capsys.readouterr().err.startswith(said.partition("; pack")[0].replace("convert", "inspect"))
    assert not Path("again").exists()
