"""Reflection padding by one pixel."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from progan.ops.dispatch import REFERENCE, choose


def reflect(x: Tensor, *, channels_last: bool = False) -> Tensor:
    """Mirror an image one pixel beyond its edges, the edge itself not repeated: (B, C, H, W) -> (B, C, H + 2, W + 2).

    The backward of torch's reflection padding is not deterministic on CUDA, and that of concatenated slices fills a
    whole image with zeros for each slice. So this one has a backward that adds slices in place.

    Args:
        x: Images.
        channels_last: Memory format of the result, where Triton computes it; else it is x's.
    """
    if choose("reflection", x) == REFERENCE:
        return _reference(x)
    padded: Tensor = _Reflect.apply(x, channels_last)  # type: ignore[no-untyped-call]
    return padded


def _reference(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 1, 1), mode="reflect")


class _Reflect(Function):
    """A linear map; its adjoint is `_Fold`."""

    @staticmethod
    def forward(ctx: object, x: Tensor, channels_last: bool) -> Tensor:
        if choose("reflection", x) == "triton":
            from progan.ops.triton import pad

            return pad(x, channels_last=channels_last)
        return _reference(x)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
        folded: Tensor = _Fold.apply(gradient)  # type: ignore[no-untyped-call]
        return folded, None


class _Fold(Function):
    """Add the margin of one pixel back onto the pixels that it mirrors; its adjoint is `_Reflect`."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        if choose("reflection", x) == "triton":
            from progan.ops.triton import fold

            return fold(x)
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
