"""Convolutions of few channels, by 3x3 kernels at stride 1, that keep the image's size.

Beyond its edges lie zeros, or its mirror image. The adjoint of the latter sees zeros there, and adds what was mirrored
to the second row and column from each edge.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from progan.ops.triton.images import mirrored
from progan.ops.triton.launch import run

_WARPS = 1584  # that keep a large device busy: 12 for each of 132 multiprocessors
_SUMS = 1024  # that a warp forms at once: of some pixels of a row, and of four or eight channels


@triton.jit
def _row(x, i, j, height, width, MIRROR: tl.constexpr):
    """Return what lies left of pixels (i, j), there, and right of them, in a row of one image."""
    if MIRROR:
        row = x + mirrored(i, height) * width
        left = tl.load(row + mirrored(j - 1, width), j < width, 0.0)
        right = tl.load(row + mirrored(j + 1, width), j < width, 0.0)
        here = tl.load(row + j, j < width, 0.0)
    else:
        row = x + i * width
        end = tl.where((i >= 0) & (i < height), width, 0)
        left = tl.load(row + (j - 1), (j > 0) & (j - 1 < end), 0.0)
        right = tl.load(row + (j + 1), j + 1 < end, 0.0)
        here = tl.load(row + j, j < end, 0.0)
    return left.to(tl.float32), here.to(tl.float32), right.to(tl.float32)


@triton.jit
def _come_back(first, last, i, size):
    """Return what the first and the last of three taps see, and what was mirrored, of sizes of 2 and more."""
    return first + tl.where(i == size - 2, last, 0.0), last + tl.where(i == 1, first, 0.0)


@triton.jit
def _products(sums, weight, a, b, c, d, e, f, g, h, i, ADJOINT: tl.constexpr):
    """Add the products of nine weights and what their taps see; the adjoint turns the kernel round."""
    if ADJOINT:
        a, b, c, d, f, g, h, i = i, h, g, f, d, c, b, a
    sums += a * tl.load(weight).to(tl.float32)
    sums += b * tl.load(weight + 1).to(tl.float32)
    sums += c * tl.load(weight + 2).to(tl.float32)
    sums += d * tl.load(weight + 3).to(tl.float32)
    sums += e * tl.load(weight + 4).to(tl.float32)
    sums += f * tl.load(weight + 5).to(tl.float32)
    sums += g * tl.load(weight + 6).to(tl.float32)
    sums += h * tl.load(weight + 7).to(tl.float32)
    sums += i * tl.load(weight + 8).to(tl.float32)
    return sums


@triton.jit
def _add_to_four(s, t, u, v, weight, by_out, out, last, a, b, c, d, e, f, g, h, i, ADJOINT: tl.constexpr):
    """Add the products of four channels out; those beyond the last are made as the last, and not stored."""
    two, three, four = tl.minimum(out + 1, last), tl.minimum(out + 2, last), tl.minimum(out + 3, last)
    s = _products(s, weight + tl.minimum(out, last) * by_out, a, b, c, d, e, f, g, h, i, ADJOINT)
    t = _products(t, weight + two * by_out, a, b, c, d, e, f, g, h, i, ADJOINT)
    u = _products(u, weight + three * by_out, a, b, c, d, e, f, g, h, i, ADJOINT)
    v = _products(v, weight + four * by_out, a, b, c, d, e, f, g, h, i, ADJOINT)
    return s, t, u, v


@triton.jit
def _store(sums, place, bias, out, last, plane, j, width, BIAS: tl.constexpr):
    """Store the sums of one channel out, of which there may be none."""
    if BIAS:
        sums += tl.load(bias + tl.minimum(out, last)).to(tl.float32)
    tl.store(place + out * plane, sums, j < tl.where(out <= last, width, 0))


@triton.jit(do_not_specialize=["height", "width", "in_channels", "channels", "by_out", "by_in", "pieces"])
def _convolve(
    x, weight, bias, y, height, width, in_channels, channels, by_out, by_in, pieces,
    REFLECT: tl.constexpr, ADJOINT: tl.constexpr, BIAS: tl.constexpr, EIGHT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add products for a piece of a row, and four or eight channels at once, number by number."""
    row = tl.program_id(0) // pieces
    i, image = row % height, row // height
    j = tl.program_id(0) % pieces * BLOCK + tl.arange(0, BLOCK)
    plane = height * width
    out, last = tl.program_id(1) * (8 if EIGHT else 4), channels - 1
    o = tl.zeros((BLOCK,), tl.float32)
    p, q, r, s, t, u, v = o, o, o, o, o, o, o
    for channel in range(in_channels):
        seen = x + (image * in_channels + channel) * plane
        a, b, c = _row(seen, i - 1, j, height, width, REFLECT and not ADJOINT)
        d, e, f = _row(seen, i, j, height, width, REFLECT and not ADJOINT)
        g, h, k = _row(seen, i + 1, j, height, width, REFLECT and not ADJOINT)
        if REFLECT and ADJOINT:
            a, g = _come_back(a, g, i, height)
            b, h = _come_back(b, h, i, height)
            c, k = _come_back(c, k, i, height)
            a, c = _come_back(a, c, j, width)
            d, f = _come_back(d, f, j, width)
            g, k = _come_back(g, k, j, width)
        w = weight + channel * by_in
        o, p, q, r = _add_to_four(o, p, q, r, w, by_out, out, last, a, b, c, d, e, f, g, h, k, ADJOINT)
        if EIGHT:
            s, t, u, v = _add_to_four(s, t, u, v, w, by_out, out + 4, last, a, b, c, d, e, f, g, h, k, ADJOINT)
    place = y + image * channels * plane + i * width + j
    _store(o, place, bias, out, last, plane, j, width, BIAS)
    _store(p, place, bias, out + 1, last, plane, j, width, BIAS)
    _store(q, place, bias, out + 2, last, plane, j, width, BIAS)
    _store(r, place, bias, out + 3, last, plane, j, width, BIAS)
    if EIGHT:
        _store(s, place, bias, out + 4, last, plane, j, width, BIAS)
        _store(t, place, bias, out + 5, last, plane, j, width, BIAS)
        _store(u, place, bias, out + 6, last, plane, j, width, BIAS)
        _store(v, place, bias, out + 7, last, plane, j, width, BIAS)


