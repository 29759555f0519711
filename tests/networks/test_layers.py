"""The layers against slow, plain NumPy versions written from the paper; their exact ends; their gradients."""

import math
import re

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from progan.networks.layers import EqualizedConv2d, EqualizedLinear, FadeIn, MiniBatchStd, PixelNorm, fitting_group_size

BOTH_NORMS = [PixelNorm(1e-8), PixelNorm(1e-7, epsilon_outside_root=True)]
norms = pytest.mark.parametrize("norm", BOTH_NORMS, ids=["inside root", "outside root"])


def seeded(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def identical(actual, expected):
    assert_close(actual, expected, rtol=0, atol=0)


def fill(layer):
    """Give a layer parameters that depend on no random state."""
    layer.double()
    with torch.no_grad():
        for index, parameter in enumerate(layer.parameters()):
            parameter.copy_(seeded(*parameter.shape, seed=index + 1))
    return layer


# Equalised layers


def slow_convolution(x, weight, bias, padding):
    """Convolve with four loops."""
    size, margin = weight.shape[-1], weight.shape[-1] // 2
    mode = {"zeros": "constant", "reflect": "reflect"}[padding]
    padded = np.pad(x, ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode=mode)
    y = np.zeros((x.shape[0], weight.shape[0], *x.shape[2:]))
    for b, o, i, j in np.ndindex(*y.shape):
        y[b, o, i, j] = (padded[b, :, i : i + size, j : j + size] * weight[o]).sum() + bias[o]
    return y


def constant(equalization, gain, fan_in, channels):
    """He's constant: over the fan-in in the paper, over the channels in the article's program."""
    return {"he": gain / math.sqrt(fan_in), "he_twice": gain / math.sqrt(channels), "none": 1.0}[equalization]


@pytest.mark.parametrize("gain", [math.sqrt(2), 1.0])
@pytest.mark.parametrize(
    ("padding", "size"), [("zeros", 1), ("zeros", 3), ("zeros", 5), ("reflect", 1), ("reflect", 3)]
)
@pytest.mark.parametrize("equalization", ["he", "he_twice", "none"])
def test_convolution(equalization, padding, gain, size):
    layer = fill(EqualizedConv2d(3, 2, size, gain=gain, equalization=equalization, padding=padding))
    x = seeded(2, 3, 4, 6)
    weight, bias = (parameter.detach().numpy() for parameter in (layer.weight, layer.bias))
    expected = slow_convolution(x.numpy(), weight * constant(equalization, gain, 3 * size**2, 3), bias, padding)
    assert_close(layer(x), torch.from_numpy(expected))


@pytest.mark.parametrize("equalization", ["he", "he_twice", "none"])
@pytest.mark.parametrize("in_channels", [None, 3])
def test_linear(equalization, in_channels):
    layer = fill(EqualizedLinear(12, 5, gain=0.7, equalization=equalization, in_channels=in_channels))
    x = seeded(4, 12)
    scale = constant(equalization, 0.7, 12, in_channels or 12)
    expected = x.numpy() @ (layer.weight.detach().numpy().T * scale) + layer.bias.detach().numpy()
    assert_close(layer(x), torch.from_numpy(expected))


@pytest.mark.parametrize(
    ("equalization", "weight_std", "bias_std"),
    # He et al.: gain / sqrt(fan_in). Torch's own: U(-b, b) with b = 1 / sqrt(fan_in), whose deviation is b / sqrt(3).
    [
        ("he", 1.0, 0.0),
        ("he_twice", math.sqrt(2 / 576), 1 / math.sqrt(3 * 576)),
        ("none", 1 / math.sqrt(3 * 576), 1 / math.sqrt(3 * 576)),
    ],
)
def test_initial_values(equalization, weight_std, bias_std):
    torch.manual_seed(0)
    layer = EqualizedConv2d(64, 256, 3, equalization=equalization)
    assert_close(layer.weight.std().item(), weight_std, rtol=0.01, atol=0)
    assert abs(layer.weight.mean().item()) < 4 * weight_std / math.sqrt(layer.weight.numel())
    assert_close(layer.bias.std().item(), bias_std, rtol=0.15, atol=0)
    assert abs(layer.bias.mean().item()) <= 4 * bias_std / 16
    if equalization == "none":
        assert layer.weight.abs().max() <= 1 / 24


def test_plain_layer_starts_as_torchs_do():
    torch.manual_seed(3)
    ours = EqualizedLinear(8, 4, equalization="none")
    torch.manual_seed(3)
    theirs = torch.nn.Linear(8, 4)
    assert_close(ours.weight, theirs.weight)
    assert_close(ours.bias, theirs.bias)


def test_equalised_layers_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match="kernel_size must be odd, so that the image keeps its size, got 4"):
        EqualizedConv2d(3, 3, 4)
    with pytest.raises(ValueError, match="padding must be 'zeros' or 'reflect', got 'circular'"):
        EqualizedConv2d(3, 3, 3, padding="circular")
    with pytest.raises(ValueError, match="reflect padding is for kernels of 1 or 3, got 5; use padding='zeros'"):
        EqualizedConv2d(3, 3, 5, padding="reflect")
    with pytest.raises(ValueError, match="equalization must be 'he', 'he_twice' or 'none', got 'she'"):
        EqualizedLinear(3, 3, equalization="she")


