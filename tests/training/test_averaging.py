"""The running average, against its formula written out step by step."""

import copy
import math
import re

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from progan.networks.architecture import Architecture
from progan.networks.generator import ProgressiveGenerator
from progan.training.ema import EmaGenerator


class Counted(nn.Module):
    """Have a parameter, and a buffer that is no weight."""

    def __init__(self, value):
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), float(value), dtype=torch.float64))
        self.register_buffer("count", torch.tensor(int(value)))


def averaged(ema, values, batch_size):
    for step, value in enumerate(values):
        ema.update(Counted(value), step * batch_size, batch_size)
    return ema.module.weight[0].item()


VALUES = [3.0, -1.0, 4.0, 1.0, -5.0, 9.0, 2.0, 6.0]


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("batch_size", [4, 8, 32])
def test_decay_per_step(decay, batch_size):
    expected = 10.0
    for value in VALUES:
        expected = decay * expected + (1 - decay) * value
    assert_close(averaged(EmaGenerator(Counted(10), decay), VALUES, batch_size), expected)


@pytest.mark.parametrize("batch_size", [4, 8, 32])
def test_decay_meant_for_a_batch(batch_size):
    expected, decay = 10.0, 0.9 ** (batch_size / 8)
    for value in VALUES:
        expected = decay * expected + (1 - decay) * value
    assert_close(averaged(EmaGenerator(Counted(10), 0.9, batch=8), VALUES, batch_size), expected)


def test_decay_meant_for_a_batch_forgets_by_images():
    halves, whole = EmaGenerator(Counted(10), 0.9, batch=8), EmaGenerator(Counted(10), 0.9, batch=8)
    assert_close(averaged(halves, [2.0, 2.0], 4), averaged(whole, [2.0], 8))


def test_warm_up_is_the_articles():
    # Decay min(1 - 1 / (t + 1), 0.75) after step t: a plain mean of the first four, then an exponential one.
    ema, expected = EmaGenerator(Counted(10), 0.75, batch=8, warm_up=True), 10.0
    for step, value in enumerate(VALUES):
        decay = min(1 - 1 / (step + 1), 0.75)
        expected = decay * expected + (1 - decay) * value
        ema.update(Counted(value), 8 * step, 8)
        assert_close(ema.module.weight[0].item(), expected)
        if step < 4:
            assert_close(expected, sum(VALUES[: step + 1]) / (step + 1))


def test_ramp_up_limits_the_half_life_to_a_share_of_the_images_seen():
    ema = EmaGenerator(Counted(0), 0.5, batch=1000, ramp_up=0.25)
    halves = {n: math.log(0.5) / math.log(1 - ema.weight_of_new(n, 8)) * 8 for n in (40, 400, 4000, 40_000)}
    assert halves == {n: pytest.approx(min(1000, n / 4)) for n in halves}
    assert ema.weight_of_new(0, 8) == 1
    assert EmaGenerator(Counted(0), 0.5, batch=1000).weight_of_new(40, 8) == 1 - 0.5 ** (8 / 1000)


def test_the_first_step_of_a_warm_up_forgets_the_start():
    assert averaged(EmaGenerator(Counted(10), 0.999, warm_up=True), [3.0], 8) == 3.0


def test_an_average_is_a_copy_without_gradients():
    generator = Counted(10)
    ema = EmaGenerator(generator, 0.5)
    before = copy.deepcopy(generator.state_dict())
    ema.update(Counted(0), 0, 8)
    assert_close(generator.state_dict(), before)
    assert generator.weight.requires_grad
    assert not any(parameter.requires_grad for parameter in ema.parameters())
    assert set(ema.state_dict()) == {"module.weight", "module.count"}


def test_buffers_are_copied():
    ema = EmaGenerator(Counted(10), 0.5)
    ema.update(Counted(7), 0, 8)
    assert ema.module.count.item() == 7


def test_forward_makes_the_averaged_images():
    architecture = Architecture((8, 6), latent_shape=(4,))
    torch.manual_seed(0)
    first, second = ProgressiveGenerator(architecture), ProgressiveGenerator(architecture)
    ema, z = EmaGenerator(first, 0.0), torch.randn(2, 4)
    assert_close(ema(z, 1, 0.5), first(z, 1, 0.5), rtol=0, atol=0)
    ema.update(second, 0, 8)
    assert_close(ema(z, 1, 0.5), second(z, 1, 0.5))
    assert ema(z, 0).shape == (2, 3, 4, 4)
    assert_close(ema(z), ema(z, 1, None), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"decay": 1.0}, "decay must be in [0, 1), got 1.0"),
        ({"decay": -0.1}, "decay must be in [0, 1), got -0.1"),
        ({"decay": 0.9, "batch": 0}, "batch must be at least 1, or None, got 0"),
    ],
)
def test_refusals(settings, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        EmaGenerator(Counted(0), **settings)
