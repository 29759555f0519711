"""Kernels of our own for CUDA, in Triton: fewer, and with fewer passes over memory, than torch and cuDNN take.

A training step at up to 64 px takes as long as its kernels are many, and what cuDNN has for images of few channels uses
a small part of the device: see benchmarks/NOTES.md. Where Triton is not there or does not work, torch's operations do
the same. No kernel adds by atomics, so the same numbers come out each time. Half types are widened within. Imports
torch and Triton only.
"""

import torch
from triton import __version__ as triton_version

from progan.ops.triton.convolutions import by_input, by_weight, convolve
from progan.ops.triton.images import add_pixels, fold, pad, repeat_pixels
from progan.ops.triton.norm import norm, norm_backward, norm_second

__all__ = [
    "add_pixels",
    "by_input",
    "by_weight",
    "convolve",
    "fold",
    "norm",
    "norm_backward",
    "norm_second",
    "pad",
    "repeat_pixels",
    "triton_version",
    "try_out",
]


def try_out(device: torch.device) -> None:
    """Raise where Triton does not work."""
    norm(torch.ones(1, 4, 4, 4, device=device), 1e-8, True, 0.2)
