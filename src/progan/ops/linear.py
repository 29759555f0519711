"""Dense layers: products of matrices.

In an update of a critic, each of the three uses of a weight would bring a gradient as large as the weight, to be
written, read again and added; for a dense layer that takes longer than the products do. So while weights are cached,
the factors of the gradient are collected, and multiplied at once when all of them are there.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from progan.ops import weight_cache
from progan.ops.bilinear import bilinear
from progan.ops.dispatch import REFERENCE, choose
from progan.ops.precision import computing_dtype
from progan.ops.scaling import taken


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x W' + b: (..., I) -> (..., K).

    Args:
        x: Features.
        weight: W, (K, I), or a tensor (K, ...) of which that is the matrix.
        bias: b, (K,).
    """
    weight, bias = taken(weight), taken(bias)
    if not weight_cache.is_active() or choose("linear", x) == REFERENCE:
        return F.linear(x, weight.flatten(1), bias)
    dtype = computing_dtype(x)
    deferred = weight_cache.cached(
        f"matrix of {dtype}", [weight], lambda: DeferredWeightGrad(weight.flatten(1).to(dtype))
    )
    rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
    y = bilinear(deferred, rows.to(dtype), deferred.weight) + bias.to(dtype)
    return y if x.ndim == 2 else y.view(*x.shape[:-1], len(weight))


def matrix_product(x: Tensor, weight: Tensor) -> Tensor:
    """Return x W': (N, I) -> (N, K).

    Args:
        x: (N, I).
        weight: W, (K, I).
    """
    numbers = max(x.numel(), weight.numel(), len(x) * len(weight)) if x.numel() else 0  # oneDNN refuses sums of nothing
    if torch.is_grad_enabled() or choose("matrix_product", x, numbers=numbers) == REFERENCE:
        return x @ weight.t()  # autograd knows nothing of oneDNN's
    multiplied: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return multiplied


class DeferredWeightGrad:
    """A matrix whose gradient is one product, taken once autograd has been wherever the matrix is used.

    As an operation it is the product with its matrix; see `progan.ops.bilinear.Bilinear`.

    Args:
        weight: (K, I).

    Attributes:
        weight: The same values; to be used in `bilinear` only.
        factors: Pairs of which the gradient is the sum of products, collected so far.
    """

    def __init__(self, weight: Tensor) -> None:
        self.factors: list[tuple[Tensor, Tensor]] = []
        self.weight: Tensor = _Collect.apply(weight, self.factors)  # type: ignore[no-untyped-call]

    def shape(self, x: Tensor, weight: Tensor) -> tuple[int, ...]:
        """Return the shape of the product."""
        return len(x), len(weight)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return x W'."""
        return matrix_product(x, weight)

    def by_input(self, gradient: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        """Return the gradient by x."""
        return matrix_product(gradient, weight.t())

    def by_weight(self, gradient: Tensor, x: Tensor, weight: Tensor, *, bias: bool) -> tuple[Tensor | None, None]:
        """Return the gradient by the weight where a derivative of it is asked for; else collect its factors."""
        if torch.is_grad_enabled():
            return gradient.t() @ x, None
        self.factors.append((gradient, x))
        return None, None


class _Collect(Function):
    """The weight itself; its gradient is that of all products that used it, which autograd waits for."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, factors: list[tuple[Tensor, Tensor]]) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.factors = factors
        return weight.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, None]:
        if ctx.factors:
            gradients, inputs = (torch.cat(each) for each in zip(*ctx.factors, strict=True))
            ctx.factors.clear()
            by_factors = matrix_product(gradients.t(), inputs.t())
            gradient = by_factors if gradient is None else gradient + by_factors
        return gradient, None