@triton.jit(do_not_specialize=["total", "height", "width", "in_channels", "channels", "pieces", "rounds"])
def _by_weight(
    gradient, x, sums, total, height, width, in_channels, channels, pieces, rounds,
    REFLECT: tl.constexpr, OUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add products of gradients and what nine taps see of one channel, over some pieces of rows.

    A part of the sums is the weight's gradient, (out, in, 3, 3), and the bias's, (out,).
    """
    channel = tl.program_id(0) % in_channels
    out = tl.program_id(0) // in_channels * OUT + tl.arange(0, OUT)
    part = tl.program_id(1)
    plane = height * width
    a = tl.zeros((OUT, BLOCK), tl.float32)
    b, c, d, e, f, g, h, k, of_bias = a, a, a, a, a, a, a, a, a
    for piece in range(part * rounds, tl.minimum(part * rounds + rounds, total)):
        row = piece // pieces
        i, image = row % height, row // height
        j = piece % pieces * BLOCK + tl.arange(0, BLOCK)
        by = gradient + image * channels * plane + i * width
        by = tl.load(by + (out[:, None] * plane + j[None, :]), (out[:, None] < channels) & (j[None, :] < width), 0.0)
        by = by.to(tl.float32)
        seen = x + (image * in_channels + channel) * plane
        left, middle, right = _row(seen, i - 1, j, height, width, REFLECT)
        a += by * left[None, :]
        b += by * middle[None, :]
        c += by * right[None, :]
        left, middle, right = _row(seen, i, j, height, width, REFLECT)
        d += by * left[None, :]
        e += by * middle[None, :]
        f += by * right[None, :]
        left, middle, right = _row(seen, i + 1, j, height, width, REFLECT)
        g += by * left[None, :]
        h += by * middle[None, :]
        k += by * right[None, :]
        of_bias += by
    sums += part.to(tl.int64) * channels * (in_channels * 9 + 1)
    place = sums + (out * in_channels + channel) * 9
    wanted = out < channels
    tl.store(place, tl.sum(a, 1), wanted)
    tl.store(place + 1, tl.sum(b, 1), wanted)
    tl.store(place + 2, tl.sum(c, 1), wanted)
    tl.store(place + 3, tl.sum(d, 1), wanted)
    tl.store(place + 4, tl.sum(e, 1), wanted)
    tl.store(place + 5, tl.sum(f, 1), wanted)
    tl.store(place + 6, tl.sum(g, 1), wanted)
    tl.store(place + 7, tl.sum(h, 1), wanted)
    tl.store(place + 8, tl.sum(k, 1), wanted)
    once = tl.where(channel == 0, channels, 0)
    tl.store(sums + (channels * in_channels * 9 + out), tl.sum(of_bias, 1), out < once)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, *, reflect: bool) -> Tensor:
    """Convolve: (B, C, H, W) -> (B, K, H, W).

    Args:
        x: Features.
        weight: (K, C, 3, 3).
        bias: (K,), or None.
        reflect: Whether to mirror the image beyond its edges instead of adding zeros.
    """
    out_channels, in_channels = weight.shape[:2]
    return _convolved(x, weight, bias, out_channels, (in_channels * 9, 9), reflect, adjoint=False)


def by_input(gradient: Tensor, weight: Tensor, *, reflect: bool) -> Tensor:
    """Return the gradient of `convolve` by x: (B, K, H, W) -> (B, C, H, W)."""
    in_channels = weight.shape[1]
    return _convolved(gradient, weight, None, in_channels, (9, in_channels * 9), reflect, adjoint=True)


def by_weight(gradient: Tensor, x: Tensor, *, reflect: bool) -> tuple[Tensor, Tensor]:
    """Return the gradients of `convolve` by weight and bias: (K, C, 3, 3) and (K,), float32."""
    (images, channels, height, width), in_channels = gradient.shape, x.shape[1]
    out = min(8, triton.next_power_of_2(channels))
    groups = in_channels * triton.cdiv(channels, out)
    pieces = triton.cdiv(width, 32)
    total = images * height * pieces
    rounds = triton.cdiv(total, min(total, triton.cdiv(_WARPS, groups)))
    parts = triton.cdiv(total, rounds)
    sums = x.new_empty(parts, channels * (in_channels * 9 + 1), dtype=torch.float32)
    # One warp, of which each thread has a pixel: so nothing changes hands before the end.
    run(
        _by_weight, (groups, parts), gradient.contiguous(), x.contiguous(), sums,
        total, height, width, in_channels, channels, pieces, rounds,
        REFLECT=reflect, OUT=out, BLOCK=32, num_warps=1,
    )  # fmt: skip
    whole = sums[0] if parts == 1 else sums.sum(0)
    weights = channels * in_channels * 9
    return whole[:weights].view(channels, in_channels, 3, 3), whole[weights:]


def _convolved(
    x: Tensor, weight: Tensor, bias: Tensor | None, channels: int, by: tuple[int, int], reflect: bool, *, adjoint: bool
) -> Tensor:
    images, in_channels, height, width = x.shape
    y = x.new_empty(images, channels, height, width)
    run_concurrently = 8 if channels > 4 else 4
    block = min(_SUMS // run_concurrently, max(32, triton.next_power_of_2(width)))
    pieces = triton.cdiv(width, block)
    grid = images * height * pieces, triton.cdiv(channels, run_concurrently)
    run(
        _convolve, grid, x.contiguous(), weight.contiguous(), bias, y,
        height, width, in_channels, channels, *by, pieces,
        REFLECT=reflect, ADJOINT=adjoint, BIAS=bias is not None, EIGHT=run_concurrently == 8, BLOCK=block, num_warps=1,
    )  # fmt: skip
    return y
