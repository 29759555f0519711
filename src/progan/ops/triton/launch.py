"""How kernels are run, and how what they work on lies in memory."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

NUMBERS = 2048  # that a block of threads holds of each tensor


def run(kernel: triton.runtime.JITFunction, grid: tuple[int, ...], *arguments: object, **options: object) -> None:
    """Run a kernel on the device of its first argument."""
    with torch.cuda.device_of(arguments[0]):  # type: ignore[no-untyped-call]
        kernel[grid](*arguments, **options)


def layout_of(x: Tensor) -> torch.memory_format:
    """Return in which order the numbers of images lie."""
    last = x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
