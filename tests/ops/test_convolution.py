"""Convolutions: types and layouts as torch has them. Their numbers are in the test of the table, test_dispatch."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from progan import EqualizedConv2d
from progan.ops.convolution import convolve
from progan.ops.dispatch import force
from progan.ops.joined_convolutions import convolve_upsampled
from progan.ops.resampling import upsample

PATHS = ["bilinear", "patches_product"]


def inputs(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 3, 6, 5), (4, 3, 3, 3), (4,)]
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("path", PATHS)
def test_under_autocast_it_takes_torchs_types(path):
    tensors = inputs()
    with torch.autocast("cpu", torch.bfloat16), force(convolution=path):
        y, torchs = convolve(*tensors), F.conv2d(*tensors)
    assert y.dtype == torchs.dtype == torch.bfloat16
    assert_close(y, torchs)
    y.float().sum().backward()
    assert [each.grad.dtype for each in tensors] == [torch.float32] * 3


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
@pytest.mark.parametrize("path", PATHS)
def test_no_images_give_no_features_on_any_machine(path, padding):
    x, weight, bias = inputs()
    with force(convolution=path):
        assert convolve(x[:0], weight, bias, 1, padding).shape == (0, 4, 6, 5)


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


def test_few_channels_of_a_large_image_lie_as_others_do():
    """What follows would be slow on channels-last."""
    last = "channels_last"
    with force(convolution="bilinear", convolution_by_input=last, convolution_by_weight=last):
        x, weight, bias = inputs()
        y = convolve(x, weight, bias, 1)
        (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    assert y.is_contiguous()
    assert slope.is_contiguous()


def test_networks_that_a_user_made_channels_last_stay_so():
    x, weight, bias = inputs()
    x, weight = (each.detach().contiguous(memory_format=torch.channels_last).requires_grad_() for each in (x, weight))
    y = convolve(x, weight, bias, 1)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert not y.is_contiguous()


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_four_kernels_see_images_of_any_size(padding):
    """Down to one row, which has no mirror image before it is repeated."""
    x, weight, bias = inputs(torch.float64)
    for size in ((1, 1), (1, 4), (3, 2)):
        part = x[..., : size[0], : size[1]]
        with force(upsampled_convolution="four_kernels"):
            assert_close(
                convolve_upsampled(part, weight, bias, 1, padding), convolve(upsample(part), weight, bias, 1, padding)
            )
