"""Memory shared by the processes of one machine, through which they average values without sending them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

_BLOCK = 1 << 16  # values, of which a processor's cache holds several processes'


class SharedMemory:
    """A block of shared memory, with a number of values for each process, and their means.

    It has no file, so nothing is left behind, however the processes end.

    Attributes:
        parts: Values of each process, (room,).
        means: Means of the values, (room,).
    """

    def __init__(self, values: Tensor) -> None:
        *parts, means = values.unbind()
        self.parts: list[Tensor] = parts
        self.means: Tensor = means

    @classmethod
    def at(cls, address: Sequence[str], processes: int, room: int, dtype: torch.dtype) -> SharedMemory | None:
        """Open the block that a process has allocated; None if it is not accessible, as on another machine.

        Args:
            address: Address from `allocated`.
            processes: Number of processes.
            room: Number of values of each process.
            dtype: Data type of the values.
        """
        path, link = address
        size = (processes + 1) * room
        try:
            if str(Path(path).readlink()) != link:
                return None
            return cls(torch.from_file(path, shared=True, size=size, dtype=dtype).view(-1, room))
        except (OSError, RuntimeError):
            return None

    def average(self, values: int, share: int) -> None:
        """Compute the means of one share of the values; there are as many shares as processes.

        Args:
            values: Number of values that each process has written to its part.
            share: Index of the share, from 0.
        """
        shares = [tensor[:values].tensor_split(len(self.parts))[share] for tensor in (self.means, *self.parts)]
        for mean, first, *others in zip(*(torch.split(tensor, _BLOCK) for tensor in shares), strict=True):
            mean.copy_(first)
            for other in others:
                mean.add_(other)
            mean.div_(len(self.parts))


@contextmanager
def allocated(size: int) -> Iterator[list[str] | None]:
    """Allocate memory that other processes can open while the context lasts; those that have opened it keep it.

    Args:
        size: Number of bytes.

    Yields:
        Its address, which JSON can hold; None if the system cannot share memory.
    """
    name = f"progan-{os.urandom(16).hex()}"  # identifies this machine's memory to the other processes
    file = _allocate(name, size)
    try:
        yield None if file is None else [f"/proc/{os.getpid()}/fd/{file}", f"/memfd:{name} (deleted)"]
    finally:
        if file is not None:
            os.close(file)


def _allocate(name: str, size: int) -> int | None:
    if sys.platform != "linux":
        return None
    try:
        file = os.memfd_create(name)
    except (AttributeError, OSError):  # not in a Python built for older systems
        return None
    try:
        os.posix_fallocate(file, 0, size)  # otherwise a write could kill the process when memory runs out
    except OSError:
        os.close(file)
        return None
    return file
