"""Weights that are set from outside: what was made from them follows, or a warning says what does not."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import same, small_recipe
from torch.nn.utils import parametrize

from progan import Callback, EmaGenerator, ProgressiveGenerator, Trainer, load_generator, presets
from progan.training.tracking import ParameterTracker


def make(recipe, run_dir=None, **keywords) -> Trainer:
    return Trainer.from_recipe(recipe, seed=3, run_dir=run_dir, device="cpu", progress=False, **keywords)


def without_warm_up():
    return small_recipe(presets.karras2018)


def weights(seed: int, recipe=None) -> dict[str, torch.Tensor]:
    return (recipe or without_warm_up()).build(seed=seed)[0].state_dict()


def set_by_load(generator, state):
    generator.load_state_dict(state)


def set_by_copy(generator, state):
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            parameter.copy_(state[name])


def set_by_data(generator, state):
    for name, parameter in generator.named_parameters():
        parameter.data = state[name].clone()


@pytest.mark.parametrize("load", [set_by_load, set_by_copy, set_by_data])
@pytest.mark.parametrize("begin", ["fit", "step"])
def test_weights_loaded_before_the_first_step_are_in_the_average_too(load, begin, images):
    recipe, state = without_warm_up(), weights(7)
    trainer = make(recipe)
    load(trainer.generator, state)
    generator, discriminator = recipe.build(seed=3)
    generator.load_state_dict(state)
    passed = Trainer(generator, discriminator, recipe.schedule, recipe.training, seed=3, device="cpu", progress=False)
    for one in (trainer, passed):
        if begin == "fit":
            one.fit(images, until=16)
        else:
            one.step(torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    assert same(trainer.state_dict()["tensors"], passed.state_dict()["tensors"])


READS = {
    "grown": lambda trainer: trainer.grown().generator.state_dict(),
    "save": lambda trainer: load_generator(trainer.save()).generator.state_dict(),
    "state_dict": lambda trainer: {
        name.removeprefix("ema/"): tensor
        for name, tensor in trainer.state_dict()["tensors"].items()
        if name.startswith("ema/")
    },
}


@pytest.mark.parametrize("read", READS)
def test_weights_loaded_before_the_first_step_are_in_what_is_read_next(read, images, tmp_path):
    trainer = make(without_warm_up(), tmp_path / "run")
    trainer.generator.load_state_dict(weights(7))
    assert same(READS[read](trainer), weights(7))
    trainer.fit(images, until=8)
    expected = make(without_warm_up())
    expected.generator.load_state_dict(weights(7))
    expected.fit(images, until=8)
    assert same(trainer.state_dict()["tensors"], expected.state_dict()["tensors"])


@pytest.mark.parametrize("read", READS)
def test_in_the_middle_of_a_run_what_is_read_next_warns(read, images, tmp_path):
    """Also where the program ends after a save: the next one would know nothing of the change."""
    trainer = make(without_warm_up(), tmp_path / "run")
    trainer.fit(images, until=16)
    trainer.generator.load_state_dict(weights(7))
    with pytest.warns(UserWarning, match="the weights of the generator were changed from outside after 16 images"):
        READS[read](trainer)


def test_a_callback_may_load_weights_at_the_start(images):
    class Load(Callback):
        def on_start(self, run):
            run.generator.load_state_dict(weights(7))

    trainer = make(without_warm_up(), callbacks=[Load()])
    trainer.fit(images, until=8)
    kept = trainer.ema.module.state_dict()["to_rgb.2.weight"]  # of a level not in use
    assert torch.equal(kept, weights(7)["to_rgb.2.weight"])


@pytest.mark.parametrize("generator_too", [False, True])
def test_weights_loaded_into_the_average_stay(generator_too, images):
    """Also in a recipe with warm-up, whose first step would forget them."""
    recipe = small_recipe()
    trainer = make(recipe)
    state = weights(7, recipe)
    trainer.ema.module.load_state_dict(state)
    if generator_too:
        trainer.generator.load_state_dict(weights(8, recipe))
    trainer.fit(images, until=8)
    name = "to_rgb.2.weight"
    ema, generator = trainer.ema.module.state_dict()[name], trainer.generator.state_dict()[name]
    torch.testing.assert_close(ema, torch.lerp(state[name], generator, 1 - 0.995))
    assert not trainer.ema.warm_up
    again = make(recipe)
    again.load_state_dict(trainer.state_dict())
    assert not again.ema.warm_up, "it is a part of the state"


def test_no_warm_up_is_resumed(images, tmp_path):
    def begun(run_dir):
        trainer = make(small_recipe(), run_dir)
        if trainer.images_seen == 0:
            trainer.ema.module.load_state_dict(weights(7, small_recipe()))
        return trainer

    whole = begun(None)
    whole.fit(images, until=40)
    begun(tmp_path / "run").fit(images, until=16)
    resumed = begun(tmp_path / "run")
    resumed.fit(images, until=40)
    assert same(whole.state_dict()["tensors"], resumed.state_dict()["tensors"])


def test_in_the_middle_of_a_run_one_warning_says_what_is_stale(recipe, images, tmp_path):
    make(recipe, tmp_path / "run").fit(images, until=16)
    trainer = make(recipe, tmp_path / "run")
    trainer.generator.load_state_dict(weights(7, recipe))  # as a script that does so each time it is started
    text = (
        r"the weights of the generator were changed from outside after 16 images; training continues from them, but "
        r"the moving average, which generates the images, and Adam's moments are still those of the previous weights\. "
        r"If your program loads weights each time it starts, load them only if trainer.images_seen is 0"
    )
    before = copy.deepcopy(trainer.ema.module.state_dict())
    with pytest.warns(UserWarning, match=text):
        trainer.fit(images, until=16)
    assert same(before, trainer.ema.module.state_dict())
    trainer.generator.load_state_dict(weights(8, recipe))
    trainer.fit(images, until=24)  # once


def test_what_a_warning_names(recipe, images):
    for change, text in (
        (lambda t: t.discriminator.initialize(9), r"of the discriminator were .* but Adam's moments are still"),
        (
            lambda t: (t.generator.initialize(9), t.ema.module.initialize(9)),
            r"of the generator were .* but Adam's moments are still",
        ),
        (
            lambda t: (t.generator.initialize(9), t.discriminator.initialize(9)),
            "of the generator and the discriminator were",
        ),
    ):
        trainer = make(recipe)
        trainer.fit(images, until=8)
        change(trainer)
        with pytest.warns(UserWarning, match=text):
            trainer.step(torch.rand(8, 3, 4, 4))


class Clips(Callback):
    """Change weights on purpose, within fit."""

    def on_step(self, run, metrics):
        with torch.no_grad():
            for parameter in run.discriminator.parameters():
                parameter.clamp_(-2, 2)

    def on_end(self, run):
        run.generator.load_state_dict(run.generator.state_dict())


def clip(module, inputs):
    with torch.no_grad():
        for parameter in module.parameters(recurse=False):
            parameter.clamp_(-2, 2)


class Twice(torch.nn.Module):
    def forward(self, x):
        return x * 2


def test_changes_on_purpose_raise_no_alarm(recipe, images, tmp_path):
    """By callbacks, hooks and parametrizations; of the average; and by the trainer itself."""
    trainer = make(recipe, tmp_path / "run", callbacks=[Clips()], save_every=8)
    parts = [module for module in trainer.generator.modules() if type(module).__name__ == "EqualizedConv2d"]
    for module in parts:
        module.register_forward_pre_hook(clip)
    trainer.fit(images, until=16)
    trainer.generator(torch.zeros(2, 5, 4, 4))
    copy.deepcopy(trainer.generator)
    trainer.grown().sample(2)
    trainer.fit(images, until=24)
    trainer.ema.module.load_state_dict(weights(7, recipe))
    trainer.step(torch.rand(8, 3, 4, 4))
    trainer.load_state_dict(trainer.state_dict())
    trainer.generator.requires_grad_(False).requires_grad_(True)
    trainer.fit(images, until=40)
    generator, discriminator = recipe.build(seed=1)
    parametrize.register_parametrization(generator.to_rgb[0], "weight", Twice())
    other = Trainer(generator, discriminator, recipe.schedule, recipe.training, device="cpu", progress=False)
    other.fit(images, until=8)
    other.fit(images, until=16)


def test_a_change_of_layout_keeps_average_and_moments(images):
    """A fused Adam walks the memory of a parameter and of its moments alike."""
    recipe = without_warm_up()
    relaid, other = make(recipe), make(recipe)
    for trainer in (relaid, other):
        trainer.ema.module.load_state_dict(weights(7))
        trainer.fit(images, until=40)
    relaid.generator.to(memory_format=torch.channels_last)
    relaid.discriminator.to(memory_format=torch.channels_last)
    for trainer in (relaid, other):
        trainer.fit(images, until=56)
    for name, tensor in other.state_dict()["tensors"].items():
        torch.testing.assert_close(relaid.state_dict()["tensors"][name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.generator.double(), r"the generator's .* has become \(.*\) of torch.float64 on cpu since the tr"),
        (lambda t: t.discriminator.half(), r"the discriminator's .* of torch.float16 on cpu .* and was \(.*float32"),
        (lambda t: t.generator.to("meta"), r"the generator's .* on meta since|has gained parameters"),
        (lambda t: t.ema.module.double(), r"the average's .* must be \(.*float32 on cpu, as the generator's is"),
        (lambda t: t.ema.module.blocks.__delitem__(2), r"the average does not have the generator's parameters"),
        (
            lambda t: t.generator.to_rgb.__setitem__(2, torch.nn.Identity()),
            r"no longer has .*, such as to_rgb.2.weight",
        ),
        (
            lambda t: parametrize.register_parametrization(t.generator.to_rgb[0], "weight", Twice()),
            r"ProgressiveGenerator no longer has .* such as to_rgb.0.weight; replace layers, and register param",
        ),
        (
            lambda t: t.discriminator.blocks.__setitem__(2, copy.deepcopy(t.discriminator.blocks[2])),
            r"ProgressiveDiscriminator has gained parameters .*, such as blocks.2",
        ),
        (
            lambda t: setattr(t.generator.to_rgb[1].bias, "data", torch.zeros(4)),
            r"the generator's to_rgb.1.bias has become \(4,\) .* and was \(3,\)",
        ),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_networks_that_no_longer_fit_are_refused(change, text, begun, recipe, images):
    trainer = make(recipe)
    if begun:
        trainer.fit(images, until=8)
    change(trainer)
    with pytest.raises(ValueError, match=text):
        trainer.fit(images, until=16)
    if not begun:
        with pytest.raises(ValueError, match=text):
            trainer.step(torch.rand(8, 3, 4, 4))


def test_parameters_replaced_between_single_steps_are_refused(recipe):
    trainer = make(recipe)
    trainer.step(torch.rand(8, 3, 4, 4))
    trainer.generator.load_state_dict(weights(7, recipe), assign=True)
    with pytest.raises(ValueError, match="has gained parameters"):
        trainer.step(torch.rand(8, 3, 4, 4))


@pytest.mark.parametrize(
    "name", ["generator", "discriminator", "ema", "recipe", "schedule", "training", "seed", "device", "run_dir"]
)
def test_what_much_is_made_from_cannot_be_replaced(name, recipe):
    trainer = make(recipe)
    with pytest.raises(AttributeError, match=rf"trainer.{name} cannot be replaced, .* depend on it; \w+"):
        setattr(trainer, name, getattr(trainer, name))
    trainer.mine = 3
    assert trainer.mine == 3


def test_a_look_reads_no_tensor_and_a_change_of_what_trains_is_seen(recipe, monkeypatch):
    trainer = make(recipe)
    networks = {"generator": trainer.generator, "discriminator": trainer.discriminator}
    tracker = ParameterTracker(networks, trainer.averages)
    called = []

    class Refuse(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, arguments=(), keywords=None):
            name = getattr(function, "__name__", str(function))
            called.append(name)
            assert name in ("__get__", "data_ptr"), name
            return function(*arguments, **(keywords or {}))

    with Refuse():
        assert tracker.is_untouched()
        assert tracker.changed() == set()
    assert called
    trainer.discriminator.from_rgb[0].requires_grad_(False)
    assert not tracker.is_untouched()
    assert tracker.changed() == set()
    tracker.record()
    trainer.ema.module = ProgressiveGenerator(recipe.architecture)
    assert not tracker.is_untouched()
    assert tracker.changed() == {"ema"}


def test_a_captured_step_is_dropped_when_it_would_train_other_weights(recipe):
    class Counts:
        captures = False
        forgotten = 0

        def __init__(self, step):
            self.step = step

        def __call__(self, *arguments):
            return self.step(*arguments)

        def forget(self):
            self.forgotten += 1

    trainer = make(recipe)
    trainer._engine.device_step = counts = Counts(trainer._engine.step)
    real = torch.rand(8, 3, 4, 4)
    for _ in range(3):
        trainer.step(real)
    assert counts.forgotten == 0
    trainer.discriminator.from_rgb[2].requires_grad_(False)
    trainer.step(real)
    assert counts.forgotten == 1


def test_take_is_the_generator_to_the_bit():
    generator = torch.nn.BatchNorm1d(2)
    ema = EmaGenerator(generator, 0.9)
    with torch.no_grad():
        ema.module.weight.fill_(torch.nan)
        generator.weight.fill_(3.0)
        generator.running_mean.fill_(2.0)
    ema.take(generator)
    assert same(ema.module.state_dict(), generator.state_dict())
