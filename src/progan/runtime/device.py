"""The device that a run trains on, and the numeric settings of that device."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from progan.arguments import wrong_type
from progan.runtime.connections import local_rank, world_size


def choose_device(device: str | torch.device | None, precision: str) -> torch.device:
    """Return the device asked for, or the best there is; of several processes on a machine, each has its own GPU.

    It warns of a precision that the device is slow at.

    Raises:
        TypeError: If it is not a device at all.
        ValueError: if it cannot be used here, or does not know the precision.
    """
    if not isinstance(device, str | torch.device | int | None):
        raise wrong_type("device", "the name of a device, such as 'cpu' or 'cuda:1', or None", device)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        if chosen.type == "cuda" and chosen.index is None and world_size() > 1:
            chosen = torch.device("cuda", local_rank())  # each process of a machine its own
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:  # a torch built without CUDA asserts
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device {str(device)!r} cannot be used here: {reason}; pass device='cpu', or leave it out"
        ) from None
    if precision == "bf16" and chosen.type == "cpu" and not _knows_bf16():
        warnings.warn(
            f"precision bf16 is many times slower than fp32 on this CPU ({torch.backends.cpu.get_cpu_capability()}); "
            "use fp32",
            stacklevel=4,
        )
    if precision == "tf32" and chosen.type != "cuda":
        raise ValueError(f"precision tf32 is CUDA's, got device {chosen}; use fp32 or bf16")
    return chosen


def _knows_bf16() -> bool:
    """Tell whether this CPU may compute in bf16; an x86 without AVX-512 converts back and forth instead."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return not is_x86 or torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")


@contextmanager
def precision_scope(device: torch.device, precision: str) -> Iterator[None]:
    """Set what precision asks for, and convolutions that give the same bits each time; then put all back."""
    if device.type != "cuda":
        yield
        return
    tf32 = precision == "tf32"
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    switches: list[tuple[Any, str, bool | str]] = [(cudnn, "deterministic", True)]
    if hasattr(matmul, "fp32_precision"):  # torch 2.9; where a program uses it, to read the older names raises
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
