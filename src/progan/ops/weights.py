"""What layers make of their weights within one update: made once, and the gradient taken once.

A critic's update uses a weight three times: for the scores, for the slope that the gradient penalty asks for, and, at
the second derivative, for the slope's own. Each would bring a gradient as large as the weight, to be written, read
again and added; for a dense layer that takes longer than the products do. So the factors are gathered, and multiplied
at once when all of them are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import Function

Made = TypeVar("Made")
Factors = list[tuple[Tensor, Tensor]]
# Numbers in one of three matrices, from which on oneDNN multiplies sooner than MKL: see benchmarks/NOTES.md.
_LARGE_MATRIX = 1 << 20

_kept: ContextVar[dict[tuple[object, ...], Any] | None] = ContextVar("kept", default=None)


@contextmanager
def weight_cache() -> Iterator[None]:
    """Let layers keep what they make of their weights, which must not change meanwhile."""
    before = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(before)


@contextmanager
def kept_apart() -> Iterator[None]:
    """Find what has been kept so far, and keep what is made from now on for this part of the work only."""
    there = _kept.get()
    before = _kept.set(None if there is None else dict(there))
    try:
        yield
    finally:
        _kept.reset(before)


def _there() -> dict[tuple[object, ...], Any] | None:
    """Return what has been kept; None where nothing is, as in what is compiled."""
    return None if torch.compiler.is_compiling() else _kept.get()


def are_kept() -> bool:
    """Tell whether layers keep what they make of their weights."""
    return _there() is not None


def kept(owner: object, name: str, make: Callable[[], Made]) -> Made:
    """Return what a layer makes of its weights; within `weight_cache` it is made once.

    Args:
        owner: the layer.
        name: of what is made.
        make: makes it.
    """
    there = _there()
    if there is None:
        return make()
    key = owner, name, torch.is_grad_enabled()
    if key not in there:
        there[key] = make()
    made: Made = there[key]
    return made


def keep_all(names: Sequence[tuple[object, str]], tensors: Sequence[Tensor], constants: Sequence[float]) -> None:
    """Keep the products of tensors and constants, as `kept` would one by one, but all made at once.

    For autograd one function takes all of them, on the stream that is current now; where they are used is all the same.

    Args:
        names: of each: its owner, and what it is called.
        tensors: one for each name.
        constants: one for each name; by 1 nothing is multiplied.
    """
    there = _kept.get()
    if there is not None and tensors:
        made: tuple[Tensor, ...] = _TakeAll.apply(tuple(constants), *tensors)  # type: ignore[no-untyped-call]
        there |= {(*name, torch.is_grad_enabled()): each for name, each in zip(names, made, strict=True)}


class _TakeAll(Function):
    """Multiply each tensor by a number of its own; its adjoint is itself."""

    @staticmethod
    def forward(ctx: Any, constants: tuple[float, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.constants = constants
        made = [tensor.detach() for tensor in tensors]
        scaled = [number for number, constant in enumerate(constants) if constant != 1.0]
        if scaled:  # torch multiplies no empty list
            products = torch._foreach_mul([made[number] for number in scaled], [constants[number] for number in scaled])
            for number, product in zip(scaled, products, strict=True):
                made[number] = product
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        there = [(number, gradient) for number, gradient in enumerate(gradients) if gradient is not None]
        found: list[Tensor | None] = [None] * len(gradients)
        if there:
            scaled = _TakeAll.apply(tuple(ctx.constants[number] for number, _ in there), *(each for _, each in there))  # type: ignore[no-untyped-call]
            for (number, _), each in zip(there, scaled, strict=True):
                found[number] = each
        return None, *found


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """Return x W' by whatever computes it soonest: (N, I) -> (N, K).

    Args:
        x: (N, I).
        weight: W, (K, I).
    """
    numbers = max(x.numel(), weight.numel(), len(x) * len(weight)) if x.numel() else 0  # a sum of nothing it refuses
    plain = x.dtype != torch.float32 or x.device.type != "cpu" or numbers < _LARGE_MATRIX
    if plain or torch.is_grad_enabled() or not _has_onednn():  # autograd knows nothing of oneDNN's
        return x @ weight.t()
    multiplied: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return multiplied


@cache
def _has_onednn() -> bool:
    """Tell whether torch has oneDNN's product of matrices for a CPU of the kind that it was measured on."""
    x86 = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return x86 and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class DeferredWeightGrad:
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
            by_factors = _product(gradients.t(), inputs.t())
            gradient = by_factors if gradient is None else gradient + by_factors
        return gradient, None


def multiply(x: Tensor, gathered: DeferredWeightGrad) -> Tensor:
    """Return x W': (N, I) -> (N, K). Differentiable any number of times.

    Args:
        x: (N, I).
        gathered: W, (K, I).
    """
    path: Tensor = _Path.apply(gathered.weight, (x,), gathered.factors, False)  # type: ignore[no-untyped-call]
    y: Tensor = _Multiply.apply(x, path, gathered)  # type: ignore[no-untyped-call]
    return y


class _Multiply(Function):
    """The product, as a function of x; the gradient that comes to it goes on to the weight by a path of its own.

    As in convolution.py: autograd runs a function whole, and of two functions the one that is needed. So factors are
    gathered only where the gradient by the weight is asked for.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, path: Tensor, gathered: DeferredWeightGrad) -> Tensor:
        ctx.save_for_backward(gathered.weight)
        ctx.gathered = gathered
        return _product(x, gathered.weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (weight,) = ctx.saved_tensors
        by_x: Tensor | None = None
        if ctx.needs_input_grad[0]:
            path = _Path.apply(weight, (gradient,), ctx.gathered.factors, True)  # type: ignore[no-untyped-call]
            by_x = _Slope.apply(gradient, path, (weight,))  # type: ignore[no-untyped-call]
        return by_x, gradient, None


class _Path(Function):
    """Nothing, of the shape of a product or of its slope, whose gradient is that of the weight."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, hidden: tuple[Tensor], factors: Factors, of_slope: bool) -> Tensor:
        (factor,) = hidden
        ctx.save_for_backward(factor)
        ctx.factors, ctx.of_slope = factors, of_slope
        return factor.new_empty(()).expand(len(factor), weight.shape[1 if of_slope else 0])

    @staticmethod
    def backward(ctx: Any, other: Tensor) -> tuple[Tensor | None, None, None, None]:
        (factor,) = ctx.saved_tensors
        gradient, x = (factor, other) if ctx.of_slope else (other, factor)
        if torch.is_grad_enabled():  # a derivative of it is asked for
            return gradient.t() @ x, None, None, None
        ctx.factors.append((gradient, x))
        return None, None, None, None


class _Slope(Function):
    """The gradient of the product by x, as a function of the gradient that came to it."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, path: Tensor, hidden: tuple[Tensor]) -> Tensor:
        (weight,) = hidden
        ctx.save_for_backward(weight)
        return _product(gradient, weight.t())

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor, None]:
        (weight,) = ctx.saved_tensors
        return _product(v, weight), v, None
