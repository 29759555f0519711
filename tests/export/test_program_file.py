"""Generators as programs of torch.export: the same images without progan, and nothing of this machine."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import pytest
import torch
from conftest import small_recipe
from running import make

from progan import GrownGenerator, export, load_generator, presets

KINDS = {
    "mel_icon": {},
    "karras2018 and grey": {"preset": presets.karras2018, "image_channels": 1},
    "few_images, RGBA and classes": {
        "preset": presets.few_images,
        "image_channels": 4,
        "classes": 3,
        "supersampling": 2,
    },
    "3:2": {"base_size": (6, 4), "latent_shape": (5, 6, 4)},
}


def grown_of(level: int = 1, preset=presets.mel_icon, **settings) -> GrownGenerator:
    recipe = small_recipe(preset)
    recipe = replace(recipe, architecture=replace(recipe.architecture, **settings))
    return GrownGenerator(recipe.build(seed=3)[0], level)


@pytest.mark.parametrize("kind", KINDS)
def test_the_images_are_the_same(kind, tmp_path):
    grown = grown_of(**KINDS[kind])
    program = torch.export.load(export.save_program(grown, tmp_path / "icons.pt2")).module()
    for n in (1, 5):
        z, labels = grown.latents(n), grown.labels(n)
        images = program(z) if labels is None else program(z, labels)
        torch.testing.assert_close(images, grown.images(z, labels), rtol=0, atol=1e-5)
        assert images.dtype == torch.float32
        assert images.max() - images.min() > 0.01


def test_images_that_are_drawn_larger(tmp_path):
    grown = grown_of(preset=presets.few_images, supersampling=2)
    program = torch.export.load(export.save_program(grown, tmp_path / "icons.pt2", enlarge=3)).module()
    images = program(grown.latents(2))
    assert images.shape == (2, 3, 24, 24)
    torch.testing.assert_close(images, grown.enlarged(3).sample(2), rtol=0, atol=1e-5)


def test_a_run_and_its_record(images, tmp_path):
    make(small_recipe(), tmp_path / "run").fit(images, until=64)
    path = export.save_program(tmp_path / "run", tmp_path / "icons.pt2")
    extra = {"progan": ""}
    program = torch.export.load(path, extra_files=extra).module()
    grown = load_generator(tmp_path / "run")
    torch.testing.assert_close(program(grown.latents(3)), grown.sample(3), rtol=0, atol=1e-5)
    assert json.loads(extra["progan"])["images_seen"] == 64


def test_no_path_of_this_machine_is_in_it(tmp_path):
    path = export.save_program(grown_of(), tmp_path / "icons.pt2")
    with zipfile.ZipFile(path) as archive:
        contents = b"".join(archive.read(name) for name in archive.namelist())
    assert b"aten" in contents
    for trace in (b".py", b"stack", b"/home", str(tmp_path).encode(), b"Karras", b"progan."):
        assert trace not in contents
    assert export.save_program(grown_of(), tmp_path / "again.pt2").read_bytes() == path.read_bytes()


def test_nothing_is_half_written(tmp_path, hooked):
    path = export.save_program(grown_of(), tmp_path / "icons.pt2")
    before = path.read_bytes()

    def hook(operation, path):
        if operation == "fsync":
            raise OSError(28, "No space left on device", str(path))

    hooked(hook)
    with pytest.raises(OSError, match="what was there before is as it was"):
        export.save_program(grown_of(0), path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["icons.pt2"]


def test_wrong_use(tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.pt2, got .*icons\.pt$"):
        export.save_program(grown_of(), tmp_path / "icons.pt")
    with pytest.raises(ValueError, match=r"level 1 is still fading in \(alpha 0.5\)"):
        export.save_program(GrownGenerator(grown_of().generator, 1, 0.5), tmp_path / "icons.pt2")
    assert list(tmp_path.iterdir()) == []
