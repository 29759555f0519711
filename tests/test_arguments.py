"""Arguments of a wrong kind, at the public face: one clear TypeError each, before anything is done."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from conftest import small_recipe
from torch import nn
from torch.utils.data import DataLoader

from progan import (
    R1,
    Adam,
    Architecture,
    Callback,
    Contrast,
    Ema,
    EmaGenerator,
    EqualizedConv2d,
    EqualizedLinear,
    FadeIn,
    GradientPenalty,
    GrownGenerator,
    HorizontalFlip,
    ImageFolder,
    MiniBatchStd,
    PixelNorm,
    Plan,
    Previews,
    Progress,
    ProgressiveDiscriminator,
    ProgressiveGenerator,
    Recipe,
    Schedule,
    Trainer,
    Training,
    Translate,
    Wasserstein,
    adjust_contrast,
    downsample,
    enlarge,
    gradient_penalty,
    image_grid,
    match_level,
    presets,
    to_uint8,
    upsample,
    wgan_generator_loss,
    wgan_gp_loss,
    write_png,
)
from progan.arguments import described
from progan.data import Reading, curate, flip_verdict, open_feed, read_image

RECIPE = small_recipe()
GENERATOR, DISCRIMINATOR = RECIPE.build()
SCHEDULE = RECIPE.schedule
IMAGES = torch.rand(8, 3, 16, 16)
ARRAY = np.zeros((8, 3, 16, 16), np.float32)
MIX = torch.rand(8)


class OptimizedModule(nn.Module):
    """What torch.compile makes, without its ten seconds; test_networks has the real one."""

    def __init__(self, module):
        super().__init__()
        self._orig_mod = module


def made() -> Trainer:
    return Trainer.from_recipe(RECIPE, device="cpu", progress=False)


def grown() -> GrownGenerator:
    return GrownGenerator(GENERATOR, 0)


NETWORKS = {
    "generator must be a ProgressiveGenerator, got a DataParallel; pass the network in it, its module; several GPUs "
    "train under torchrun": lambda: (nn.DataParallel(GENERATOR), DISCRIMINATOR, SCHEDULE),
    "generator must be a ProgressiveGenerator, got a ProgressiveDiscriminator; the generator comes first": lambda: (
        *(DISCRIMINATOR, GENERATOR, SCHEDULE),
    ),
    "discriminator must be a ProgressiveDiscriminator, got a ProgressiveGenerator; the generator comes first": lambda: (
        *(GENERATOR, GENERATOR, SCHEDULE),
    ),
    "discriminator must be a ProgressiveDiscriminator, got an OptimizedModule; pass the network before torch.compile: "
    "the critic is differentiated twice": lambda: (GENERATOR, OptimizedModule(DISCRIMINATOR), SCHEDULE),
    "generator must be a ProgressiveGenerator, got an OptimizedModule": lambda: (
        *(OptimizedModule(GENERATOR), DISCRIMINATOR, SCHEDULE),
    ),
    "generator must be a ProgressiveGenerator, got a Recipe; pass a recipe to Trainer.from_recipe": lambda: (
        *(RECIPE, DISCRIMINATOR, SCHEDULE),
    ),
    "got the class ProgressiveGenerator; pass an instance of it, such as ProgressiveGenerator(...)": lambda: (
        *(ProgressiveGenerator, ProgressiveDiscriminator, SCHEDULE),
    ),
    "got a tuple; pass the networks one by one, as in Trainer(*recipe.build()": lambda: (RECIPE.build(), SCHEDULE, 0),
    "got an EmaGenerator; pass its module": lambda: (EmaGenerator(GENERATOR, 0.9), DISCRIMINATOR, SCHEDULE),
    "got a GrownGenerator; pass its generator": lambda: (grown(), DISCRIMINATOR, SCHEDULE),
    "got a Linear": lambda: (nn.Linear(1, 1), DISCRIMINATOR, SCHEDULE),
    "schedule must be a Schedule, got a tuple; pass Schedule(stages)": lambda: (
        *(GENERATOR, DISCRIMINATOR, RECIPE.stages),
    ),
    "schedule must be a Schedule, got a Recipe; pass recipe.schedule": lambda: (GENERATOR, DISCRIMINATOR, RECIPE),
    "training must be a Training, got a dict; pass Training(**it)": lambda: (GENERATOR, DISCRIMINATOR, SCHEDULE, {}),
    "training must be a Training, got None": lambda: (GENERATOR, DISCRIMINATOR, SCHEDULE, None),
    "got the class Training; pass an instance of it": lambda: (GENERATOR, DISCRIMINATOR, SCHEDULE, Training),
}


@pytest.mark.parametrize("text", NETWORKS)
def test_parts_of_a_trainer(text):
    with pytest.raises(TypeError, match=re.escape(text)):
        Trainer(*NETWORKS[text](), device="cpu", progress=False)


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"seed": 1.5}, "seed must be an int, got 1.5"),
        ({"seed": None}, "seed must be an int, got None"),
        ({"overwrite": "no"}, "overwrite must be True or False, got 'no'"),
        ({"progress": 1}, "progress must be True or False, got 1"),
        ({"graph": "yes"}, "graph must be True or False, got 'yes'"),
        ({"callbacks": Callback()}, "callbacks must be a sequence of callbacks, got a Callback; pass [it]"),
        ({"callbacks": [Callback]}, "derived from progan.Callback, got the class Callback"),
        ({"callbacks": None}, "callbacks must be a sequence of callbacks, got None"),
        ({"device": 3.5}, "device must be the name of a device, such as 'cpu' or 'cuda:1', or None, got 3.5"),
    ],
)
def test_keywords_of_a_trainer(keywords, text):
    with pytest.raises(TypeError, match=re.escape(text)):
        Trainer(GENERATOR, DISCRIMINATOR, SCHEDULE, **{"device": "cpu", "progress": False, **keywords})


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        ("mel_icon", "recipe must be a Recipe, got 'mel_icon'; pass what a preset returns, such as presets.mel_icon()"),
        (presets.mel_icon, "got the function mel_icon; pass what it returns: mel_icon(...)"),
        (presets, "got a module; pass what one of its functions returns, such as presets.mel_icon()"),
        (Recipe, "got the class Recipe; pass an instance of it"),
        (SCHEDULE, "got a Schedule; pass Recipe(architecture, schedule.stages, training)"),
        (RECIPE.to_json(), "got a dict; pass Recipe.from_json of it"),
        (64, "recipe must be a Recipe, got 64"),
    ],
)
def test_what_is_not_a_recipe(recipe, text):
    for make in (Trainer.from_recipe, lambda each: Trainer.recipe_for_hours(each, 1.0)):
        with pytest.raises(TypeError, match=re.escape(text)):
            make(recipe)


CALLS = {
    # What a trainer takes.
    "hours must be a number, got '1'": lambda: Trainer.recipe_for_hours(RECIPE, "1"),
    "real must be a tensor, got a numpy array (8, 3, 16, 16) of float32; pass torch.from_numpy(real)": lambda: (
        made().step(ARRAY)
    ),
    "until must be an int, got 8.0": lambda: made().fit(IMAGES, until=8.0),
    "got a DataLoader; pass its dataset; the trainer makes batches": lambda: made().fit(DataLoader(IMAGES)),
    "got a dict; pass its values as a list": lambda: made().fit({"a.png": IMAGES[0]}),
    "got the class MyData; pass an instance of it, MyData(...)": lambda: made().fit(type("MyData", (list,), {})),
    # Recipes and what they are made of.
    "Architecture.channels must be a sequence of numbers, got 8": lambda: Architecture(8),
    "Architecture.channels must be a sequence of numbers, got '888'": lambda: Architecture("888"),
    "Architecture.latent_shape must be a sequence of numbers, got 512": lambda: Architecture((8,), latent_shape=512),
    "each of Architecture.image_range must be a number, got '0'": lambda: Architecture((8,), image_range=("0", "1")),
    "Architecture.norm_epsilon must be a number, got '1'": lambda: Architecture((8,), norm_epsilon="1"),
    "Architecture.widen_first must be True or False, got 'no'": lambda: Architecture((8,), widen_first="no"),
    "architecture must be an Architecture, got a tuple": lambda: Recipe(RECIPE.stages, RECIPE.architecture),
    "stages must be a sequence of Stage, got a Schedule; pass its stages": lambda: Recipe(
        RECIPE.architecture, SCHEDULE
    ),
    "stages must be a sequence of Stage, got a Stage; pass [it]": lambda: Schedule(RECIPE.stages[0]),
    "stages must be a sequence of Stage, got a Recipe; pass its stages": lambda: Schedule(RECIPE),
    "stages[0] must be a Stage, got a tuple; pass Stage(...)": lambda: Schedule([(0, 0, 800)]),
    "stages must be a sequence of Stage, got None": lambda: Schedule(None),
    "training must be a Training, got a dict": lambda: Recipe(RECIPE.architecture, RECIPE.stages, {}),
    "a recipe must be a JSON object, as Recipe.to_json returns, got '{}'": lambda: Recipe.from_json("{}"),
    "Training.objective must be an Objective, got the class Wasserstein; pass an instance of it": lambda: Training(
        objective=Wasserstein
    ),
    "Adam.betas must be a sequence of two numbers, got 0.5": lambda: Adam(betas=0.5),
    "each of Adam.betas must be a number, got '0'": lambda: Adam(betas=("0", "1")),
    "Adam.eps must be a number, got '1'": lambda: Adam(eps="1"),
    "Ema.decay must be a number, got None": lambda: Ema(decay=None),
    "Ema.batch must be an int, got '8'": lambda: Ema(batch="8"),
    "Ema.warm_up must be True or False, got 'no'": lambda: Ema(warm_up="no"),
    "Wasserstein.drift_weight must be a number, got '1'": lambda: Wasserstein("1"),
    "GradientPenalty.weight must be a number, got '10'": lambda: GradientPenalty("10"),
    "R1.every must be an int, got 1.5": lambda: R1(every=1.5),
    "Translate.fraction must be a number, got '1'": lambda: Translate("1"),
    "Contrast.high must be a number, got None": lambda: Contrast(1.0, None),
    "HorizontalFlip.probability must be a number, got '1'": lambda: HorizontalFlip("1"),
    "images_seen must be an int, got 1.5": lambda: SCHEDULE.at(1.5),
    "factor must be a number, got '2'": lambda: SCHEDULE.scaled("2"),
    "n_images must be an int, got '5'": lambda: SCHEDULE.table(n_images="5"),
    "base_size must be (height, width), got 4": lambda: SCHEDULE.table(4),
    "channels must be a sequence of ints, got 8": lambda: presets.mel_icon(8, channels=8),
    "fmap_base must be an int, got '8192'": lambda: presets.karras2018(8, fmap_base="8192"),
    # Networks, and the generator as it is used.
    "architecture must be an Architecture, got a Recipe; pass its architecture": lambda: ProgressiveGenerator(RECIPE),
    "architecture must be an Architecture, got a list; pass Architecture(channels)": lambda: ProgressiveDiscriminator(
        [8, 8]
    ),
    "block must be a class or function of (architecture, level), got an Identity; pass its class, Identity": lambda: (
        ProgressiveGenerator(RECIPE.architecture, block=nn.Identity())
    ),
    "block must be a class or function of (architecture, level), got 'Own'": lambda: ProgressiveGenerator(
        RECIPE.architecture, block="Own"
    ),
    "what block(architecture, 1) returns must be a torch.nn.Module, got None": lambda: ProgressiveGenerator(
        RECIPE.architecture, block=lambda architecture, level: None
    ),
    "z must be a tensor, got 3": lambda: GENERATOR(3),
    "z must be of floats, N(0, 1), got torch.int64": lambda: GENERATOR(torch.zeros(1, 5, 4, 4, dtype=torch.int64)),
    "alpha must be a number, got '0.5'": lambda: GENERATOR(torch.zeros(1, 5, 4, 4), 1, "0.5"),
    "images must be floats in image_range (0.0, 1.0), got torch.uint8": lambda: DISCRIMINATOR(to_uint8(IMAGES)),
    "batches must be an int, got '2'": lambda: DISCRIMINATOR(IMAGES, batches="2"),
    "generator must be a ProgressiveGenerator, got an EmaGenerator; pass ema.module": lambda: GrownGenerator(
        EmaGenerator(GENERATOR, 0.9), 0
    ),
    "generator must be a ProgressiveGenerator, got a Trainer; call its grown()": lambda: GrownGenerator(made(), 0),
    "generator must be a ProgressiveGenerator, got a ProgressiveDiscriminator": lambda: GrownGenerator(
        DISCRIMINATOR, 0
    ),
    "n must be an int, got '3'": lambda: grown().sample("3"),
    "seed must be an int, got 1.5": lambda: grown().sample(3, seed=1.5),
    "generator must be a Module, got a Recipe": lambda: EmaGenerator(RECIPE, 0.9),
    "decay must be a number, got '0.9'": lambda: EmaGenerator(GENERATOR, "0.9"),
    "batch must be an int, got '8'": lambda: EmaGenerator(GENERATOR, 0.9, batch="8"),
    # Callbacks.
    "least_height must be an int, got '128'": lambda: Previews(8, least_height="128"),
    "line_every_s must be a number, got '30'": lambda: Progress("30"),
    # Layers.
    "in_channels must be an int, got '3'": lambda: EqualizedConv2d("3", 8, 3),
    "kernel_size must be an int, got a tuple": lambda: EqualizedConv2d(3, 8, (3, 3)),
    "out_features must be an int, got 8.0": lambda: EqualizedLinear(3, 8.0),
    "gain must be a number, got '2'": lambda: EqualizedLinear(3, 8, gain="2"),
    "epsilon must be a number, got '1'": lambda: PixelNorm("1"),
    "group_size must be an int, got '4'": lambda: MiniBatchStd("4"),
    "x must be a tensor, got a numpy array (8, 3, 16, 16) of float32; pass torch.from_numpy(x)": lambda: MiniBatchStd()(
        ARRAY
    ),
    "old must be a tensor, got a numpy array": lambda: FadeIn()(ARRAY, IMAGES, 0.5),
    "factor must be an int, got 1.5": lambda: upsample(IMAGES, 1.5),
    "factor must be an int, got 2.0": lambda: downsample(IMAGES, 2.0),
    # Losses and augmentation.
    "critic must be a callable, images to scores, got a tensor (8, 3, 16, 16)": lambda: gradient_penalty(
        IMAGES, IMAGES, IMAGES, mix=MIX
    ),
    "mix must be a tensor, got 0.5": lambda: gradient_penalty(DISCRIMINATOR, IMAGES, IMAGES, mix=0.5),
    "target must be a number, got '1'": lambda: gradient_penalty(DISCRIMINATOR, IMAGES, IMAGES, mix=MIX, target="1"),
    "fake must be a tensor, got a numpy array": lambda: wgan_gp_loss(DISCRIMINATOR, IMAGES, ARRAY),
    "penalty_weight must be a number, got '10'": lambda: wgan_gp_loss(
        DISCRIMINATOR, IMAGES, IMAGES, penalty_weight="10"
    ),
    "fake_scores must be a tensor, got a list": lambda: wgan_generator_loss([1.0]),
    "factor must be a tensor, got 1.5": lambda: adjust_contrast(IMAGES, 1.5),
    # Pictures and data.
    "images must be a tensor, got a numpy array": lambda: to_uint8(ARRAY),
    "to_uint8 takes floats in [0, 1], got torch.uint8": lambda: to_uint8(to_uint8(IMAGES)),
    "image_grid takes uint8, got torch.float32; use progan.to_uint8": lambda: image_grid(IMAGES, 2),
    "columns must be an int, got 2.0": lambda: image_grid(to_uint8(IMAGES), 2.0),
    "height must be an int, got '8'": lambda: enlarge(to_uint8(IMAGES), "8"),
    "image must be a tensor, got 'icon.png'": lambda: write_png(IMAGES, "icon.png"),
    "level must be an int, got 0.0": lambda: match_level(IMAGES, 0.0),
    "reading must be a Reading, got 8; pass Reading(size)": lambda: read_image("icon.png", 8),
    "size must be a side or (height, width) in pixels, got '8'": lambda: Reading("8"),
    "background must be three ints of 0..255, got 'white'; pass (255, 255, 255) for white": lambda: Reading(
        8, background="white"
    ),
    "images must be a tensor, got 'icons'": lambda: flip_verdict("icons"),
    "image_channels must be an int, got '3'": lambda: open_feed(
        IMAGES, image_channels="3", base_size=(4, 4), level=0, seed=0, workers=0, device="cpu"
    ),
}


@pytest.mark.parametrize("text", CALLS)
def test_arguments_of_a_wrong_kind(text):
    with pytest.raises(TypeError, match=re.escape(text)):
        CALLS[text]()


VALUES = {
    "image_range must be (value of black, value of white), got (0, 1, 2)": lambda: Architecture(
        (8,), image_range=(0, 1, 2)
    ),
    "n_images must be at least 1, got 0": lambda: SCHEDULE.table(n_images=0),
    "fmap_base must be at least 1, got 0": lambda: presets.karras2018(8, fmap_base=0),
    "row must be at least 1, got 0": lambda: Previews(8, row=0),
    "in_channels must be at least 1, got 0": lambda: EqualizedConv2d(0, 8, 3),
    "x must be (B, 3, H, W), got (1, 4, 8, 8)": lambda: EqualizedConv2d(3, 8, 3)(torch.zeros(1, 4, 8, 8)),
    "x must be (B, 3, H, W), got (3, 8, 8)": lambda: EqualizedConv2d(3, 8, 3)(torch.zeros(3, 8, 8)),
    "x must be (..., 3), got (1, 4)": lambda: EqualizedLinear(3, 8)(torch.zeros(1, 4)),
    "old and new must have one shape, got (1, 3, 4, 4) and (1, 3, 8, 8)": lambda: FadeIn()(
        torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 8, 8), 0.5
    ),
    "gap must be at least 0, got -1": lambda: image_grid(to_uint8(IMAGES), 2, gap=-1),
    "the average is of a ProgressiveGenerator, and got a ProgressiveDiscriminator with other parameters": lambda: (
        EmaGenerator(GENERATOR, 0.9).update(DISCRIMINATOR, 0, 8)
    ),
    "this plan is of 1 stages, and the schedule has 3": lambda: Plan((1.0,), (1.0,)).table(SCHEDULE),
}


def test_what_is_not_a_list_of_names(tmp_path):
    pytest.importorskip("PIL.Image")
    write_png(tmp_path / "0.png", to_uint8(IMAGES[0]))
    for only, text in (
        (curate(tmp_path), "only must be a list of names, got a Curation; pass its kept"),
        (3, "only must be a list of names, got 3"),
        ([0], "each name in only must be a str or an os.PathLike, got 0"),
    ):
        with pytest.raises(TypeError, match=re.escape(text)):
            ImageFolder(tmp_path, 16, only=only)


@pytest.mark.parametrize("text", VALUES)
def test_values_that_failed_late(text):
    with pytest.raises(ValueError, match=re.escape(text)):
        VALUES[text]()


def test_numbers_of_numpy_are_numbers():
    assert Schedule(RECIPE.stages).at(np.int64(40)) == SCHEDULE.at(40)
    assert grown().sample(np.int64(2), seed=np.int32(1)).shape == (2, 3, 4, 4)
    assert SCHEDULE.scaled(np.float32(2)) == SCHEDULE.scaled(2.0)
    assert EmaGenerator(GENERATOR, np.float64(0.9)).decay == 0.9


def test_what_came_is_described_in_a_few_words():
    assert described("x" * 100) == f"'{'x' * 79}..."
    assert described(IMAGES) == "a tensor (8, 3, 16, 16) of torch.float32"
    assert described({}) == "a dict"
