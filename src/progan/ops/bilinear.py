"""A product of features and a weight, differentiable any number of times, with a path of its own for the weight.

Autograd runs the backward of a function of two inputs completely, even if only one gradient is needed: that of the
features, in a gradient penalty and in a generator's update. So the product is a function of the features alone. It
passes the incoming gradient on to a second function, which computes the weight's gradient and is skipped if nobody
needs it.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import Function


class Bilinear(Protocol):
    """A map y = B(x, w) + b that is linear in x and in w, by its three products.

    If gradients are enabled, a further derivative of ``product`` or ``by_weight`` is needed; they must then compute
    their result with operations that autograd can differentiate.
    """

    def shape(self, x: Tensor, weight: Tensor) -> tuple[int, ...]:
        """Return the shape of y."""

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return y."""

    def by_input(self, gradient: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        """Return the gradient with respect to x, of which only the shape is used; linear in the gradient and in w."""

    def by_weight(
        self, gradient: Tensor, x: Tensor, weight: Tensor, *, bias: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients with respect to w, of which only the shape is used, and b, if wanted."""


def bilinear(operation: Bilinear, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return B(x, w) + b.

    Args:
        operation: The map B.
        x: Features.
        weight: Weight w.
        bias: Bias b, or None.
    """
    shape = operation.shape(x, weight)
    path: Tensor = _WeightPath.apply(weight, bias, (x,), operation, shape, False)  # type: ignore[no-untyped-call]
    y: Tensor = _Product.apply(x, path, (weight, bias), operation)  # type: ignore[no-untyped-call]
    return y


class _Product(Function):
    """The product, as a function of x. Autograd does not see tensors inside tuples."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, path: Tensor, hidden: tuple[Tensor, Tensor | None], operation: Bilinear) -> Tensor:
        weight, bias = hidden
        ctx.save_for_backward(x, weight)
        ctx.operation = operation
        return operation.product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        by_x: Tensor | None = None
        if ctx.needs_input_grad[0]:
            by_x = _by_input(ctx.operation, gradient, weight, x)
        return by_x, gradient, None, None


def _by_input(operation: Bilinear, gradient: Tensor, weight: Tensor, x: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return operation.by_input(gradient, weight, x)
    path: Tensor = _WeightPath.apply(weight, None, (gradient,), operation, x.shape, True)  # type: ignore[no-untyped-call]
    by_x: Tensor = _InputGradient.apply(gradient, path, (weight, x), operation)  # type: ignore[no-untyped-call]
    return by_x


class _InputGradient(Function):
    """The gradient of the product with respect to x, as a function of the incoming gradient."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, path: Tensor, hidden: tuple[Tensor, Tensor], operation: Bilinear) -> Tensor:
        weight, x = hidden
        ctx.save_for_backward(weight)
        ctx.operation = operation
        return operation.by_input(gradient, weight, x)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return ctx.operation.product(v, weight, None), v, None, None


class _WeightPath(Function):
    """A placeholder with the shape of the product, or of its gradient by x, that passes its gradient to the weight."""

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        bias: Tensor | None,
        hidden: tuple[Tensor],
        operation: Bilinear,
        shape: tuple[int, ...],
        of_gradient: bool,
    ) -> Tensor:
        (factor,) = hidden
        ctx.save_for_backward(factor, weight)
        ctx.operation, ctx.of_gradient = operation, of_gradient
        return factor.new_empty(()).expand(shape)

    @staticmethod
    def backward(ctx: Any, other: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        factor, weight = ctx.saved_tensors
        gradient, x = (factor, other) if ctx.of_gradient else (other, factor)
        by_weight, by_bias = ctx.operation.by_weight(gradient, x, weight, bias=ctx.needs_input_grad[1])
        return by_weight, by_bias, None, None, None, None
