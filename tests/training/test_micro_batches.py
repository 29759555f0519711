"""Micro-batches: a step in parts does what a step on the whole batch does, with fewer images in memory at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import small_recipe
from test_graph import Recording, assert_same

from progan import (
    R1,
    Batch,
    Contrast,
    GradientPenalty,
    HorizontalFlip,
    NonSaturating,
    Recipe,
    RunOptions,
    Stage,
    Trainer,
    presets,
)
from progan.compatibility import check_micro_batch
from progan.schedule import Schedule
from progan.training.captured_step import DeviceStep
from progan.training.step import StepCritic

BATCH = 16
# At level 0, in a fade, and fully grown; two steps of each stage, of which lazy regularisers are applied in the first.
STAGES = (Stage(0, 0, 2 * BATCH, BATCH, 1e-3), Stage(1, 2 * BATCH, 0, BATCH, 1e-3), Stage(1, 0, 2 * BATCH, BATCH, 1e-3))
STEPS = 6


def recipe_of(preset, classes=0, **training) -> Recipe:
    recipe = small_recipe(getattr(presets, preset), **training)
    recipe = recipe.with_classes(classes) if classes else recipe
    return replace(recipe, stages=STAGES)


RECIPES = {
    "mel_icon": (recipe_of("mel_icon"), 8),
    "karras2018": (recipe_of("karras2018"), 4),
    "few_images": (recipe_of("few_images", augment_strength=0.6), 4),
    "few_images with classes": (recipe_of("few_images", classes=3, augment_strength=0.6), 8),
    "regularisers at different intervals": (
        recipe_of(
            "karras2018",
            objective=NonSaturating(),
            regularizers=(R1(every=2), GradientPenalty()),
            augment_real=(Contrast(), HorizontalFlip()),
        ),
        4,
    ),
}
ORDERS = ("critic_first", "generator_first")


def make(recipe, dtype=torch.float64, **options):
    generator, discriminator = (network.to(dtype) for network in recipe.build(seed=3))
    return Trainer(generator, discriminator, recipe.schedule, recipe.training, device="cpu", progress=False, **options)


def take(trainer, steps):
    """Take steps on images keyed by the count, and return what they reported."""
    reported = []
    for _ in range(steps):
        side, rng = 4 << trainer.growth.level, torch.Generator().manual_seed(trainer.images_seen)
        real = torch.rand(BATCH, 3, side, side, generator=rng, dtype=torch.float64)
        labels = torch.randint(0, 3, (BATCH,), generator=rng)
        reported.append(trainer.step(Batch(real, labels)))
    return reported


def assert_alike(one, other, tolerance):
    ours, theirs = (each.state_dict()["tensors"] for each in (one, other))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", RECIPES)
def test_steps_in_parts_are_steps_on_the_whole_batch(name, order):
    """In float64, over growth: weights, averages, moments and losses."""
    recipe, size = RECIPES[name]
    recipe = replace(recipe, training=replace(recipe.training, order=order))
    whole, parts = make(recipe), make(recipe, micro_batch=size)
    for one, other in zip(take(whole, STEPS), take(parts, STEPS), strict=True):
        assert one.losses.keys() == other.losses.keys()
        for loss in one.losses:
            torch.testing.assert_close(one.losses[loss], other.losses[loss], rtol=1e-9, atol=1e-9)
    assert_alike(whole, parts, 1e-9)


@pytest.mark.parametrize("images_seen", [2 * BATCH, 3 * BATCH])  # with lazy regularisers, and without
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", RECIPES)
def test_gradients_in_float32_are_the_same_to_1e_6(name, order, images_seen):
    """Of the network that is updated first: the other one's see what Adam made of the last bits of these."""
    recipe, size = RECIPES[name]
    recipe = replace(recipe, training=replace(recipe.training, order=order))
    found = []
    for trainer in (make(recipe, torch.float32), make(recipe, torch.float32, micro_batch=size)):
        trainer._engine.state.images_seen = images_seen
        watch, gradients = trainer._engine.step.watch, []
        measure = watch.measure
        watch.measure = lambda each, kept=gradients, measure=measure: (kept.append(list(each)), measure(each))[1]
        take(trainer, 1)
        found.append(torch.cat([gradient.flatten() for gradient in gradients[0]]))
    whole, parts = found
    assert not torch.equal(whole, parts)
    assert (whole - parts).norm() <= 1e-6 * whole.norm()


