"""Dense layers: products of matrices.

A critic's update uses a weight three times. Each use would produce a gradient as large as the weight, to be written,
read again and added; for a dense layer this takes longer than the products. So while weights are cached, the factors
of these gradients are collected and multiplied once, when all of them are known.
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
        weight: Matrix W, (K, I), or a tensor (K, ...) that is flattened to it.
        bias: Bias b, (K,).
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
        x: Features, (N, I).
        weight: Matrix W, (K, I).
    """
    numbers = max(x.numel(), weight.numel(), len(x) * len(weight)) if x.numel() else 0  # oneDNN refuses empty sums
    if torch.is_grad_enabled() or choose("matrix_product", x, numbers=numbers) == REFERENCE:
        return x @ weight.t()  # autograd cannot differentiate oneDNN's product
    multiplied: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return multiplied


class DeferredWeightGrad:
    """The product with a matrix whose gradient is computed once, after the backward of everything that uses it.

    It implements `progan.ops.bilinear.Bilinear`.

    Args:
        weight: The matrix, (K, I).

    Attributes:
        weight: The same values, to be used only in `bilinear` with this operation.
        factors: Pairs of factors collected so far; the gradient is the sum of their products.
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
        """Return the gradient with respect to x."""
        return matrix_product(gradient, weight.t())

    def by_weight(self, gradient: Tensor, x: Tensor, weight: Tensor, *, bias: bool) -> tuple[Tensor | None, None]:
        """Return the gradient with respect to the weight if it is to be differentiated; else collect its factors."""
        if torch.is_grad_enabled():
            return gradient.t() @ x, None
        self.factors.append((gradient, x))
        return None, None


class _Collect(Function):
    """The weight itself. Autograd calls its backward after that of all products that use it."""

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
