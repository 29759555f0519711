"""Trainer.step against a plain loop, written out from the recipes: five steps that cross a growth, in float64."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F

from progan import (
    R1,
    Adam,
    CheckpointError,
    Contrast,
    GradientPenalty,
    HorizontalFlip,
    NonSaturating,
    ProgressiveDiscriminator,
    Stage,
    Trainer,
    Training,
    Translate,
    adjust_contrast,
    presets,
)
from progan.networks.blocks import DiscriminatorBlock
from progan.randomness import normal, uniform
from progan.training import step as step_module
from progan.training.state import TrainingState
from progan.training.step import StepCritic, TrainingStep
from progan.training.step_growth import StepGrowth

BATCH, SEED = 8, 5
# Two steps at level 0, two of a fade, one held: growth, the end of the fade and a new learning rate are all crossed.
STAGES = (Stage(0, 0, 16, BATCH, 1e-3), Stage(1, 16, 8, BATCH, 3e-4))
STEPS = 5
SHIFT, STRENGTH = Translate(0.5), 0.5


@dataclass(frozen=True)
class Plan:
    """What RECIPES' two columns say of a step; the tests break one at a time."""

    generator_first: bool
    fresh_latents: bool = True
    average_decay: float = 0.995
    average_warm_up: bool = False
    average_after: str = "first"  # of the two updates
    reset: bool = False
    blend: bool = False
    learning_rate: float | None = None
    generator_factor: float = 1.0  # of the learning rate
    shift: bool = False  # of all images that the critic sees
    same_shift: bool = False  # in both updates


PLANS = {
    "mel_icon": Plan(generator_first=True, average_decay=0.995, average_warm_up=True),
    "karras2018": Plan(generator_first=False, average_decay=0.999, reset=True, blend=True),
}


def networks(preset: str):
    recipe = getattr(presets, preset)(8, channels=(16, 16))
    recipe = replace(recipe, stages=STAGES)
    generator, discriminator = recipe.build(seed=1)
    return recipe, generator.double(), discriminator.double()


def real_images(step: int) -> torch.Tensor:
    side = 4 if step < 2 else 8
    return torch.rand(BATCH, 3, side, side, generator=torch.Generator().manual_seed(step), dtype=torch.float64)


def plain_loop(preset: str, plan: Plan) -> dict[str, torch.Tensor]:
    recipe, generator, discriminator = networks(preset)
    ema = copy.deepcopy(generator)
    optimizers = {}

    def reset():
        for network in (generator, discriminator):
            optimizers[network] = torch.optim.Adam(network.parameters(), betas=(0.0, 0.99), eps=1e-8)

    reset()
    for step in range(STEPS):
        seen = step * BATCH
        level, alpha = [(0, None), (0, None), (1, 0.0), (1, 0.5), (1, None)][step]
        learning_rate = plan.learning_rate or [1e-3, 1e-3, 3e-4, 3e-4, 3e-4][step]
        low, high = recipe.architecture.image_range
        real = low + (high - low) * real_images(step)
        if plan.blend and alpha is not None:
            coarse = F.interpolate(F.avg_pool2d(real, 2), scale_factor=2.0)
            real = (1 - alpha) * coarse + alpha * real
        shape = (BATCH, *recipe.architecture.latent_shape)
        z_critic = normal(shape, SEED, "z_critic", seen).double()
        z_generator = normal(shape, SEED, "z_generator", seen).double() if plan.fresh_latents else z_critic
        mix = uniform((BATCH,), SEED, "mix", seen).double()

        def scores(images, role, level=level, alpha=alpha, seen=seen, low=low, high=high):
            if plan.shift:
                role = "critic" if plan.same_shift else role
                draws = uniform((3, BATCH), SEED, "augment", f"{seen} {role}/Translate").double()
                images = low + (high - low) * SHIFT((images - low) / (high - low), draws, STRENGTH)
            return discriminator(images, level, alpha)

        def update(network, loss, learning_rate=learning_rate):
            optimizer = optimizers[network]
            optimizer.zero_grad()
            loss.backward(inputs=list(network.parameters()))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * (plan.generator_factor if network is generator else 1)
            optimizer.step()
            optimizer.zero_grad()

        def update_generator(level=level, alpha=alpha, z=z_generator):
            update(generator, -scores(generator(z, level, alpha), "generator").mean())

        def update_discriminator(level=level, alpha=alpha, z=z_critic, real=real, mix=mix):
            fake = generator(z, level, alpha).detach()
            mixed = torch.stack([e * r + (1 - e) * f for e, r, f in zip(mix, real, fake, strict=True)])
            mixed.requires_grad_()
            (slopes,) = torch.autograd.grad(scores(mixed, "critic").sum(), mixed, create_graph=True)
            penalty = sum((slope.square().sum().sqrt() - 1) ** 2 for slope in slopes) / BATCH
            real_scores = scores(real, "critic")
            wasserstein = scores(fake, "critic").mean() - real_scores.mean()
            update(discriminator, wasserstein + 10 * penalty + 0.001 * real_scores.square().mean())

        def update_average(step=step):
            decay = min(1 - 1 / (step + 1), plan.average_decay) if plan.average_warm_up else plan.average_decay
            with torch.no_grad():
                for mean, new in zip(ema.parameters(), generator.parameters(), strict=True):
                    mean.copy_(decay * mean + (1 - decay) * new)

        order = [update_generator, update_discriminator]
        if not plan.generator_first:
            order.reverse()
        order.insert({"first": 1, "second": 2}[plan.average_after], update_average)
        for part in order:
            part()
        if plan.reset and step in (1, 3):  # the next step has a new level, or no fade any more
            reset()
    named = {"generator": generator, "discriminator": discriminator, "ema": ema}
    return {f"{role}/{name}": p.detach() for role, net in named.items() for name, p in net.named_parameters()}