def test_bf16_in_parts_is_close_to_bf16():
    recipe, size = RECIPES["karras2018"]
    recipe = replace(recipe, training=replace(recipe.training, precision="bf16"))
    whole, parts = (take(make(recipe, torch.float32, micro_batch=each), 1)[0].losses for each in (None, size))
    for name, loss in whole.items():
        torch.testing.assert_close(parts[name], loss, rtol=0.05, atol=0.05)


def test_the_critic_sees_one_part_at_a_time(monkeypatch):
    seen = []
    scores = StepCritic.scores
    monkeypatch.setattr(
        StepCritic,
        "scores",
        lambda self, images, batches=1: (seen.append(len(images)), scores(self, images, batches))[1],
    )
    take(make(RECIPES["few_images"][0], micro_batch=4), 1)
    # Per part: real and generated images together, R1 and R2; then real ones and generated ones.
    assert seen == [8, 4, 4] * 4 + [4, 4] * 4


def test_a_batch_that_is_no_larger_is_not_split():
    recipe, _ = RECIPES["karras2018"]
    plain, unsplit = make(recipe), make(recipe, micro_batch=100)
    take(plain, STEPS)
    take(unsplit, STEPS)
    assert_same(plain, unsplit)


def test_frozen_parameters_stay_and_the_others_train_in_parts():
    recipe, size = RECIPES["karras2018"]
    trainers = make(recipe), make(recipe, micro_batch=size)
    for trainer in trainers:
        trainer.generator.requires_grad_(False)  # trains nothing, and still reports its loss
        trainer.discriminator.blocks[0].requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in trainers[1].state_dict()["tensors"].items()}
    for trainer in trainers:
        take(trainer, 3)
    assert_alike(*trainers, 1e-9)
    after = trainers[1].state_dict()["tensors"]
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert moved
    assert all(name.startswith(("discriminator/blocks.1", "discriminator/from_rgb")) for name in moved)


def test_a_value_that_is_not_finite_in_one_part_is_found():
    recipe, size = RECIPES["karras2018"]
    trainer = make(recipe, micro_batch=size)
    real = torch.rand(BATCH, 3, 4, 4, dtype=torch.float64)
    real[5] = float("nan")  # of the second part alone
    trainer.step(real)
    assert trainer._engine.step.watch.found() == ("critic_loss", 0)


@pytest.mark.parametrize("name", ["karras2018", "few_images"])
def test_captured_steps_in_parts_are_plain_ones(name):
    """Nothing is frozen, as a graph's replay runs no Python; see test_graph."""
    recipe, size = RECIPES[name]
    recipe = replace(recipe, stages=(Stage(0, 0, 6 * BATCH, BATCH, 2**-10), Stage(1, 6 * BATCH, 0, BATCH, 2**-9)))
    graphs, trainers = Recording(), [make(recipe, torch.float32, micro_batch=size) for _ in range(2)]
    for trainer, own in zip(trainers, (graphs, None), strict=True):
        trainer._engine.device_step = DeviceStep(trainer._engine.step, own)
        take(trainer, 12)
    assert_same(*trainers)
    assert graphs.events.count("capture") == 2
    assert graphs.events.count("replay") >= 4


# What is refused


def schedule(*batches):
    return Schedule([Stage(0, 0, 256, batch) for batch in batches])


