"""Dense layers within an update: one product for a weight's gradient, by the faster library."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from progan.ops import dispatch
from progan.ops import linear as linear_module
from progan.ops.bilinear import bilinear
from progan.ops.dispatch import record
from progan.ops.linear import DeferredWeightGrad, linear
from progan.ops.weight_cache import weight_cache

LARGE = (8, 1024), (1024, 1024)


def inputs(shapes=((5, 3), (4, 3)), dtype=torch.float64) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [(torch.randn(shape, dtype=dtype) / shape[-1] ** 0.5).requires_grad_() for shape in shapes]


def product_of(deferred: DeferredWeightGrad):
    return lambda x: bilinear(deferred, x, deferred.weight)


def critic_loss(x: torch.Tensor, product) -> torch.Tensor:
    """A weight's three uses: a score, a slope, the slope's own slope."""
    scores = product(x.detach()).square().sum()
    (slope,) = torch.autograd.grad(product(x).pow(3).sum(), x, create_graph=True)
    return scores + slope.square().sum()


def test_all_uses_of_a_weight_bring_one_product(monkeypatch):
    x, weight = inputs()
    multiplied = []
    by_factors = linear_module._Collect.backward

    def backward(ctx, gradient):
        multiplied.append([len(each) for each, _ in ctx.factors])
        return by_factors(ctx, gradient)

    monkeypatch.setattr(linear_module._Collect, "backward", staticmethod(backward))
    critic_loss(x, product_of(DeferredWeightGrad(weight))).backward(inputs=[weight])
    assert multiplied == [[5, 5, 5]]
    (expected,) = torch.autograd.grad(critic_loss(x, lambda x: F.linear(x, weight)), weight)
    assert_close(weight.grad, expected, rtol=1e-12, atol=1e-12)


def test_nothing_is_left_of_a_gradient_that_does_not_ask_for_the_weight():
    x, weight = inputs()
    deferred = DeferredWeightGrad(weight)
    loss = critic_loss(x, product_of(deferred))
    torch.autograd.grad(loss, x, retain_graph=True)
    assert deferred.factors == []
    for times in (1, 2):
        loss.backward(inputs=[weight], retain_graph=True)
        (expected,) = torch.autograd.grad(critic_loss(x, lambda x: F.linear(x, weight)), weight)
        assert_close(weight.grad, times * expected)
    assert deferred.factors == []


def test_a_frozen_weight_collects_nothing():
    x, weight = inputs()
    deferred = DeferredWeightGrad(weight.detach())
    (slope,) = torch.autograd.grad(critic_loss(x, product_of(deferred)), x)
    (expected,) = torch.autograd.grad(critic_loss(x, lambda x: F.linear(x, weight)), x)
    assert_close(slope, expected)
    assert deferred.factors == []


class Products(TorchDispatchMode):
    """Note the operations that multiply matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name() in ("aten::mm", "mkldnn::_linear_pointwise"):
            self.names.append(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("cpu", ["avx512", "avx2", "other"])
def test_a_large_matrix_is_multiplied_by_what_is_faster_on_this_cpu(cpu, monkeypatch):
    if dispatch.cpu_kind() == "other":
        pytest.skip("it was measured on other CPUs only")
    monkeypatch.setattr(dispatch, "cpu_kind", lambda: cpu)
    x, weight = inputs(LARGE, torch.float32)
    wide = [each.detach().double().requires_grad_() for each in (x, weight)]
    with Products() as products:
        found = torch.autograd.grad(critic_loss(x, product_of(DeferredWeightGrad(weight))), (x, weight))
    assert products.names == ["aten::mm" if cpu == "other" else "mkldnn::_linear_pointwise"] * 6
    expected = torch.autograd.grad(critic_loss(wide[0], lambda x: F.linear(x, wide[1])), wide)
    for here, exact in zip(found, expected, strict=True):
        assert_close(here.double(), exact, rtol=1e-5, atol=1e-5 * exact.abs().max().item())


def test_a_large_matrix_is_given_a_gradient_of_any_layout_and_of_no_image():
    _, weight = inputs(LARGE, torch.float32)
    for batch in (3, 0):
        x = torch.ones(1, 1024).expand(batch, -1)
        (found,) = torch.autograd.grad(product_of(DeferredWeightGrad(weight))(x).sum(), weight)
        assert_close(found, torch.full((1024, 1024), float(batch)))


@pytest.mark.parametrize("shape", [(12,), (4, 5, 12), (0, 5, 12)])
def test_other_shapes_than_matrices(shape):
    """Such as tokens. As many rows as tokens would hide a mistake in their gradients."""
    x, weight = inputs((shape, (5, 12)))
    bias = torch.ones(5, dtype=torch.float64, requires_grad=True)
    expected = F.linear(x, weight, bias)
    with weight_cache(), record() as used:
        y = linear(x, weight, bias)
    assert ("linear", "deferred_gradient") in used
    assert_close(y, expected)
    ours, torchs = (torch.autograd.grad(each.square().sum(), [x, weight, bias]) for each in (y, expected))
    assert_close(ours, torchs)


def test_under_autocast_it_takes_torchs_types():
    x, weight = inputs(dtype=torch.float32)
    bias = torch.ones(4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        expected = linear(x, weight, bias)
        with weight_cache():
            y = linear(x, weight, bias)
    assert y.dtype == expected.dtype == torch.bfloat16
    assert_close(y, expected)
    y.float().sum().backward()
    assert weight.grad.dtype == bias.grad.dtype == torch.float32
