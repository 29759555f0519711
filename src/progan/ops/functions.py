"""Differentiable functions with short derivatives of every order: what autograd would put together from more parts.

A gradient penalty differentiates a critic twice, so that the first backward of each layer is itself differentiated.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from progan.errors import warn

HALF = (torch.float16, torch.bfloat16)
_QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))
_COUNTED = 2**29  # numbers in a tensor, the places of which are 32 bits wide within our kernels
_MOST_CHANNELS = 4096  # which one block of threads holds


def computing_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which x is multiplied: its own, or that of autocast, which leaves float64 alone."""
    kind = x.device.type
    cast_to = torch.is_autocast_enabled(kind) and x.dtype != torch.float64
    return torch.get_autocast_dtype(kind) if cast_to else x.dtype


def is_compiling() -> bool:
    """Tell whether torch.compile or torch.export reads this now, which take torch's operations apart, and not ours.

    What ours are then is written in torch's; derived twice by a compiler that knows of one derivative, they raise its
    error instead of giving wrong numbers.
    """
    return torch.compiler.is_compiling()


def own_kernels(x: Tensor) -> ModuleType | None:
    """Return the Triton kernels where they take x: on CUDA, in float32 and half types, if Triton works; else None."""
    if is_compiling():
        return None
    if not x.is_cuda or x.dtype == torch.float64 or x.numel() >= _COUNTED or x.ndim < 2 or x.shape[1] > _MOST_CHANNELS:
        return None
    return kernels_on(x.device)


@cache
def kernels_on(device: torch.device) -> ModuleType | None:
    """Return `progan.ops.triton` if Triton works on a CUDA device; else None, and a warning."""
    try:
        from progan.ops import triton as kernels

        kernels.try_out(device)
    except Exception as error:  # whatever a compiler for another's device finds wrong
        reason = (str(error) or repr(error)).splitlines()[0]
        warn(
            f"training on {device} goes on without progan's own kernels, more slowly: Triton does not work here "
            f"({reason}); it comes with torch for Linux, and needs a C compiler such as gcc"
        )
        return None
    return kernels


def _kernels_of(x: Tensor) -> ModuleType:
    """Return the kernels that a forward pass of x used."""
    kernels = own_kernels(x)
    assert kernels is not None
    return kernels


def widened(x: Tensor) -> Tensor:
    """Return half types as float32, others as they are."""
    return x.float() if x.dtype in HALF else x


def _wide_enough(x: Tensor) -> Tensor:
    """Return x as it can be summed: our own kernels widen within."""
    return x if own_kernels(x) else widened(x)


def reflect(x: Tensor, *, channels_last: bool = False) -> Tensor:
    """Mirror an image one pixel beyond its edges, the edge itself not repeated: (B, C, H, W) -> (B, C, H + 2, W + 2).

    Differentiable any number of times. Its backward adds slices by hand: that of torch's own reflection padding is not
    deterministic on CUDA, and that of joined slices fills a whole image with zeros for each.

    Args:
        x: images.
        channels_last: lay out the result so, where kernels of our own do it; else as x is.
    """
    if is_compiling():
        return F.pad(x, (1, 1, 1, 1), mode="reflect")
    padded: Tensor = _Reflect.apply(x, channels_last)  # type: ignore[no-untyped-call]
    return padded


class _Reflect(Function):
    """Reflection padding by one pixel, a linear map; its adjoint is `_Fold`."""

    @staticmethod
    def forward(ctx: object, x: Tensor, channels_last: bool) -> Tensor:
        if kernels := own_kernels(x):
            return cast(Tensor, kernels.pad(x, channels_last=channels_last))
        return F.pad(x, (1, 1, 1, 1), mode="reflect")

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
        folded: Tensor = _Fold.apply(gradient)  # type: ignore[no-untyped-call]
        return folded, None


