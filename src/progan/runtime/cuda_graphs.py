"""CUDA graphs: work captured once and replayed, and values that reach it at fixed addresses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from progan.runtime.streams import stream_for

_READ_AT_ONCE = 256  # bytes; as torch places tensors


class Sent(Protocol):
    """A mark after a copy to a device, such as `torch.cuda.Event`."""

    def synchronize(self) -> None:
        """Wait until the copy is complete."""
        ...


class Ring:
    """Host buffers, used in turn, through which values are copied to fixed addresses on a device, all in one copy.

    On CUDA the buffers are pinned, so a copy does not block, and the host can prepare the values of later steps while
    the device works. A buffer is filled again once its last copy is complete.

    Args:
        kinds: Shape and dtype of each value.
        device: Device to copy to.
        slots: Number of buffers, which is the number of steps that the host can be ahead.
        mark: Function that returns a mark after a copy, to wait for; None = an event on CUDA, nothing elsewhere.

    Attributes:
        targets: Values on the device, at fixed addresses.
    """

    def __init__(
        self,
        kinds: Sequence[tuple[Sequence[int], torch.dtype]],
        device: torch.device,
        *,
        slots: int = 3,
        mark: Callable[[], Sent] | None = None,
    ) -> None:
        pinned = device.type == "cuda"
        size = sum(_room(shape, dtype) for shape, dtype in kinds)
        self._there = torch.zeros(size, dtype=torch.uint8, device=device)
        self.targets: list[Tensor] = _parts(self._there, kinds)
        self._slots = [torch.zeros(size, dtype=torch.uint8, pin_memory=pinned) for _ in range(slots)]
        self._values = [_parts(slot, kinds) for slot in self._slots]
        self._sent: list[Sent | None] = [None] * slots
        self._mark = mark or ((lambda: _event(device)) if pinned else None)
        self._next = 0

    def send(self, values: Sequence[Tensor]) -> None:
        """Copy values, on the CPU and of the targets' shapes, into the targets."""
        number, self._next = self._next, (self._next + 1) % len(self._slots)
        sent = self._sent[number]
        if sent is not None:
            sent.synchronize()
        for here, value in zip(self._values[number], values, strict=True):
            _copy(value, here)
        self._there.copy_(self._slots[number], non_blocking=True)
        if self._mark is not None:
            self._sent[number] = self._mark()


class Graphs(Protocol):
    """A way to capture work on a device: `CudaGraphs`, or a replacement in a test."""

    def beside(self) -> AbstractContextManager[None]:
        """Run on a stream of its own, as captured work does; the streams wait for each other before and after."""
        ...

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the kernels that some work launches, without running them, and return a function that runs them."""
        ...

    def wait(self) -> None:
        """Wait for everything that was launched."""
        ...


class CudaGraphs:
    """Captures work on a CUDA device.

    Args:
        device: Device of the work.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = stream_for(device, "capture")

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Run on the stream that captures."""
        outside = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            yield
        outside.wait_stream(self._stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the kernels that some work launches, without running them, and return a function that runs them."""
        with torch.cuda.device(self._device):
            outside = torch.cuda.current_stream()
            graph = torch.cuda.CUDAGraph()
            try:
                # Of this thread only: others may take pinned memory meanwhile, such as those that fetch images.
                with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                    work()
            finally:
                torch.cuda.set_stream(outside)  # a capture that fails leaves its own behind
        return graph.replay

    def wait(self) -> None:
        """Wait for everything that was launched."""
        torch.cuda.synchronize(self._device)


def _room(shape: Sequence[int], dtype: torch.dtype) -> int:
    """Return the bytes that a value takes in a buffer: a multiple of what kernels read at once."""
    return -(-math.prod(shape) * dtype.itemsize // _READ_AT_ONCE) * _READ_AT_ONCE


def _parts(buffer: Tensor, kinds: Sequence[tuple[Sequence[int], torch.dtype]]) -> list[Tensor]:
    """Return views of the values in a buffer of bytes, one after another."""
    parts, begin = [], 0
    for shape, dtype in kinds:
        end = begin + math.prod(shape) * dtype.itemsize
        parts.append(buffer[begin:end].view(dtype).view(shape))
        begin += _room(shape, dtype)
    return parts


def _copy(value: Tensor, here: Tensor) -> None:
    """Copy a value on the CPU, in this thread alone.

    From 32,768 numbers on, torch uses other threads too. While they generate random numbers, a copy took longer than a
    whole step at 4x4 on a GPU.
    """
    if here.dtype == torch.bfloat16:  # which numpy does not know
        here.copy_(value)
    else:
        np.copyto(here.numpy(), value.numpy(), casting="same_kind")


def _event(device: torch.device) -> torch.cuda.Event:
    """Return an event after everything launched so far."""
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event
