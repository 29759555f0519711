"""What is made of weights within one update: made once.

A critic's update uses a weight three times: for the scores, for the slope that the gradient penalty asks for, and, at
the second derivative, for the slope's own. Within `weight_cache` what an operation makes of its weights is kept, so
that it is computed, and differentiated, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")
# Key: what is made, whether it has a graph, the tensors' ids. Value: the tensors, which must live on, and the result.
_Entries = dict[tuple[object, ...], tuple[Sequence[Tensor], Any]]

_entries: ContextVar[_Entries | None] = ContextVar("entries", default=None)


@contextmanager
def weight_cache() -> Iterator[None]:
    """Keep what operations make of weights, which must not change meanwhile."""
    before = _entries.set({})
    try:
        yield
    finally:
        _entries.reset(before)


@contextmanager
def separate_cache() -> Iterator[None]:
    """Find what has been kept so far, and keep what is made from now on for this part of the work only."""
    there = _entries.get()
    before = _entries.set(None if there is None else dict(there))
    try:
        yield
    finally:
        _entries.reset(before)


def is_active() -> bool:
    """Tell whether what is made of weights is kept; in what is compiled, nothing is."""
    return not torch.compiler.is_compiling() and _entries.get() is not None


def cached(name: str, tensors: Sequence[Tensor], make: Callable[[], Made]) -> Made:
    """Return what is made of tensors; within `weight_cache` it is made once.

    Args:
        name: What it is; with the tensors it determines what comes out.
        tensors: What it is made of.
        make: Makes it.
    """
    entries = _entries.get() if is_active() else None
    if entries is None:
        return make()
    key = _key(name, tensors)
    if key not in entries:
        entries[key] = tensors, make()
    made: Made = entries[key][1]
    return made


def find(name: str, tensor: Tensor) -> Any:
    """Return what has been made of a tensor and kept; None where nothing is."""
    entries = _entries.get() if is_active() else None
    return entries[key][1] if entries and (key := _key(name, [tensor])) in entries else None


def keep(name: str, tensor: Tensor, made: object) -> None:
    """Keep what was made of a tensor elsewhere; only where the cache `is_active`."""
    entries = _entries.get()
    assert entries is not None
    entries[_key(name, [tensor])] = [tensor], made


def _key(name: str, tensors: Sequence[Tensor]) -> tuple[object, ...]:
    # What has no graph is no use where one is built.
    return name, torch.is_grad_enabled(), *map(id, tensors)
