"""Images at half and at twice their size, with a margin and without it."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from progan.ops.triton.launch import NUMBERS, layout_of, run

# Sums of 2x2 pixels, and their repetition.


@triton.jit(do_not_specialize=["total", "width", "inner"])
def _add(x, y, total, width, inner, scale, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = place < total
    pixel = place // inner
    corner = x + ((pixel // width * 4 * width + pixel % width * 2) * inner + place % inner)
    below = corner + 2 * width * inner
    rows = tl.load(corner, there, 0.0).to(tl.float32) + tl.load(below, there, 0.0).to(tl.float32)
    rows += tl.load(corner + inner, there, 0.0).to(tl.float32) + tl.load(below + inner, there, 0.0).to(tl.float32)
    tl.store(y + place, rows * scale, there)


@triton.jit(do_not_specialize=["total", "width", "inner"])
def _repeat(x, y, total, width, inner, scale, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = place < total
    pixel = place // inner
    row = pixel // (2 * width)
    source = x + ((row // 2 * width + pixel % (2 * width) // 2) * inner + place % inner)
    tl.store(y + place, tl.load(source, there, 0.0).to(tl.float32) * scale, there)


def add_pixels(x: Tensor, scale: float) -> Tensor:
    """Add every 2 x 2 pixels, and multiply: (B, C, 2 H, 2 W) -> (B, C, H, W)."""
    y = _empty(x, x.shape[2] // 2, x.shape[3] // 2, layout_of(x))
    _over_images(_add, x, y, y.shape[3], scale=scale)
    return y


def repeat_pixels(x: Tensor, scale: float) -> Tensor:
    """Repeat every pixel 2 x 2 times, multiplied: (B, C, H, W) -> (B, C, 2 H, 2 W)."""
    y = _empty(x, 2 * x.shape[2], 2 * x.shape[3], layout_of(x))
    _over_images(_repeat, x, y, x.shape[3], scale=scale)
    return y


# Reflection padding by one pixel, and its adjoint.


@triton.jit
def mirrored(i, size):
    """Return the row or column that lies at i, from -1 to size, where an image is mirrored beyond its edges."""
    i = tl.abs(i)
    return tl.where(i >= size, 2 * size - 2 - i, i)


@triton.jit(do_not_specialize=["total", "height", "width", "inner", "outer", "by_outer", "by_inner", "by_i", "by_j"])
def _pad(
    x, y, total, height, width, inner, outer, by_image, by_outer, by_inner, by_i, by_j, BLOCK: tl.constexpr
):  # fmt: skip
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    pixel = place // inner
    j, pixel = pixel % (width + 2), pixel // (width + 2)
    i, pixel = pixel % (height + 2), pixel // (height + 2)
    source = pixel // outer * by_image + pixel % outer * by_outer + place % inner * by_inner
    source += mirrored(i - 1, height) * by_i + mirrored(j - 1, width) * by_j
    tl.store(y + place, tl.load(x + source, place < total, 0.0), place < total)


@triton.jit(do_not_specialize=["total", "height", "width", "inner"])
def _fold(x, y, total, height, width, inner, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = place < total
    pixel = place // inner
    i, j = pixel // width % height, pixel % width
    wide = width + 2
    here = x + (((pixel // (height * width) * (height + 2) + i + 1) * wide + j + 1) * inner + place % inner)
    up, down, left, right = i == 1, i == height - 2, j == 1, j == width - 2
    aside, wide = 2 * inner, 2 * wide * inner
    whole = tl.load(here, there, 0.0).to(tl.float32)
    whole += tl.load(here - aside, there & left, 0.0).to(tl.float32)
    whole += tl.load(here + aside, there & right, 0.0).to(tl.float32)
    whole += tl.load(here - wide, there & up, 0.0).to(tl.float32)
    whole += tl.load(here - wide - aside, there & up & left, 0.0).to(tl.float32)
    whole += tl.load(here - wide + aside, there & up & right, 0.0).to(tl.float32)
    whole += tl.load(here + wide, there & down, 0.0).to(tl.float32)
    whole += tl.load(here + wide - aside, there & down & left, 0.0).to(tl.float32)
    whole += tl.load(here + wide + aside, there & down & right, 0.0).to(tl.float32)
    tl.store(y + place, whole, there)


def pad(x: Tensor, *, channels_last: bool) -> Tensor:
    """Mirror images one pixel beyond their edges: (B, C, H, W) -> (B, C, H + 2, W + 2).

    Args:
        x: Images, in any layout.
        channels_last: Whether the result is channels-last; otherwise it has x's layout.
    """
    channels, height, width = x.shape[1:]
    layout = torch.channels_last if channels_last else layout_of(x)
    y = _empty(x, height + 2, width + 2, layout)
    by_image, by_channel, by_i, by_j = x.stride()
    last = layout == torch.channels_last
    inner, outer = (channels, 1) if last else (1, channels)
    run(
        _pad, (triton.cdiv(y.numel(), NUMBERS // 2),), x, y, y.numel(), height, width, inner, outer,
        by_image, 0 if last else by_channel, by_channel if last else 0, by_i, by_j, BLOCK=NUMBERS // 2,
    )  # fmt: skip
    return y


def fold(x: Tensor) -> Tensor:
    """Add the margin of one pixel onto the pixels that it mirrors: (B, C, H + 2, W + 2) -> (B, C, H, W)."""
    y = _empty(x, x.shape[2] - 2, x.shape[3] - 2, layout_of(x))
    _over_images(_fold, x, y, y.shape[2], y.shape[3])
    return y


def _over_images(kernel: triton.runtime.JITFunction, x: Tensor, y: Tensor, *sizes: int, **options: float) -> None:
    """Run a kernel for every number of y, which is laid out as x is."""
    layout = layout_of(x)
    inner = x.shape[1] if layout == torch.channels_last else 1
    block = NUMBERS // 4
    grid = (triton.cdiv(y.numel(), block),)
    run(kernel, grid, x.contiguous(memory_format=layout), y, y.numel(), *sizes, inner, **options, BLOCK=block)


def _empty(x: Tensor, height: int, width: int, layout: torch.memory_format) -> Tensor:
    """Return an empty tensor for images of another size."""
    return torch.empty(*x.shape[:2], height, width, dtype=x.dtype, device=x.device, memory_format=layout)
