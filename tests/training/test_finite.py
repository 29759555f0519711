"""What is not finite is noticed where it happens, named, and never saved."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import small_recipe

from progan import Callback, DivergenceError, Schedule, Stage, Trainer
from progan.runs.checkpoint import checkpoints
from progan.training.divergence import Watch, not_finite
from progan.training.state import TrainingState
from progan.training.step import TrainingStep


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_thing_that_was_not_finite_is_kept(bad):
    watch = Watch()
    assert watch.found() is None
    for count, (one, other) in enumerate([(1.0, 2.0), (1.0, 3.0), (1.0, bad), (bad, bad), (1.0, 1.0)]):
        watch.look({"one": torch.tensor(one), "other": torch.tensor(other)}, 8 * count)
    assert watch.found() == ("other", 16)
    watch.forget()
    assert watch.found() is None
    watch.look({"one": torch.tensor(1.0)}, 80)
    assert watch.found() is None


def test_steps_that_report_different_values_are_looked_at_together():
    watch = Watch()
    for count in range(4):
        values = {"one": torch.tensor(math.nan if count == 3 else 1.0)}
        if count % 2 == 0:
            values["rare"] = torch.tensor(math.nan if count == 2 else 1.0)
        watch.look(values, 8 * count)
    assert watch.found() == ("rare", 16)
    assert [len(first) for first in watch.tensors()] == [2, 1]


def test_two_at_once_are_named_in_their_order():
    watch = Watch()
    watch.look({"one": torch.tensor(1.0), "two": torch.tensor(math.nan), "three": torch.tensor(math.inf)}, 40)
    assert watch.found() == ("two", 40)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_bad_value_anywhere_is_measured(bad):
    tensors = [torch.ones(3, 2), torch.full((2,), 1e18), torch.zeros(())]
    assert torch.isfinite(Watch.measure(tensors))
    for tensor in tensors:
        for index in range(tensor.numel()):
            before = tensor.view(-1)[index].clone()
            tensor.view(-1)[index] = bad
            assert not torch.isfinite(Watch.measure(tensors))
            tensor.view(-1)[index] = before


def test_a_weight_that_is_not_finite_is_named():
    generator, discriminator = small_recipe().build()
    networks = {"generator": generator, "discriminator": discriminator}
    assert not_finite(networks, 80) is None
    discriminator.from_rgb[1].bias.data[0] = math.inf
    assert not_finite(networks, 80) == ("the discriminator's from_rgb.1.bias", 80)


def test_the_message_names_stage_count_and_part():
    schedule = Schedule([Stage(0, hold_images=16), Stage(1, hold_images=16)])
    error = DivergenceError("critic_loss", 24, schedule.at(24), saved=True)
    assert (error.what, error.images_seen) == ("critic_loss", 24)
    assert "critic_loss is not finite, in stage 1 (level 1), after 24 real images" in str(error)
    assert "earlier checkpoints are kept" in str(error)
    assert "nothing is saved" in str(DivergenceError("critic_loss", 24, schedule.at(24), saved=False))


class Poison(Callback):
    """Let one gradient of the generator be NaN from a count of images on."""

    def on_step(self, run, metrics):
        if metrics.images_seen == 40:
            run.generator.to_rgb[1].weight.register_hook(lambda gradient: gradient * math.nan)


@pytest.mark.parametrize("log_every", [8, 10_000])
@pytest.mark.parametrize("device_waits", [True, False])
def test_a_gradient_is_noticed_before_the_save(log_every, device_waits, images, tmp_path, monkeypatch):
    recipe = small_recipe()
    trainer = Trainer.from_recipe(
        recipe,
        run_dir=tmp_path / "run",
        device="cpu",
        progress=False,
        log_every=log_every,
        save_every=16,
        callbacks=[Poison()],
    )
    if not device_waits:  # as on CUDA: looked at with the log line and before a save only
        engine = trainer._engine
        monkeypatch.setattr(engine, "device", torch.device("meta"))
        monkeypatch.setattr(engine, "to_level", lambda *given, own=engine.to_level: on_cpu(engine, own, *given))
        monkeypatch.setattr(trainer, "step", lambda real, own=trainer.step: on_cpu(engine, own, real))
    with pytest.raises(DivergenceError) as caught:
        trainer.fit(images)
    # In the first step after the callback; Adam then makes NaN of the weights, and later steps of all else.
    assert (caught.value.what, caught.value.images_seen) == ("the generator's gradient", 40)
    assert checkpoints(tmp_path / "run")[-1].name == "000000032"


def on_cpu(engine, work, *arguments):
    """Do what needs the device on the one that there is."""
    pretended, engine.device = engine.device, torch.device("cpu")
    try:
        return work(*arguments)
    finally:
        engine.device = pretended


def test_looking_changes_no_bit(images, monkeypatch):
    def trained():
        trainer = Trainer.from_recipe(small_recipe(), device="cpu", progress=False)
        trainer.fit(images, until=64)
        return trainer.state_dict()["tensors"]

    watched = trained()
    monkeypatch.setattr(Watch, "look", lambda *_: None)
    monkeypatch.setattr(Watch, "measure", staticmethod(lambda _: torch.zeros(())))
    for name, tensor in trained().items():
        assert torch.equal(tensor, watched[name]), name


def test_frozen_networks_still_report_losses():
    recipe = small_recipe()
    generator, discriminator = recipe.build()
    step = TrainingStep(TrainingState(generator, discriminator, None, recipe.training.adam), recipe.training)
    generator.requires_grad_(False)
    losses = {"generator_loss": torch.tensor(1.0)}
    growth = recipe.schedule.at(0)
    derivatives = step._differentiate("adam_generator", losses, growth)
    assert not derivatives.gradients
    assert step._apply(("adam_generator", lambda part, growth: derivatives), [None], growth).keys() == losses.keys()
