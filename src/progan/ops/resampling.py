"""Images at another size, by repeating and averaging pixels, and blends of two sizes (Karras et al. 2018, figure 2)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from progan.arguments import check_alpha, check_int, check_tensor
from progan.ops.dispatch import REFERENCE, choose
from progan.ops.precision import widened


def upsample(x: Tensor, factor: int = 2) -> Tensor:
    """Repeat every pixel factor x factor times: (B, C, H, W) -> (B, C, H * factor, W * factor).

    Raises:
        ValueError: If x is not (B, C, H, W), or the factor is below 1.

    Example:
        >>> upsample(torch.tensor([[[[1.0, 2.0]]]]))
        tensor([[[[1., 1., 2., 2.],
                  [1., 1., 2., 2.]]]])
    """
    check_tensor("x", x)
    check_int("factor", factor)
    if x.ndim != 4 or factor < 1:
        raise ValueError(f"upsample takes (B, C, H, W) and a factor of at least 1, got {tuple(x.shape)} and {factor}")
    if factor == 2:
        return _repeat_pixels(x, 1.0)
    return F.interpolate(x, scale_factor=float(factor), mode="nearest") if factor > 1 else x


def downsample(x: Tensor, factor: int = 2) -> Tensor:
    """Average every factor x factor pixels: (B, C, H, W) -> (B, C, H / factor, W / factor).

    Raises:
        TypeError: If x is not of floats.
        ValueError: If x is not (B, C, H, W), or its height or width is not a multiple of the factor.

    Example:
        >>> downsample(torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]]))
        tensor([[[[3.]]]])
    """
    check_tensor("x", x)
    check_int("factor", factor)
    if not x.is_floating_point():
        raise TypeError(f"downsample averages floats, got {x.dtype}; divide uint8 by 255")
    if x.ndim != 4 or factor < 1 or x.shape[2] % factor or x.shape[3] % factor:
        raise ValueError(
            f"downsample takes (B, C, H, W) whose height and width are multiples of the factor, {factor}, got "
            f"{tuple(x.shape)}"
        )
    if factor == 2:
        return _average_pixels(x)
    return F.avg_pool2d(x, factor) if factor > 1 else x


def fade(old: Tensor, new: Tensor, alpha: float | Tensor) -> Tensor:
    """Blend two tensors: (1 - alpha) * old + alpha * new, exact at both ends, in the wider dtype of the two.

    Args:
        old: Tensor of any shape.
        new: Tensor of old's shape.
        alpha: Weight of new, in [0, 1]; a float, or a 0-d tensor, whose value is trusted.

    Raises:
        ValueError: If alpha is a float outside [0, 1], or the shapes differ.
    """
    check_alpha(alpha)
    check_tensor("old", old)
    check_tensor("new", new)
    if old.shape != new.shape:
        raise ValueError(f"old and new must have one shape, got {tuple(old.shape)} and {tuple(new.shape)}")
    dtype = torch.promote_types(old.dtype, new.dtype)
    weight = alpha.to(device=old.device, dtype=dtype) if isinstance(alpha, Tensor) else alpha
    return torch.lerp(old.to(dtype), new.to(dtype), weight)


def blend_with_lower(images: Tensor, alpha: float | Tensor) -> Tensor:
    """Blend images with themselves at half the resolution, as a fading network sees them.

    The official program shows the critic real images in this form while a level fades in.

    Args:
        images: (B, C, H, W).
        alpha: Weight of the images themselves, in [0, 1].
    """
    return fade(upsample(downsample(images)), images, alpha)


def _repeat_pixels(x: Tensor, scale: float) -> Tensor:
    """Repeat every pixel 2 x 2 times, multiplied by a number: (B, C, H, W) -> (B, C, 2 H, 2 W)."""
    if choose("resampling", x) == REFERENCE:
        return F.interpolate(x * scale if scale != 1 else x, scale_factor=2.0, mode="nearest")
    repeated: Tensor = _Repeat.apply(x, scale)  # type: ignore[no-untyped-call]
    return repeated


def _average_pixels(x: Tensor) -> Tensor:
    """Average every 2 x 2 pixels: (B, C, 2 H, 2 W) -> (B, C, H, W); half types are summed in float32."""
    path = choose("resampling", x)
    if path == REFERENCE:
        return F.avg_pool2d(widened(x), 2).to(x.dtype)
    mean: Tensor = _Add.apply(x if path == "triton" else widened(x), 0.25)  # type: ignore[no-untyped-call]
    return mean.to(x.dtype)


class _Repeat(Function):
    """Repeat every pixel 2 x 2 times, a linear map; its adjoint is `_Add`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        if choose("resampling", x) == "triton":
            from progan.ops.triton import repeat_pixels

            return repeat_pixels(x, scale)
        x = x * scale if scale != 1 else x
        rows = torch.stack((x, x), dim=4).flatten(3)  # thus in two thirds of the time
        return torch.stack((rows, rows), dim=3).flatten(2, 3)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        added: Tensor = _Add.apply(gradient, ctx.scale)  # type: ignore[no-untyped-call]
        return added, None


class _Add(Function):
    """Add every 2 x 2 pixels, a linear map; its adjoint is `_Repeat`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        if choose("resampling", x) == "triton":
            from progan.ops.triton import add_pixels

            return add_pixels(x, scale)
        rows = x[:, :, ::2] + x[:, :, 1::2]
        added = rows[..., ::2] + rows[..., 1::2]
        return added * scale if scale != 1 else added

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _repeat_pixels(gradient, ctx.scale), None
