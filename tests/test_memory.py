"""The heap that is held: what a step frees is there again for the next one."""

import platform
import subprocess
import sys

import pytest

COUNTED = """
import resource, sys, torch
from progan.memory import hold_heap
held = hold_heap() if sys.argv[1] == "held" else None

def work():
    kept = [torch.ones(1 << 20) for _ in range(50)]  # 200 MB, as a step takes and frees them
    return sum(tensor[0].item() for tensor in kept)

work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_taken(how: str) -> int:
    printed = subprocess.run([sys.executable, "-c", COUNTED, how], check=True, capture_output=True, text=True).stdout
    return int(printed)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_that_was_freed_is_found_again():
    assert pages_taken("held") < 2000  # of 4 KB; 200 MB are 50,000
    assert pages_taken("not held") > 10_000
