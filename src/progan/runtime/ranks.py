"""Several processes that train one run together.

Each process, a *rank*, takes its part of every batch, and averages its gradients with the others: on the CPUs of one
machine in shared memory, otherwise in one flat all-reduce. A single process is rank 0 of 1, for which all of this does
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from progan.errors import RankError
from progan.runtime.connections import Connections, check_devices, connect, exchange, world_size
from progan.runtime.repetition import repeated
from progan.runtime.shared_memory import SharedMemory, allocated
from progan.storage.comparison import disagreements, named

Result = TypeVar("Result")

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

_SIGN_S = 60.0  # between two signs of rank 0 while it works alone; far below the time after which the others give up

# What a rank is about to do with the others; the ranks compare it before they do it, in `Ranks._synchronize`.
_OPERATIONS = (
    *("begin fit", "average gradients", "end a step", "receive from rank 0", "compare settings", "compare weights"),
    "work alone",  # the others wait on, for what they are about to do
)


class _Range(NamedTuple):
    """The highest and the lowest of the ranks' numbers, each with a rank that has it."""

    highest: int
    rank_of_highest: int
    lowest: int
    rank_of_lowest: int


class Ranks:
    """The processes that train together, from the viewpoint of one of them.

    Every method that communicates is called on all ranks, in the same order.

    Attributes:
        rank: Number of this process; rank 0 writes the files.
        size: Number of processes.
    """

    def __init__(self) -> None:
        self.rank = 0
        self.size = 1
        self._connections = Connections()
        self._shared: SharedMemory | None = None
        self._may_share = False

    @classmethod
    def join(cls, device: torch.device) -> Ranks:
        """Join the ranks that torchrun has started; without torchrun, this process trains alone.

        The program's process group is used if there is one; otherwise one is created from torchrun's environment.

        Args:
            device: Device that this rank trains on.

        Raises:
            ValueError: If several ranks cannot train on this device, or the ranks' devices are of different types.
            RankError: If another rank does not join.
        """
        ranks = cls()
        if world_size() == 1:
            return ranks
        if device.type not in ("cpu", "cuda"):
            raise ValueError(f"several processes train on cpu or cuda, got device {device}; start one process")
        ranks._connections = connect(device.type)
        ranks.rank, ranks.size = dist.get_rank(), dist.get_world_size()
        check_devices(ranks.all_gather(device.type))
        ranks._connections.open_device(device.type)
        ranks._may_share = device.type == "cpu"
        return ranks

    def part(self, whole: Tensor, dim: int = 0) -> Tensor:
        """Return this rank's part of a batch: every size-th item, beginning with its own number."""
        return part_of(whole, self.rank, self.size, dim)

    def average(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the means over all ranks.

        With several ranks, means that are not 0-d are valid only until the next call, which may reuse their memory.

        Args:
            tensors: Tensors of one dtype, on the device; of the same shapes on every rank.
        """
        if self.size == 1:
            return list(tensors)
        flat = [tensor.reshape(-1) for tensor in tensors]
        sizes = [len(values) for values in flat]
        shared = self._shared_for(sum(sizes), tensors[0].dtype)
        means = self._all_reduce(flat) if shared is None else self._average_in(shared, flat, sum(sizes))
        parts = [mean.view(tensor.shape) for mean, tensor in zip(torch.split(means, sizes), tensors, strict=True)]
        return [part if part.ndim else part.clone() for part in parts]

    def _all_reduce(self, flat: Sequence[Tensor]) -> Tensor:
        """Return the means, (values,), from one all-reduce."""
        sums = torch.cat(list(flat))
        if self._connections.on_cpu:  # a CUDA device does not wait
            self._check_count(len(sums))
        with exchange():
            dist.all_reduce(sums, group=self._connections.device)
        return sums / self.size

    def _average_in(self, shared: SharedMemory, flat: Sequence[Tensor], values: int) -> Tensor:
        """Return the means, (values,); each rank computes a share of them once all have written their values."""
        torch.cat(list(flat), out=shared.parts[self.rank][:values])
        self._check_count(values)
        shared.average(values, self.rank)
        self._synchronize("average gradients")  # all shares are computed
        return shared.means[:values]

    def _shared_for(self, values: int, dtype: torch.dtype) -> SharedMemory | None:
        """Return shared memory for a number of values of each rank; None if the ranks cannot share memory."""
        if not self._may_share:
            return None
        if self._shared is None or len(self._shared.means) < values:
            self._check_count(values)  # a rank whose memory suffices does so once it has written its values
            self._shared = None
            size = values * (self.size + 1) * dtype.itemsize
            with allocated(size) if self.rank == 0 else nullcontext() as mine:
                address = self.broadcast(mine)
                shared = None if address is None else SharedMemory.at(address, self.size, values, dtype)
                self._may_share = not self._synchronize("average gradients", int(shared is None)).highest
            self._shared = shared if self._may_share else None
        return self._shared

    def _check_count(self, values: int) -> None:
        """Wait for the others, and raise RankError on every rank if one has more values to average."""
        met = self._synchronize("average gradients", values)
        if met.highest != met.lowest:
            raise RankError(
                f"rank {met.rank_of_lowest} has {met.lowest:,} values to average, rank {met.rank_of_highest} has "
                f"{met.highest:,}; every rank must train the same parameters"
            )

    def _synchronize(self, operation: str, number: int = 0) -> _Range:
        """Wait until every rank gets here.

        Args:
            operation: What this rank is about to do, one of `_OPERATIONS`.
            number: Any number.

        Returns:
            The highest and the lowest of the ranks' numbers.

        Raises:
            RankError: If another rank is about to do something else, or does not come.
        """
        (last, last_rank), (first, first_rank), highest, lowest = self._ends(operation, number)
        while _OPERATIONS[last] == "work alone":
            (last, last_rank), (first, first_rank), highest, lowest = self._ends(operation, number)
        if last != first:
            raise RankError(
                f"the ranks are at different places of the program: rank {first_rank} is about to "
                f"{_OPERATIONS[first]}, rank {last_rank} to {_OPERATIONS[last]}; make the trainer and call fit, step, "
                "save and check on every rank, not only where trainer.rank == 0"
            )
        return _Range(*highest, *lowest)

    def _ends(self, operation: str, number: int) -> list[tuple[int, int]]:
        """Wait until every rank gets here; return the last and the first of operations, and of numbers, with ranks."""
        # Each number carries its rank. One maximum finds both ends, since the lowest number is the highest negated.
        index = _OPERATIONS.index(operation) * self.size + self.rank
        number = number * self.size + self.rank
        ends = torch.tensor([index, -index, number, -number])
        with exchange():
            dist.all_reduce(ends, dist.ReduceOp.MAX, group=self._connections.side)
        return [divmod(sign * end, self.size) for sign, end in zip((1, -1, 1, -1), ends.tolist(), strict=True)]

    @contextmanager
    def working_alone(self) -> Iterator[None]:
        """Let rank 0 work without the others, which wait for their next operation with it, however long that takes.

        Rank 0 gives them a sign from time to time, since they would give up otherwise. One that dies instead gives
        none. Within the context, rank 0 must not communicate.
        """
        if self.size == 1 or self.rank != 0:
            yield
            return
        # The next operation raises a RankError too.
        with repeated(lambda: self._ends("work alone", 0), _SIGN_S, "progan signs", until=RankError):
            yield

    def maximum(self, number: int, operation: str = "end a step") -> int:
        """Return the highest of the ranks' numbers, on every rank.

        Args:
            number: This rank's number.
            operation: What the ranks are about to do, one of `_OPERATIONS`.
        """
        return number if self.size == 1 else self._synchronize(operation, number).highest

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value, which JSON can hold, on every rank."""
        if self.size == 1:
            return value
        text = _as_bytes(value)
        self._synchronize("receive from rank 0")
        length = torch.tensor(len(text))
        with exchange():
            dist.broadcast(length, 0, group=self._connections.side)
            if self.rank != 0:
                text = torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(text, 0, group=self._connections.side)
        return json.loads(text.numpy().tobytes())

    def all_gather(self, value: Any, operation: str = "compare settings") -> list[Any]:
        """Return every rank's value, which JSON can hold, in the order of the ranks.

        Args:
            value: Value of this rank.
            operation: What the ranks are about to do, one of `_OPERATIONS`.
        """
        if self.size == 1:
            return [value]
        text = _as_bytes(value)
        longest = self._synchronize(operation, len(text)).highest
        padded = torch.full((longest,), ord(" "), dtype=torch.uint8)
        padded[: len(text)] = text
        texts = [torch.empty_like(padded) for _ in range(self.size)]
        with exchange():
            dist.all_gather(texts, padded, group=self._connections.side)
        return [json.loads(text.numpy().tobytes()) for text in texts]

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy rank 0's tensors to every rank, in place.

        Args:
            tensors: Tensors by name.

        Raises:
            ValueError: If the ranks' tensors differ in name, shape or dtype.
        """
        if self.size == 1:
            return
        kinds = {name: f"{tuple(tensor.shape)} of {tensor.dtype}" for name, tensor in tensors.items()}
        self.check_same("tensors", kinds)
        for tensor in tensors.values():
            copy = tensor.detach().cpu().contiguous()
            with exchange():
                dist.broadcast(copy, 0, group=self._connections.side)
            with torch.no_grad():
                tensor.copy_(copy)

    def on_rank_zero(self, function: Callable[[], Result]) -> Result:
        """Call a function on rank 0, and return its result on every rank; an error is raised on every rank too.

        Args:
            function: Returns a value that JSON can hold.

        Raises:
            RankError: On the other ranks, if rank 0 failed.
        """
        if self.size == 1:
            return function()
        result, failure, reason = None, None, None
        if self.rank == 0:
            try:
                with self.working_alone():
                    result = function()
            except Exception as error:
                failure, reason = error, f"{type(error).__name__}: {error}"
        try:
            received: tuple[Result, str | None] = self.broadcast([result, reason])
        except RankError:
            if failure is None:
                raise
        if failure is not None:  # before the RankError, of which it may be the cause
            raise failure
        if received[1] is not None:
            raise RankError(f"rank 0 failed, and rank {self.rank} ends with it: {received[1]}")
        return received[0]

    def check_same(self, what: str, values: Mapping[str, Any]) -> None:
        """Raise ValueError on every rank if they were given different values.

        Args:
            what: Name of the values, for the message.
            values: Nested dict of values that JSON can hold.
        """
        if apart := disagreements(self.all_gather(values)):
            raise ValueError(
                f"the ranks were given different {what}: {apart}; start every rank with the same program, settings and "
                "data"
            )

    def check_same_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise RankError on every rank if their tensors are not equal to the bit.

        Args:
            tensors: Tensors by name, on the device.
        """
        if self.size == 1:
            return
        sums = torch.stack([_sum_of_bits(tensor) for tensor in tensors.values()]).tolist()
        first, *others = self.all_gather(dict(zip(tensors, sums, strict=True)), "compare weights")
        differing = [
            {name for name in {**first, **other} if first.get(name) != other.get(name)}  # a rank may lack a tensor
            for other in others
        ]
        if ranks := [rank for rank, names in enumerate(differing, 1) if names]:
            names = [name for name in {**first, **others[ranks[0] - 1]} if name in differing[ranks[0] - 1]]
            raise RankError(
                f"the ranks no longer hold the same weights: {named(ranks)} {'differ' if ranks[1:] else 'differs'} "
                f"from rank 0, in {len(set().union(*differing))} of {len(first)} tensors, such as {names[0]}; nothing "
                "was saved. Change networks on all ranks alike; start all ranks again to resume from the last "
                "checkpoint"
            )

    @contextmanager
    def closing_on_error(self) -> Iterator[None]:
        """Close the connections if this rank fails, so that the others end too instead of waiting for it."""
        try:
            yield
        except BaseException:
            self._connections.close()
            raise


def part_of(whole: Tensor, number: int, parts: int, dim: int = 0) -> Tensor:
    """Return one of the parts of a batch, a view: every n-th item, beginning with the part's number.

    With as many parts, or a divisor of as many, as there are MiniBatchStd groups, each group lies in one part.
    """
    return whole if parts == 1 else whole[(slice(None),) * dim + (slice(number, None, parts),)]


def _sum_of_bits(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor's bits as integers: equal tensors have equal sums."""
    return tensor.detach().contiguous().view(_BITS[tensor.element_size()]).sum(dtype=torch.int64)


def _as_bytes(value: Any) -> Tensor:
    """Return a value as JSON, (bytes,)."""
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
