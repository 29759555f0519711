"""Codes of real images, and the generator's loss of reconstructing them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from progan import PrincipalCodes, Recipe, Reconstruction, Relativistic, Schedule, Stage, Trainer, Training, presets
from progan.losses.critic import generator_loss
from progan.randomness import normal, uniform
from progan.reconstruction import half_of
from progan.training.draws import Draws
from progan.training.micro_batches import StepBatch
from progan.training.step import StepCritic

SIZE = (3, 4, 4)


def pictures(n=400, dimensions=6):
    """Pictures that vary in a few directions, by independent normal amounts of different spread."""
    rng = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(48, dimensions, generator=rng, dtype=torch.float64)).Q.T
    amounts = torch.randn(n, dimensions, generator=rng, dtype=torch.float64) * torch.arange(dimensions, 0, -1)
    return (0.5 + amounts @ directions).reshape(n, *SIZE).float(), directions, amounts


def fitted(images, components):
    codes = PrincipalCodes(tuple(images.shape[1:]), components)
    codes.fit(images)
    return codes


def test_codes_are_the_principal_components_of_numpy():
    images, _, _ = pictures()
    codes = fitted(images, 4)
    flat = images.double().flatten(1).numpy()
    values, vectors = np.linalg.eigh(np.cov(flat.T, bias=True))
    expected = (flat - flat.mean(axis=0)) @ (vectors[:, ::-1][:, :4] / np.sqrt(values[::-1][:4]))
    found = codes(images, torch.zeros(400, 4)).double().numpy()
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found, expected * signs, atol=1e-4)


def test_codes_have_the_moments_of_latents_and_no_correlation():
    images, _, amounts = pictures()
    code = fitted(images, 6)(images, torch.zeros(400, 9))
    assert code[:, 6:].eq(0).all()
    torch.testing.assert_close(code[:, :6].mean(dim=0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(code[:, :6].T @ code[:, :6] / 400, torch.eye(6), atol=1e-3, rtol=0)
    # The directions that the pictures were made of, since their amounts are nearly independent.
    correlations = torch.corrcoef(torch.cat([code[:, :6].double(), amounts], dim=1).T)[:6, 6:].abs()
    assert (correlations.max(dim=1).values > 0.9).all()


def test_latents_keep_what_the_data_does_not_determine():
    """Three pictures span two directions; the code of all others is the latent itself, as are the numbers behind it."""
    images, _, _ = pictures(3)
    z = normal((3, 8), 0, "z", 0)
    coded = fitted(images, 5)(images, z)
    assert coded.shape == z.shape
    assert torch.equal(coded[:, 2:], z[:, 2:])
    assert not torch.isclose(coded[:, :2], z[:, :2]).any()
    equal = torch.full((4, *SIZE), 0.3)
    assert torch.equal(fitted(equal, 5)(equal, z.repeat(2, 1)[:4]), z.repeat(2, 1)[:4])


def test_latents_may_be_images_and_of_other_types():
    images, _, _ = pictures()
    codes, z = fitted(images, 5), normal((400, 4, 2, 2), 0, "z", 0)
    coded = codes(images, z)
    assert torch.equal(coded.flatten(1), codes(images, z.flatten(1)))
    torch.testing.assert_close(codes(images.double(), z.double()).float(), coded, atol=1e-4, rtol=0)
    assert codes(images.double(), z.double()).dtype == torch.float64


def test_codes_do_not_depend_on_the_sign_of_a_direction(monkeypatch):
    images, _, _ = pictures()
    expected = fitted(images, 4).basis
    svd = torch.linalg.svd
    monkeypatch.setattr(torch.linalg, "svd", lambda *each, **named: (*(u := svd(*each, **named))[:2], -u[2]))
    assert torch.equal(fitted(images, 4).basis, expected)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"codes are of images \(N, 3, 4, 4\), got \(2, 3, 8, 8\)"):
        PrincipalCodes(SIZE, 2)(torch.zeros(2, 3, 8, 8), torch.zeros(2, 8))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 8])
def test_the_loss_is_the_mean_difference_of_the_first_half(batch_size):
    fake, real = (uniform((batch_size, *SIZE), 0, name, 0).double() for name in ("fake", "real"))
    half = -(-batch_size // 2)
    loss = Reconstruction()(fake, real, half_of(batch_size).double())
    torch.testing.assert_close(loss, (fake[:half] - real[:half]).abs().mean())


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"weight": -1.0}, ValueError, "Reconstruction.weight"),
        ({"weight": "3"}, TypeError, "Reconstruction.weight"),
        ({"components": 0}, ValueError, "Reconstruction.components must be at least 1"),
        ({"components": 2.0}, TypeError, "Reconstruction.components"),
    ],
)
def test_settings_are_checked(settings, error, message):
    with pytest.raises(error, match=message):
        Reconstruction(**settings)


def test_a_training_takes_a_reconstruction_only():
    with pytest.raises(TypeError, match=r"Training\.reconstruction must be a Reconstruction"):
        Training(reconstruction=3.0)


# In a run

BATCH = 4


def recipe(components=5, **training) -> Recipe:
    """Without a palette; one step at 4x4 and 8x8, then some at 16x16, where codes are, and at 32x32."""
    few = presets.few_images(32, 64, total_images=4000, channels=(8, 8, 8, 8), flat=False)
    stages = (Stage(0, 0, 4, BATCH), Stage(1, 0, 4, BATCH), Stage(2, 4, 4, BATCH), Stage(3, 4, 12, BATCH))
    settings = {"reconstruction": Reconstruction(2.0, components), "augment_strength": 0.5, **training}
    return replace(few, stages=stages, training=replace(few.training, **settings))


def images(n=24):
    return uniform((n, 3, 32, 32), 0, "images", 0)


def trained(until=None, **options):
    trainer = Trainer.from_recipe(recipe(), device="cpu", progress=False, seed=3, **options)
    trainer.fit(images(), until=until)
    return trainer


def state_of(trainer):
    return {name: tensor.clone() for name, tensor in trainer.state_dict()["tensors"].items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_a_step_adds_the_loss_of_half_the_batch_whose_latents_begin_with_codes():
    """The generator's gradient, against one that is written out."""
    trainer = trained(until=20)  # at the top level, grown
    step, growth = trainer._engine.step, trainer._engine.step.growth_of(trainer.growth, 20)
    real = 2 * images(BATCH) - 1
    draws = Draws.at(20, BATCH, (128,), 3, trainer.training)
    found = step._generator_gradient(StepBatch(real, draws, None), growth)
    z = normal((BATCH, 128), 3, "z_generator", 20)
    pixels = torch.nn.functional.avg_pool2d(2 * images() - 1, 2).flatten(1)
    mean = pixels.mean(dim=0)
    values, directions = torch.linalg.eigh((pixels - mean).T @ (pixels - mean) / len(pixels))
    expected = (pixels[:2] - mean) @ directions[:, -5:].flip(1) / values[-5:].flip(0).sqrt()
    coded = trainer._engine.state.codes(torch.nn.functional.avg_pool2d(real, 2), z)
    torch.testing.assert_close(coded[:2, :5].abs(), expected.abs(), atol=1e-3, rtol=0)
    z = torch.cat([torch.cat([coded[:2, :5], z[:2, 5:]], dim=1), z[2:]])
    fake = trainer.generator(z, 3)
    critic = StepCritic(step, growth, draws.for_augment("generator"))
    difference = (fake[:2] - real[:2]).abs().mean()
    loss = generator_loss(Relativistic(), critic.scores(fake), critic.scores(real)) + 2 * difference
    torch.testing.assert_close(found.losses["reconstruction"], difference.detach())
    torch.testing.assert_close(found.losses["generator_loss"], loss.detach())
    names = {parameter: name for name, parameter in trainer.generator.named_parameters()}
    gradients = torch.autograd.grad(loss, list(found.gradients))
    for (parameter, gradient), own in zip(found.gradients.items(), gradients, strict=True):
        torch.testing.assert_close(gradient, own, atol=1e-5, rtol=1e-4, msg=lambda m, p=parameter: names[p] + m)


