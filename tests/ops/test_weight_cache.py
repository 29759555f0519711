"""What is made of weights: once within an update, with the gradients of any other way."""

from __future__ import annotations

import pytest
import torch

from progan import EqualizedConv2d, EqualizedLinear
from progan.networks.fused import take_parameters
from progan.ops.dispatch import force
from progan.ops.scaling import scale, taken
from progan.ops.weight_cache import cached, is_active, weight_cache


def test_it_is_made_once_within_and_anew_outside():
    made = []

    def make() -> int:
        made.append(0)
        return len(made)

    weight, other = [torch.zeros(1)], [torch.zeros(1)]
    assert [cached("a", weight, make), cached("a", weight, make)] == [1, 2]
    assert not is_active()
    with weight_cache():
        assert is_active()
        assert [cached("a", weight, make), cached("a", weight, make), cached("b", weight, make)] == [3, 3, 4]
        assert cached("a", other, make) == 5
        assert cached("a", [*weight, *other], make) == 6
        with torch.no_grad():
            assert cached("a", weight, make) == 7, "what has no graph is no use where one is built"
    with weight_cache():
        assert cached("a", weight, make) == 8


def test_of_a_tensor_in_the_memory_of_one_that_is_gone_it_is_made_anew():
    """As a parametrization makes its weight at each use."""
    with weight_cache():
        for number in range(100):
            assert cached("a", [torch.zeros(1)], lambda number=number: number) == number


def test_an_error_within_ends_it():
    with pytest.raises(ZeroDivisionError), weight_cache():
        raise ZeroDivisionError
    assert not is_active()


def test_parameters_scaled_together_are_those_scaled_one_by_one():
    """Of layers of which one is not used, one has nothing to scale, and one is no convolution."""
    torch.manual_seed(0)
    used, unused = EqualizedConv2d(3, 3, 3), EqualizedConv2d(3, 3, 1)
    plain, dense = EqualizedConv2d(3, 3, 1, equalization="none"), EqualizedLinear(3, 3)
    x = torch.randn(2, 3, 4, 4)

    def gradients(together):
        with weight_cache():
            if together:
                take_parameters([used, unused, plain, dense])
            loss = plain(used(x)).square().sum() + dense(used(x).mean((2, 3))).square().sum()
            functions = {
                each.grad_fn for each in (scale(used.weight, used.constant), taken(used.bias), taken(dense.bias))
            }
            assert (len(functions) == 1) == together
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
        take_parameters([layer])
        assert layer(torch.zeros(1, 2, 4, 4)).shape == (1, 2, 4, 4)


def test_weights_that_a_hook_makes_are_used():
    """Layers with a hook before their forward are left out: it may make the weight there."""
    layer = EqualizedConv2d(2, 2, 3)
    weight = layer.weight.detach()
    layer.register_forward_pre_hook(lambda module, _: setattr(module.weight, "data", 2 * weight))
    with force(parameters="scaled_together"), weight_cache():
        take_parameters([layer])
        y = layer(torch.ones(1, 2, 4, 4))
    torch.testing.assert_close(y, EqualizedConv2d.forward(layer, torch.ones(1, 2, 4, 4)))
    assert torch.equal(layer.weight, 2 * weight)