def trainer_steps(preset: str, *, shift: bool = False, generator_factor: float = 1.0) -> dict[str, torch.Tensor]:
    recipe, generator, discriminator = networks(preset)
    adam = replace(recipe.training.adam, generator_factor=generator_factor)
    training = replace(recipe.training, adam=adam)
    training = replace(training, augment_all=SHIFT, augment_strength=STRENGTH) if shift else training
    trainer = Trainer(generator, discriminator, recipe.schedule, training, seed=SEED, device="cpu", progress=False)
    for step in range(STEPS):
        trainer.step(real_images(step))
    tensors = trainer.state_dict()["tensors"]
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(("adam_", "augment/"))}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("preset", PLANS)
def test_step_is_the_recipe(preset, shift):
    plain = plain_loop(preset, replace(PLANS[preset], shift=shift))
    assert largest_difference(trainer_steps(preset, shift=shift), plain) < 1e-10


@pytest.mark.parametrize("preset", PLANS)
def test_the_generator_has_its_own_learning_rate(preset):
    plain = plain_loop(preset, replace(PLANS[preset], generator_factor=2.0))
    assert largest_difference(trainer_steps(preset, generator_factor=2.0), plain) < 1e-10
    assert largest_difference(trainer_steps(preset), plain) > 1e-6


BREAKS = {
    "order": lambda plan: replace(plan, generator_first=not plan.generator_first),
    "latents": lambda plan: replace(plan, fresh_latents=False),
    "ema": lambda plan: replace(plan, average_after="second"),
    "average decay": lambda plan: replace(plan, average_warm_up=not plan.average_warm_up),
    "reset": lambda plan: replace(plan, reset=not plan.reset),
    "blend": lambda plan: replace(plan, blend=not plan.blend),
    "learning rate": lambda plan: replace(plan, learning_rate=1e-3),
    "augmentation": lambda plan: replace(plan, shift=False),
    "augmentation of the generator's images": lambda plan: replace(plan, same_shift=True),
}


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("preset", PLANS)
def test_the_comparison_sees_each_part(preset, broken):
    if preset == "mel_icon" and broken == "ema":
        broken = "average decay"  # the average follows the generator's update, whatever the discriminator does after
    plan = BREAKS[broken](replace(PLANS[preset], shift=broken.startswith("augmentation")))
    ours = trainer_steps(preset, shift=broken.startswith("augmentation"))
    assert largest_difference(ours, plain_loop(preset, plan)) > 1e-6


def contrast_by_hand(real, draws):
    return adjust_contrast(real, 1 + draws)


