"""Several processes that train one run together: what torch.distributed is needed for, in one place.

Each process, a *rank*, takes its part of every batch, and its gradients are averaged with the others': on the CPUs of
one machine in memory that they share, else in one flat all-reduce. One process alone is rank 0 of 1, for which nothing
here does anything.
"""

from __future__ import annotations

import atexit
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from progan.shared_memory import SharedMemory, offered

Result = TypeVar("Result")

# A process that dies closes its connections, which the others notice at once. This is for a machine that vanishes
# without a word, and bounds how long rank 0 may take over a checkpoint.
TIMEOUT = timedelta(minutes=10)
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class RankError(RuntimeError):
    """Say that the ranks cannot go on together: one has died or left, failed at its part, or holds other weights."""


class Ranks:
    """The processes that train together, as one of them sees them.

    Attributes:
        rank: of this process, 0 for the one that writes.
        size: the number of processes.
    """

    def __init__(self) -> None:
        self.rank = 0
        self.size = 1
        self._group: Any = None  # on the device: gradients
        self._side: Any = None  # on the CPU: all else, so that nothing waits for a CUDA device
        self._shared: SharedMemory | None = None
        self._may_share = False

    @classmethod
    def join(cls, device: torch.device) -> Ranks:
        """Join those that torchrun has started with this process; it alone where there are none.

        A process group that the program has made is used; else one is made, from torchrun's environment.

        Args:
            device: that this rank trains on.

        Raises:
            ValueError: if several ranks are to train on a device that they cannot.
            RankError: if the others do not come.
        """
        ranks = cls()
        if world_size() == 1:
            return ranks
        if device.type not in ("cpu", "cuda"):
            raise ValueError(f"several processes train on cpu or cuda, got device {device}; start one process")
        backend = "nccl" if device.type == "cuda" else "gloo"
        with _ended_by_the_others():
            if not dist.is_initialized():
                _start(backend)
            ranks._side = dist.new_group(backend="gloo", timeout=TIMEOUT)
            ranks._group = ranks._side if backend == "gloo" else dist.new_group(backend=backend, timeout=TIMEOUT)
        ranks.rank, ranks.size = dist.get_rank(), dist.get_world_size()
        ranks._may_share = device.type == "cpu"
        return ranks

    def part(self, whole: Tensor, dim: int = 0) -> Tensor:
        """Return this rank's part of a batch: every size-th of it, from its own number on."""
        return whole if self.size == 1 else whole[(slice(None),) * dim + (slice(self.rank, None, self.size),)]

    def average(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the means over all ranks.

        Of several, those that are not 0-d are there until the next call only, which may use their memory again.

        Args:
            tensors: of one dtype, on the device; of the same shapes on every rank.
        """
        if self.size == 1:
            return list(tensors)
        flat = [tensor.reshape(-1) for tensor in tensors]
        sizes = [len(values) for values in flat]
        shared = self._shared_for(sum(sizes), tensors[0].dtype)
        means = self._reduced(flat) if shared is None else self._averaged_in(shared, flat, sum(sizes))
        parts = [mean.view(tensor.shape) for mean, tensor in zip(torch.split(means, sizes), tensors, strict=True)]
        return [part if part.ndim else part.clone() for part in parts]

    def _reduced(self, flat: Sequence[Tensor]) -> Tensor:
        """Return the means by one all-reduce, (values,)."""
        sums = torch.cat(list(flat))
        with _ended_by_the_others():
            dist.all_reduce(sums, group=self._group)
        return sums / self.size

    def _averaged_in(self, shared: SharedMemory, flat: Sequence[Tensor], values: int) -> Tensor:
        """Return the means, (values,), of which each rank makes a share when all have written what they have."""
        torch.cat(list(flat), out=shared.parts[self.rank][:values])
        self._check_number(values)
        shared.average(values, self.rank)
        self.highest(0)  # all shares are there
        return shared.means[:values]

    def _shared_for(self, values: int, dtype: torch.dtype) -> SharedMemory | None:
        """Return shared memory with room for so many values of each rank; None where the ranks share none."""
        if not self._may_share:
            return None
        if self._shared is None or len(self._shared.means) < values:
            self._check_number(values)  # a rank with fewer, for which there is room, does so when it has written them
            self._shared = None
            size = values * (self.size + 1) * dtype.itemsize
            with offered(size) if self.rank == 0 else nullcontext() as mine:
                address = self.told(mine)
                shared = None if address is None else SharedMemory.at(address, self.size, values, dtype)
                self._may_share = not self.highest(int(shared is None))
            self._shared = shared if self._may_share else None
        return self._shared

    def _check_number(self, values: int) -> None:
        """Wait for the others, and raise RankError where another rank has more values to average."""
        if (highest := self.highest(values)) != values:
            raise RankError(
                f"rank {self.rank} has {values:,} values to average, another rank has {highest:,}; every rank must "
                "train the same parameters"
            )

    def highest(self, number: int) -> int:
        """Return the highest of the ranks' numbers, on all of them."""
        if self.size == 1:
            return number
        highest = torch.tensor(number)
        with _ended_by_the_others():
            dist.all_reduce(highest, dist.ReduceOp.MAX, group=self._side)
        return int(highest)

    def told(self, value: Any) -> Any:
        """Return rank 0's value, JSON-able, on every rank."""
        if self.size == 1:
            return value
        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        length = torch.tensor(len(text))
        with _ended_by_the_others():
            dist.broadcast(length, 0, group=self._side)
            if self.rank != 0:
                text = torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(text, 0, group=self._side)
        return json.loads(text.numpy().tobytes())

    def take(self, tensors: Sequence[Tensor]) -> None:
        """Fill every rank's tensors with rank 0's."""
        if self.size == 1:
            return
        for tensor in tensors:
            copy = tensor.detach().cpu().contiguous()
            with _ended_by_the_others():
                dist.broadcast(copy, 0, group=self._side)
            with torch.no_grad():
                tensor.copy_(copy)

    def first(self, work: Callable[[], Result]) -> Result:
        """Let rank 0 work, and tell all ranks what came of it, JSON-able; its error is raised on all of them.

        Raises:
            RankError: on the other ranks, where rank 0 failed.
        """
        if self.size == 1:
            return work()
        result, failure, reason = None, None, None
        if self.rank == 0:
            try:
                result = work()
            except Exception as error:
                failure, reason = error, f"{type(error).__name__}: {error}"
        told: tuple[Result, str | None] = self.told([result, reason])
        if failure is not None:
            raise failure
        if told[1] is not None:
            raise RankError(f"rank 0 failed, and rank {self.rank} ends with it: {told[1]}")
        return told[0]

    def check_same(self, what: str, value: Any) -> None:
        """Raise ValueError, on every rank, where they were not given the same.

        Args:
            what: in words, for the message.
            value: JSON-able.
        """
        theirs = self.told(value)
        if self.highest(int(theirs != json.loads(json.dumps(value)))):
            raise ValueError(
                f"the ranks were not given the same {what}: rank 0 has {theirs}, rank {self.rank} has {value}; start "
                "every rank with the same program, settings and data"
            )

    def check_equal(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise RankError, on every rank, where they do not hold the same bits.

        Args:
            tensors: by name; on the device.
        """
        if self.size == 1:
            return
        sums = torch.stack([_sum_of_bits(tensor) for tensor in tensors.values()]).cpu()
        highest, lowest = sums.clone(), sums.clone()
        with _ended_by_the_others():
            dist.all_reduce(highest, dist.ReduceOp.MAX, group=self._side)
            dist.all_reduce(lowest, dist.ReduceOp.MIN, group=self._side)
        differing = [name for name, differs in zip(tensors, highest != lowest, strict=True) if differs]
        if differing:
            raise RankError(
                f"the ranks no longer hold the same weights: {len(differing)} tensors differ, such as {differing[0]}; "
                "nothing was saved. Ranks must not change the networks each in its own way; start anew, which goes on "
                "from the last checkpoint"
            )

    @contextmanager
    def together(self) -> Iterator[None]:
        """End the others where this rank ends by an error: they would wait for it."""
        try:
            yield
        except BaseException:
            if self.size > 1:
                _leave(self._side)
            raise


def world_size() -> int:
    """Return the number of processes that torchrun started, or that the program's process group has."""
    if not dist.is_available():
        return 1
    if dist.is_initialized():
        return dist.get_world_size()
    return int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys() else 1


def local_rank() -> int:
    """Return the number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def _start(backend: str) -> None:
    """Make the process group of the ranks that torchrun has started."""
    from torch.distributed.distributed_c10d import PrefixStore  # not there in a torch built without it
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
    store = PrefixStore(_word_of_this_start(store, rank, size), store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    atexit.register(_leave)


def _word_of_this_start(store: Any, rank: int, size: int) -> str:
    """Agree on a word that no earlier start of the ranks has used.

    torchrun keeps one store over all its restarts, where the addresses of ranks that have died can still be read
    (pytorch's issue 135712); the number of restarts that it tells is not the same on all machines. So rank 0 makes up a
    word, and tells it to each rank that asks under a word of its own.
    """
    word = os.urandom(8).hex()
    if rank != 0:
        store.set(f"progan: {rank} asks as", word)
        answer: str = store.get(f"progan: answer to {word}").decode()
        store.set(f"progan: {rank} has heard {answer}", "")
        return answer
    missing = set(range(1, size))
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    while missing:
        for other in sorted(missing):
            if store.check([f"progan: {other} has heard {word}"]):
                missing.remove(other)
            elif store.check([f"progan: {other} asks as"]):  # perhaps one that has died: then asked anew
                store.set(f"progan: answer to {store.get(f'progan: {other} asks as').decode()}", word)
        if time.monotonic() > deadline:
            raise RuntimeError(f"ranks {sorted(missing)} did not come within {TIMEOUT}")
        time.sleep(0.01)
    return word


def _sum_of_bits(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor's values as whole numbers: what is equal to the bit is equal here."""
    return tensor.detach().contiguous().view(_BITS[tensor.element_size()]).sum(dtype=torch.int64)


@contextmanager
def _ended_by_the_others() -> Iterator[None]:
    """Say in progan's words that another rank is gone."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise RankError(
            "another rank has died, left or does not answer; start all of them anew, which goes on from the last "
            f"checkpoint ({str(error).splitlines()[0]})"
        ) from error


def _leave(group: Any = None) -> None:
    """Close the connections of a group; None = of all."""
    if dist.is_initialized():
        dist.destroy_process_group(group)
