"""Our own kernels against torch's operations: on a CUDA device, or without one in Triton's interpreter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import gradients_of_a_step, small_recipe

ON_CUDA = torch.cuda.is_available()
triton = pytest.importorskip("triton", reason="needs Triton, of the group dev on Linux")
if not ON_CUDA and tuple(map(int, triton.__version__.split(".")[:2])) < (3, 9):
    pytest.skip("needs an interpreter that knows today's numpy, Triton 3.9", allow_module_level=True)

from progan.ops import dispatch, padding  # noqa: E402
from progan.ops import triton as kernels  # noqa: E402
from progan.ops.convolution import convolve  # noqa: E402
from progan.ops.dispatch import force  # noqa: E402
from progan.ops.pixel_norm import pixel_norm  # noqa: E402

DEVICE = torch.device("cuda" if ON_CUDA else "cpu")
LAST = torch.channels_last
LAYOUTS = {"planes": torch.contiguous_format, "channels last": LAST}
SIZES = [(2, 3, 4, 6), (1, 5, 2, 2), (3, 8, 6, 10)]


def seeded(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(DEVICE, dtype)


def assert_near(ours, expected, tolerance=2e-6):
    assert ours.shape == expected.shape
    assert (ours.double() - expected.double()).norm() <= tolerance * expected.double().norm()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_images_are_resized_padded_and_folded(size, layout):
    x = seeded(*size).contiguous(memory_format=LAYOUTS[layout])
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    assert torch.equal(kernels.repeat_pixels(x, 0.5), F.interpolate(x, scale_factor=2.0) * 0.5)
    assert_near(kernels.add_pixels(x, 0.25), F.avg_pool2d(x, 2))
    assert torch.equal(kernels.pad(x, channels_last=False), padded)
    turned = kernels.pad(x, channels_last=True)
    assert torch.equal(turned, padded)
    assert turned.is_contiguous(memory_format=LAST)
    # The adjoint: <pad x, p> = <x, fold p>.
    p = seeded(*padded.shape).contiguous(memory_format=LAYOUTS[layout])
    torch.testing.assert_close((padded * p).sum(), (x * kernels.fold(p)).sum(), rtol=1e-4, atol=1e-4)
    with force(reflection="slices"):
        assert_near(kernels.fold(p), padding._Fold.forward(None, p.double()))


def derivatives(function, x, gradient, v):
    """Return a function's value, its derivative along a gradient, and that one's two along v."""
    x, gradient = x.detach().requires_grad_(), gradient.detach().requires_grad_()
    y = function(x)
    (back,) = torch.autograd.grad(y, x, gradient, create_graph=True)
    return [y, back, *torch.autograd.grad(back, (gradient, x), v)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("outside", "slope"), [(True, 0.2), (False, 1.0)])
@pytest.mark.parametrize("size", [*SIZES, (5, 7)], ids=str)
def test_pixel_norm(size, outside, slope, layout):
    x, gradient, v = (seeded(*size, *[1] * k)[(...,) + (0,) * k] for k in range(3))
    if len(size) == 4:
        x = x.contiguous(memory_format=LAYOUTS[layout])
    exact = [each.cpu().double() for each in (x, gradient, v)]
    expected = derivatives(lambda x: pixel_norm(x, 1e-7, outside_root=outside, slope=slope), *exact)
    how = 1e-7, outside, slope
    ours = [
        kernels.norm(x, *how),
        kernels.norm_backward(gradient, x, *how),
        *kernels.norm_second(v, gradient, x, *how),
    ]
    for mine, theirs in zip(ours, expected, strict=True):
        assert_near(mine.cpu(), theirs)
    half = kernels.norm(x.bfloat16(), *how)
    assert half.dtype == torch.bfloat16
    assert_near(half.cpu(), expected[0], 1e-2)


@pytest.mark.parametrize("reflect", [False, True])
@pytest.mark.parametrize(
    "shape",
    [(2, 3, 5, 4, 3), (1, 8, 3, 3, 4), (1, 2, 9, 2, 3), (1, 1, 1, 3, 70), (1, 1, 5, 2, 130), (1, 1, 3, 2, 258)],
    ids=str,
)
def test_convolutions_of_few_channels(shape, reflect):
    images, channels, out, height, width = shape
    x, weight, bias = seeded(images, channels, height, width), seeded(out, channels, 3, 3), seeded(out)
    gradient = seeded(images, out, height, width)
    exact = [each.double().requires_grad_() for each in (x, weight, bias)]
    padded = F.pad(exact[0], (1, 1, 1, 1), mode="reflect" if reflect else "constant")
    y = F.conv2d(padded, *exact[1:])
    by_x, by_weight, by_bias = torch.autograd.grad(y, exact, gradient.double())
    assert_near(kernels.convolve(x, weight, bias, reflect=reflect), y)
    assert_near(kernels.convolve(x, weight, None, reflect=reflect), y - exact[2][:, None, None])
    assert_near(kernels.by_input(gradient, weight, reflect=reflect), by_x)
    ours = kernels.by_weight(gradient, x, reflect=reflect)
    assert_near(ours[0], by_weight)
    assert_near(ours[1], by_bias)
    assert_near(kernels.convolve(x.bfloat16(), weight, bias, reflect=reflect), y, 1e-2)


BY_TRITON = dict.fromkeys(("convolution", "pixel_norm", "reflection", "resampling"), "triton")


@pytest.mark.parametrize(
    ("convolution", "layout"),
    [
        pytest.param("triton", "reference", marks=pytest.mark.slow),  # the interpreter takes half a minute
        ("bilinear", "reference"),
        ("bilinear", "channels_last"),
    ],
)
def test_a_steps_gradients_are_those_without_them(convolution, layout):
    """Of both networks; a penalty differentiates all twice. In float64 they are not used."""
    recipe = small_recipe()
    architecture = replace(recipe.architecture, channels=(3, 2), base_size=(2, 2), latent_shape=(4, 2, 2))
    recipe = replace(recipe, architecture=architecture, stages=recipe.stages[:2])
    paths = {**BY_TRITON, "convolution": convolution, "convolution_layout": layout, "parameters": "scaled_together"}
    with force(**paths):
        found = [gradients_of_a_step(recipe, 1, 2, DEVICE, dtype) for dtype in (torch.float64, torch.float32)]
    for exact, ours in zip(*found, strict=True):
        largest = max(each.norm() for each in exact)
        assert all((a - b).norm() < 1e-4 * largest for a, b in zip(exact, ours, strict=True))


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_a_third_derivative_is_torchs(padding):
    x, weight, bias = (seeded(*size).requires_grad_() for size in ((1, 2, 3, 4), (2, 2, 3, 3), (2,)))

    def third(path):
        with force("reference", convolution=path):
            value = convolve(x, weight, bias, 1, padding).square().sum()
            for _ in range(3):
                grads = torch.autograd.grad(value, (x, weight, bias), create_graph=True)
                value = sum(each.square().sum() for each in grads)
            return [value, *grads]

    for mine, torchs in zip(third("triton"), third("reference"), strict=True):
        assert_near(mine, torchs, 1e-4)


@pytest.mark.parametrize("path", [pytest.param("triton", marks=pytest.mark.slow), "bilinear"])
@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_autocast_takes_weights_as_they_are(padding, path):
    """CuDNN takes one dtype, as torch's convolution does on the CPU; our kernels round within."""
    tensors = [seeded(*size).requires_grad_() for size in ((2, 3, 4, 3), (2, 3, 3, 3), (2,))]

    def penalised(enabled):
        x, weight, bias = tensors
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=enabled, cache_enabled=False):
            y = convolve(x, weight, bias, 1, padding)
        assert y.dtype == (torch.bfloat16 if enabled else torch.float32)
        (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().sum() + y.float().sum(), tensors)

    with force(**{**BY_TRITON, "convolution": path}):
        for half, whole in zip(penalised(True), penalised(False), strict=True):
            assert half.dtype == torch.float32
            assert_near(half, whole, 3e-2)


def test_without_triton_a_warning_says_what_is_missing(monkeypatch):
    def fail(device):
        raise RuntimeError("Failed to find C compiler\nand more")

    monkeypatch.setattr(kernels, "try_out", fail)
    with pytest.warns(UserWarning, match=r"Triton does not work here \(Failed to find C compiler\); it comes with"):
        assert dispatch.triton_kernels.__wrapped__(torch.device("cuda")) is None
