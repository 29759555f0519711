"""Convolutions at stride 1 with the derivatives that a gradient penalty asks for, by whatever computes them soonest."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from progan.ops.functions import HALF, computing_dtype, is_compiling, own_kernels
from progan.ops.functions import reflect as reflect_pixels

# Where a CPU's kernels are not what is fastest: see benchmarks/NOTES.md.
# A weight's gradient by a convolution: from so many channels on, up to so many pixels, by dtype; with AVX-512, without.
_MANY_CHANNELS = 32
_WHOLE_IMAGE = {True: {torch.bfloat16: 16 * 16}, False: {torch.float32: 33 * 33, torch.float64: 33 * 33}}
# By kernels of our own on CUDA: up to so many channels in times channels out.
_FEW_PRODUCTS = 512
# By the kernels for channels-last, with AVX-512: its others give each of 16 lanes to a channel, and half stay empty.
_FEW_CHANNELS = 8
_LARGE_IMAGE = 128 * 128


@cache
def has_avx512() -> bool:
    """Tell whether torch computes with AVX-512, for which other kernels are the fastest."""
    return "AVX512" in torch.backends.cpu.get_cpu_capability()


def convolve(x: Tensor, weight: Tensor, bias: Tensor, padding: int = 0, *, reflect: bool = False) -> Tensor:
    """Convolve at stride 1: (B, C, H, W) -> (B, K, H - k + 1 + 2 padding, W - k + 1 + 2 padding).

    What `F.conv2d` returns, differentiable any number of times. Its own second derivative by the weight is a
    convolution by a kernel as large as the image, many times slower than the first derivative by the weight, which
    does as well.

    Args:
        x: features.
        weight: (K, C, k, k).
        bias: (K,).
        padding: pixels around the image, zeros.
        reflect: they are its mirror image; only where `pads_within`.
    """
    if is_compiling():
        return F.conv2d(reflect_pixels(x) if reflect else x, weight, bias, padding=0 if reflect else padding)
    how = _How(padding, reflect)
    own = _own_kernels(x, weight, how) is not None
    if not own and weight.shape[2] > 1 and channels_last_on(x):
        x, weight = _channels_last(x), _channels_last(weight)
    differentiated = torch.is_grad_enabled() and (weight.requires_grad or bias.requires_grad)
    if own:  # autograd knows nothing of them; they round the weight themselves
        x = x.to(computing_dtype(x))
        differentiated = torch.is_grad_enabled() and any(t.requires_grad for t in (x, weight, bias))
    elif differentiated:  # autocast, where it is on, stays out of what is computed within functions
        x, weight, bias = (each.to(computing_dtype(each)) for each in (x, weight, bias))
    if not differentiated:
        return _forward(x, weight, bias, how)
    path: Tensor = _WeightPath.apply(weight, bias, (x,), how)  # type: ignore[no-untyped-call]
    y: Tensor = _Convolve.apply(x, path, (weight, bias), how)  # type: ignore[no-untyped-call]
    return y


def pads_within(x: Tensor, weight: Tensor) -> bool:
    """Tell whether `convolve` mirrors images beyond their edges itself."""
    return _own_kernels(x, weight, _How(1, reflect=True)) is not None


def channels_last_on(x: Tensor) -> bool:
    """Tell whether features are to lie with the channels of a pixel one after another in memory.

    On CUDA, cuDNN multiplies matrices of TF32 and half types in this order, and else turns what it gets and returns.
    """
    return own_kernels(x) is not None and (computing_dtype(x) in HALF or _tf32_is_allowed())


def _tf32_is_allowed() -> bool:
    cudnn: Any = torch.backends.cudnn
    if hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # as in scoped.py
        return bool(cudnn.conv.fp32_precision == "tf32")
    return bool(cudnn.allow_tf32)


class _How(NamedTuple):
    padding: int
    reflect: bool


class _Convolve(Function):
    """The convolution, as a function of x; the gradient that comes to it goes on to the weight by a path of its own.

    Autograd runs a function of two inputs whole, even where the gradient by one only is asked for, as by x in a
    gradient penalty and in a generator's update; of two functions, it runs the one that is needed. What is given in a
    tuple is hidden from it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, path: Tensor, hidden: tuple[Tensor, Tensor], how: _How) -> Tensor:
        weight, bias = hidden
        ctx.save_for_backward(x, weight)
        ctx.how = how
        return _forward(x, weight, bias, how)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        by_x: Tensor | None = None
        if ctx.needs_input_grad[0]:
            by_x = _InputGradient.apply(gradient, weight, (x,), ctx.how)  # type: ignore[no-untyped-call]
        return by_x, gradient, None, None


