"""The heap that is held, so that what a step frees is there again; and how much memory there is."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from progan.runtime import memory
from progan.runtime.memory import hold_heap_for, is_out_of_memory

COUNTED = """
import resource, sys, torch
from progan.runtime.memory import hold_heap
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
    held, not_held = pages_taken("held"), pages_taken("not held")  # of 4 KB; 200 MB are 50,000
    assert not_held > 10_000
    assert held < not_held / 3  # not 0: a system short of memory takes pages from a process, too


class Owner:
    """May be referred to weakly."""


def test_the_heap_is_held_once_for_as_long_as_its_owner_lives(monkeypatch):
    held = []
    monkeypatch.setattr(memory, "hold_heap", lambda: held.append("held"))
    monkeypatch.setattr(memory, "_owners", type(memory._owners)())
    owner, other = Owner(), Owner()
    for each in (owner, owner, other):
        hold_heap_for(each)
    assert len(held) == len(memory._owners) == 2
    del owner, each
    assert list(memory._owners) == [other]


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), None])
def test_memory_that_is_not_granted_is_told_from_other_errors(error):
    if error is None:
        with pytest.raises(RuntimeError) as caught:
            torch.empty(1 << 60, dtype=torch.uint8)
        error = caught.value
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


def group(folder: Path, names: tuple[str, str], limit: str, used: int, statistics: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(statistics)


def test_limits_of_control_groups_count(tmp_path):
    """Of the second version, where each group above this one may have its own; as clusters give them."""
    names = ("memory.max", "memory.current")
    group(tmp_path / "jobs", names, "9000", 5000, "anon 1\ninactive_file 500\n")
    group(tmp_path / "jobs/mine", names, "4000", 1000, "inactive_file 0\n")
    group(tmp_path / "jobs/mine/step", names, "max", 1000, "inactive_file 0\n")
    groups = tmp_path / "cgroup"
    groups.write_text("0::/jobs/mine/step\n")
    assert memory._left_of_limits(groups, tmp_path) == [3000, 4500]
    groups.write_text("0::/\n")
    assert memory._left_of_limits(groups, tmp_path / "jobs") == [4500], "as a container sees its own"


def test_limits_of_the_first_version_count(tmp_path):
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    group(tmp_path / "memory/job", names, "7000", 3000, "inactive_file 9\ntotal_inactive_file 1000\n")
    groups = tmp_path / "cgroup"
    groups.write_text("5:cpu,cpuacct:/job\n4:memory:/job\n")
    assert memory._left_of_limits(groups, tmp_path) == [5000]
    assert memory._left_of_limits(tmp_path / "none", tmp_path) == []