def flip_by_hand(real, draws):
    return torch.stack([image.flip(2) if draw < 0.5 else image for image, draw in zip(real, draws, strict=True)])


BY_HAND = {
    (): (),
    (Contrast(1.0, 2.0),): (contrast_by_hand,),
    (HorizontalFlip(),): (flip_by_hand,),
    (Contrast(1.0, 2.0), HorizontalFlip()): (contrast_by_hand, flip_by_hand),
    (HorizontalFlip(), Contrast(1.0, 2.0)): (flip_by_hand, contrast_by_hand),
}


@pytest.mark.parametrize("augment", BY_HAND, ids=str)
def test_augment_real_acts_on_real_images_in_0_1_one_after_the_other(augment):
    """A step with augmentations is a step on images that were changed by hand."""
    recipe, *_ = networks("karras2018")

    def losses(augment, images):
        _, generator, discriminator = networks("karras2018")
        training = replace(recipe.training, augment_real=augment)
        trainer = Trainer(generator, discriminator, recipe.schedule, training, seed=SEED, device="cpu", progress=False)
        return trainer.step(images).losses

    real = by_hand = real_images(0)
    for change, augmentation in zip(BY_HAND[augment], augment, strict=True):
        position = 0 if isinstance(augmentation, Contrast) else "0 real/HorizontalFlip"
        by_hand = change(by_hand, uniform((BATCH,), SEED, "augment", position).double())
        assert not torch.allclose(by_hand, real)
    ours, expected, again = losses(augment, real), losses((), by_hand), losses(augment, real)
    assert ours.keys() == expected.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], expected[name], atol=1e-12, rtol=1e-12)
        assert torch.equal(ours[name], again[name])


# Regularisers in some steps, augmentations of all images

LAZY = (Stage(0, 0, 44, BATCH, 1e-3), Stage(1, 40, 0, BATCH, 1e-3))  # the first runs over its end by half a batch


def make(preset="karras2018", stages=STAGES, **training):
    recipe = getattr(presets, preset)(8, channels=(16, 16))
    recipe = replace(recipe, stages=stages, training=replace(recipe.training, **training))
    generator, discriminator = (network.double() for network in recipe.build(seed=1))
    return Trainer(generator, discriminator, recipe.schedule, recipe.training, seed=SEED, device="cpu", progress=False)


def lazy_steps(trainer, steps):
    """Take steps on images keyed by the count."""
    told = []
    for _ in range(steps):
        side = 4 << trainer.growth.level
        pixels = torch.Generator().manual_seed(trainer.images_seen)
        told.append(trainer.step(torch.rand(BATCH, 3, side, side, generator=pixels, dtype=torch.float64)))
    return told


def test_lazy_regularisers_are_applied_in_every_nth_step_of_a_stage():
    told = lazy_steps(make(stages=LAZY, objective=NonSaturating(), regularizers=(R1(every=4), GradientPenalty())), 11)
    numbers = [metrics.growth.step for metrics in told]
    assert numbers == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4]
    assert ["r1" in metrics.losses for metrics in told] == [number % 4 == 0 for number in numbers]
    assert all("penalty" in metrics.losses for metrics in told)


def test_a_lazy_step_is_one_of_as_much_more_weight_or_none():
    """Each step of every=2 is one of a weight twice as great, or of no regulariser, from the same state."""
    lazy = make(objective=NonSaturating(), regularizers=R1(0.5, every=2))
    for expected in ((R1(1.0),), (), (R1(1.0),)):
        other = make(objective=NonSaturating(), regularizers=expected)
        other.load_state_dict({**lazy.state_dict(), "tensors": clones(lazy)})
        lazy_steps(lazy, 1)
        lazy_steps(other, 1)
        for name, tensor in clones(lazy).items():
            torch.testing.assert_close(tensor, clones(other)[name], atol=1e-12, rtol=1e-12)


def clones(trainer):
    return {name: tensor.clone() for name, tensor in trainer.state_dict()["tensors"].items()}


def test_no_strength_is_no_augmentation():
    trainers = [make(augment_all=Translate(0.5), augment_strength=0.0), make()]
    for trainer in trainers:
        lazy_steps(trainer, 4)
    ours, plain = map(clones, trainers)
    assert ours.pop("augment/strength") == 0
    assert ours.keys() == plain.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, plain[name], atol=1e-9, rtol=1e-9)


