"""Memory that stays: what a step on the CPU frees, the next one finds again."""

from __future__ import annotations

import sys

import torch

_BLOCK = 31 << 20  # bytes; glibc takes blocks of up to 32 MB from its heap, once such a block has been freed
_HELD = 4 << 30  # bytes, of which only what a step uses becomes real memory


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
