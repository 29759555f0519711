"""Process groups: how ranks find each other, the groups they communicate over, and how these end.

A gloo thread that frees the tensors of an operation needs Python's global lock. If it asks for the lock while the
interpreter shuts down, the process is aborted, although the program has succeeded. So every group is closed, and its
threads are joined, before the interpreter shuts down. torch joins the threads when the last reference to a group goes:
`Connections` holds the only one of ours, and `exchange` leaves none in the traceback of an error.
"""

from __future__ import annotations

import atexit
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from progan.errors import RankError
from progan.storage.comparison import disagreements, named

# A process that dies closes its connections, which the others notice at once. This is for a machine that vanishes
# without closing them. Where rank 0 works alone for longer, it gives the others a sign: `Ranks.working_alone`.
TIMEOUT = timedelta(minutes=10)
_POLL_S = 0.01
_FREEING_S = 0.01  # far longer than a thread needs to free the tensors of an operation that has ended


class Connections:
    """The process groups of one trainer, from `connect` to `close`."""

    def __init__(self) -> None:
        self._side: Any = None
        self._device: Any = None

    @property
    def side(self) -> Any:
        """The gloo group on the CPU, for everything but gradients, so that nothing waits for a CUDA device.

        Raises:
            RankError: If it is closed.
        """
        return _still_open(self._side)

    @property
    def device(self) -> Any:
        """The group on the device, for gradients; on the CPU it is `side`.

        Raises:
            RankError: If it is closed.
        """
        return _still_open(self._device)

    @property
    def on_cpu(self) -> bool:
        """Whether gradients are exchanged on the CPU."""
        return self._device is self._side

    def open_device(self, device_type: str) -> None:
        """Create the group on the device; every rank must call this.

        Raises:
            RankError: If another rank does not.
        """
        if device_type == "cpu":
            self._device = self._side
            return
        with exchange("this process cannot join the others"):
            self._device = dist.new_group(backend=_backend(device_type), timeout=TIMEOUT)

    def close(self) -> None:
        """Close the connections to the other ranks, which notice at once, and end the threads that served them.

        A group on a CUDA device stays open until all groups are destroyed: kernels may still be waiting in it.
        """
        side, self._side = self._side, None
        if self._device is side:
            self._device = None
        if side is None:
            return
        time.sleep(_FREEING_S)  # without the lock: before 2.8, torch joins the threads while it holds the lock
        if dist.is_initialized():
            with suppress(ValueError):  # the program has already destroyed this group
                dist.destroy_process_group(side)


_open: list[Connections] = []
_exit: dict[str, int] = {}  # the process that closes all connections at its exit; a fork of it must not


def connect(device_type: str) -> Connections:
    """Join the ranks that torchrun has started, or those of the process group that the program has made.

    Args:
        device_type: Type of the device that this rank trains on, ``cpu`` or ``cuda``.

    Returns:
        Connections with their `side` open; they are closed when the program ends.

    Raises:
        ValueError: If the environment is not torchrun's, or the ranks train on devices of different types.
        RankError: If another rank does not join.
    """
    if _exit.get("process") != os.getpid():
        _exit["process"] = os.getpid()
        atexit.register(_close_all)
    connections = Connections()
    _open.append(connections)
    with exchange("this process cannot join the others"):
        if not dist.is_initialized():
            _start(device_type)
        connections._side = dist.new_group(backend="gloo", timeout=TIMEOUT)
    return connections


def _close_all() -> None:
    """Close all connections of this process, and the process group that `connect` has created."""
    if _exit.get("process") != os.getpid():
        return
    for connections in _open:
        connections.close()
        connections._device = None
    _open.clear()
    if "started" in _exit and dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def exchange(failure: str = "another rank has died, left or does not answer") -> Iterator[None]:
    """Raise RankError if an operation with the other ranks fails.

    Args:
        failure: What has happened in that case, for the message.
    """
    try:
        yield
    except RankError:
        raise
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)  # torch's have the group, whoever keeps the error
        if not isinstance(error, RuntimeError):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RankError(f"{failure}; start all ranks again to resume from the last checkpoint ({reason})") from error


def world_size() -> int:
    """Return the number of processes that torchrun started, or that the program's process group has.

    Raises:
        ValueError: If WORLD_SIZE is not a number.
    """
    if not dist.is_available():
        return 1
    if dist.is_initialized():
        return dist.get_world_size()
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():
        return 1
    return _number_in("WORLD_SIZE")


