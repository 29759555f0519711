"""The grown generator: the k-th sample depends on (seed, k) alone; a run is loaded as far as it has grown."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
import torch

from progan import CheckpointError, GrownGenerator, Recipe, Trainer, load_generator, presets


@pytest.fixture(scope="module", params=["mel_icon", "karras2018"])
def grown(request):
    recipe = getattr(presets, request.param)(16, channels=(8, 6, 4))
    return GrownGenerator(recipe.build(seed=1)[0], level=2)


def test_samples_do_not_depend_on_how_many_are_asked_for(grown):
    samples = grown.sample(5, seed=4)
    assert samples.shape == (5, 3, 16, 16)
    assert samples.dtype == torch.float32
    assert 0 <= samples.min() < samples.max() <= 1
    torch.testing.assert_close(grown.sample(3, seed=4, batch_size=2), samples[:3])
    assert torch.equal(grown.sample(5, seed=4), samples)
    assert not torch.allclose(grown.sample(5, seed=5), samples)
    assert not torch.allclose(samples[0], samples[1])


def test_samples_are_the_images_brought_to_0_1(grown):
    z = torch.randn(2, *grown.generator.architecture.latent_shape, generator=torch.Generator().manual_seed(0))
    low, high = grown.generator.architecture.image_range
    expected = ((grown(z).detach() - low) / (high - low)).clamp(0, 1)
    torch.testing.assert_close(grown.images(z), expected)


def test_refusals(grown):
    with pytest.raises(ValueError, match="n and batch_size of at least 1, got n=0"):
        grown.sample(0)
    with pytest.raises(ValueError, match="levels 0 to 2"):
        GrownGenerator(grown.generator, level=3)
    with pytest.raises(ValueError, match="alpha is the weight"):
        GrownGenerator(grown.generator, level=1, alpha=1.5)


def test_a_run_is_loaded_as_far_as_it_has_grown(recipe, images, tmp_path):
    trainer = Trainer.from_recipe(recipe, run_dir=tmp_path / "run", device="cpu", progress=False)
    # Level 0 ends at 30 and runs over to 32; the fade of level 1 lasts until 50.
    for until, level, alpha in (
        (24, 0, None),
        (32, 0, None),
        (40, 1, 0.5),
        (56, 1, None),
        (64, 1, None),
        (72, 2, 13 / 24),
    ):
        trainer.fit(images, until=until)
        for grown in (trainer.grown(), load_generator(tmp_path / "run")):
            assert (grown.level, grown.alpha) == (level, alpha)
        assert torch.equal(trainer.grown().sample(3), load_generator(tmp_path / "run").sample(3))
    one = load_generator(tmp_path / "run/checkpoints/000000064")
    assert (one.level, one.alpha) == (1, None)
    assert not any(parameter.requires_grad for parameter in one.parameters())


def test_a_grown_generator_is_a_copy(recipe, images):
    trainer = Trainer.from_recipe(recipe, device="cpu", progress=False)
    trainer.fit(images, until=16)
    grown = trainer.grown()
    before = grown.sample(2)
    trainer.fit(images, until=24)
    assert torch.equal(grown.sample(2), before)


def test_float64_networks_keep_their_precision(recipe, images, tmp_path):
    networks = [network.double() for network in recipe.build()]
    trainer = Trainer(*networks, recipe.schedule, recipe.training, run_dir=tmp_path, device="cpu", progress=False)
    trainer.fit(images, until=8)
    grown = load_generator(tmp_path)
    assert next(grown.parameters()).dtype == torch.float64
    assert grown.sample(1).dtype == torch.float32


def with_its_hash(path, text):
    """Write a manifest that somebody changed, and its hash with it."""
    zeroed = text.replace(json.loads(text)["manifest_sha256"], "0" * 64)
    path.write_text(zeroed.replace("0" * 64, hashlib.sha256(zeroed.encode()).hexdigest()))


def test_manifest_and_tensors_must_fit(recipe, images, tmp_path):
    Trainer.from_recipe(recipe, run_dir=tmp_path, device="cpu", progress=False).fit(images, until=8)
    manifest = tmp_path / "checkpoints/000000008/manifest.json"
    text = manifest.read_text()
    with_its_hash(manifest, text.replace('"widen_first"', '"widen_last"'))
    with pytest.raises(CheckpointError, match="does not describe a run: Architecture has no widen_last"):
        load_generator(tmp_path)
    other = replace(recipe, architecture=replace(recipe.architecture, image_channels=1))
    assert isinstance(other, Recipe)
    with_its_hash(manifest, text.replace('"image_channels": 3', '"image_channels": 1'))
    with pytest.raises(CheckpointError, match="does not fit its architecture"):
        load_generator(tmp_path)


def test_a_manifest_that_asks_for_any_size_takes_no_memory(recipe, images, tmp_path):
    Trainer.from_recipe(recipe, run_dir=tmp_path, device="cpu", progress=False).fit(images, until=8)
    manifest, config = tmp_path / "checkpoints/000000008/manifest.json", tmp_path / "config.json"
    for path in (manifest, config):
        contents = json.loads(path.read_text())
        contents["recipe"]["architecture"]["channels"] = [10**7, 10**7, 4]
        text = json.dumps(contents)
        with_its_hash(path, text) if path == manifest else path.write_text(text)
    with pytest.raises(CheckpointError, match=r"its ema does not fit its architecture: .* \(10000000, "):
        load_generator(tmp_path)
    with pytest.raises(CheckpointError, match=r"its generator does not fit its architecture"):
        Trainer.from_run(tmp_path, device="cpu")
