"""Independent work at once: on a CUDA device each on a stream of its own, elsewhere one after another."""

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
    """Return the one stream of a device that is for a purpose; each takes memory for good."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def run_concurrently(
    device: torch.device, first: Callable[[], First], second: Callable[[], Second]
) -> tuple[First, Second]:
    """Do two works that do not need each other, and return their results.

    Small kernels leave most of a CUDA device idle; there, the second work goes to a stream of its own. Autograd runs
    each backward on the stream of its forward, so theirs are at once too.

    What both use must be held until the derivatives are there: memory that is freed goes to whoever asks next on the
    stream that it was taken on.

    Args:
        device: that they work on.
        first: launched first.
        second: launched second.
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
    """Do so on the device of a tensor."""
    return run_concurrently(tensor.device, first, second)