class _WeightPath(Function):
    """Nothing, of the convolution's shape, whose gradient is that of the weight and the bias."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, hidden: tuple[Tensor], how: _How) -> Tensor:
        (x,) = hidden
        ctx.save_for_backward(x, weight)
        ctx.how = how
        height, width = (side - weight.shape[2] + 1 + 2 * how.padding for side in x.shape[2:])
        return x.new_empty(()).expand(len(x), len(weight), height, width)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        if (kernels := _own_kernels(x, weight, ctx.how)) and not torch.is_grad_enabled():
            return *kernels.by_weight(gradient, x, reflect=ctx.how.reflect), None, None
        return weight_gradient(gradient, *_padded(x, ctx.how, weight)), gradient.sum((0, 2, 3)), None, None


class _InputGradient(Function):
    """The gradient of a convolution by its input: a linear map of the output's gradient, and of the weight."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, hidden: tuple[Tensor], how: _How) -> Tensor:
        (x,) = hidden
        ctx.save_for_backward(gradient, weight)
        ctx.how = how
        if kernels := _own_kernels(x, weight, how):
            return cast(Tensor, kernels.by_input(gradient, weight, reflect=how.reflect))
        wanted = True, False, False
        if _last(gradient, weight):
            x = torch.empty_like(x, memory_format=torch.channels_last)  # only its shape counts
            by_x, _, _ = _backward(_channels_last(gradient), x, _channels_last(weight), how.padding, wanted)
            return by_x.contiguous()
        return _backward(gradient, x, weight, how.padding, wanted)[0]

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor, None, None]:
        gradient, weight = ctx.saved_tensors
        reflect = ctx.how.reflect
        # Of theirs no further derivative is known.
        if (kernels := _own_kernels(v, weight, ctx.how)) and not torch.is_grad_enabled():
            by_weight, _ = kernels.by_weight(gradient, v, reflect=reflect)
            return kernels.convolve(v, weight, None, reflect=reflect), by_weight, None, None
        padded, rounded, padding = _padded(v, ctx.how, weight)
        by_gradient = _convolved(padded, rounded, None, padding)
        return by_gradient, weight_gradient(gradient, padded, rounded, padding), None, None


def weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, padding: int = 0) -> Tensor:
    """Return the gradient of a convolution by its weight: (K, C, k, k).

    Args:
        gradient: of the convolution's result, (B, K, H', W').
        x: features that were convolved, (B, C, H, W).
        weight: (K, C, k, k).
        padding: of the convolution.
    """
    pixels = gradient.shape[2] * gradient.shape[3]
    small = x.device.type == "cpu" and pixels <= _WHOLE_IMAGE[has_avx512()].get(x.dtype, 0)
    if small and x.shape[1] >= _MANY_CHANNELS:
        features, kernel = (each.transpose(0, 1).contiguous() for each in (x, gradient))
        return F.conv2d(features, kernel, padding=padding).transpose(0, 1)  # a copy costs; one after the sum will do
    wanted = False, True, False
    if gradient.dtype == torch.bfloat16 and _last(gradient, weight):
        gradient, x, weight = (_channels_last(each) for each in (gradient, x, weight))
        return _backward(gradient, x, weight, padding, wanted)[1].contiguous()
    return _backward(gradient, x, weight, padding, wanted)[1]


def _own_kernels(x: Tensor, weight: Tensor, how: _How) -> ModuleType | None:
    """Return kernels of our own where they convolve: images of few channels."""
    few = weight.shape[0] * weight.shape[1] <= _FEW_PRODUCTS and weight.shape[2:] == (3, 3) and how.padding == 1
    return own_kernels(x) if few else None


def _padded(x: Tensor, how: _How, weight: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return images, a weight of their dtype, and a padding of zeros, for what `_How` says."""
    return (reflect_pixels(x), weight.to(x.dtype), 0) if how.reflect else (x, weight.to(x.dtype), how.padding)


def _last(x: Tensor, weight: Tensor) -> bool:
    """Tell whether images are best convolved with the channels of a pixel one after another in memory."""
    return (
        x.device.type == "cpu"
        and max(weight.shape[:2]) <= _FEW_CHANNELS
        and x.shape[2] * x.shape[3] >= _LARGE_IMAGE
        and has_avx512()
    )


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, how: _How) -> Tensor:
    """Return the convolution, where autograd need not know of it."""
    if kernels := _own_kernels(x, weight, how):
        return cast(Tensor, kernels.convolve(x, weight, bias, reflect=how.reflect))
    return _convolved(x, weight, bias, how.padding)


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """Return the convolution by torch's kernels."""
    if _last(x, weight):
        return F.conv2d(_channels_last(x), _channels_last(weight), bias, padding=padding).contiguous()
    return F.conv2d(x, weight, bias, padding=padding)


def _backward(
    gradient: Tensor, x: Tensor, weight: Tensor, padding: int, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what is wanted of the gradients by x, weight and bias."""
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [1, 1], [padding] * 2, [1, 1], False, [0, 0], 1, list(wanted)
    )
    return gradients


def convolve_few(x: Tensor, kernel_size: int, product: Callable[[Tensor], Tensor]) -> Tensor:
    """Convolve images of few pixels by one product of matrices: (B, C, H, W) -> (B, K, H - k + 1, W - k + 1).

    At 4x4 pixels the kernels of a CPU reach half of what this does, most of all for the weight's gradient.

    Args:
        x: features, padded.
        kernel_size: k.
        product: of patches and the weight as a matrix, (N, C k^2) -> (N, K).
    """
    patches = F.unfold(x, kernel_size).transpose(1, 2).flatten(0, 1)
    y = product(patches)
    return y.view(len(x), x.shape[2] - kernel_size + 1, x.shape[3] - kernel_size + 1, -1).permute(0, 3, 1, 2)
