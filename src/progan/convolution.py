"""Convolutions at stride 1 with the derivatives that a gradient penalty asks for, by whatever computes them soonest."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from progan.functions import computing_dtype

# Where a CPU's kernels are not what is fastest: see benchmarks/NOTES.md.
# A weight's gradient by a convolution: from so many channels on, up to so many pixels, by dtype; with AVX-512, without.
_MANY_CHANNELS = 32
_WHOLE_IMAGE = {True: {torch.bfloat16: 16 * 16}, False: {torch.float32: 33 * 33, torch.float64: 33 * 33}}
# By the kernels for channels-last, with AVX-512: its others give each of 16 lanes to a channel, and half stay empty.
_FEW_CHANNELS = 8
_LARGE_IMAGE = 128 * 128


@cache
def has_avx512() -> bool:
    """Tell whether torch computes with AVX-512, for which other kernels are the fastest."""
    return "AVX512" in torch.backends.cpu.get_cpu_capability()


def convolve(x: Tensor, weight: Tensor, bias: Tensor, padding: int = 0) -> Tensor:
    """Convolve at stride 1: (B, C, H, W) -> (B, K, H - k + 1 + 2 padding, W - k + 1 + 2 padding).

    What `F.conv2d` returns, differentiable any number of times. Its own second derivative by the weight is a
    convolution by a kernel as large as the image, many times slower than the first derivative by the weight, which
    does as well.

    Args:
        x: features.
        weight: (K, C, k, k).
        bias: (K,).
        padding: pixels of zeros around the image.
    """
    if not torch.is_grad_enabled() or not (weight.requires_grad or bias.requires_grad):
        return _forward(x, weight, bias, padding)
    dtype = computing_dtype(x)
    x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    path: Tensor = _WeightPath.apply(weight, bias, (x,), padding)  # type: ignore[no-untyped-call]
    y: Tensor = _Convolve.apply(x, path, (weight, bias), padding)  # type: ignore[no-untyped-call]
    return y


class _Convolve(Function):
    """The convolution, as a function of x; the gradient that comes to it goes on to the weight by a path of its own.

    Autograd runs a function of two inputs whole, even where the gradient by one only is asked for, as by x in a
    gradient penalty and in a generator's update; of two functions, it runs the one that is needed. What is given in a
    tuple is hidden from it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, path: Tensor, hidden: tuple[Tensor, Tensor], padding: int) -> Tensor:
        weight, bias = hidden
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return _forward(x, weight, bias, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        by_x: Tensor | None = None
        if ctx.needs_input_grad[0]:
            by_x = _InputGradient.apply(gradient, weight, (x,), ctx.padding)  # type: ignore[no-untyped-call]
        return by_x, gradient, None, None


class _WeightPath(Function):
    """Nothing, of the convolution's shape, whose gradient is that of the weight and the bias."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, hidden: tuple[Tensor], padding: int) -> Tensor:
        (x,) = hidden
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        height, width = (side - weight.shape[2] + 1 + 2 * padding for side in x.shape[2:])
        return x.new_empty(()).expand(len(x), len(weight), height, width)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        return weight_gradient(gradient, x, weight, ctx.padding), gradient.sum((0, 2, 3)), None, None


class _InputGradient(Function):
    """The gradient of a convolution by its input: a linear map of the output's gradient, and of the weight."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, hidden: tuple[Tensor], padding: int) -> Tensor:
        (x,) = hidden
        ctx.save_for_backward(gradient, weight)
        ctx.padding = padding
        wanted = True, False, False
        if _last(gradient, weight):
            x = torch.empty_like(x, memory_format=torch.channels_last)  # only its shape counts
            by_x, _, _ = _backward(_channels_last(gradient), x, _channels_last(weight), padding, wanted)
            return by_x.contiguous()
        return _backward(gradient, x, weight, padding, wanted)[0]

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor, None, None]:
        gradient, weight = ctx.saved_tensors
        by_gradient = _forward(v, weight, None, ctx.padding)
        return by_gradient, weight_gradient(gradient, v, weight, ctx.padding), None, None


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


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """Return the convolution."""
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