def test_it_begins_at_the_size_of_the_codes_and_is_reported(tmp_path):
    trained(run_dir=tmp_path / "run", log_every=1)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = {row["images_seen"]: "reconstruction" in row for row in rows if "generator_loss" in row}
    assert [steps[count] for count in (4, 8, 12, 16, 20)] == [False, False, True, True, True]


def test_networks_below_the_size_of_codes_take_codes_of_their_own_size():
    few = recipe()
    small = replace(few.architecture, channels=(8, 8))
    trainer = Trainer.from_recipe(replace(few, architecture=small, stages=few.stages[:2]), device="cpu", progress=False)
    trainer.fit(uniform((24, 3, 8, 8), 0, "images", 0))
    assert trainer._engine.state.codes.size == (3, 8, 8)


def test_a_run_resumes_to_the_bit_with_its_codes(tmp_path):
    straight = state_of(trained(run_dir=tmp_path / "straight"))
    begun = trained(until=16, run_dir=tmp_path / "run")
    codes = state_of(begun)["codes/basis"]
    assert codes.any()
    for way in (lambda: Trainer.from_run(tmp_path / "run", device="cpu", progress=False), lambda: begun):
        resumed = way()
        assert torch.equal(state_of(resumed)["codes/basis"], codes)
    resumed.fit(images())
    assert_equal(state_of(resumed), straight)


