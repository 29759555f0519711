"""Memory: keeping the heap between steps, measuring peaks and limits, copying to a device."""

from __future__ import annotations

import sys
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from progan.storage.files import forget_peak_memory

_STATUS = "/proc/self/status"
_BLOCK = 31 << 20  # bytes; glibc takes blocks of up to 32 MB from its heap, once such a block has been freed
_HELD = 4 << 30  # bytes, of which only what a step uses becomes real memory
_owners: WeakKeyDictionary[object, object] = WeakKeyDictionary()


def hold_heap() -> object:
    """Keep the C library's heap from shrinking, for as long as the returned object lives.

    glibc returns the free upper end of its heap to the system, and requests large blocks from the system each time; the
    system then clears every page again in every step, which took a tenth to a half of a step's time. A small block that
    stays at the upper end prevents both. Unused memory is not committed. On systems other than Linux, nothing is done.
    """
    if sys.platform != "linux":
        return None
    try:
        torch.empty(_BLOCK, dtype=torch.uint8)  # freed at once: from now on, blocks of this size come from the heap
        blocks = [torch.empty(_BLOCK, dtype=torch.uint8) for _ in range(_HELD // _BLOCK)]
    except RuntimeError:  # the system does not grant so much
        return None
    return blocks[-1]


def hold_heap_beside(parameter: Tensor) -> object:
    """Do so for networks on the CPU; nothing for others."""
    return hold_heap() if parameter.device.type == "cpu" else None


def hold_heap_for(owner: object) -> None:
    """Keep the heap from shrinking for as long as an object lives."""
    if owner not in _owners:
        _owners[owner] = hold_heap()


def begin_peak(device: torch.device) -> None:
    """Reset the peak of memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        forget_peak_memory()


def peak(device: torch.device) -> int | None:
    """Return the peak of this process in bytes since `begin_peak`; None if the system does not report it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _entry_of(_STATUS, "VmHWM") if device.type == "cpu" else None


def memory_limit(device: torch.device) -> int | None:
    """Return the bytes that this process may use in total; None if the system does not report it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    available, held = _entry_of("/proc/meminfo", "MemAvailable"), _entry_of(_STATUS, "VmRSS")
    if device.type != "cpu" or available is None or held is None:
        return None
    return min([available, *_left_of_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))]) + held


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out: torch's allocators raise several kinds."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in text for words in ("out of memory", "can't allocate memory", "not enough memory")
    )


def _left_of_limits(groups: Path, root: Path) -> list[int]:
    """Return the bytes left of each limit on this process's control groups, as containers and clusters set them.

    Args:
        groups: File that lists the groups.
        root: Directory of all control groups.
    """
    left = []
    for line in groups.read_text().splitlines() if groups.exists() else ():
        _, controllers, name = line.split(":", 2)
        names = ("memory.max", "memory.current", "inactive_file")
        top = root
        if controllers:  # cgroups version 1
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            top = root / "memory"
            if "memory" not in controllers.split(","):
                continue
        folder = top / name.strip("/")
        for each in (folder, *folder.parents):  # in a container, the group's own directory may be missing
            limit, used = _number(each / names[0]), _number(each / names[1])
            if limit is not None and used is not None:
                # Cached file pages are released when memory is needed.
                left.append(limit - used + (_entry_of(each / "memory.stat", names[2], 1) or 0))
            if each == top:
                break
    return left


def _entry_of(path: str | Path, entry: str, unit: int = 1024) -> int | None:
    """Return an entry of a file of the Linux kernel, in bytes."""
    try:
        words = [line.replace(":", " ").split() for line in Path(path).read_text().splitlines()]
    except OSError:
        return None
    return next((int(line[1]) * unit for line in words if line[0] == entry), None)


def _number(path: Path) -> int | None:
    """Return the number in a file; None if there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # missing, or "max"
        return None


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; to CUDA through pinned memory, so that the host does not wait for the device."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # torch reuses it only after the copy
    return tensor.to(device, non_blocking=True)
