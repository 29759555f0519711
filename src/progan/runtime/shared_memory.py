"""Memory that processes of one machine share: what each writes there, the others read, and nothing is sent."""

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
    """Room for as many values of each of some processes, and for their means.

    It belongs to no file: nothing is left of it, however the processes end.

    Attributes:
        parts: (room,), of each process.
        means: (room,).
    """

    def __init__(self, values: Tensor) -> None:
        *parts, means = values.unbind()
        self.parts: list[Tensor] = parts
        self.means: Tensor = means

    @classmethod
    def at(cls, address: Sequence[str], processes: int, room: int, dtype: torch.dtype) -> SharedMemory | None:
        """Return what a process of this machine offers; None where there is no such, as on another machine.

        Args:
            address: that `offered` gave to that process.
            processes: their number.
            room: values of each.
            dtype: of the values.
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
        """Make the means of a share of the values, of as many shares as there are processes.

        Args:
            values: that each process has written to its part.
            share: from 0 on.
        """
        shares = [tensor[:values].tensor_split(len(self.parts))[share] for tensor in (self.means, *self.parts)]
        for mean, first, *others in zip(*(torch.split(tensor, _BLOCK) for tensor in shares), strict=True):
            mean.copy_(first)
            for other in others:
                mean.add_(other)
            mean.div_(len(self.parts))


@contextmanager
def offered(size: int) -> Iterator[list[str] | None]:
    """Offer memory of so many bytes to other processes, for as long as this lasts; those that took it keep it.

    Yields:
        Its address, JSON-able; None where the system has none to share.
    """
    name = f"progan-{os.urandom(16).hex()}"  # by which the others know that it is this machine's
    file = _reserved(name, size)
    try:
        yield None if file is None else [f"/proc/{os.getpid()}/fd/{file}", f"/memfd:{name} (deleted)"]
    finally:
        if file is not None:
            os.close(file)


def _reserved(name: str, size: int) -> int | None:
    if sys.platform != "linux":
        return None
    try:
        file = os.memfd_create(name)
    except (AttributeError, OSError):  # a Python made for older systems does not know it
        return None
    try:
        os.posix_fallocate(file, 0, size)  # else a system without memory would end the process that first writes there
    except OSError:
        os.close(file)
        return None
    return file
