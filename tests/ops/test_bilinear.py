"""Products with a path of their own for the weight: whose gradient is computed only where it is asked for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from progan.ops.bilinear import bilinear
from progan.ops.convolution import convolve
from progan.ops.dispatch import record
from progan.ops.linear import DeferredWeightGrad

SHAPES = {"convolution": [(2, 2, 5, 4), (3, 2, 3, 3), (3,)], "matrix": [(5, 3), (4, 3), (4,)]}


def convolution(x, weight, bias):
    return convolve(x, weight, bias, 1)


def matrix(x, weight, bias):
    deferred = DeferredWeightGrad(weight)
    return bilinear(deferred, x, deferred.weight) + bias


OURS = {"convolution": convolution, "matrix": matrix}
TORCHS = {"convolution": lambda x, weight, bias: F.conv2d(x, weight, bias, padding=1), "matrix": F.linear}
both = pytest.mark.parametrize("kind", OURS)


def inputs(kind: str) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in SHAPES[kind]]


@both
def test_third_derivatives_are_torchs(kind):
    """Each derivative is one of the sum of squares of those before; second ones are in the test of the table."""

    def third(function):
        tensors = inputs(kind)
        value = function(*tensors).square().sum()
        for _ in range(3):
            found = torch.autograd.grad(value, tensors, create_graph=True)
            value = sum(each.square().sum() for each in found)
        return found

    assert_close(third(OURS[kind]), third(TORCHS[kind]), rtol=1e-9, atol=1e-9)


@both
@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (1, 2)])
def test_what_is_frozen_gets_no_gradient(kind, frozen):
    found = []
    for function in (OURS[kind], TORCHS[kind]):
        tensors = inputs(kind)
        for index in frozen:
            tensors[index].requires_grad_(False)
        function(*tensors).square().sum().backward()
        found.append([each.grad for each in tensors])
    assert [grad is None for grad in found[0]] == [index in frozen for index in range(3)]
    for ours, torchs in zip(*found, strict=True):
        assert ours is torchs is None or assert_close(ours, torchs) is None


@both
def test_a_graph_that_is_kept_goes_backward_twice(kind):
    tensors = inputs(kind)
    y = OURS[kind](*tensors).square().sum()
    y.backward(retain_graph=True)
    once = [each.grad.clone() for each in tensors]
    y.backward()
    assert_close([each.grad for each in tensors], [2 * each for each in once])
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()


@both
@pytest.mark.parametrize("changed", [0, 1])
def test_what_is_changed_before_the_backward_is_noticed(kind, changed):
    tensors = [each * 1 for each in inputs(kind)]
    y = OURS[kind](*tensors).square().sum()
    tensors[changed].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def gradients(used: list[tuple[str, str]]) -> list[str]:
    """The gradients of convolutions that were computed, in order."""
    names = {"convolution_by_weight": "weight", "convolution_by_input": "input"}
    found = [names[operation] for operation, _ in used if operation in names]
    used.clear()
    return found


def test_each_gradient_is_computed_where_it_is_asked_for_only():
    x, weight, bias = inputs("convolution")
    with record() as used:
        torch.autograd.grad(convolution(x, weight, bias).sum(), x, create_graph=True)
        assert gradients(used) == ["input"]
        convolution(x, weight, bias).sum().backward(inputs=[x])
        assert gradients(used) == ["input"]
        convolution(x.detach(), weight, bias).sum().backward()
        assert gradients(used) == ["weight"]


def test_a_penalty_computes_each_gradient_once():
    x, weight, bias = inputs("convolution")
    with record() as used:
        (slope,) = torch.autograd.grad(convolution(x, weight, bias).square().sum(), x, create_graph=True)
        assert gradients(used) == ["input"]
        slope.square().sum().backward(inputs=[weight, bias])
        assert gradients(used).count("weight") == 2, "once by the slope, once by the scores that it is of"


def test_a_derivative_of_a_penalty_by_images_needs_no_gradient_by_the_weight():
    x, weight, bias = inputs("convolution")
    (slope,) = torch.autograd.grad(convolution(x, weight, bias).square().sum(), x, create_graph=True)
    with record() as used:
        slope.square().sum().backward(inputs=[x])
        assert "weight" not in gradients(used)
