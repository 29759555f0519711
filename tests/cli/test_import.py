"""Checkpoints of other programs, imported from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from foreign_programs import WRITE

from progan import importers
from progan.cli.program import main
from progan.render import read_png


@pytest.mark.parametrize("program", ["image_generator_2", "pro_gan_pth", "pytorch_gan_zoo"])
def test_a_checkpoint_becomes_a_file_and_a_sheet(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    checkpoint = WRITE[program](tmp_path)
    arguments = [str(checkpoint.path), "new.safetensors"]
    if checkpoint.discriminator_path is not None:
        arguments += ["--discriminator", str(checkpoint.discriminator_path)]
    assert main(["import", *arguments]) == 0
    assert f"generator and discriminator of {program}, " in capsys.readouterr().out
    assert read_png(Path("new.png")).shape[0] == 3
    again = importers.load(checkpoint.path, discriminator=checkpoint.discriminator_path)
    again.save("again.safetensors")
    assert Path("new.safetensors").read_bytes() == Path("again.safetensors").read_bytes()
    assert main(["import", *arguments]) == 2
    assert "new.safetensors exists; pass --overwrite or another OUT" in capsys.readouterr().err