class _Fold(Function):
    """Add the margin of one pixel back onto the pixels that it mirrors; its adjoint is `_Reflect`."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        if kernels := own_kernels(x):
            return cast(Tensor, kernels.fold(x))
        height, width = x.shape[2] - 2, x.shape[3] - 2
        rows = x.narrow(2, 1, height)
        inner = rows.narrow(3, 1, width).contiguous()
        inner.select(3, 1).add_(rows.select(3, 0))
        inner.select(3, width - 2).add_(rows.select(3, width + 1))
        for here, there in ((1, 0), (height - 2, height + 1)):
            row, margin = inner.select(2, here), x.select(2, there)
            row.add_(margin.narrow(2, 1, width))
            row.select(2, 1).add_(margin.select(2, 0))
            row.select(2, width - 2).add_(margin.select(2, width + 1))
        return inner

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return reflect(gradient)


def repeat_pixels(x: Tensor, scale: float = 1.0) -> Tensor:
    """Repeat every pixel 2 x 2 times, multiplied by a number: (B, C, H, W) -> (B, C, 2 H, 2 W)."""
    if is_compiling():
        return F.interpolate(x * scale, scale_factor=2.0, mode="nearest")
    repeated: Tensor = _Repeat.apply(x, scale)  # type: ignore[no-untyped-call]
    return repeated


def mean_of_pixels(x: Tensor) -> Tensor:
    """Average every 2 x 2 pixels: (B, C, 2 H, 2 W) -> (B, C, H, W); half types are summed in float32."""
    if is_compiling():
        return F.avg_pool2d(widened(x), 2).to(x.dtype)
    mean: Tensor = _Add.apply(_wide_enough(x), 0.25)  # type: ignore[no-untyped-call]
    return mean.to(x.dtype)


class _Repeat(Function):
    """A linear map; its adjoint is `_Add`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        if kernels := own_kernels(x):
            return cast(Tensor, kernels.repeat_pixels(x, scale))
        x = x * scale if scale != 1 else x
        if x.device.type != "cpu":
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        rows = torch.stack((x, x), dim=4).flatten(3)  # thus in two thirds of the time
        return torch.stack((rows, rows), dim=3).flatten(2, 3)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        added: Tensor = _Add.apply(gradient, ctx.scale)  # type: ignore[no-untyped-call]
        return added, None


class _Add(Function):
    """A linear map; its adjoint is `_Repeat`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        if kernels := own_kernels(x):
            return cast(Tensor, kernels.add_pixels(x, scale))
        rows = x[:, :, ::2] + x[:, :, 1::2]
        added = rows[..., ::2] + rows[..., 1::2]
        return added * scale if scale != 1 else added

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return repeat_pixels(gradient, ctx.scale), None


def interleave(x: Tensor) -> Tensor:
    """Put four images together, each of which has every second pixel across and down.

    Image (a, b) of the four has one row and one column more than is taken of it: pixel (2 i + a, 2 j + b) of the result
    is its pixel (i + a, j + b). (B, 4 C, H + 1, W + 1) -> (B, C, 2 H, 2 W); the four lie one after another.
    """
    if is_compiling():
        height, width = x.shape[2] - 1, x.shape[3] - 1
        parts = x.reshape(len(x), 2, 2, x.shape[1] // 4, height + 1, width + 1)
        rows = [[parts[:, a, b, :, a : a + height, b : b + width] for b in (0, 1)] for a in (0, 1)]
        return torch.stack([torch.stack(row, dim=-1).flatten(-2) for row in rows], dim=-2).flatten(-3, -2)
    whole: Tensor = _Interleave.apply(x)  # type: ignore[no-untyped-call]
    return whole


class _Interleave(Function):
    """A linear map; its adjoint is `_Separate`."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        batch, channels, height, width = len(x), x.shape[1] // 4, x.shape[2] - 1, x.shape[3] - 1
        parts = x.reshape(batch, 2, 2, channels, height + 1, width + 1)
        whole = x.new_empty(batch, channels, height, 2, width, 2)
        for a, b in _QUARTERS:
            whole[:, :, :, a, :, b] = parts[:, a, b, :, a : a + height, b : b + width]
        return whole.view(batch, channels, 2 * height, 2 * width)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        parts: Tensor = _Separate.apply(gradient)  # type: ignore[no-untyped-call]
        return parts


class _Separate(Function):
    """A linear map; its adjoint is `_Interleave`."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        batch, channels, height, width = len(x), x.shape[1], x.shape[2] // 2, x.shape[3] // 2
        whole = x.reshape(batch, channels, height, 2, width, 2)
        parts = x.new_zeros(batch, 2, 2, channels, height + 1, width + 1)
        for a, b in _QUARTERS:
            parts[:, a, b, :, a : a + height, b : b + width] = whole[:, :, :, a, :, b]
        return parts.view(batch, 4 * channels, height + 1, width + 1)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return interleave(gradient)


def pixel_norm(x: Tensor, epsilon: float, *, outside_root: bool, slope: float = 1.0) -> Tensor:
    """Divide every pixel's features by their root mean square, then let a LeakyReLU follow: (B, C, ...), any shape.

    Differentiable any number of times.

    Args:
        x: features; half types are widened to float32 for the mean.
        epsilon: added to the mean square, or to its root.
        outside_root: to its root.
        slope: of the LeakyReLU below 0; 1 = none.
    """
    if is_compiling():
        wide = widened(x)
        scale = _scale(_root(wide.square(), epsilon, outside_root), epsilon, outside_root)
        return (F.leaky_relu(wide, slope) * scale).to(x.dtype)
    normalized: Tensor = _PixelNorm.apply(_wide_enough(x), epsilon, outside_root, slope)  # type: ignore[no-untyped-call]
    return normalized.to(x.dtype)


class _PixelNorm(Function):
    """y = s f(x), where s = 1 / (r + e), r is the root mean square over the C features, and f the LeakyReLU.

    The scale is positive, so it may as well follow the LeakyReLU. With u = f'(x) g and a = sum(x u), the gradient is
    s u - x a s^2 / (r C): `_PixelNormBackward`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, epsilon: float, outside_root: bool, slope: float) -> Tensor:
        ctx.settings = epsilon, outside_root, slope
        if kernels := own_kernels(x):
            ctx.save_for_backward(x, None)
            return cast(Tensor, kernels.norm(x, *ctx.settings))
        squares = x.square()
        root = _root(squares, epsilon, outside_root)
        ctx.save_for_backward(x, root)
        y: Tensor = torch.ops.aten.leaky_relu(x, slope, out=squares)  # in memory that is at hand
        return y.mul_(_scale(root, epsilon, outside_root))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        back: Tensor = _PixelNormBackward.apply(gradient, *ctx.saved_tensors, *ctx.settings)  # type: ignore[no-untyped-call]
        return back, None, None, None


