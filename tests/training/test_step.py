"""Trainer.step against a plain loop, written out from the recipes: five steps that cross a growth, in float64."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F

from progan import (
    Adam,
    Contrast,
    HorizontalFlip,
    ProgressiveDiscriminator,
    Stage,
    Trainer,
    Training,
    WganGp,
    adjust_contrast,
    presets,
)
from progan.networks.blocks import DiscriminatorBlock
from progan.randomness import normal, uniform
from progan.training import step as step_module
from progan.training.state import TrainingState
from progan.training.step import Draws, StepCritic, StepGrowth, TrainingStep

BATCH, SEED = 8, 5
# Two steps at level 0, two of a fade, one held: growth, the end of the fade and a new learning rate are all crossed.
STAGES = (Stage(0, 0, 16, BATCH, 1e-3), Stage(1, 16, 8, BATCH, 3e-4))
STEPS = 5


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


PLANS = {
    "mel_icon": Plan(generator_first=True, average_decay=0.995, average_warm_up=True),
    "karras2018": Plan(generator_first=False, average_decay=0.999, reset=True, blend=True),
}


def networks(preset: str):
    recipe = getattr(presets, preset)(8, channels=(16, 16))
    recipe = replace(recipe, stages=STAGES)
    generator, discriminator = recipe.build(seed=1)
    return recipe, generator.double(), discriminator.double()


def real_images(recipe, step: int) -> torch.Tensor:
    side = 4 if step < 2 else 8
    low, high = recipe.architecture.image_range
    pixels = torch.rand(BATCH, 3, side, side, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    return low + (high - low) * pixels


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
        real = real_images(recipe, step)
        if plan.blend and alpha is not None:
            coarse = F.interpolate(F.avg_pool2d(real, 2), scale_factor=2.0)
            real = (1 - alpha) * coarse + alpha * real
        shape = (BATCH, *recipe.architecture.latent_shape)
        z_critic = normal(shape, SEED, "z_critic", seen).double()
        z_generator = normal(shape, SEED, "z_generator", seen).double() if plan.fresh_latents else z_critic
        mix = uniform((BATCH,), SEED, "mix", seen).double()

        def update(network, loss, learning_rate=learning_rate):
            optimizer = optimizers[network]
            optimizer.zero_grad()
            loss.backward(inputs=list(network.parameters()))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
            optimizer.zero_grad()

        def update_generator(level=level, alpha=alpha, z=z_generator):
            update(generator, -discriminator(generator(z, level, alpha), level, alpha).mean())

        def update_discriminator(level=level, alpha=alpha, z=z_critic, real=real, mix=mix):
            fake = generator(z, level, alpha).detach()
            mixed = torch.stack([e * r + (1 - e) * f for e, r, f in zip(mix, real, fake, strict=True)])
            mixed.requires_grad_()
            (slopes,) = torch.autograd.grad(discriminator(mixed, level, alpha).sum(), mixed, create_graph=True)
            penalty = sum((slope.square().sum().sqrt() - 1) ** 2 for slope in slopes) / BATCH
            scores = discriminator(real, level, alpha)
            wasserstein = discriminator(fake, level, alpha).mean() - scores.mean()
            update(discriminator, wasserstein + 10 * penalty + 0.001 * scores.square().mean())

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


def trainer_steps(preset: str) -> dict[str, torch.Tensor]:
    recipe, generator, discriminator = networks(preset)
    trainer = Trainer(
        generator, discriminator, recipe.schedule, recipe.training, seed=SEED, device="cpu", progress=False
    )
    for step in range(STEPS):
        trainer.step(real_images(recipe, step))
    tensors = trainer.state_dict()["tensors"]
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("adam_")}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize("preset", PLANS)
def test_step_is_the_recipe(preset):
    assert largest_difference(trainer_steps(preset), plain_loop(preset, PLANS[preset])) < 1e-10


BREAKS = {
    "order": lambda plan: replace(plan, generator_first=not plan.generator_first),
    "latents": lambda plan: replace(plan, fresh_latents=False),
    "ema": lambda plan: replace(plan, average_after="second"),
    "average decay": lambda plan: replace(plan, average_warm_up=not plan.average_warm_up),
    "reset": lambda plan: replace(plan, reset=not plan.reset),
    "blend": lambda plan: replace(plan, blend=not plan.blend),
    "learning rate": lambda plan: replace(plan, learning_rate=1e-3),
}


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("preset", PLANS)
def test_the_comparison_sees_each_part(preset, broken):
    if preset == "mel_icon" and broken == "ema":
        broken = "average decay"  # the average follows the generator's update, whatever the discriminator does after
    assert largest_difference(trainer_steps(preset), plain_loop(preset, BREAKS[broken](PLANS[preset]))) > 1e-6


def contrast_by_hand(real, draws):
    return adjust_contrast((real + 1) / 2, 1 + draws) * 2 - 1


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
def test_augment_acts_on_real_images_in_0_1_one_after_the_other(augment):
    """A step with augmentations is a step on images that were changed by hand."""
    recipe, *_ = networks("karras2018")

    def losses(augment, images):
        _, generator, discriminator = networks("karras2018")
        training = replace(recipe.training, augment=augment)
        trainer = Trainer(generator, discriminator, recipe.schedule, training, seed=SEED, device="cpu", progress=False)
        return trainer.step(images).losses

    real = by_hand = real_images(recipe, 0)
    draws = uniform((len(augment), BATCH), SEED, "augment", 0).double()
    for change, row in zip(BY_HAND[augment], draws, strict=True):
        by_hand = change(by_hand, row)
        assert not torch.allclose(by_hand, real)
    ours, expected, again = losses(augment, real), losses((), by_hand), losses(augment, real)
    assert ours.keys() == expected.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], expected[name], atol=1e-12, rtol=1e-12)
        assert torch.equal(ours[name], again[name])


def test_draws_have_a_row_for_each_augmentation():
    none, one, two = (Draws.at(16, BATCH, (5,), SEED, number) for number in range(3))
    assert [draws.augment.shape for draws in (none, one, two)] == [(0, BATCH), (1, BATCH), (2, BATCH)]
    assert torch.equal(one.augment[0], uniform((BATCH,), SEED, "augment", 16))
    assert torch.equal(two.augment[0], one.augment[0])  # so the first draws alike, with another after it or not
    assert not torch.equal(two.augment[1], two.augment[0])
    for draws in (one, two):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(draws[:3], none[:3], strict=True))


def test_step_reports_every_part_and_its_own_growth():
    recipe, generator, discriminator = networks("mel_icon")
    trainer = Trainer(generator, discriminator, recipe.schedule, Training(loss=WganGp()), device="cpu", progress=False)
    metrics = trainer.step(real_images(recipe, 0))
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
    trainer.step(real_images(recipe, 0))
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
        step_module, "run_concurrently", lambda device, *works: asked.append(device) or [each() for each in works]
    )
    critic = StepCritic(step, StepGrowth(1, None, 1e-3, 0.0, 0))
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
            losses = trainer.step(real_images(recipe, step).float()).losses
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
        (torch.zeros(8, 3, 4, 4, dtype=torch.uint8), TypeError, "floats in image_range"),
    ],
)
def test_step_refuses_images_that_do_not_fit(real, error, text):
    recipe, generator, discriminator = networks("mel_icon")
    trainer = Trainer(generator, discriminator, recipe.schedule, recipe.training, device="cpu", progress=False)
    with pytest.raises(error, match=text):
        trainer.step(real)
