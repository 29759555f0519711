"""The convolution is torch's, to any derivative; its weight's gradient is computed only where it is asked for."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from progan import EqualizedConv2d
from progan.ops import convolution
from progan.ops.convolution import convolve, convolve_few

# (images, channels in, out, height, width, kernel, padding): torch's kernel for a weight's gradient; then ours.
SHAPES = [
    (2, 2, 3, 5, 4, 3, 0),
    (2, 2, 3, 4, 5, 3, 1),
    (2, 3, 2, 3, 3, 1, 0),
    (1, 33, 2, 4, 3, 3, 0),
    (1, 32, 1, 3, 4, 2, 0),
]
SHAPES += [(1, 32, 2, 3, 2, 3, 1), (1, 32, 1, 36, 34, 3, 0)]
SMALL = [shape for shape in SHAPES if shape[3] < 36]


def inputs(shape: tuple[int, ...]) -> tuple[list[torch.Tensor], int]:
    images, channels, out, height, width, kernel, padding = shape
    torch.manual_seed(sum(shape))
    shapes = [(images, channels, height, width), (out, channels, kernel, kernel), (out,)]
    return [torch.randn(each, dtype=torch.float64, requires_grad=True) for each in shapes], padding


def derivatives(function, tensors, order):
    """Return a sum of squares, and its derivatives by all tensors, up to an order, each of the sum of those before."""
    value = function(*tensors).square().sum()
    found = [[value]]
    for _ in range(order):
        found.append(torch.autograd.grad(value, tensors, create_graph=True))
        value = sum(each.square().sum() for each in found[-1])
    return [each for group in found for each in group]


@pytest.fixture(params=["AVX2", "AVX-512", "AVX-512, few channels of a large image"])
def _kernels(request, monkeypatch):
    """Choose kernels as on each kind of CPU."""
    monkeypatch.setattr(convolution, "has_avx512", lambda: request.param != "AVX2")
    monkeypatch.setattr(convolution, "_LARGE_IMAGE", 1 if request.param.endswith("large image") else 10**9)


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_torchs_to_the_third_derivative(shape):
    tensors, padding = inputs(shape)
    ours = derivatives(lambda x, weight, bias: convolve(x, weight, bias, padding), tensors, 3)
    torchs = derivatives(lambda x, weight, bias: F.conv2d(x, weight, bias, padding=padding), tensors, 3)
    assert len(ours) == len(torchs) == 10
    for here, there in zip(ours, torchs, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("shape", SMALL[:4], ids=str)
def test_its_derivatives_are_those_of_differences(shape):
    tensors, padding = inputs(shape)
    assert gradcheck(lambda *each: convolve(*each, padding), tensors)
    assert gradgradcheck(lambda *each: convolve(*each, padding), tensors)


def counted(monkeypatch) -> list[str]:
    """Note what gradients of convolutions are computed."""
    done = []
    by_weight, by_input = convolution.weight_gradient, convolution._InputGradient.forward

    def weight_gradient(*arguments):
        done.append("weight")
        return by_weight(*arguments)

    def input_gradient(*arguments):
        done.append("input")
        return by_input(*arguments)

    monkeypatch.setattr(convolution, "weight_gradient", weight_gradient)
    monkeypatch.setattr(convolution._InputGradient, "forward", staticmethod(input_gradient))
    return done


def test_the_gradient_by_the_weight_is_computed_where_it_is_asked_for_only(monkeypatch):
    (x, weight, bias), _ = inputs(SMALL[0])
    done = counted(monkeypatch)
    torch.autograd.grad(convolve(x, weight, bias).sum(), x, create_graph=True)
    assert done == ["input"]
    convolve(x, weight, bias).sum().backward(inputs=[x])
    assert done == ["input", "input"]


def test_a_penalty_asks_for_each_gradient_once(monkeypatch):
    (x, weight, bias), _ = inputs(SMALL[0])
    done = counted(monkeypatch)
    (slope,) = torch.autograd.grad(convolve(x, weight, bias).square().sum(), x, create_graph=True)
    assert done == ["input"]
    slope.square().sum().backward(inputs=[weight, bias])
    assert done.count("weight") == 2, "once by the slope, once by the scores that it is of"


def test_images_that_need_no_gradient_get_none(monkeypatch):
    (x, weight, bias), _ = inputs(SMALL[0])
    done = counted(monkeypatch)
    convolve(x.detach(), weight, bias).sum().backward()
    assert done == ["weight"]
    assert weight.grad is not None
    assert bias.grad is not None


@pytest.mark.parametrize("frozen", [(1,), (2,), (1, 2)])
def test_what_is_frozen_gets_no_gradient(frozen):
    tensors, _ = inputs(SMALL[0])
    for index in frozen:
        tensors[index].requires_grad_(False)
    convolve(*tensors).square().sum().backward()
    mine = [each.grad for each in tensors]
    assert [grad is None for grad in mine] == [index in frozen for index in range(3)]
    for each in tensors:
        each.grad = None
    F.conv2d(*tensors).square().sum().backward()
    for here, each in zip(mine, tensors, strict=True):
        torch.testing.assert_close(here, each.grad)


def test_a_graph_that_is_kept_goes_backward_twice():
    tensors, _ = inputs(SMALL[0])
    y = convolve(*tensors).square().sum()
    y.backward(retain_graph=True)
    once = [each.grad.clone() for each in tensors]
    y.backward()
    for each, grad in zip(tensors, once, strict=True):
        torch.testing.assert_close(each.grad, 2 * grad)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()


@pytest.mark.parametrize("changed", [0, 1])
def test_what_is_changed_before_the_backward_is_noticed(changed):
    tensors, _ = inputs(SMALL[0])
    tensors[:2] = [each * 1 for each in tensors[:2]]
    y = convolve(*tensors).square().sum()
    tensors[changed].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_under_autocast_it_takes_torchs_types():
    tensors = [each.detach().float().requires_grad_() for each in inputs(SMALL[0])[0]]
    with torch.autocast("cpu", torch.bfloat16):
        y, torchs = convolve(*tensors), F.conv2d(*tensors)
    assert y.dtype == torchs.dtype == torch.bfloat16
    torch.testing.assert_close(y, torchs)
    y.float().sum().backward()
    assert [each.grad.dtype for each in tensors] == [torch.float32] * 3


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("shape", [(2, 3, 8, 16, 16, 3, 1), (2, 32, 4, 8, 8, 3, 1)], ids=str)
def test_in_bf16_it_is_near_torchs_in_float32(shape):
    """Within bf16's 8 bits of mantissa, of each tensor's largest value."""
    tensors, padding = inputs(shape)
    tensors = [each.detach().float().requires_grad_() for each in tensors]
    with torch.autocast("cpu", torch.bfloat16):
        ours = derivatives(lambda *each: convolve(*each, padding).float(), tensors, 2)
    torchs = derivatives(lambda x, weight, bias: F.conv2d(x, weight, bias, padding=padding), tensors, 2)
    for here, there in zip(ours, torchs, strict=True):
        torch.testing.assert_close(here, there, rtol=0, atol=0.03 * there.abs().max().item())


def test_few_channels_of_a_large_image_lie_as_others_do(monkeypatch):
    """What follows would be slow on channels-last."""
    monkeypatch.setattr(convolution, "has_avx512", lambda: True)
    monkeypatch.setattr(convolution, "_LARGE_IMAGE", 1)
    (x, weight, bias), padding = inputs((2, 3, 4, 6, 5, 3, 1))
    y = convolve(x, weight, bias, padding)
    (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    assert y.is_contiguous()
    assert slope.is_contiguous()


def test_networks_that_a_user_made_channels_last_stay_so(monkeypatch):
    monkeypatch.setattr(convolution, "has_avx512", lambda: True)
    (x, weight, bias), padding = inputs((2, 3, 4, 6, 5, 3, 1))
    x, weight = (each.detach().contiguous(memory_format=torch.channels_last).requires_grad_() for each in (x, weight))
    y = convolve(x, weight, bias, padding)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert not y.is_contiguous()


@pytest.mark.parametrize("kernel", [1, 3, 4])
def test_a_product_of_matrices_is_the_convolution(kernel):
    (x, weight, bias), _ = inputs((2, 3, 5, 6, 7, kernel, 0))
    y = convolve_few(x, kernel, lambda patches: F.linear(patches, weight.flatten(1), bias))
    torch.testing.assert_close(y, F.conv2d(x, weight, bias))


@pytest.mark.parametrize("layer", [EqualizedConv2d(3, 4, 3), EqualizedConv2d(3, 4, 1)], ids=["3x3", "1x1"])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("of_weight", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("of_x", [torch.float32, torch.float64, torch.bfloat16])
def test_dtypes_meet_as_in_torchs_convolution(layer, autocast, of_weight, of_x):
    """With a gradient and without; autocast leaves float64 alone, and what it does not cast is refused."""
    layer = copy.deepcopy(layer).to(of_weight)
    x = torch.rand(2, 3, 8, 8).to(of_x)

    def outcome(convolution, grad):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast), torch.set_grad_enabled(grad):
            try:
                return convolution().dtype
            except RuntimeError:
                return RuntimeError

    torchs = outcome(lambda: F.conv2d(x, layer.weight, layer.bias, padding=layer.margin), grad=True)
    assert {outcome(lambda: layer(x), grad) for grad in (True, False)} == {torchs}
