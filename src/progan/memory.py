"""Memory: what a step on the CPU frees, the next one finds again; and how much is taken, and may be."""

from __future__ import annotations

import sys
from pathlib import Path
from weakref import WeakKeyDictionary

import torch

from progan.files import forget_peak_memory

_BLOCK = 31 << 20  # bytes; glibc takes blocks of up to 32 MB from its heap, once such a block has been freed
_HELD = 4 << 30  # bytes, of which only what a step uses becomes real memory
_owners: WeakKeyDictionary[object, object] = WeakKeyDictionary()


def hold_heap() -> object:
    """Keep the upper end of the C library's heap in use, for as long as what is returned lives.

    glibc hands the free upper end of its heap back to the system, and takes larger blocks from there each time; the
    system then clears every page of it anew in every step, which made up a tenth to a half of a step's time. A small
    block that stays at the upper end prevents both. No memory is taken for what is not used; elsewhere than on Linux
    nothing is done at all.
    """
    if sys.platform != "linux":
        return None
    try:
        torch.empty(_BLOCK, dtype=torch.uint8)  # freed at once: from now on such blocks are the heap's
        blocks = [torch.empty(_BLOCK, dtype=torch.uint8) for _ in range(_HELD // _BLOCK)]
    except RuntimeError:  # the system grants no such amount
        return None
    return blocks[-1]


def hold_heap_for(owner: object) -> None:
    """Do so for as long as some object lives."""
    if owner not in _owners:
        _owners[owner] = hold_heap()


def begin_peak(device: torch.device) -> None:
    """Begin anew to note the peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        forget_peak_memory()


def peak(device: torch.device) -> int | None:
    """Return the most bytes that this process has held since `begin_peak`; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _told("/proc/self/status", "VmHWM") if device.type == "cpu" else None


def there_is(device: torch.device) -> int | None:
    """Return the bytes that this process may hold in all; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    available, held = _told("/proc/meminfo", "MemAvailable"), _told("/proc/self/status", "VmRSS")
    if device.type != "cpu" or available is None or held is None:
        return None
    limit, used = (_number(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))  # a container's
    if limit is not None and used is not None:
        available = min(available, limit - used)
    return available + held


def _told(path: str, entry: str) -> int | None:
    """Return an entry of one of Linux's files, in bytes."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{entry}:")), None)


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # not there, or "max"
        return None
