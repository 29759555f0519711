"""What layers make of their weights within one update: made once, and the gradient taken once.

A critic's update uses a weight three times: for the scores, for the slope that the gradient penalty asks for, and, at
the second derivative, for the slope's own. Each would bring a gradient as large as the weight, to be written, read
again and added; for a dense layer that takes longer than the products do. So the factors are gathered, and multiplied
at once when all of them are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import Function

Made = TypeVar("Made")
Factors = list[tuple[Tensor, Tensor]]

_kept: ContextVar[dict[tuple[object, ...], Any] | None] = ContextVar("kept", default=None)


@contextmanager
def weights_kept() -> Iterator[None]:
    """Let layers keep what they make of their weights, which must not change meanwhile."""
    before = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(before)


def are_kept() -> bool:
    """Tell whether layers keep what they make of their weights."""
    return _kept.get() is not None


def kept(owner: object, name: str, make: Callable[[], Made]) -> Made:
    """Return what a layer makes of its weights; within `weights_kept` it is made once.

    Args:
        owner: the layer.
        name: of what is made.
        make: makes it.
    """
    there = _kept.get()
    if there is None:
        return make()
    key = owner, name, torch.is_grad_enabled()
    if key not in there:
        there[key] = make()
    made: Made = there[key]
    return made


class Gathered:
    """A weight whose gradient is gathered: factors first, and one product when autograd has been wherever it is used.

    Args:
        weight: (K, I).

    Attributes:
        weight: the same values; what comes of it must come by `multiply`.
    """

    def __init__(self, weight: Tensor) -> None:
        self.factors: Factors = []
        self.weight: Tensor = _Gather.apply(weight, self.factors)  # type: ignore[no-untyped-call]


class _Gather(Function):
    """The weight itself; its gradient is that of all `multiply` that used it, which autograd waits for."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, factors: Factors) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.factors = factors
        return weight.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, None]:
        if ctx.factors:
            gradients, inputs = (torch.cat(each) for each in zip(*ctx.factors, strict=True))
            ctx.factors.clear()
            product = gradients.t() @ inputs
            gradient = product if gradient is None else gradient + product
        return gradient, None


def multiply(x: Tensor, gathered: Gathered) -> Tensor:
    """Return x W': (N, I) -> (N, K). Differentiable any number of times.

    Args:
        x: (N, I).
        gathered: W, (K, I).
    """
    path: Tensor = _WeightPath.apply(gathered.weight, (x,), gathered.factors)  # type: ignore[no-untyped-call]
    y: Tensor = _Multiply.apply(x, path, gathered)  # type: ignore[no-untyped-call]
    return y


class _Multiply(Function):
    """The product, as a function of x; the gradient that comes to it goes on to the weight by a path of its own.

    As in convolution.py: autograd runs a function whole, and of two functions the one that is needed. So factors are
    gathered only where the gradient by the weight is asked for.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, path: Tensor, gathered: Gathered) -> Tensor:
        ctx.save_for_backward(gathered.weight)
        ctx.gathered = gathered
        return x @ gathered.weight.t()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (weight,) = ctx.saved_tensors
        by_x: Tensor | None = None
        if ctx.needs_input_grad[0]:
            path = _SlopePath.apply(weight, (gradient,), ctx.gathered.factors)  # type: ignore[no-untyped-call]
            by_x = _Slope.apply(gradient, path, (weight,))  # type: ignore[no-untyped-call]
        return by_x, gradient, None


class _WeightPath(Function):
    """Nothing, of the product's shape, whose gradient is that of the weight."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, hidden: tuple[Tensor], factors: Factors) -> Tensor:
        (x,) = hidden
        ctx.save_for_backward(x)
        ctx.factors = factors
        return x.new_empty(()).expand(len(x), len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        (x,) = ctx.saved_tensors
        return _gradient(gradient, x, ctx.factors), None, None


class _Slope(Function):
    """The gradient of the product by x, as a function of the gradient that came to it."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, path: Tensor, hidden: tuple[Tensor]) -> Tensor:
        (weight,) = hidden
        ctx.save_for_backward(weight)
        return gradient @ weight

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor, None]:
        (weight,) = ctx.saved_tensors
        return v @ weight.t(), v, None


class _SlopePath(Function):
    """Nothing, of the slope's shape, whose gradient is that of the weight."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, hidden: tuple[Tensor], factors: Factors) -> Tensor:
        (gradient,) = hidden
        ctx.save_for_backward(gradient)
        ctx.factors = factors
        return gradient.new_empty(()).expand(len(gradient), weight.shape[1])

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, None, None]:
        (gradient,) = ctx.saved_tensors
        return _gradient(gradient, v, ctx.factors), None, None


def _gradient(gradient: Tensor, x: Tensor, factors: Factors) -> Tensor | None:
    """Return the gradient by the weight, or leave its factors to be multiplied with all others'."""
    if torch.is_grad_enabled():  # a derivative of it is asked for
        return gradient.t() @ x
    factors.append((gradient, x))
    return None
