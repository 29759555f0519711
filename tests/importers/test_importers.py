"""Checkpoints of other programs become networks with the same images and scores, and runs can start from them."""

from __future__ import annotations

import json
import math
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from foreign_programs import WIDTHS, WRITE, Zoo, write_ig2, write_pth, write_zoo, zoo_contents
from test_parity import FOLDER, Numbers, assert_agrees, needs_folder
from torch.testing import assert_close

from progan import CheckpointError, Recipe, Stage, Trainer, importers, presets
from progan.importers import foreign_file

CASES = [(0, None), (1, None), (1, 0.3), (2, None), (2, 0.75)]


def seeded(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def loaded(checkpoint) -> importers.Imported:
    return importers.load(checkpoint.path, discriminator=checkpoint.discriminator_path)


@pytest.mark.parametrize("program", WRITE)
@torch.no_grad()
def test_images_and_scores_are_the_programs(program, tmp_path):
    checkpoint = WRITE[program](tmp_path)
    imported = loaded(checkpoint)
    assert imported.program == program.partition(",")[0]
    assert (imported.architecture.channels, imported.grown.level, imported.grown.alpha) == (WIDTHS, 2, None)
    assert (imported.generator is None) == (checkpoint.generator is None)
    z = seeded(3, *imported.architecture.latent_shape)
    for level, alpha in CASES:
        for ours, theirs in ((imported.grown.generator, checkpoint.shown), (imported.generator, checkpoint.generator)):
            if ours is not None:
                assert_agrees(ours(z, level, alpha), theirs.images(z.double(), level, alpha), f"{level}, {alpha}")
        x = seeded(8, 3, 4 << level, 4 << level)
        scores = checkpoint.discriminator.scores(x.double(), level, alpha)
        assert_agrees(imported.discriminator(x, level, alpha), scores, f"{level}, {alpha}")
    shown = imported.grown.sample(2, seed=1)
    assert shown.shape == (2, 3, 16, 16)


def test_the_articles_program_makes_mel_icon(tmp_path):
    expected = replace(presets.mel_icon(16, channels=WIDTHS).architecture, latent_shape=(7, 4, 4))
    alone = importers.load(write_ig2(tmp_path).path)
    assert alone.discriminator is None
    assert alone.architecture == replace(expected, minibatch_std_group=None)  # the whole batch, there


@pytest.mark.parametrize("program", ["image_generator_2", "pro_gan_pth", "pytorch_gan_zoo"])
def test_a_run_starts_from_it(program, tmp_path):
    imported = loaded(WRITE[program](tmp_path))
    imported.save(tmp_path / "imported.safetensors")
    recipe = Recipe(imported.architecture, (Stage(2, 0, 64, 8, 1e-3),), presets.karras2018(16).training)
    trainer = Trainer.from_recipe(recipe, start=tmp_path / "imported.safetensors", progress=False)
    assert "discriminator" in trainer.start.taken
    assert "ema" in trainer.start.taken
    plain = imported.grown.generator if imported.generator is None else imported.generator
    for ours, theirs in ((trainer.generator, plain), (trainer.discriminator, imported.discriminator)):
        assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    assert_close(trainer.grown().sample(2, seed=1), imported.grown.sample(2, seed=1), rtol=0, atol=0)
    trainer.step(seeded(8, 3, 16, 16).sigmoid())
    assert not torch.equal(trainer.discriminator.blocks[0].score.weight, imported.discriminator.blocks[0].score.weight)


def test_saving_needs_a_name_that_a_start_takes(tmp_path):
    imported = loaded(write_pth(tmp_path))
    with pytest.raises(ValueError, match=r"path must end in \.safetensors, got"):
        imported.save(tmp_path / "imported.pt")
    with pytest.raises(FileNotFoundError):
        imported.save(tmp_path / "nowhere" / "imported.safetensors")


def test_one_network_alone_and_its_level(tmp_path):
    contents = zoo_contents()
    torch.save(contents["avgG"], tmp_path / "average.pt")
    imported = importers.load(tmp_path / "average.pt", program="pytorch_gan_zoo", level=1)
    assert (imported.grown.level, imported.generator, imported.discriminator) == (1, None, None)
    z = seeded(2, 7)
    assert_agrees(imported.grown(z), Zoo(contents["avgG"]).images(z.double(), 1, None), "level 1")
    torch.save(contents["netD"], tmp_path / "critic.pt")
    both = importers.load(tmp_path / "average.pt", discriminator=tmp_path / "critic.pt")
    assert both.discriminator is not None
    with pytest.raises(CheckpointError, match=r"holds a discriminator only; pass the generator's file as path, and"):
        importers.load(tmp_path / "critic.pt")
    with pytest.raises(CheckpointError, match=r"average\.pt holds no discriminator of pytorch_gan_zoo"):
        importers.load(tmp_path / "average.pt", discriminator=tmp_path / "average.pt")
    with pytest.raises(ValueError, match=r"the networks have levels 0 to 2 .* got level 3"):
        importers.load(tmp_path / "average.pt", level=3)


def test_another_program(tmp_path):
    path = write_zoo(tmp_path).path
    with pytest.raises(ValueError, match=r"program must be one of image_generator_2, pro_gan_pth, .* got 'stylegan'"):
        importers.load(path, program="stylegan")
    with pytest.raises(CheckpointError, match=r"celeba_s2_i100\.pt is not a checkpoint of pro_gan_pth"):
        importers.load(path, program="pro_gan_pth")
    with pytest.raises(FileNotFoundError):
        importers.load(tmp_path / "missing.pt")


@pytest.mark.parametrize("zipped", [False, True])
def test_objects_of_settings_are_read_without_their_class(zipped, tmp_path, monkeypatch):
    """pytorch_GAN_zoo keeps one beside its networks. It is made and saved here as of its module, which is not there."""
    module = types.ModuleType("models.utils.config")
    module.BaseConfig = type("BaseConfig", (), {"__module__": module.__name__})
    for name in ("models", "models.utils", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    settings = module.BaseConfig()
    settings.dimLatentVector, settings.nested = 7, module.BaseConfig()
    torch.save({"config": settings, **zoo_contents()}, tmp_path / "full.pt", _use_new_zipfile_serialization=zipped)
    monkeypatch.undo()
    assert importers.load(tmp_path / "full.pt").program == "pytorch_gan_zoo"
    assert "models.utils.config" not in sys.modules


@pytest.mark.parametrize("version", ["2.6.0", "2.9.1+cu128"])
def test_an_old_torch_is_refused(version, tmp_path, monkeypatch):
    path = write_ig2(tmp_path).path
    monkeypatch.setattr(foreign_file.torch, "__version__", version)
    with pytest.raises(
        RuntimeError, match=rf"with torch 2.10 or later, got torch {version.replace('+', '.')}, in which"
    ):
        importers.load(path)


# The numbers of the programs themselves.


def parity_state(shapes: list, tag: int, *, scaled: bool) -> dict[str, torch.Tensor]:
    state = {}
    for index, (name, shape) in enumerate(shapes):
        value = np.random.default_rng([2018, tag, index]).standard_normal(shape, dtype=np.float32)
        plain = 1 / math.sqrt(math.prod(shape[1:])) if scaled else 1.0
        state[name] = torch.from_numpy(value * np.float32(0.1 if name.endswith("bias") else plain))
    return state


@needs_folder
@pytest.mark.parametrize(
    ("program", "tags", "highest"),
    [
        ("image_generator_2", (0, 1), 3),
        pytest.param("image_generator_2", (0, 1), 6, marks=pytest.mark.slow),
        ("pro_gan_pth", (2, 3), 1),
        pytest.param("pro_gan_pth", (2, 3), 3, marks=pytest.mark.slow),  # 512 channels at 32 px
        ("pytorch_gan_zoo", (4, 5), 3),
    ],
)
@torch.no_grad()
def test_parity(program, tags, highest, tmp_path):
    numbers, facts = Numbers(program, torch.float32), json.loads((FOLDER / f"{program}.json").read_text())
    scaled = program == "image_generator_2"
    states = [parity_state(facts[key], tag, scaled=scaled) for key, tag in zip("GD", tags, strict=True)]
    paths = [tmp_path / "generator.pth", tmp_path / "discriminator.pth"]
    for state, path in zip(states, paths, strict=True):
        conf = {"depth": 5, "num_channels": 3, "latent_size": 512, "use_eql": True}
        torch.save({"conf": conf, "state_dict": state} if program == "pro_gan_pth" else state, path)
    imported = importers.load(paths[0], discriminator=paths[1])
    z = numbers("z").reshape(-1, *imported.architecture.latent_shape)
    compared = 0
    for key, level, alpha in numbers.cases(5):
        if level <= highest:
            few = scaled and level >= 5  # the first image, every third row and column
            images = imported.grown.generator(z[:1] if few else z, level, alpha)
            assert_agrees(images[..., ::3, ::3] if few else images, numbers(f"{key}_G"), key)
            if not (program == "pytorch_gan_zoo" and level == 1 and alpha == 0.25):  # does not blend there
                assert_agrees(
                    imported.discriminator(numbers(f"{key}_x"), level, alpha), numbers(f"{key}_D").flatten(), key
                )
            compared += 1
    assert compared >= 2
