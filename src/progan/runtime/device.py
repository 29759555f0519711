"""The device that a run trains on, and the numeric settings of that device."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from progan.arguments import wrong_type
from progan.errors import warn
from progan.runtime.connections import local_rank, world_size

_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


def choose_device(device: str | torch.device | None, precision: str) -> torch.device:
    """Return the requested device, or the best one available; each of several processes on a machine gets its own GPU.

    A warning says if the device is slow at the precision.

    Raises:
        TypeError: If the argument is not a device.
        ValueError: If the device cannot be used here, or does not support the precision.
    """
    if not isinstance(device, str | torch.device | int | None):
        raise wrong_type("device", "the name of a device, such as 'cpu' or 'cuda:1', or None", device)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        if chosen.type == "cuda" and chosen.index is None and world_size() > 1:
            chosen = torch.device("cuda", local_rank())  # one for each process of a machine
        torch.empty(0, device=chosen)
        if chosen.type == "meta":
            raise RuntimeError("its tensors hold no data")
    except (RuntimeError, AssertionError) as error:  # a torch built without CUDA asserts
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device {str(device)!r} cannot be used here: {reason}; pass device='cpu', or leave it out"
        ) from None
    if precision == "bf16" and chosen.type == "cpu" and not _is_fast_at_bf16():
        warn(
            f"precision bf16 is many times slower than fp32 on this CPU ({torch.backends.cpu.get_cpu_capability()}); "
            "use fp32"
        )
    if precision == "tf32" and chosen.type != "cuda":
        raise ValueError(f"precision tf32 requires CUDA, got device {chosen}; use fp32 or bf16")
    return chosen


def _is_fast_at_bf16() -> bool:
    """Return whether this CPU computes in bf16; an x86 CPU without AVX-512 converts to float32 and back instead."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return not is_x86 or torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")


def fastest_precision(device: torch.device) -> Literal["fp32", "bf16"]:
    """Return the precision that a device trains fastest in: bf16 where it has instructions for it, else fp32.

    Those are AVX-512 BF16 and AMX on x86, as Linux names them, where torch uses AVX-512; on another system a CPU is
    taken to have none.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and _is_fast_at_bf16() and _BF16_FLAGS & _cpu_flags() else "fp32"


def _cpu_flags() -> set[str]:
    """Return the names of a CPU's instruction sets; empty where the system does not tell them."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return set()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(line.partition(":")[2].split())


@contextmanager
def precision_scope(device: torch.device, precision: str) -> Iterator[None]:
    """Set the precision and deterministic convolutions on a CUDA device, and restore the settings at the end."""
    if device.type != "cuda":
        yield
        return
    tf32 = precision == "tf32"
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    switches: list[tuple[Any, str, bool | str]] = [(cudnn, "deterministic", True)]
    if hasattr(matmul, "fp32_precision"):  # torch 2.9 on; if a program uses it, reading the older names raises
        value = "tf32" if tf32 else "ieee"
        switches += [(owner, "fp32_precision", value) for owner in (matmul, cudnn.conv, cudnn.rnn)]
    else:
        switches += [(owner, "allow_tf32", tf32) for owner in (matmul, cudnn)]
    before = [getattr(owner, name) for owner, name, _ in switches]
    try:
        for switch in switches:
            setattr(*switch)
        yield
    finally:
        for (owner, name, _), earlier in zip(switches, before, strict=True):
            setattr(owner, name, earlier)
