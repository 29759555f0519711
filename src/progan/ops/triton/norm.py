"""PixelNorm with a LeakyReLU, and its derivatives. Each block of threads holds all channels of some pixels."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from progan.ops.triton.launch import NUMBERS, layout_of, run


@triton.jit
def _places(pixels, images, channels, LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr):
    """Return where this block's pixels lie, (channels, pixels), and which of them are there."""
    pixel = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    channel = tl.arange(0, BLOCK_C)
    if LAST:
        places = pixel[None, :] * channels + channel[:, None]
    else:
        first = pixel // pixels * channels * pixels + pixel % pixels
        places = first[None, :] + channel[:, None] * pixels
    there = (channel[:, None] < channels) & (pixel[None, :] < images * pixels)
    return places, there


@triton.jit
def _root_and_scale(x, channels, epsilon, OUTSIDE: tl.constexpr):
    mean_square = tl.sum(x * x, axis=0) / channels
    if OUTSIDE:
        root = tl.sqrt(tl.maximum(mean_square, 1e-24))
        scale = 1 / (root + epsilon)
    else:
        root = tl.sqrt(mean_square + epsilon)
        scale = 1 / root
    return root, scale


@triton.jit(do_not_specialize=["images", "channels"])
def _norm(
    x, y, pixels, images, channels, epsilon, slope,
    OUTSIDE: tl.constexpr, LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    places, there = _places(pixels, images, channels, LAST, BLOCK_C, BLOCK_P)
    a = tl.load(x + places, there, 0.0).to(tl.float32)
    _, scale = _root_and_scale(a, channels, epsilon, OUTSIDE)
    tl.store(y + places, tl.where(a > 0, a, a * slope) * scale[None, :], there)


@triton.jit(do_not_specialize=["images", "channels"])
def _norm_backward(
    gradient, x, back, pixels, images, channels, epsilon, slope,
    OUTSIDE: tl.constexpr, LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    places, there = _places(pixels, images, channels, LAST, BLOCK_C, BLOCK_P)
    a = tl.load(x + places, there, 0.0).to(tl.float32)
    u = tl.load(gradient + places, there, 0.0).to(tl.float32)
    u = tl.where(a > 0, u, u * slope)
    root, scale = _root_and_scale(a, channels, epsilon, OUTSIDE)
    along = scale * scale * (tl.sum(a * u, axis=0) / root) / channels
    tl.store(back + places, u * scale[None, :] - a * along[None, :], there)


@triton.jit(do_not_specialize=["images", "channels"])
def _norm_second(
    v, gradient, x, by_gradient, by_x, pixels, images, channels, epsilon, slope,
    OUTSIDE: tl.constexpr, LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    places, there = _places(pixels, images, channels, LAST, BLOCK_C, BLOCK_P)
    f = tl.load(x + places, there, 0.0).to(tl.float32)
    u = tl.load(gradient + places, there, 0.0).to(tl.float32)
    w = tl.load(v + places, there, 0.0).to(tl.float32)
    u = tl.where(f > 0, u, u * slope)
    root, scale = _root_and_scale(f, channels, epsilon, OUTSIDE)
    a = tl.sum(f * u, axis=0) / root
    b = tl.sum(f * w, axis=0) / root
    c = tl.sum(u * w, axis=0)
    square = scale * scale / channels
    one = w * scale[None, :] - f * (square * b)[None, :]
    tl.store(by_gradient + places, tl.where(f > 0, one, one * slope), there)
    along = square * ((2 * scale * root + 1) * (a * b) / channels - c) / root
    tl.store(by_x + places, f * along[None, :] - u * (square * b)[None, :] - w * (square * a)[None, :], there)


def norm(x: Tensor, epsilon: float, outside_root: bool, slope: float) -> Tensor:
    """Normalise pixels after a LeakyReLU, as `progan.ops.pixel_norm.pixel_norm` does, whose arguments these are."""
    (y,) = _over_pixels(_norm, (x,), 1, epsilon, outside_root, slope)
    return y


def norm_backward(gradient: Tensor, x: Tensor, epsilon: float, outside_root: bool, slope: float) -> Tensor:
    """Return the gradient of `norm` by x, where that by its result is given."""
    (back,) = _over_pixels(_norm_backward, (gradient, x), 1, epsilon, outside_root, slope)
    return back


def norm_second(
    v: Tensor, gradient: Tensor, x: Tensor, epsilon: float, outside_root: bool, slope: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `norm_backward` by gradient and by x, where v is that by its result."""
    by_gradient, by_x = _over_pixels(_norm_second, (v, gradient, x), 2, epsilon, outside_root, slope)
    return by_gradient, by_x


def _over_pixels(
    kernel: triton.runtime.JITFunction,
    inputs: tuple[Tensor, ...],
    results: int,
    epsilon: float,
    outside_root: bool,
    slope: float,
) -> list[Tensor]:
    """Run a kernel over all pixels, and return its results; all are laid out as x is, the last of the inputs."""
    layout = layout_of(inputs[-1])
    inputs = tuple(each.contiguous(memory_format=layout) for each in inputs)
    x = inputs[-1]
    outputs = [torch.empty_like(x) for _ in range(results)]
    images, channels = x.shape[:2]
    pixels = x[0, 0].numel()
    block_c = triton.next_power_of_2(channels)
    block_p = max(1, min(NUMBERS // block_c, triton.next_power_of_2(images * pixels)))
    run(
        kernel, (triton.cdiv(images * pixels, block_p),),
        *inputs, *outputs, pixels, images, channels, epsilon, slope,
        OUTSIDE=outside_root, LAST=layout == torch.channels_last, BLOCK_C=block_c, BLOCK_P=block_p,
    )  # fmt: skip
    return outputs