@pytest.mark.parametrize(
    ("group", "batches", "ranks", "micro_batch", "words"),
    [
        (4, (16,), 1, 4, None),
        (4, (16,), 1, 16, None),
        (4, (16,), 1, 17, None),
        (4, (16, 8, 4), 1, 8, None),
        (4, (2,), 1, 1, "the batch of stage 0, 2, into equal parts of whole MiniBatchStd groups of 2; leave micro_"),
        (4, (16,), 1, 6, "stage 0, 16, into equal parts of whole MiniBatchStd groups of 4; pass micro_batch=4 or 8$"),
        (4, (8, 24), 1, 8, None),
        (4, (8, 32, 24), 1, 16, "micro_batch=16 does not split the batch of stage 2, 24, .*; pass micro_batch=4 or 8$"),
        (4, (32,), 2, 8, None),
        (4, (24,), 2, 8, "stage 0, 12 in each of 2 processes, into .*; pass micro_batch=4$"),
        (1, (6,), 1, 4, "pass micro_batch=1 or 2 or 3$"),
        (None, (16,), 1, 8, "whole MiniBatchStd groups of 16; leave micro_batch out$"),
    ],
)
def test_micro_batches_are_whole_groups_or_refused(group, batches, ranks, micro_batch, words):
    architecture = replace(RECIPES["karras2018"][0].architecture, minibatch_std_group=group)
    if words is None:
        check_micro_batch(architecture, schedule(*batches), ranks, micro_batch)
    else:
        with pytest.raises(ValueError, match=words):
            check_micro_batch(architecture, schedule(*batches), ranks, micro_batch)


def test_groups_of_consecutive_images_are_not_split():
    architecture = replace(RECIPES["karras2018"][0].architecture, minibatch_std_consecutive=True)
    check_micro_batch(architecture, schedule(16), 1, 16)
    with pytest.raises(ValueError, match=r"groups of 4 consecutive images; leave micro_batch out$"):
        check_micro_batch(architecture, schedule(16), 1, 8)


def test_a_trainer_refuses_a_size_that_does_not_fit():
    with pytest.raises(ValueError, match="micro_batch=6 does not split the batch of stage 0"):
        make(RECIPES["karras2018"][0], micro_batch=6)


@pytest.mark.parametrize("value", [0, -4, 2.0, True, "8"])
def test_a_size_is_an_int_above_0(value):
    with pytest.raises((TypeError, ValueError), match=r"micro_batch must be (an int|at least 1)"):
        RunOptions(micro_batch=value)


# Resuming


def test_a_run_resumes_with_another_size(tmp_path):
    recipe, size = RECIPES["karras2018"]
    images = torch.rand(20, 3, 16, 16)
    options = {"run_dir": tmp_path / "run", "device": "cpu", "progress": False}
    Trainer.from_recipe(recipe, micro_batch=size, **options).fit(images, until=BATCH)
    with pytest.warns(UserWarning, match="was made in another environment .*micro_batch 4 -> 8"):
        trainer = Trainer.from_run(micro_batch=8, path=tmp_path / "run", device="cpu", progress=False)
    trainer.fit(images, until=2 * BATCH)
    resumed = Trainer.from_recipe(recipe, micro_batch=8, **options)  # of the same size: no warning
    assert resumed.images_seen == 2 * BATCH


# Lack of memory


@pytest.mark.parametrize(
    ("micro_batch", "remedy"),
    [
        (None, "a step on 16 images at once: pass micro_batch=8 to train on the same batch in parts, give stage 0 a s"),
        (8, "a step on 8 images at once: pass micro_batch=4 to train on the same batch in parts, give stage 0 a small"),
        (4, "a step on 4 images at once: give stage 0 a smaller batch_size, or train a lower resolution"),
    ],
)
@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, RuntimeError])
def test_lack_of_memory_in_a_step_names_what_to_do(kind, micro_batch, remedy, monkeypatch):
    def fail(*_, **__):
        raise kind("CUDA out of memory. Tried to allocate 2.00 GiB")

    trainer = make(RECIPES["karras2018"][0], micro_batch=micro_batch)
    monkeypatch.setattr(StepCritic, "__call__", fail)
    with pytest.raises(kind, match="CUDA out of memory") as error:
        take(trainer, 1)
    assert [note[: len(remedy)] for note in error.value.__notes__] == [remedy]


def test_other_errors_of_a_step_have_no_note(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    trainer = make(RECIPES["karras2018"][0])
    monkeypatch.setattr(StepCritic, "__call__", fail)
    with pytest.raises(RuntimeError, match="cannot be multiplied") as error:
        take(trainer, 1)
    assert not hasattr(error.value, "__notes__")