class _PixelNormBackward(Function):
    """J u for J = s I - x x' s^2 / (r C), which is symmetric; differentiable by g and by x."""

    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, x: Tensor, root: Tensor | None, epsilon: float, outside_root: bool, slope: float
    ) -> Tensor:
        ctx.save_for_backward(gradient, x, root)
        ctx.settings = epsilon, outside_root, slope
        if root is None:
            return cast(Tensor, _kernels_of(x).norm_backward(gradient, x, *ctx.settings))
        scale = _scale(root, epsilon, outside_root)
        u = _through_leaky(gradient, x, slope)
        across = (x * u).sum(dim=1, keepdim=True)
        scaled = u * scale if u is gradient else u.mul_(scale)
        return scaled.addcmul_(x, scale.square() * (across / root), value=-1 / x.shape[1])

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        gradient, x, root = ctx.saved_tensors
        epsilon, outside_root, slope = ctx.settings
        if torch.is_grad_enabled():  # a third derivative is asked for, which nothing here does often
            return *_plain_second(v, gradient, x, *ctx.settings), None, None, None, None
        if root is None:
            return *_kernels_of(x).norm_second(v, gradient, x, *ctx.settings), None, None, None, None
        n, scale = x.shape[1], _scale(root, epsilon, outside_root)
        u = _through_leaky(gradient, x, slope)
        # Divided by the root at once, they stay small at a pixel that is 0.
        a = (x * u).sum(dim=1, keepdim=True) / root
        b = (x * v).sum(dim=1, keepdim=True) / root
        c = (u * v).sum(dim=1, keepdim=True)
        square = scale.square() / n
        by_gradient = _through_leaky((v * scale).addcmul_(x, square * b, value=-1), x, slope)
        along_x = square * ((2 * scale * root + 1) * (a * b) / n - c) / root
        by_x = (x * along_x).addcmul_(u, square * b, value=-1).addcmul_(v, square * a, value=-1)
        return by_gradient, by_x, None, None, None, None


def _root(squares: Tensor, epsilon: float, outside_root: bool) -> Tensor:
    """Return the root of the mean square over the features, r: (B, C, ...) -> (B, 1, ...)."""
    mean_square = squares.mean(dim=1, keepdim=True)
    # At a pixel that is 0 everywhere the root has no slope; clamped it has slope 0, where autograd's would be NaN.
    return (mean_square.clamp_min(1e-24) if outside_root else mean_square + epsilon).sqrt()


def _scale(root: Tensor, epsilon: float, outside_root: bool) -> Tensor:
    """Return what a pixel's features are multiplied by, s."""
    return (root + epsilon if outside_root else root).reciprocal()


def _through_leaky(gradient: Tensor, x: Tensor, slope: float) -> Tensor:
    """Return a gradient times the slope of the LeakyReLU at x."""
    if slope == 1:
        return gradient
    through: Tensor = torch.ops.aten.leaky_relu_backward(gradient, x, slope, False)
    return through


def _plain_second(
    v: Tensor, gradient: Tensor, x: Tensor, epsilon: float, outside_root: bool, slope: float
) -> tuple[Tensor, Tensor]:
    """Return what `_PixelNormBackward.backward` does, of parts that autograd knows."""
    n, root = x.shape[1], _root(x.square(), epsilon, outside_root)
    scale = _scale(root, epsilon, outside_root)
    u = _through_leaky(gradient, x, slope)
    a, b = ((x * other).sum(dim=1, keepdim=True) / root for other in (u, v))
    c = (u * v).sum(dim=1, keepdim=True)
    square = scale.square() / n
    by_gradient = _through_leaky(v * scale - x * (square * b), x, slope)
    along_x = square * ((2 * scale * root + 1) * (a * b) / n - c) / root
    return by_gradient, x * along_x - u * (square * b) - v * (square * a)
