"""PixelNorm with a LeakyReLU: third derivatives, pixels that are nearly 0, half types."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from progan.ops.dispatch import force
from progan.ops.pixel_norm import pixel_norm

PATHS = ["reference", "short_derivatives"]


def seeded(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("slope", [1.0, 0.2])
def test_gradients_of_three_orders_are_those_of_the_formula(outside, slope):
    x = seeded(2, 3, 2, 2).requires_grad_()

    def formula(x):
        root = (x.square().mean(1, keepdim=True) + (0 if outside else 0.3)).sqrt()
        return F.leaky_relu(x / (root + (0.3 if outside else 0)), slope)

    def nested(function, order, create_graph):
        """Differentiate the sum of cubes, then the squared norm of each gradient; the last with a graph or not."""
        value = function(x).pow(3).sum()  # nonlinear, so that the gradient that comes back depends on x, too
        for number in range(1, order + 1):
            (gradient,) = torch.autograd.grad(value, x, create_graph=create_graph or number < order)
            value = gradient.square().sum()
        return gradient.detach()

    for path in PATHS:
        with force(pixel_norm=path):
            for order in (1, 2, 3):
                for create_graph in (False, True):
                    ours = nested(lambda x: pixel_norm(x, 0.3, outside_root=outside, slope=slope), order, create_graph)
                    assert_close(ours, nested(formula, order, True))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 1e-22, 1e-18, 1e-14, 1e-10])  # the square of some is 0, or nearly, in float32
def test_almost_nothing_has_finite_gradients(path, outside, dtype, size):
    epsilon = 1e-7 if outside else 1e-8
    x = seeded(2, 3, 2, 2, dtype=dtype)
    x[0] *= size
    x.requires_grad_()
    with force(pixel_norm=path):
        y = pixel_norm(x, epsilon, outside_root=outside)
        assert y[0].abs().max() <= 1e8 * x[0].abs().max()
        (first,) = torch.autograd.grad((y * seeded(*y.shape, dtype=dtype)).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x)
    assert first.isfinite().all()
    assert second.isfinite().all()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_widened_for_the_mean(path, dtype):
    # 300^2 is beyond float16, and 512 of anything beyond what bfloat16 can add up.
    x = (300 + 20 * seeded(2, 512, 2, 2)).to(dtype)
    with force(pixel_norm=path):
        y = pixel_norm(x, 1e-8, outside_root=False)
        assert y.dtype == dtype
        assert torch.equal(y, pixel_norm(x.float(), 1e-8, outside_root=False).to(dtype))