def local_rank() -> int:
    """Return the number of this process on its machine.

    Raises:
        ValueError: If LOCAL_RANK is not a number.
    """
    return _number_in("LOCAL_RANK") if "LOCAL_RANK" in os.environ else 0


def _number_in(name: str) -> int:
    text = os.environ[name]
    if not text.isdecimal():
        raise ValueError(
            f"the environment variable {name} must be a number, as torchrun sets it, got {text!r}; start several "
            f"processes with torchrun, and for one process unset {name}"
        )
    return int(text)


def _backend(device_type: str) -> str:
    return "nccl" if device_type == "cuda" else "gloo"


def _still_open(group: Any) -> Any:
    with suppress(KeyError, ValueError):  # from torch, where the program has destroyed the group
        if group is not None and dist.get_process_group_ranks(group):
            return group
    raise RankError(
        "the connections to the other ranks are closed, by an earlier error, by destroy_process_group() or because the "
        "program ends; make a new trainer on every rank to resume from the last checkpoint"
    )


def _start(device_type: str) -> None:
    """Create the process group of the ranks that torchrun has started."""
    from torch.distributed.distributed_c10d import PrefixStore  # not there in a torch built without it
    from torch.distributed.rendezvous import rendezvous

    rank, size = _number_in("RANK"), _number_in("WORLD_SIZE")
    if rank >= size:
        raise ValueError(f"RANK must be below WORLD_SIZE, got {rank} of {size}; start the processes with torchrun")
    try:
        store, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
    except ValueError as error:  # a variable is missing
        raise ValueError(f"this process cannot join the others: {error}; start them with torchrun") from None
    store = PrefixStore(_unique_prefix(store, rank, size), store)
    _check_devices(store, rank, size, device_type)
    _exit["started"] = os.getpid()
    dist.init_process_group(_backend(device_type), store=store, rank=rank, world_size=size, timeout=TIMEOUT)


def _unique_prefix(store: Any, rank: int, size: int) -> str:
    """Agree on a prefix for keys in the store that no earlier start of the ranks has used.

    torchrun keeps one store over all its restarts, where the addresses of ranks that have died can still be read
    (pytorch's issue 135712); its count of restarts is not the same on all machines. So rank 0 chooses a random prefix,
    and sends it to each rank that asks for it under a random word.
    """
    word = os.urandom(8).hex()
    if rank != 0:
        store.set(f"progan: {rank} asks as", word)
        answer = _awaited(store, {0: f"progan: answer to {word}"})[0]
        store.set(f"progan: {rank} has heard {answer}", "")
        return answer

    def answer_again(missing: list[int]) -> None:
        for other in missing:  # it may have died: it is then started again, and asks under another word
            if store.check([f"progan: {other} asks as"]):
                store.set(f"progan: answer to {store.get(f'progan: {other} asks as').decode()}", word)

    _awaited(store, {other: f"progan: {other} has heard {word}" for other in range(1, size)}, answer_again)
    return word


def _awaited(store: Any, keys: dict[int, str], meanwhile: Any = None) -> list[str]:
    """Return what other ranks write to the store; unlike in ``store.get``, Ctrl-C ends the wait.

    Args:
        store: Store that they write to.
        keys: Key of each rank.
        meanwhile: Called with the missing ranks until there are none.

    Raises:
        RuntimeError: If ranks are still missing after the timeout; the message names them.
    """
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    missing = list(keys)
    while missing := [rank for rank in missing if not store.check([keys[rank]])]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{named(missing)} did not come within {TIMEOUT}")
        if meanwhile is not None:
            meanwhile(missing)
        time.sleep(_POLL_S)
    return [store.get(key).decode() for key in keys.values()]


def _check_devices(store: Any, rank: int, size: int, device_type: str) -> None:
    """Raise ValueError if the ranks train on devices of different types: torch would wait for a common group."""
    store.set(f"device of {rank}", device_type)
    check_devices(_awaited(store, {other: f"device of {other}" for other in range(size)}))


def check_devices(types: list[str]) -> None:
    """Raise ValueError if the ranks' devices are of different types."""
    if apart := disagreements([{"device": device_type} for device_type in types]):
        raise ValueError(f"the ranks train on devices of different types: {apart}; pass the same device= on every rank")
