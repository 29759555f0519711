"""Memory: what a step on the CPU frees, the next finds again; how much is taken, and may be; the way to a device."""

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
    return _told(_STATUS, "VmHWM") if device.type == "cpu" else None


def memory_limit(device: torch.device) -> int | None:
    """Return the bytes that this process may hold in all; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    available, held = _told("/proc/meminfo", "MemAvailable"), _told(_STATUS, "VmRSS")
    if device.type != "cpu" or available is None or held is None:
        return None
    return min([available, *_left_of_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))]) + held


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory was not granted: torch's allocators have no error of one kind."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in text for words in ("out of memory", "can't allocate memory", "not enough memory")
    )


def _left_of_limits(groups: Path, root: Path) -> list[int]:
    """Return the bytes left of each limit set for this process's control groups, as containers and clusters set them.

    Args:
        groups: the file that names the groups.
        root: the folder that they are in.
    """
    left = []
    for line in groups.read_text().splitlines() if groups.exists() else ():
        _, controllers, name = line.split(":", 2)
        names = ("memory.max", "memory.current", "inactive_file")
        top = root
        if controllers:  # of the first version
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            top = root / "memory"
            if "memory" not in controllers.split(","):
                continue
        folder = top / name.strip("/")
        for each in (folder, *folder.parents):  # in a container, the group's own name may not be there
            limit, used = _number(each / names[0]), _number(each / names[1])
            if limit is not None and used is not None:
                # Pages of files read are given back when there is need.
                left.append(limit - used + (_told(each / "memory.stat", names[2], 1) or 0))
            if each == top:
                break
    return left


def _told(path: str | Path, entry: str, unit: int = 1024) -> int | None:
    """Return an entry of one of Linux's files, in bytes."""
    try:
        words = [line.replace(":", " ").split() for line in Path(path).read_text().splitlines()]
    except OSError:
        return None
    return next((int(line[1]) * unit for line in words if line[0] == entry), None)


def _number(path: Path) -> int | None:
    """Return the number that a file holds; None where there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # not there, or "max"
        return None


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; to CUDA through pinned memory, so that nothing waits for what the device does."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # torch uses it again only once the copy is over
    return tensor.to(device, non_blocking=True)
