"""PixelNorm (Karras et al. 2018, section 4.2), with the LeakyReLU that may follow it.

A gradient penalty differentiates a critic twice, so the backward of each layer is itself differentiated. Autograd would
build these derivatives from many operations; the ones written out here are short.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from progan.ops.dispatch import REFERENCE, choose
from progan.ops.precision import widened


def pixel_norm(x: Tensor, epsilon: float, *, outside_root: bool, slope: float = 1.0) -> Tensor:
    """Divide every pixel's features by their root mean square, then let a LeakyReLU follow: (B, C, ...), any shape.

    Args:
        x: Features; half types are widened to float32 for the mean.
        epsilon: Number added to the mean square, or to its root.
        outside_root: Add epsilon to the root instead of the mean square.
        slope: Slope of the LeakyReLU below 0; 1 = none.
    """
    path = choose("pixel_norm", x, channels=(x.shape[1], x.shape[1]))
    if path == REFERENCE:
        return _reference(x, epsilon, outside_root, slope)
    by_triton = path == "triton"  # whose kernels widen within
    wide = x if by_triton else widened(x)
    normalized: Tensor = _PixelNorm.apply(wide, epsilon, outside_root, slope, by_triton)  # type: ignore[no-untyped-call]
    return normalized.to(x.dtype)


def _reference(x: Tensor, epsilon: float, outside_root: bool, slope: float) -> Tensor:
    wide = widened(x)
    scale = _scale(_root(wide.square(), epsilon, outside_root), epsilon, outside_root)
    return (F.leaky_relu(wide, slope) * scale).to(x.dtype)


class _PixelNorm(Function):
    """y = s f(x), where s = 1 / (r + e), r is the root mean square over the C features, and f the LeakyReLU.

    The scale is positive, so it may as well follow the LeakyReLU. With u = f'(x) g and a = sum(x u), the gradient is
    s u - x a s^2 / (r C): `_PixelNormBackward`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, epsilon: float, outside_root: bool, slope: float, by_triton: bool) -> Tensor:
        ctx.settings = epsilon, outside_root, slope
        if by_triton:
            from progan.ops.triton import norm

            ctx.save_for_backward(x, None)
            return norm(x, *ctx.settings)
        squares = x.square()
        root = _root(squares, epsilon, outside_root)
        ctx.save_for_backward(x, root)
        y: Tensor = torch.ops.aten.leaky_relu(x, slope, out=squares)  # reuses memory
        return y.mul_(_scale(root, epsilon, outside_root))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        back: Tensor = _PixelNormBackward.apply(gradient, *ctx.saved_tensors, *ctx.settings)  # type: ignore[no-untyped-call]
        return back, None, None, None, None


class _PixelNormBackward(Function):
    """J u for J = s I - x x' s^2 / (r C), which is symmetric; differentiable by g and by x."""

    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, x: Tensor, root: Tensor | None, epsilon: float, outside_root: bool, slope: float
    ) -> Tensor:
        ctx.save_for_backward(gradient, x, root)
        ctx.settings = epsilon, outside_root, slope
        if root is None:
            from progan.ops.triton import norm_backward

            return norm_backward(gradient, x, *ctx.settings)
        scale = _scale(root, epsilon, outside_root)
        u = _through_leaky(gradient, x, slope)
        across = (x * u).sum(dim=1, keepdim=True)
        scaled = u * scale if u is gradient else u.mul_(scale)
        return scaled.addcmul_(x, scale.square() * (across / root), value=-1 / x.shape[1])

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        gradient, x, root = ctx.saved_tensors
        epsilon, outside_root, slope = ctx.settings
        if torch.is_grad_enabled():  # a third derivative is needed, which is rare
            return *_plain_second(v, gradient, x, *ctx.settings), None, None, None, None
        if root is None:
            from progan.ops.triton import norm_second

            return *norm_second(v, gradient, x, *ctx.settings), None, None, None, None
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
