"""A cache for what operations compute from weights within one update.

A critic's update uses a weight three times: for the scores, for the gradient in the gradient penalty, and for the
derivative of that gradient. Within `weight_cache` an operation computes, for instance, a scaled weight once, and
autograd differentiates it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")
# Key: name, whether there is a graph, ids of the tensors. Value: the tensors, kept alive so that no other has their id.
_Entries = dict[tuple[object, ...], tuple[Sequence[Tensor], Any]]

_entries: ContextVar[_Entries | None] = ContextVar("entries", default=None)


@contextmanager
def weight_cache() -> Iterator[None]:
    """Cache what operations compute from weights, which must not change within this context."""
    before = _entries.set({})
    try:
        yield
    finally:
        _entries.reset(before)


@contextmanager
def separate_cache() -> Iterator[None]:
    """Use what is in the cache so far, and forget what is added within this context at its end."""
    there = _entries.get()
    before = _entries.set(None if there is None else dict(there))
    try:
        yield
    finally:
        _entries.reset(before)


def is_active() -> bool:
    """Return whether there is a cache; compiled code has none."""
    return not torch.compiler.is_compiling() and _entries.get() is not None


def cached(name: str, tensors: Sequence[Tensor], make: Callable[[], Result]) -> Result:
    """Return what is computed from tensors; within `weight_cache` it is computed once.

    Args:
        name: Name of the result, which together with the tensors determines it.
        tensors: Tensors that it is computed from.
        make: Computes it.
    """
    entries = _entries.get() if is_active() else None
    if entries is None:
        return make()
    key = _key(name, tensors)
    if key not in entries:
        entries[key] = tensors, make()
    result: Result = entries[key][1]
    return result


def find(name: str, tensor: Tensor) -> Any:
    """Return what the cache has for a tensor, or None."""
    entries = _entries.get() if is_active() else None
    return entries[key][1] if entries and (key := _key(name, [tensor])) in entries else None


def add(name: str, tensor: Tensor, result: object) -> None:
    """Add what was computed from a tensor to the cache, which must be active."""
    entries = _entries.get()
    assert entries is not None
    entries[_key(name, [tensor])] = [tensor], result


def _key(name: str, tensors: Sequence[Tensor]) -> tuple[object, ...]:
    # A result without a graph cannot be used where autograd builds one.
    return name, torch.is_grad_enabled(), *map(id, tensors)