def test_convolution_gradients():
    layer = fill(EqualizedConv2d(2, 2, 3, padding="reflect"))

    def convolve(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    inputs = (seeded(1, 2, 3, 3).requires_grad_(), *layer.parameters())
    assert gradcheck(convolve, inputs)
    assert gradgradcheck(convolve, inputs)


# PixelNorm


def slow_pixel_norm(x, epsilon, outside):
    y = np.zeros_like(x)
    for b, i, j in np.ndindex(x.shape[0], *x.shape[2:]):
        mean_square = (x[b, :, i, j] ** 2).mean()
        y[b, :, i, j] = x[b, :, i, j] / (
            math.sqrt(mean_square) + epsilon if outside else math.sqrt(mean_square + epsilon)
        )
    return y


@pytest.mark.parametrize("outside", [False, True])
def test_pixel_norm(outside):
    x = seeded(2, 5, 3, 4)
    # A large epsilon, so that a misplaced one shows.
    ours = PixelNorm(0.3, epsilon_outside_root=outside)(x)
    assert_close(ours, torch.from_numpy(slow_pixel_norm(x.numpy(), 0.3, outside)))


@norms
def test_pixel_norm_of_vectors_has_mean_square_one(norm):
    assert_close(norm(seeded(3, 7)).square().mean(1), torch.ones(3, dtype=torch.float64), rtol=1e-6, atol=1e-6)


@norms
def test_pixel_norm_gradients(norm):
    x = seeded(2, 3, 2, 2).requires_grad_()
    assert gradcheck(norm, x)
    assert gradgradcheck(norm, x)


# MiniBatchStd


def slow_minibatch_std(x, group_size, unbiased, consecutive=False):
    """Take image i into group i mod (B / group_size), or into group i // group_size."""
    groups = len(x) // group_size
    y = np.zeros((len(x), 1, *x.shape[2:]))
    for group in range(groups):
        members = [i for i in range(len(x)) if group == (i // group_size if consecutive else i % groups)]
        total = 0.0
        for place in np.ndindex(*x.shape[1:]):
            values = np.array([x[(image, *place)] for image in members])
            squares = ((values - values.mean()) ** 2).sum() / (len(members) - unbiased)
            total += math.sqrt(squares + 1e-8)
        y[members] = total / math.prod(x.shape[1:])
    return np.concatenate([x, y], axis=1)


@pytest.mark.parametrize("consecutive", [False, True])
@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize(
    ("batch", "group_size", "effective"), [(8, 4, 4), (8, 2, 2), (12, 4, 4), (4, 4, 4), (3, 4, 3), (6, None, 6)]
)
def test_minibatch_std(batch, group_size, effective, unbiased, consecutive):
    x = seeded(batch, 3, 2, 3)
    expected = torch.from_numpy(slow_minibatch_std(x.numpy(), effective, unbiased, consecutive))
    assert_close(MiniBatchStd(group_size, unbiased=unbiased, consecutive=consecutive)(x), expected)


@pytest.mark.parametrize("unbiased", [False, True])
def test_minibatch_std_of_one_image(unbiased):
    spread = MiniBatchStd(4, unbiased=unbiased)(seeded(1, 3, 4, 4))[:, -1]
    assert_close(spread, torch.full_like(spread, 1e-4))  # the root of its epsilon


@pytest.mark.parametrize("consecutive", [False, True])
@pytest.mark.parametrize("group_size", [2, 4, None])
def test_minibatch_std_never_crosses_batches(group_size, consecutive):
    layer, x = MiniBatchStd(group_size, consecutive=consecutive), seeded(24, 2, 3, 3)
    expected = torch.cat([layer(part) for part in x.chunk(3)])
    identical(layer(x, batches=3), expected)
    if group_size is None or not consecutive:  # else they lie one after another in the whole, too
        assert not torch.equal(layer(x), expected)


def test_minibatch_std_ignores_order_within_a_group():
    layer, x = MiniBatchStd(4), seeded(8, 2, 3, 3)
    swapped = [6, 5, 2, 1, 4, 3, 0, 7]  # even images are one group, odd ones the other
    assert_close(layer(x[swapped])[:, -1], layer(x)[:, -1])
    across = [1, 0, 2, 3, 4, 5, 6, 7]
    assert (layer(x[across])[:, -1] - layer(x)[:, -1]).abs().min() > 1e-4


def test_minibatch_std_refusals():
    remedy = "use a batch of at most 4 or a multiple of it, or another group size (minibatch_std_group)"
    text = f"a batch of 6 images cannot be split into MiniBatchStd groups of 4; {remedy}"
    with pytest.raises(ValueError, match=re.escape(text)):
        MiniBatchStd(4)(seeded(6, 2, 2, 2))
    with pytest.raises(ValueError, match=re.escape(text)):
        MiniBatchStd(4)(seeded(12, 2, 2, 2), batches=2)
    for batches in (0, 3):
        with pytest.raises(
            ValueError, match=f"8 images are not {batches} batches of equal size; pass batches= as they"
        ):
            MiniBatchStd(4)(seeded(8, 2, 2, 2), batches=batches)
    with pytest.raises(ValueError, match="group_size must be at least 1, or None for the whole batch, got 0"):
        MiniBatchStd(0)


def test_fitting_group_size():
    assert [fitting_group_size(batch, 4) for batch in (1, 3, 4, 8)] == [1, 3, 4, 4]
    assert fitting_group_size(7, None) == 7


def test_minibatch_std_gradients():
    x = seeded(4, 1, 2, 2).requires_grad_()
    assert gradcheck(MiniBatchStd(2), x)
    assert gradgradcheck(MiniBatchStd(2), x)


def first_and_second_gradient(function, x):
    x = x.clone().requires_grad_()
    weights = torch.arange(1.0, 1 + function(x).numel(), dtype=x.dtype).reshape(function(x).shape)
    (first,) = torch.autograd.grad((function(x) * weights).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    return first, second


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_minibatch_std_of_equal_images_has_finite_gradients(batch, unbiased, dtype):
    x = seeded(1, 2, 3, 3, dtype=dtype).repeat(batch, 1, 1, 1)
    for gradient in first_and_second_gradient(MiniBatchStd(4, unbiased=unbiased), x):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_minibatch_std_widens_half_types(dtype):
    # The spread is small against the values: in the half type itself it would be lost.
    x = (300 + seeded(8, 64, 2, 2)).to(dtype)
    y = MiniBatchStd()(x)
    assert y.dtype == dtype
    identical(y, MiniBatchStd()(x.float()).to(dtype))


# FadeIn


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_fade_in(dtype, tensor):
    # Of very unlike sizes, where old + alpha * (new - old) is not exact at 1.
    old, new = seeded(2, 3, dtype=dtype) * 1e5, seeded(2, 3, seed=1, dtype=dtype) * 1e-4

    def faded(alpha):
        return FadeIn()(old, new, torch.tensor(alpha) if tensor else alpha)

    identical(faded(0.0), old)
    identical(faded(1.0), new)
    expected = 0.75 * old.double() + 0.25 * new.double()
    assert_close(faded(0.25).double(), expected, rtol=4 * torch.finfo(dtype).eps, atol=0)


def test_fade_in_takes_the_wider_type():
    old, new = seeded(2, dtype=torch.bfloat16), seeded(2, seed=1, dtype=torch.float32)
    identical(FadeIn()(old, new, 0.0), old.float())
    identical(FadeIn()(new, old, torch.tensor(1.0, dtype=torch.float64)), old.float())


@pytest.mark.parametrize("alpha", [-0.1, 1.01, 2, math.nan, math.inf])
def test_fade_in_refuses_an_alpha_outside_its_range(alpha):
    text = f"alpha is the weight of the newest level, in [0, 1], got {alpha!r}; None means fully grown"
    with pytest.raises(ValueError, match=re.escape(text)):
        FadeIn()(torch.zeros(1), torch.zeros(1), alpha)
