"""Concurrent work: on a CUDA device on separate streams, elsewhere one after another."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

from progan.ops.weight_cache import separate_cache

First = TypeVar("First")
Second = TypeVar("Second")


@cache
def stream_for(device: torch.device, purpose: str) -> torch.cuda.Stream:
    """Return the stream of a device for a purpose; each one is kept, since its memory is never freed."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def run_concurrently(
    device: torch.device, first: Callable[[], First], second: Callable[[], Second]
) -> tuple[First, Second]:
    """Call two independent functions, concurrently on a CUDA device, and return their results.

    Small kernels leave most of a CUDA device idle, so the second function runs on a stream of its own. Autograd runs
    each backward on the stream of its forward, so these are concurrent too.

    Tensors that both use must be kept until the derivatives are computed: freed memory is reused on the stream that it
    was allocated on.

    Args:
        device: Device of the work.
        first: Function to launch first.
        second: Function to launch second.
    """
    if device.type != "cuda":
        return first(), second()
    here, beside = torch.cuda.current_stream(device), stream_for(device, "beside")
    beside.wait_stream(here)
    with separate_cache():
        of_first = first()
    with separate_cache(), torch.cuda.stream(beside):
        of_second = second()
    here.wait_stream(beside)
    return of_first, of_second


def run_concurrently_beside(
    tensor: Tensor, first: Callable[[], First], second: Callable[[], Second]
) -> tuple[First, Second]:
    """Call `run_concurrently` on the device of a tensor."""
    return run_concurrently(tensor.device, first, second)
