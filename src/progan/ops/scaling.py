"""Weights times a constant, as equalised layers use them (Karras et al. 2018, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from progan.ops.weight_cache import add, cached, find, is_active


def scale(weight: Tensor, factor: float) -> Tensor:
    """Return weight * factor.

    Args:
        weight: Tensor of any shape.
        factor: A constant; a factor of 1 costs nothing.
    """
    if factor == 1.0:
        return taken(weight)
    return cached(_name(factor), [weight], lambda: weight * factor)


def taken(parameter: Tensor) -> Tensor:
    """Return a parameter, or what `scale_together` returned for it."""
    found: Tensor | None = find(_name(1.0), parameter)
    return parameter if found is None else found


def scale_together(weights: Sequence[Tensor], factors: Sequence[float]) -> None:
    """Within a weight cache, compute what `scale` returns for each of several weights in one operation.

    Autograd sees one function with all of them, on the stream that is current now, wherever they are used later.

    Args:
        weights: Tensors of any shapes.
        factors: A factor for each.
    """
    if is_active() and weights:
        scaled: tuple[Tensor, ...] = _ScaleTogether.apply(tuple(factors), *weights)  # type: ignore[no-untyped-call]
        for weight, factor, each in zip(weights, factors, scaled, strict=True):
            add(_name(factor), weight, each)


def _name(factor: float) -> str:
    return f"times {factor!r}"


class _ScaleTogether(Function):
    """Multiply each tensor by a number of its own; its adjoint is itself."""

    @staticmethod
    def forward(ctx: Any, factors: tuple[float, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.factors = factors
        made = [tensor.detach() for tensor in tensors]
        scaled = [number for number, factor in enumerate(factors) if factor != 1.0]
        if scaled:  # torch refuses an empty list
            products = torch._foreach_mul([made[number] for number in scaled], [factors[number] for number in scaled])
            for number, product in zip(scaled, products, strict=True):
                made[number] = product
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        there = [(number, gradient) for number, gradient in enumerate(gradients) if gradient is not None]
        found: list[Tensor | None] = [None] * len(gradients)
        if there:
            factors = tuple(ctx.factors[number] for number, _ in there)
            scaled = _ScaleTogether.apply(factors, *(each for _, each in there))  # type: ignore[no-untyped-call]
            for (number, _), each in zip(there, scaled, strict=True):
                found[number] = each
        return None, *found
