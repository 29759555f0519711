"""Four images in one, each of which has every second pixel across and down."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function

from progan.ops.dispatch import REFERENCE, choose

_QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))


def interleave(x: Tensor) -> Tensor:
    """Put four images together: (B, 4 C, H + 1, W + 1) -> (B, C, 2 H, 2 W).

    Image (a, b) of the four has one row and one column more than is taken of it: pixel (2 i + a, 2 j + b) of the result
    is its pixel (i + a, j + b).

    Args:
        x: The four images, one after another in the channels.
    """
    if choose("interleaving", x) == REFERENCE:
        return _reference(x)
    whole: Tensor = _Interleave.apply(x)  # type: ignore[no-untyped-call]
    return whole


def _reference(x: Tensor) -> Tensor:
    height, width = x.shape[2] - 1, x.shape[3] - 1
    parts = x.reshape(len(x), 2, 2, x.shape[1] // 4, height + 1, width + 1)
    rows = [[parts[:, a, b, :, a : a + height, b : b + width] for b in (0, 1)] for a in (0, 1)]
    return torch.stack([torch.stack(row, dim=-1).flatten(-2) for row in rows], dim=-2).flatten(-3, -2)


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