def test_the_strength_is_a_tensor_of_the_state():
    trainer = make(augment_all=Translate(0.5), augment_strength=0.25)
    strength = trainer.state_dict()["tensors"]["augment/strength"]
    assert (strength.shape, strength.dtype, strength.item()) == ((), torch.float32, 0.25)
    before = clones(trainer)
    strength.fill_(0.75)  # as something that adapts it would
    other = make(augment_all=Translate(0.5), augment_strength=0.75)
    assert torch.equal(*(lazy_steps(each, 1)[0].losses["wasserstein"] for each in (trainer, other)))
    trainer.load_state_dict({"images_seen": 0, "numbers": {"ema_warm_up": False}, "tensors": before})
    assert trainer.state_dict()["tensors"]["augment/strength"] == 0.25
    del before["augment/strength"]
    with pytest.raises(CheckpointError, match="lacks 1 tensors, such as augment/strength"):
        trainer.load_state_dict({"images_seen": 0, "numbers": {"ema_warm_up": False}, "tensors": before})
    assert "augment/strength" not in make(augment_real=Contrast()).state_dict()["tensors"]


@dataclass(frozen=True)
class Relativistic:
    """An objective of one's own that needs the real images' scores in the generator's update too."""

    needs_real: ClassVar[bool] = True

    def critic(self, real_scores, fake_scores):
        return F.softplus(fake_scores - real_scores).mean()

    def generator(self, fake_scores, real_scores):
        return F.softplus(real_scores - fake_scores).mean()


def test_an_objective_gets_the_real_scores_that_it_needs():
    trainer = make(objective=Relativistic(), order="generator_first")
    discriminator, generator = trainer.discriminator, trainer.generator
    z = normal((BATCH, *generator.architecture.latent_shape), SEED, "z_generator", 0).double()
    apart = discriminator(real_images(0) * 2 - 1, 0) - discriminator(generator(z, 0), 0)
    expected = F.softplus(apart).mean().detach()
    losses = trainer.step(real_images(0)).losses
    torch.testing.assert_close(losses["generator_loss"], expected)
    assert set(losses) == {"critic_loss", "generator_loss", "penalty"}