def test_codes_stay_when_the_data_grows(tmp_path):
    codes = state_of(trained(until=16, run_dir=tmp_path / "run"))["codes/basis"]
    trainer = Trainer.from_run(tmp_path / "run", device="cpu", progress=False, data_may_change=True)
    with pytest.warns(UserWarning, match="trains on 48 images instead of 24"):
        trainer.fit(torch.cat([images(), 1 - images()]))
    assert torch.equal(state_of(trainer)["codes/basis"], codes)


def test_a_run_that_starts_from_another_takes_codes_of_its_own_data(tmp_path):
    trained(run_dir=tmp_path / "first")
    further = recipe().starting_at(3)
    other = Trainer.from_recipe(further, device="cpu", progress=False, start=tmp_path / "first")
    assert not other._engine.state.codes.is_fitted
    other.fit(images().flip(-1), until=4)
    theirs = fitted(torch.nn.functional.avg_pool2d(2 * images().flip(-1) - 1, 2), 5)
    torch.testing.assert_close(state_of(other)["codes/basis"], theirs.basis, atol=1e-3, rtol=1e-3)


def test_step_alone_needs_fit_first_for_the_codes():
    trainer = Trainer.from_recipe(recipe(), device="cpu", progress=False)
    for side in (4, 8):
        trainer.step(uniform((BATCH, 3, side, side), 0, "real", 0))
    with pytest.raises(RuntimeError, match="takes codes from the data, and step has only a batch"):
        trainer.step(uniform((BATCH, 3, 16, 16), 0, "real", 0))
    assert trainer.images_seen == 8
    trainer.fit(images(), until=8)
    assert trainer.images_seen == 8
    trainer.step(uniform((BATCH, 3, 16, 16), 0, "real", 0))


def test_a_plan_needs_no_codes():
    trainer = Trainer.from_recipe(recipe(), device="cpu", progress=False)
    assert trainer.plan(printed=False).total_s > 0


def test_recipes_hold_it_in_json_and_those_of_older_runs_have_none():
    data = json.loads(json.dumps(recipe().to_json()))
    assert data["training"]["reconstruction"] == {"weight": 2.0, "components": 5}
    assert Recipe.from_json(data) == recipe()
    del data["training"]["reconstruction"]
    assert Recipe.from_json(data) == recipe(reconstruction=None)
    data["training"]["reconstruction"] = None
    assert json.loads(json.dumps(recipe(reconstruction=None).to_json())) == data


def test_a_latent_of_fewer_numbers_is_all_code():
    few = recipe(components=200)
    trainer = Trainer.from_recipe(few, device="cpu", progress=False)
    trainer.fit(images(), until=16)
    assert trainer._engine.state.codes.basis.shape == (768, 128)
    assert trainer._engine.state.codes.basis.any(dim=0).sum() == 23  # as many as 24 images span


@pytest.mark.parametrize("order", ["critic_first", "generator_first"])
def test_steps_in_parts_are_steps_on_the_whole_batch(order):
    few = recipe(order=order)
    stages = (Stage(2, 0, 16, 16), Stage(3, 16, 16, 16))
    whole, parts = (
        Trainer(*(each.double() for each in few.build()), Schedule(stages), few.training, device="cpu", **options)
        for options in ({"progress": False}, {"progress": False, "micro_batch": 4})
    )
    for trainer in (whole, parts):
        trainer.fit(images().double())
    assert whole.images_seen == 48
    for name, tensor in state_of(whole).items():
        torch.testing.assert_close(tensor, state_of(parts)[name], rtol=1e-9, atol=1e-9)
