"""The optimizer: Adam's formula, and torch's own class to the bit."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from progan.optimization import Adam
from progan.training.adam import AdamOptimizer, Moments

CPU = torch.device("cpu")
SETTINGS = Adam(betas=(0.5, 0.9), eps=1e-3)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.rand(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64))


def gradients(*parameters: nn.Parameter, step: int) -> dict[nn.Parameter, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {each: torch.randn(each.shape, generator=generator, dtype=each.dtype) for each in parameters}


def test_it_is_the_formula_of_the_paper():
    moved = parameter(3, 4)
    optimizer = AdamOptimizer(CPU, SETTINGS)
    expected, mean, square = moved.detach().numpy().copy(), np.zeros((3, 4)), np.zeros((3, 4))
    for t in range(1, 5):
        given = gradients(moved, step=t)
        optimizer.step(given, 0.1 / t)
        g = given[moved].numpy()
        mean = 0.5 * mean + 0.5 * g
        square = 0.9 * square + 0.1 * g * g
        expected -= 0.1 / t * (mean / (1 - 0.5**t)) / (np.sqrt(square / (1 - 0.9**t)) + 1e-3)
    assert_close(moved.detach().numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_torchs_own_to_the_bit(dtype):
    ours, theirs = ([nn.Parameter(parameter(*shape).to(dtype)) for shape in ((5,), (4, 3, 3, 3))] for _ in range(2))
    optimizer = AdamOptimizer(CPU, SETTINGS)
    reference = torch.optim.Adam(theirs, betas=SETTINGS.betas, eps=SETTINGS.eps, fused=True)
    for step in range(4):
        in_use = slice(1, None) if step < 2 else slice(None)  # a parameter that comes into use later
        given = gradients(*ours[in_use], step=step)
        optimizer.step(given, 1e-2)
        reference.param_groups[0]["lr"] = 1e-2
        for one, other in zip(ours[in_use], theirs[in_use], strict=True):
            other.grad = given[one]
        reference.step()
        reference.zero_grad()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)
        for name, tensor in optimizer.moments[one]._asdict().items():
            assert torch.equal(tensor, reference.state[other][name]), name
            assert tensor.dtype == reference.state[other][name].dtype


def test_a_factor_is_of_the_learning_rate():
    one, other = parameter(3, 4), parameter(3, 4)
    plain, doubled = AdamOptimizer(CPU, SETTINGS), AdamOptimizer(CPU, SETTINGS, 2.0)
    for step in range(3):
        plain.step(gradients(one, step=step), 0.2)
        doubled.step(gradients(other, step=step), 0.1)
    assert torch.equal(one, other)


def test_a_gradient_may_have_another_memory_layout():
    plain, channels_last = (parameter(2, 3, 4, 4) for _ in range(2))
    channels_last.data = channels_last.data.to(memory_format=torch.channels_last)
    optimizer = AdamOptimizer(CPU, SETTINGS)
    (gradient,) = gradients(plain, step=0).values()
    optimizer.step({plain: gradient, channels_last: gradient}, 0.1)
    assert torch.equal(plain, channels_last)
    assert channels_last.is_contiguous(memory_format=torch.channels_last)
    assert optimizer.moments[channels_last].exp_avg.stride() == channels_last.stride()


def test_loaded_moments_are_copies_in_the_parameters_layout():
    whole, resumed = (parameter(2, 3, 4, 4) for _ in range(2))
    resumed.data = resumed.data.to(memory_format=torch.channels_last)
    before, after = AdamOptimizer(CPU, SETTINGS), AdamOptimizer(CPU, SETTINGS)
    (gradient,) = gradients(whole, step=0).values()
    before.step({whole: gradient}, 0.1)
    resumed.data.copy_(whole.data)
    kept = Moments(*(tensor.clone() for tensor in before.moments[whole]))
    after.load(resumed, before.moments[whole])
    after.step({resumed: gradient}, 0.1)
    assert all(torch.equal(one, other) for one, other in zip(before.moments[whole], kept, strict=True))
    before.step({whole: gradient}, 0.1)
    assert torch.equal(whole, resumed)


def test_it_does_not_load_torchs_compiler():
    program = """
import sys, torch
had = "torch._dynamo" in sys.modules
from progan.optimization import Adam
from progan.training.adam import AdamOptimizer
weight = torch.nn.Parameter(torch.ones(2))
AdamOptimizer(torch.device("cpu"), Adam()).step({weight: torch.ones(2)}, 0.1)
print(had, "torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], "a second, and 80 MB"