def test_patches_are_compared_too():
    """The losses of a step of few_images with patch scores, from the scores of each kind."""
    recipe = presets.few_images(16, channels=(16, 12, 8), total_images=2000)
    training = replace(recipe.training, regularizers=R1(0.5), augment_all=(), blend_real=False, reconstruction=None)
    architecture = replace(recipe.architecture, patch_scores=True)
    recipe = replace(recipe, architecture=architecture, stages=(Stage(2, 16, 8, BATCH, 1e-3),), training=training)
    generator, discriminator = (network.double() for network in recipe.build(seed=1))
    trainer = Trainer(generator, discriminator, recipe.schedule, training, seed=SEED, device="cpu", progress=False)
    real = torch.rand(BATCH, 3, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    trainer.step(real)
    alpha = trainer.growth.alpha
    assert alpha == 0.5
    old_generator, old_discriminator = copy.deepcopy(generator), copy.deepcopy(discriminator)
    losses = trainer.step(real).losses

    def loss(critic, name, sign):
        z = normal((BATCH, 128), SEED, name, BATCH).double()
        of_real = critic(real * 2 - 1, 2, alpha, separate=True)
        of_fake = critic(old_generator(z, 2, alpha), 2, alpha, separate=True)
        assert [weight for _, weight in of_real] == [1.0, alpha]  # at 8x8 there are no patches
        apart = [sign * (fake - real) for (real, _), (fake, _) in zip(of_real, of_fake, strict=True)]
        return F.softplus(apart[0]).mean() + alpha * F.softplus(apart[1]).mean()

    images = (real * 2 - 1).requires_grad_()
    (slopes,) = torch.autograd.grad(old_discriminator(images, 2, alpha).sum(), images)
    penalty = slopes.square().flatten(1).sum(dim=1).mean() / 2
    torch.testing.assert_close(losses["critic_loss"], loss(old_discriminator, "z_critic", 1) + 0.5 * penalty)
    torch.testing.assert_close(losses["generator_loss"], loss(discriminator, "z_generator", -1))
    layer = "to_patch_scores.0.weight"
    assert not torch.equal(discriminator.get_parameter(layer), old_discriminator.get_parameter(layer))


def test_step_reports_every_part_and_its_own_growth():
    recipe, generator, discriminator = networks("mel_icon")
    trainer = Trainer(generator, discriminator, recipe.schedule, Training(), device="cpu", progress=False)
    metrics = trainer.step(real_images(0))
    assert set(metrics.losses) == {"critic_loss", "wasserstein", "penalty", "drift", "generator_loss"}
    parts = metrics.losses
    total = parts["wasserstein"] + 10 * parts["penalty"] + 1e-3 * parts["drift"]
    torch.testing.assert_close(parts["critic_loss"], total)
    assert (metrics.images_seen, metrics.growth.level) == (BATCH, 0)
    assert all(parameter.grad is None for parameter in (*generator.parameters(), *discriminator.parameters()))


def test_parameters_not_in_use_do_not_move():
    recipe, generator, discriminator = networks("mel_icon")
    before = {net: {n: p.detach().clone() for n, p in net.named_parameters()} for net in (generator, discriminator)}
    trainer = Trainer(generator, discriminator, recipe.schedule, recipe.training, device="cpu", progress=False)
    trainer.step(real_images(0))
    for network, values in before.items():
        in_use = network.in_use(0)
        for name, parameter in network.named_parameters():
            assert torch.equal(parameter, values[name]) == (name not in in_use), name


@pytest.mark.parametrize("own", [False, True])
def test_works_are_at_once_where_all_parameters_are_taken_at_once(own, monkeypatch):
    """Not where a network has blocks of one's own: autograd warns of parameters that two streams use."""

    class Own(DiscriminatorBlock):
        pass

    generator, discriminator = presets.mel_icon(8, channels=(4, 4)).build()
    if own:
        discriminator = ProgressiveDiscriminator(discriminator.architecture, block=Own)
    step = TrainingStep(TrainingState(generator, discriminator, None, Adam()), Training())
    asked = []
    monkeypatch.setattr(
        step_module,
        "run_concurrently_beside",
        lambda parameter, *works: asked.append(parameter.device) or [each() for each in works],
    )
    critic = StepCritic(step, StepGrowth(1, None, (True,), 1e-3, (), 0), {})
    assert list(critic.run_concurrently(lambda: 1, lambda: 2)) == [1, 2]
    assert asked == ([] if own else [torch.device("cpu")])


def test_bf16_trains_in_float32_weights_close_to_fp32():
    recipe = replace(presets.mel_icon(8, channels=(16, 16)), stages=STAGES)
    finals = []
    for precision in ("fp32", "bf16"):
        trainer = Trainer.from_recipe(
            replace(recipe, training=replace(recipe.training, precision=precision)), device="cpu", progress=False
        )
        for step in range(STEPS):
            losses = trainer.step(real_images(step).float()).losses
        assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
        assert all(parameter.dtype == torch.float32 for parameter in trainer.generator.parameters())
        finals.append(losses["penalty"])
    assert not torch.equal(*finals)
    torch.testing.assert_close(*finals, rtol=0.1, atol=0.05)


@pytest.mark.parametrize(
    ("real", "error", "text"),
    [
        (torch.zeros(8, 3, 8, 8), ValueError, r"step takes \(8, 3, 4, 4\), got \(8, 3, 8, 8\); resize with"),
        (torch.zeros(7, 3, 4, 4), ValueError, r"got \(7, 3, 4, 4\)"),
        (torch.zeros(8, 1, 4, 4), ValueError, r"got \(8, 1, 4, 4\)"),
        (torch.zeros(8, 3, 4, 4, dtype=torch.uint8), TypeError, r"step takes floats in \[0, 1\], got torch.uint8"),
    ],
)
def test_step_refuses_images_that_do_not_fit(real, error, text):
    recipe, generator, discriminator = networks("mel_icon")
    trainer = Trainer(generator, discriminator, recipe.schedule, recipe.training, device="cpu", progress=False)
    with pytest.raises(error, match=text):
        trainer.step(real)
