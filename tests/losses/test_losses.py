"""Losses: in closed form for critics simple enough, differentiable twice, parts before their weights."""

import math
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from progan.losses.critic import critic_loss, generator_loss
from progan.losses.logistic import NonSaturating, Relativistic
from progan.losses.objectives import Wasserstein
from progan.losses.regularizers import GradientPenalty, gradient_penalty
from progan.losses.wgan_gp import CriticLoss, wgan_generator_loss, wgan_gp_loss
from progan.losses.zero_centered import R1, R2

WEIGHT = torch.tensor([3.0, 4.0], dtype=torch.float64)  # norm 5
REAL = torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64).reshape(4, 1, 1, 2)
FAKE = torch.tensor([[0.0, 0.0], [0.0, 2.0], [4.0, 1.0], [2.0, 2.0]], dtype=torch.float64).reshape(4, 1, 1, 2)
MIX = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)


def linear(images):
    return (images.flatten(1) * WEIGHT.to(images.dtype)).sum(1)


def half_square(images):
    """Score by |x|^2 / 2, whose gradient is x itself."""
    return images.flatten(1).square().sum(1) / 2


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def seeded(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def identical(actual, expected):
    assert_close(actual, expected, rtol=0, atol=0)


def test_linear_critic_in_closed_form():
    # Scores of real 3, 10, 4, 7 and of fake 0, 8, 16, 14; a norm of 5 everywhere, which over the batch would be 10.
    loss = wgan_gp_loss(linear, REAL, FAKE, mix=MIX)
    assert isinstance(loss, CriticLoss)
    identical(loss.wasserstein, number((0 + 8 + 16 + 14) / 4 - (3 + 10 + 4 + 7) / 4))
    identical(loss.penalty, number((5.0 - 1) ** 2))
    identical(loss.drift, number((9 + 100 + 16 + 49) / 4))
    assert_close(loss.total, number(3.5 + 10 * 16 + 1e-3 * 43.5))


def test_parts_are_reported_before_their_weights():
    plain = wgan_gp_loss(linear, REAL, FAKE, mix=MIX)
    weighted = wgan_gp_loss(linear, REAL, FAKE, mix=MIX, penalty_weight=3.0, drift_weight=0.5)
    identical(plain[1:], weighted[1:])
    assert_close(weighted.total, number(3.5 + 3 * 16 + 0.5 * 43.5))


@pytest.mark.parametrize(("target", "expected"), [(2.0, 9 / 4), (5.0, 0.0), (10.0, 0.25)])
def test_target(target, expected):
    identical(gradient_penalty(linear, REAL, FAKE, mix=MIX, target=target), number(expected))
    identical(wgan_gp_loss(linear, REAL, FAKE, mix=MIX, target=target).penalty, number(expected))


def test_one_mix_and_one_norm_per_image():
    # The norm at x_hat is |x_hat|, with x_hat = mix * real + (1 - mix) * fake written out for every image.
    mixed = torch.tensor([[0.0, 0.0], [0.5, 1.75], [2.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    expected = sum((row.norm() - 1) ** 2 for row in mixed) / 4
    assert_close(gradient_penalty(half_square, REAL, FAKE, mix=MIX), expected)
    each = [
        gradient_penalty(
            half_square, *(tensor[index : index + 1] for tensor in (REAL, FAKE)), mix=MIX[index : index + 1]
        )
        for index in range(4)
    ]
    assert_close(torch.stack(each).mean(), expected)


def test_images_of_any_shape_have_one_norm():
    real, fake, mix = seeded(3, 3, 4, 4), seeded(3, 3, 4, 4, seed=1), torch.tensor([0.1, 0.5, 0.9])
    mixed = mix.double().reshape(3, 1, 1, 1) * real + (1 - mix.double().reshape(3, 1, 1, 1)) * fake
    expected = (mixed.square().sum(dim=(1, 2, 3)).sqrt() - 1).square().mean()
    assert_close(gradient_penalty(half_square, real, fake, mix=mix), expected)


def test_penalty_differentiates_twice():
    real, fake, mix = seeded(3, 1, 1, 3), seeded(3, 1, 1, 3, seed=1), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)

    def penalty(first, bias, second):
        return gradient_penalty(lambda x: torch.tanh(x.flatten(1) @ first + bias) @ second, real, fake, mix=mix)

    weights = [seeded(*shape, seed=2).requires_grad_() for shape in ((3, 4), (4,), (4,))]
    assert gradcheck(penalty, weights)
    assert gradgradcheck(penalty, weights)


def test_a_flat_critic_has_finite_gradients():
    weight = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty(lambda x: x.flatten(1) @ weight, REAL, FAKE, mix=MIX)
    identical(penalty, number(1.0))
    penalty.backward()
    assert weight.grad.isfinite().all()


def test_no_gradient_into_fake():
    weight = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    fake = FAKE.clone().requires_grad_()
    wgan_gp_loss(lambda x: x.flatten(1) @ weight, REAL, fake * 2, mix=MIX).total.backward()
    assert fake.grad is None
    assert weight.grad is not None


def test_no_mix_is_drawn_from_the_global_random_state():
    torch.manual_seed(11)
    drawn = wgan_gp_loss(half_square, REAL, FAKE)
    torch.manual_seed(11)
    identical(drawn, wgan_gp_loss(half_square, REAL, FAKE, mix=torch.rand(4)))


def test_images_of_two_kinds_of_floats_meet_in_the_wider_one():
    def critic(x):
        return x.flatten(1).square().sum(1)

    fake = FAKE.bfloat16()  # as autocast leaves it
    expected = wgan_gp_loss(critic, REAL, fake.to(REAL.dtype), mix=MIX)
    assert_close(wgan_gp_loss(critic, REAL, fake, mix=MIX), expected, rtol=1e-2, atol=1e-2)
    assert_close(gradient_penalty(critic, REAL, fake, mix=MIX), expected.penalty)


def test_what_a_penalty_cannot_differentiate_is_refused():
    images = torch.zeros(4, 1, 1, 2, dtype=torch.uint8)
    with pytest.raises(TypeError, match=r"must be floats in the critic's range, got torch.uint8 and torch.float"):
        gradient_penalty(lambda x: x.flatten(1).sum(1), images, FAKE, mix=MIX)
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"differentiates the critic; call it outside"):
        gradient_penalty(lambda x: x.flatten(1).sum(1), REAL, FAKE, mix=MIX)


def test_half_types_are_widened_for_the_norm():
    # 300^2 is beyond float16.
    penalty = gradient_penalty(lambda x: x.flatten(1).sum(1) * 300, REAL.half(), FAKE.half(), mix=MIX.float())
    assert penalty.dtype == torch.float32
    assert_close(penalty, (300 * torch.tensor(2.0).sqrt() - 1) ** 2)


@pytest.mark.parametrize(
    ("real", "fake", "settings", "text"),
    [
        (REAL, FAKE[:2], {"mix": MIX}, "real and fake must have one shape, got (4, 1, 1, 2) and (2, 1, 1, 2)"),
        (REAL, FAKE, {"mix": MIX[:1]}, "mix must hold one number per image, shape (4,), got (1,)"),
        (
            REAL,
            FAKE,
            {"mix": MIX.reshape(4, 1, 1, 1)},
            "mix must hold one number per image, shape (4,), got (4, 1, 1, 1)",
        ),
        (REAL, FAKE, {"mix": MIX, "target": 0.0}, "target must be positive, got 0.0"),
    ],
)
def test_refusals(real, fake, settings, text):
    for loss in (gradient_penalty, wgan_gp_loss):
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            loss(linear, real, fake, **settings)


def test_generator_loss():
    identical(wgan_generator_loss(torch.tensor([1.0, 2.0, 6.0])), torch.tensor(-3.0))


@pytest.mark.parametrize("settings", [{}, {"penalty_weight": 2.0, "drift_weight": 0.1, "target": 3.0}])
def test_wasserstein_with_a_gradient_penalty_is_wgan_gp(settings):
    objective = Wasserstein(settings.get("drift_weight", 1e-3))
    penalty = GradientPenalty(settings.get("penalty_weight", 10.0), target=settings.get("target", 1.0))
    loss, parts = critic_loss(objective, (penalty,), half_square, REAL, FAKE, MIX)
    expected = wgan_gp_loss(half_square, REAL, FAKE, mix=MIX, **settings)
    identical(loss, expected.total)
    assert set(parts) == {"wasserstein", "penalty", "drift"}
    for name, part in parts.items():
        identical(part, getattr(expected, name))
    identical(objective.generator(half_square(FAKE)), wgan_generator_loss(half_square(FAKE)))


REAL_SCORES, FAKE_SCORES = np.array([3.0, -40.0, 0.5, 7.0]), np.array([0.0, 2.5, -1.0, 60.0])


def slow_wasserstein(real, fake):
    return sum(fake) / 4 - sum(real) / 4 + 0.25 * sum(score**2 for score in real) / 4, -sum(fake) / 4


def slow_non_saturating(real, fake):
    def minus_log_sigmoid(score):
        return np.log1p(np.exp(-score)) if score > 0 else np.log1p(np.exp(score)) - score

    critic = sum(minus_log_sigmoid(score) for score in real) / 4 + sum(minus_log_sigmoid(-score) for score in fake) / 4
    return critic, sum(minus_log_sigmoid(score) for score in fake) / 4


@pytest.mark.parametrize(
    ("objective", "slow"),
    [(Wasserstein(0.25), slow_wasserstein), (NonSaturating(), slow_non_saturating)],
    ids=["Wasserstein", "NonSaturating"],
)
def test_objectives(objective, slow):
    real, fake = torch.from_numpy(REAL_SCORES), torch.from_numpy(FAKE_SCORES)
    critic, generator = slow(REAL_SCORES, FAKE_SCORES)
    assert_close(objective.critic(real, fake), number(critic))
    assert_close(objective.generator(fake, None), number(generator))
    scores = [seeded(4, seed=seed).requires_grad_() for seed in (1, 2)]
    assert gradcheck(objective.critic, scores)
    assert gradcheck(lambda fake: objective.generator(fake, None), scores[1:])


def test_r1():
    """Half the squared norm of tanh's gradient at real images, written out; fake and mix do not matter."""
    first, second = seeded(2, 3, seed=3), seeded(3, seed=4)

    def critic(images):
        return torch.tanh(images.flatten(1) @ first) @ second

    slopes = [
        first.numpy() @ ((1 - np.tanh(row @ first.numpy()) ** 2) * second.numpy()) for row in REAL.numpy()[:, 0, 0]
    ]
    expected = sum(float(slope @ slope) for slope in slopes) / 4 / 2
    assert_close(R1()(critic, REAL, FAKE, MIX), number(expected))
    assert_close(R1(per_pixel=True)(critic, REAL, FAKE, MIX), number(expected * REAL[0, 0].numel()))
    loss, parts = critic_loss(NonSaturating(), (R1(weight=3.0),), critic, REAL, FAKE, MIX)
    assert_close(loss - NonSaturating().critic(critic(REAL), critic(FAKE)), number(3.0 * expected))
    assert list(parts) == ["r1"]


def test_r2_is_r1_at_generated_images():
    def critic(images):
        return torch.tanh(images.flatten(1) @ seeded(2, seed=3))

    for per_pixel in (False, True):
        expected = R1(per_pixel=per_pixel)(critic, FAKE, REAL, MIX)
        assert_close(R2(per_pixel=per_pixel)(critic, REAL, FAKE, MIX), expected)
    fake = FAKE.clone().requires_grad_()
    assert torch.autograd.grad(R2()(critic, REAL, fake, MIX) + 0 * fake.sum(), fake)[0].abs().max() == 0


def test_relativistic():
    """Written out image by image; and with its gradients."""
    real, fake = torch.from_numpy(REAL_SCORES), torch.from_numpy(FAKE_SCORES)
    critic = np.mean([math.log1p(math.exp(f - r)) for r, f in zip(REAL_SCORES, FAKE_SCORES, strict=True)])
    generator = np.mean([math.log1p(math.exp(r - f)) for r, f in zip(REAL_SCORES, FAKE_SCORES, strict=True)])
    assert_close(Relativistic().critic(real, fake), number(critic))
    assert_close(Relativistic().generator(fake, real), number(generator))
    scores = [seeded(4, seed=seed).requires_grad_() for seed in (1, 2)]
    assert gradcheck(Relativistic().critic, scores)
    assert gradcheck(Relativistic().generator, scores)
    with pytest.raises(ValueError, match=r"^Relativistic compares with real images; pass real_scores too"):
        Relativistic().generator(fake, None)


def test_r1_differentiates_twice():
    real = seeded(3, 1, 1, 3)
    weights = [seeded(*shape, seed=2).requires_grad_() for shape in ((3, 4), (4,))]

    def penalty(first, second):
        return R1()(lambda images: torch.tanh(images.flatten(1) @ first) @ second, real, real, torch.zeros(3))

    assert gradcheck(penalty, weights)
    assert gradgradcheck(penalty, weights)


def test_what_is_applied_in_some_steps_has_as_much_more_weight():
    rare = replace(GradientPenalty(), every=4)
    plain, _ = critic_loss(Wasserstein(), (), linear, REAL, FAKE, None)
    often, parts = critic_loss(Wasserstein(), (GradientPenalty(),), linear, REAL, FAKE, MIX)
    seldom, same_parts = critic_loss(Wasserstein(), (rare,), linear, REAL, FAKE, MIX)
    assert_close(seldom - plain, 4 * (often - plain))
    identical(parts, same_parts)


def test_generator_loss_reaches_fake():
    fake = FAKE.clone().requires_grad_()
    Wasserstein().generator(linear(fake)).backward()
    assert_close(fake.grad, (-WEIGHT / 4).expand(4, 2).reshape(FAKE.shape))


@dataclass(frozen=True)
class Own:
    """An objective and a regulariser of one's own, which returns what it is told to."""

    shape: tuple[int, ...] = ()
    name: str = "own"
    weight: float = 1.0
    every: int = 1

    def critic(self, real_scores, fake_scores):
        return torch.zeros(self.shape)

    def __call__(self, critic, real, fake, mix):
        return torch.zeros(self.shape)


@pytest.mark.parametrize(
    ("objective", "regularizers", "text"),
    [
        (Own((4,)), (), "the loss of Own must be one number, 0-d, got shape (4,); return its mean"),
        (Own(), (Own((1,)),), "the loss of Own must be one number, 0-d, got shape (1,); return its mean"),
        (
            Wasserstein(),
            (Own(name="drift"),),
            "the objective reports drift already; give the regulariser another name",
        ),
        (
            Wasserstein(),
            (Own(name="generator_loss"),),
            "the objective reports generator_loss already; give the",
        ),
    ],
)
def test_what_parts_must_return(objective, regularizers, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        critic_loss(objective, regularizers, linear, REAL, FAKE, MIX)


def test_scores_and_penalty_are_at_once_where_the_critic_offers_it():
    class Critic:
        def __init__(self):
            self.log = []

        def __call__(self, images):
            self.log.append("scores")
            return linear(images)

        def run_concurrently(self, first, second):
            self.log.append("first")
            of_first = first()
            self.log.append("second")
            return of_first, second()

    critic = Critic()
    for ours, expected in zip(
        wgan_gp_loss(critic, REAL, FAKE, mix=MIX), wgan_gp_loss(linear, REAL, FAKE, mix=MIX), strict=True
    ):
        identical(ours, expected)
    assert critic.log == ["first", "scores", "scores", "second", "scores"]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Wasserstein(-1.0), "Wasserstein.drift_weight must be at least 0 and finite, got -1.0"),
        (lambda: Wasserstein(float("nan")), "Wasserstein.drift_weight must be at least 0 and finite, got nan"),
        (lambda: GradientPenalty(float("inf")), "GradientPenalty.weight must be at least 0 and finite, got inf"),
        (lambda: GradientPenalty(target=0.0), "GradientPenalty.target must be above 0 and finite, got 0.0"),
        (lambda: GradientPenalty(every=0), "GradientPenalty.every must be at least 1, got 0"),
        (lambda: R1(-1.0), "R1.weight must be at least 0 and finite, got -1.0"),
        (lambda: R1(every=-1), "R1.every must be at least 1, got -1"),
    ],
)
def test_settings_out_of_range(make, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        make()


class OfTwoKinds:
    """A critic that scores halves of images too, with a weight of their own."""

    def __call__(self, images):
        return linear(images)

    def both(self, real, fake):
        return tuple([(linear(images), 1.0), (self.halves(images), 0.25)] for images in (real, fake))

    @staticmethod
    def halves(images):
        return (images.flatten(1) * 2).flatten()


@pytest.mark.parametrize("objective", [Wasserstein(0.5), NonSaturating(), Relativistic()])
def test_the_losses_of_several_kinds_of_scores_are_added_by_their_weights(objective):
    critic = OfTwoKinds()
    (real, _), (real_halves, _) = critic.both(REAL, FAKE)[0]
    (fake, _), (fake_halves, _) = critic.both(REAL, FAKE)[1]
    loss, parts = critic_loss(objective, (R1(weight=3.0),), critic, REAL, FAKE, MIX)
    penalty = number(25.0) / 2  # of the one score of an image
    expected = objective.critic(real, fake) + 0.25 * objective.critic(real_halves, fake_halves) + 3 * penalty
    assert_close(loss, expected)
    assert_close(parts.pop("r1"), penalty)
    if isinstance(objective, Wasserstein):
        whole, of_halves = (objective.critic_parts(*of)[1] for of in ((real, fake), (real_halves, fake_halves)))
        assert_close(parts, {name: whole[name] + 0.25 * of_halves[name] for name in ("wasserstein", "drift")})
    others = [(real, 1.0), (real_halves, 0.25)] if isinstance(objective, Relativistic) else None
    actual = generator_loss(objective, [(fake, 1.0), (fake_halves, 0.25)], others)
    of_real = (real, real_halves) if others else (None, None)
    assert_close(actual, objective.generator(fake, of_real[0]) + 0.25 * objective.generator(fake_halves, of_real[1]))
