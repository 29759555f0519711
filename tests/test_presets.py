"""The recipe for few images: what its arguments change. The other two are held to their sources in test_recipe."""

import re
import warnings
from dataclasses import replace

import pytest
import torch

from progan import Adam, ImageFolder, Recipe, Reconstruction, Trainer, presets
from progan.networks.drawing import Drawing, drawing_of
from progan.presets import few_images


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("resolution", [8, 32, 64, 128, 256])
def test_stages_sum_up_and_favour_the_top(resolution, flat):
    recipe = few_images(resolution, 640, total_images=100_000, flat=flat)
    top = recipe.architecture.top_level
    assert recipe.architecture.size(top) == (resolution, resolution)
    assert recipe.schedule.total_images == 100_000
    at_level = [sum(stage.images for stage in recipe.stages if stage.level == level) for level in range(top + 1)]
    assert at_level == sorted(at_level)
    assert at_level[-1] > 0.6 * sum(at_level)
    rates = [stage.learning_rate for stage in recipe.stages if stage.level == top]
    assert rates == [4e-3, 4e-3 / 3, 4e-3 / 10]
    assert {stage.batch_size for stage in recipe.stages} == {4 if resolution <= (64 if flat else 32) else 8}
    assert recipe.architecture.patch_scores == (resolution > 32 and not flat)
    drawn_sharply = resolution > 32 and flat
    assert drawing_of(recipe.architecture) == (Drawing(4.0, 2) if drawn_sharply else Drawing())
    assert all(stage.fade_images == round(0.3 * stage.images) for stage in recipe.stages[1:top])


def test_shaded_pictures_get_the_same_without_a_palette():
    flat, shaded = few_images(32, 640), few_images(32, 640, flat=False)
    assert (flat.architecture.palette, shaded.architecture.palette) == (12, 0)
    architecture = replace(flat.architecture, palette=0, palette_layers=0)
    assert shaded == replace(flat, architecture=architecture, training=replace(flat.training, adam=Adam()))
    assert (flat.architecture.palette_layers, flat.training.reconstruction) == (2, Reconstruction(3.0, 32))
    assert flat.training.adam == Adam(generator_factor=2.0)
    assert few_images(64, 640).training.reconstruction == Reconstruction(3.0, 32)
    assert few_images(64, 640, flat=False).training.reconstruction is None
    with pytest.raises(TypeError, match="flat must be True or False, got 1"):
        few_images(64, 640, flat=1)


def test_all_its_settings_survive_json():
    recipe = few_images(64, 640, precision="bf16")
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    ("n_images", "strength"), [(100, 0.4), (640, 0.2), (5000, 0.03), (100_000, 0.0), (1, 0.6)], ids=str
)
@pytest.mark.filterwarnings("ignore:1 images are too few")
def test_fewer_images_are_augmented_more_often(n_images, strength):
    assert few_images(64, n_images).training.augment_strength == pytest.approx(strength, abs=0.05)


def test_it_trains_on_few_images(tmp_path):
    recipe = few_images(16, 60, total_images=1_000, channels=(8, 8, 8))
    images = torch.randint(0, 256, (60, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    trainer = Trainer.from_recipe(recipe, run_dir=tmp_path / "run", device="cpu", progress=False)
    trainer.fit(images)
    assert trainer.images_seen >= 1_000
    assert Trainer.from_run(tmp_path / "run", device="cpu", progress=False).recipe == recipe


def test_hours_scale_the_images_and_are_those_of_the_run_that_is_there(tmp_path, monkeypatch):
    asked = []

    def scaled(recipe, hours, **options):
        asked.append((hours, options))
        return few_images(16, 640, total_images=3_000)

    monkeypatch.setattr(Trainer, "recipe_for_hours", scaled)
    recipe = few_images(16, 640, hours=0.5, device="cpu", run_dir=tmp_path)
    assert recipe == few_images(16, 640, total_images=3_000)
    assert asked == [(0.5, {"device": "cpu", "run_dir": tmp_path})]


def test_hours_are_measured():
    short = few_images(8, 640, hours=0.0005, channels=(4, 4), device="cpu")
    assert 128 <= short.schedule.total_images < 150_000


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"resolution": 48}, ValueError, "resolution must be 4 times a power of two (4, 8, 16, ...), got 48"),
        ({"n_images": 0}, ValueError, "n_images must be at least 1, got 0"),
        ({"n_images": ImageFolder}, TypeError, "n_images must be an int"),
        ({"hours": 1.0, "total_images": 5}, ValueError, "pass hours= or total_images=, not both"),
        ({"total_images": 100}, ValueError, "few_images needs at least 224 images in all for 5 levels, got 100"),
        ({"resolution": 1024}, ValueError, "few_images has widths for up to 256 px, got resolution=1024"),
        ({"hours": 0}, ValueError, "hours must be a number above 0, got 0"),
    ],
    ids=str,
)
def test_refusals(arguments, error, text):
    with pytest.raises(error, match="^" + re.escape(text)):
        few_images(**{"device": "cpu", **arguments})


def test_too_few_images_are_warned_of_once():
    with pytest.warns(UserWarning, match="^20 images are too few for new pictures") as caught:
        few_images(16, 20, hours=0.0005, channels=(4, 4, 4), device="cpu")
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        few_images(16, 50)
    assert presets.few_images is few_images
