"""Memory shared by processes: theirs alone, given back however they end, and none where there is none."""

from __future__ import annotations

import errno
import multiprocessing
import os
import sys
from pathlib import Path

import pytest
import torch

from progan.runtime.shared_memory import SharedMemory, allocated

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such memory")


def taken(address, processes, room, dtype=torch.float32):
    memory = SharedMemory.at(address, processes, room, dtype)
    assert memory is not None
    return memory


def open_files():
    return sorted(Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("processes", "values"), [(2, 5), (3, 400_001), (4, 2)])
def test_the_shares_of_the_means_make_the_whole(processes, values, dtype):
    room = values + 3
    with allocated((processes + 1) * room * dtype.itemsize) as address:
        each = [taken(address, processes, room, dtype) for _ in range(processes)]
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(processes, values, dtype=dtype, generator=generator)
    for rank, memory in enumerate(each):
        memory.parts[rank][:values] = given[rank]
    for rank, memory in enumerate(each):
        memory.average(values, rank)
    total = given[0]
    for other in given[1:]:
        total = total + other
    for memory in each:
        assert torch.equal(memory.means[:values], total / processes)
        assert torch.equal(memory.means[values:], torch.zeros(3, dtype=dtype))


def write(address):
    taken(address, 1, 4).parts[0].fill_(7)


def test_another_process_writes_into_the_same_memory():
    with allocated(32) as address:
        memory = taken(address, 1, 4)
        process = multiprocessing.get_context("forkserver").Process(target=write, args=(address,))
        process.start()
        process.join()
    assert memory.parts[0].tolist() == [7] * 4
    assert memory.means.tolist() == [0] * 4


def test_nothing_is_left_open():
    before = open_files()
    with allocated(32) as address:
        memory = taken(address, 1, 4)
    assert open_files() == before
    assert SharedMemory.at(address, 1, 4, torch.float32) is None
    memory.means.fill_(1)  # kept by those that took it
    assert memory.means.tolist() == [1] * 4


def test_a_file_that_another_machine_has_at_that_address_is_left_alone(tmp_path):
    path = tmp_path / "theirs"
    path.write_bytes(b"theirs")
    with path.open("r+b") as file, allocated(32) as address:
        assert address is not None
        here = f"/proc/self/fd/{file.fileno()}"
        assert SharedMemory.at([here, address[1]], 1, 4, torch.float32) is None
        assert SharedMemory.at([str(path), address[1]], 1, 4, torch.float32) is None
    assert path.read_bytes() == b"theirs"


@pytest.mark.parametrize("function", ["memfd_create", "posix_fallocate"])
def test_a_system_that_has_none_offers_none(function, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "no space")

    before = open_files()
    monkeypatch.setattr(os, function, refuse)
    with allocated(32) as address:
        assert address is None
    assert open_files() == before


def test_a_python_that_knows_of_none_offers_none(monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    with allocated(32) as address:
        assert address is None
