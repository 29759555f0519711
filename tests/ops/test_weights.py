"""What layers make of their weights: once within an update, with the gradients of any other way."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import small_recipe
from test_convolution import derivatives
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from progan import EqualizedConv2d, EqualizedLinear, presets, wgan_gp_loss
from progan.networks import layers
from progan.ops import weights
from progan.ops.weights import DeferredWeightGrad, are_kept, kept, multiply, weight_cache


def inputs() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((5, 3), (4, 3))]


def test_the_product_is_torchs_to_the_third_derivative():
    tensors = inputs()
    ours = derivatives(lambda x, weight: multiply(x, DeferredWeightGrad(weight)), tensors, 3)
    torchs = derivatives(F.linear, tensors, 3)
    for here, there in zip(ours, torchs, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-10, atol=1e-10)


def test_its_derivatives_are_those_of_differences():
    tensors = inputs()
    assert gradcheck(lambda x, weight: multiply(x, DeferredWeightGrad(weight)), tensors)
    assert gradgradcheck(lambda x, weight: multiply(x, DeferredWeightGrad(weight)), tensors)


def critic_loss(x: torch.Tensor, product) -> torch.Tensor:
    """A weight's three uses: a score, a slope, the slope's own slope."""
    scores = product(x.detach()).square().sum()
    (slope,) = torch.autograd.grad(product(x).pow(3).sum(), x, create_graph=True)
    return scores + slope.square().sum()


def test_all_uses_of_a_weight_bring_one_product(monkeypatch):
    x, weight = inputs()
    multiplied = []
    by_factors = weights._Gather.backward

    def backward(ctx, gradient):
        multiplied.append([len(each) for each, _ in ctx.factors])
        return by_factors(ctx, gradient)

    monkeypatch.setattr(weights._Gather, "backward", staticmethod(backward))
    gathered = DeferredWeightGrad(weight)
    critic_loss(x, lambda x: multiply(x, gathered)).backward(inputs=[weight])
    assert multiplied == [[5, 5, 5]]
    (expected,) = torch.autograd.grad(critic_loss(x, lambda x: F.linear(x, weight)), weight)
    torch.testing.assert_close(weight.grad, expected, rtol=1e-12, atol=1e-12)


class Products(TorchDispatchMode):
    """Note the operations that multiply matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name() in ("aten::mm", "mkldnn::_linear_pointwise"):
            self.names.append(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("there", [True, False])
def test_a_large_matrix_is_multiplied_by_what_is_faster_on_this_cpu(monkeypatch, there):
    if there and not weights._has_onednn():
        pytest.skip("torch has no oneDNN's product here, or the CPU is of another kind")
    monkeypatch.setattr(weights, "_has_onednn", lambda: there)
    torch.manual_seed(0)
    x, weight = torch.randn(8, 1024).requires_grad_(), (torch.randn(1024, 1024) / 32).requires_grad_()
    wide = [each.detach().double().requires_grad_() for each in (x, weight)]
    gathered = DeferredWeightGrad(weight)
    with Products() as products:
        found = torch.autograd.grad(critic_loss(x, lambda x: multiply(x, gathered)), (x, weight))
    assert products.names == ["mkldnn::_linear_pointwise" if there else "aten::mm"] * 6
    expected = torch.autograd.grad(critic_loss(wide[0], lambda x: F.linear(x, wide[1])), wide)
    for here, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(here.double(), exact, rtol=1e-5, atol=1e-5 * exact.abs().max().item())


def test_a_large_matrix_has_torchs_third_derivatives():
    torch.manual_seed(0)
    x, weight = torch.randn(1, 1024).requires_grad_(), (torch.randn(1024, 1024) / 32).requires_grad_()
    ours = derivatives(lambda x, weight: multiply(x, DeferredWeightGrad(weight)), [x, weight], 3)
    torchs = derivatives(F.linear, [x, weight], 3)
    for here, there in zip(ours, torchs, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-4 * there.abs().max().item())


def test_a_large_matrix_is_given_a_gradient_of_any_layout_and_of_no_image():
    weight = torch.randn(1024, 1024, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for batch in (3, 0):
        x = torch.ones(1, 1024).expand(batch, -1)
        (found,) = torch.autograd.grad(multiply(x, DeferredWeightGrad(weight)).sum(), weight)
        torch.testing.assert_close(found, torch.full((1024, 1024), float(batch)))


def test_small_matrices_and_other_dtypes_are_torchs():
    for x, weight in (
        (torch.randn(8, 1024), torch.randn(1023, 1024)),
        (torch.randn(8, 1024).double(), torch.randn(1024, 1024).double()),
    ):
        with Products() as products:
            multiply(x, DeferredWeightGrad(weight))
        assert products.names == ["aten::mm"]


def test_nothing_is_left_of_a_gradient_that_does_not_ask_for_the_weight():
    x, weight = inputs()
    gathered = DeferredWeightGrad(weight)
    loss = critic_loss(x, lambda x: multiply(x, gathered))
    torch.autograd.grad(loss, x, retain_graph=True)
    assert gathered.factors == []
    for times in (1, 2):
        loss.backward(inputs=[weight], retain_graph=True)
        (expected,) = torch.autograd.grad(critic_loss(x, lambda x: F.linear(x, weight)), weight)
        torch.testing.assert_close(weight.grad, times * expected)
    assert gathered.factors == []


def test_a_frozen_weight_gathers_nothing():
    x, weight = inputs()
    gathered = DeferredWeightGrad(weight.detach())
    (slope,) = torch.autograd.grad(critic_loss(x, lambda x: multiply(x, gathered)), x)
    (expected,) = torch.autograd.grad(critic_loss(x, lambda x: F.linear(x, weight)), x)
    torch.testing.assert_close(slope, expected)
    assert gathered.factors == []


def test_what_is_changed_before_the_backward_is_noticed():
    x, weight = inputs()
    weight = weight * 1
    y = multiply(x, DeferredWeightGrad(weight)).sum()
    weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_it_is_made_once_within_and_anew_outside():
    made = []

    def make() -> int:
        made.append(0)
        return len(made)

    owner, other = object(), object()
    assert [kept(owner, "a", make), kept(owner, "a", make)] == [1, 2]
    assert not are_kept()
    with weight_cache():
        assert are_kept()
        assert [kept(owner, "a", make), kept(owner, "a", make), kept(owner, "b", make)] == [3, 3, 4]
        assert kept(other, "a", make) == 5
        with torch.no_grad():
            assert kept(owner, "a", make) == 6, "what has no graph is no use where one is built"
    with weight_cache():
        assert kept(owner, "a", make) == 7


def test_parameters_taken_at_once_are_those_taken_one_by_one():
    """Of layers of which one is not used, one has nothing to scale, and one is no convolution."""
    torch.manual_seed(0)
    used, unused = EqualizedConv2d(3, 3, 3), EqualizedConv2d(3, 3, 1)
    plain, dense = EqualizedConv2d(3, 3, 1, equalization="none"), EqualizedLinear(3, 3)
    x = torch.randn(2, 3, 4, 4)

    def gradients(run_concurrently):
        with weight_cache():
            if run_concurrently:
                layers.take_parameters([used, unused, plain, dense])
            loss = plain(used(x)).square().sum() + dense(used(x).mean((2, 3))).square().sum()
            functions = {each.grad_fn for each in (used._used_weight(), used._used_bias(), dense._used_bias())}
            assert (len(functions) == 1) == run_concurrently
        parameters = [*used.parameters(), *plain.parameters(), *dense.parameters(), *unused.parameters()]
        return torch.autograd.grad(loss, parameters, allow_unused=True)

    ours, theirs = gradients(True), gradients(False)
    assert ours[6:] == theirs[6:] == (None, None)
    for mine, other in zip(ours[:6], theirs[:6], strict=True):
        assert torch.equal(mine, other)


def test_where_no_weight_is_to_be_scaled_none_is():
    layer = EqualizedConv2d(2, 2, 3, equalization="he_twice")
    assert layer.constant == 1.0, "the root of 2 by that of 2 channels"
    with weight_cache():
        layers.take_parameters([layer])
        assert layer(torch.zeros(1, 2, 4, 4)).shape == (1, 2, 4, 4)


def test_an_error_within_ends_it():
    with pytest.raises(ZeroDivisionError), weight_cache():
        raise ZeroDivisionError
    assert not are_kept()


@pytest.mark.parametrize("preset", [presets.mel_icon, presets.karras2018])
@pytest.mark.parametrize("avx512", [False, True])
def test_the_gradients_of_a_critic_are_those_of_weights_used_one_by_one(preset, avx512, monkeypatch):
    monkeypatch.setattr(layers, "has_avx512", lambda: avx512)
    recipe = small_recipe(preset)
    _, discriminator = recipe.build()
    discriminator.double()
    level = recipe.architecture.top_level
    torch.manual_seed(0)
    real, fake = torch.rand(2, 8, 3, *recipe.architecture.size(level), dtype=torch.float64)
    mix = torch.rand(8, dtype=torch.float64)
    parameters = discriminator.in_use(level, 0.5)

    def gradients() -> tuple[torch.Tensor, ...]:
        loss = wgan_gp_loss(lambda images: discriminator(images, level, 0.5), real, fake, mix=mix)
        return torch.autograd.grad(loss.total, list(parameters.values()))

    one_by_one = gradients()
    with weight_cache():
        together = gradients()
    for name, here, there in zip(parameters, together, one_by_one, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-10, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("layer", [EqualizedLinear(48, 5), EqualizedConv2d(3, 5, 3, padding="reflect")], ids=repr)
def test_under_autocast_it_takes_torchs_types(layer, monkeypatch):
    monkeypatch.setattr(layers, "has_avx512", lambda: False)
    torch.manual_seed(0)
    x = torch.randn(2, 48) if isinstance(layer, EqualizedLinear) else torch.randn(2, 3, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        expected = layer(x)
        with weight_cache():
            y = layer(x)
    assert y.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(y, expected)
    y.float().sum().backward()
    assert layer.weight.grad.dtype == layer.bias.grad.dtype == torch.float32
