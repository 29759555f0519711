"""A save that dies, fails or loses its power at any file operation: the newest complete checkpoint loads, always."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import EACH_FAULT

from progan.runs.checkpoint import (
    checkpoints,
    find_checkpoint,
    read_manifest,
    read_tensors,
    remove_checkpoint,
    remove_partial,
    write_checkpoint,
)


class Crash(BaseException):
    """The process is dead."""


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def state(value: float) -> dict[str, torch.Tensor]:
    return {"generator/weight": torch.full((50,), value), "adam/step": torch.tensor(value)}


def two_checkpoints(run_dir: Path) -> Path:
    for count in (8, 16):
        write_checkpoint(run_dir, count, {"count": count}, state(count))
    return run_dir


SAVES: dict[str, tuple[Callable[[Path], None], tuple[int, ...]]] = {
    "a new one, with rotation": (
        lambda run_dir: (
            write_checkpoint(run_dir, 24, {"count": 24}, state(24)),
            [remove_checkpoint(old) for old in checkpoints(run_dir)[:-2]],
        ),
        (16, 24),
    ),
    "the same count again": (lambda run_dir: write_checkpoint(run_dir, 16, {"count": 16}, state(16)), (16,)),
}


def check_sound(run_dir: Path, allowed: tuple[int, ...]) -> None:
    """The newest that is there is whole, and one of these; and the next start leaves nothing strange."""
    remove_partial(run_dir)
    newest, _ = find_checkpoint(run_dir)
    count = read_manifest(newest)["count"]
    assert int(newest.name) == count
    assert count in allowed
    tensors = read_tensors(newest)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in state(count).items())
    assert {path.name for path in (run_dir / "checkpoints").iterdir()} <= {"000000008", "000000016", "000000024"}


@linux
@pytest.mark.parametrize("kind", SAVES)
def test_a_crash_at_every_operation(kind, tmp_path, hooked):
    save, allowed = SAVES[kind]
    seen: list[str] = []
    crash_at = 10**9

    def hook(operation: str, path: Path) -> None:
        seen.append(operation)
        if len(seen) > crash_at:  # and nothing works from then on: no cleaning up
            raise Crash

    hooked(hook)
    save(two_checkpoints(tmp_path / "whole"))
    crash_at = 10**9
    for k in range(1000):
        run_dir = two_checkpoints(tmp_path / f"{k}")
        seen.clear()
        crash_at = k
        try:
            save(run_dir)
        except Crash:
            crash_at = 10**9
            check_sound(run_dir, allowed)
        else:
            break
    assert k >= 15, f"only {k} operations were seen"
    assert {"open", "write", "fsync", "replace", "mkdir"} <= set(seen)
    check_sound(run_dir, allowed[-1:])


class Disk:
    """What a disk holds of a folder through a power cut: of files and of folders' lists what was synced, no more."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lists: dict[
            int, dict[str, tuple[int, bool]]
        ] = {}  # of a folder: name -> number and whether it is a folder
        self.contents: dict[int, bytes] = {}
        for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
            self.sync(folder)
        for path in root.rglob("*"):
            if path.is_file():
                self.sync(path)

    def sync(self, path: Path) -> None:
        if path.is_dir():
            entries = {entry.name: (entry.stat().st_ino, entry.is_dir()) for entry in path.iterdir()}
            self.lists[path.stat().st_ino] = entries
        else:
            self.contents[path.stat().st_ino] = path.read_bytes()

    def after_power_cut(self, target: Path, number: int | None = None) -> Path:
        target.mkdir()
        for name, (inner, is_folder) in self.lists.get(number or self.root.stat().st_ino, {}).items():
            if is_folder:
                self.after_power_cut(target / name, inner)
            else:
                (target / name).write_bytes(self.contents.get(inner, b""))
        return target


@linux
@pytest.mark.parametrize("kind", SAVES)
def test_a_power_cut_at_every_operation(kind, tmp_path, hooked):
    save, allowed = SAVES[kind]
    run_dir = two_checkpoints(tmp_path / "run")
    kept_open = []  # so that no number of a removed file is given to a new one
    for path in run_dir.rglob("*"):
        if path.is_file():
            kept_open.append(path.open("rb"))
    disk = Disk(run_dir)
    cuts = 0

    def hook(operation: str, path: Path) -> None:
        nonlocal cuts
        check_sound(disk.after_power_cut(tmp_path / f"{cuts}"), allowed)
        cuts += 1

    fsync = os.fsync

    def then_synced(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_relative_to(run_dir):
            kept_open.append(os.fdopen(os.dup(descriptor), closefd=True) if path.is_file() else None)
            disk.sync(path)

    busy = False

    def hook_once(operation: str, path: Path) -> None:
        nonlocal busy
        if path.is_relative_to(run_dir) and not busy:
            busy = True
            try:
                hook(operation, path)
            finally:
                busy = False

    os.fsync, before = then_synced, os.fsync
    try:
        hooked(hook_once)
        save(run_dir)
    finally:
        os.fsync = before
    assert cuts >= 15
    busy = True
    check_sound(disk.after_power_cut(tmp_path / "end"), allowed[-1:])
    for file in kept_open:
        if file is not None:
            file.close()


@linux
@EACH_FAULT
@pytest.mark.parametrize("kind", SAVES)
def test_an_error_at_every_operation(kind, number, tmp_path, hooked):
    save, allowed = SAVES[kind]
    left = 10**9
    failed: list[str] = []

    def hook(operation: str, path: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0 and (operation, number) != ("fsync", errno.EACCES):  # a folder that cannot be synced is no fault
            failed.append(operation)
            raise OSError(number, os.strerror(number), str(path))

    hooked(hook)
    for k in range(1000):
        run_dir = two_checkpoints(tmp_path / f"{k}")
        failed.clear()
        raised: OSError | None = None
        left = k
        try:
            save(run_dir)
        except OSError as error:
            left = 10**9
            raised = error
        left = 10**9
        if not failed:
            break
        if raised is not None:
            assert raised.errno == number
            assert str(run_dir) in str(raised), "the error names the path"
            assert "bytes" in str(raised) or failed[0] != "write"
        check_sound(run_dir, (8, *allowed) if kind == "the same count again" else allowed)
        save(run_dir)  # the disk has room again
        check_sound(run_dir, allowed[-1:])
    assert k >= 10


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from progan.runs.checkpoint import write_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_checkpoint(Path(sys.argv[1]), 24, {}, {f"weight{k}": torch.zeros(1000) for k in range(10)})
except OSError as error:
    print(error)
"""


@linux
def test_a_limit_on_the_size_of_files(tmp_path):
    two_checkpoints(tmp_path)
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "File too large, after " in printed
    assert "tensors.safetensors" in printed
    check_sound(tmp_path, (16,))
