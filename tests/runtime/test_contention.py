"""Cores that other programs use: noticed, adapted to, reported once, and never a bit of difference."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager

import pytest
import torch
from conftest import small_recipe

from progan import GrownGenerator, Trainer, presets, write_png
from progan.data import flip_verdict
from progan.data.curation.curate import compare
from progan.data.curation.survey import survey
from progan.metrics import evaluate
from progan.runtime import contention
from progan.runtime.contention import CoreSharing, _start_idle_teams, shared_cores, watched_cores

LINUX = pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="this system does not count waiting")  # noqa: PTH110
TWO_CORES = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="threads of one core do not spin")


class Machine:
    """A clock and threads that wait as told, and what was done about it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.threads: dict[str, int] = {"1": 0, "2": 0}
        self.did: list[str] = []
        self.sharing = CoreSharing(lambda: dict(self.threads), lambda: self.now, self.sleep)

    def sleep(self, stack: ExitStack) -> bool:
        self.did.append("sleep")
        stack.callback(self.did.append, "spin")
        return True

    def run(self, seconds: float, share: float) -> None:
        """Let time pass in steps of 0.1 s, of which thread 2 waits a share."""
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            self.threads["2"] = self.threads.get("2", 0) + round(1e8 * share)
            self.sharing.look()


def test_threads_sleep_while_cores_are_busy_and_spin_again_when_they_are_free():
    machine = Machine()
    machine.run(10, share=0.02)
    assert machine.did == []
    assert not machine.sharing.sleeps
    machine.run(1, share=0.7)
    assert machine.did == ["sleep"]
    assert machine.sharing.sleeps
    machine.run(10, share=0.5)  # sleeping, they still wait for the other program
    assert machine.did == ["sleep"]
    machine.run(1, share=0.02)  # a short rest of the other program
    machine.run(1, share=0.5)
    assert machine.did == ["sleep"]
    machine.run(3, share=0.02)
    assert machine.did == ["sleep", "spin"]
    assert not machine.sharing.sleeps
    machine.run(1, share=0.7)
    machine.sharing.close()
    assert machine.did == ["sleep", "spin", "sleep", "spin"]


def test_threads_that_begin_or_end_between_two_looks_do_not_count():
    machine = Machine()
    machine.run(1, share=0)
    machine.threads |= {"3": 10**12}
    machine.run(1, share=0)
    del machine.threads["3"], machine.threads["1"]
    machine.run(1, share=0)
    assert machine.did == []


def test_it_is_reported_once_after_long_waiting():
    machine = Machine()
    machine.run(20, share=0.7)
    assert machine.sharing.remark() is None
    machine.run(3, share=0.7)
    remark = machine.sharing.remark()
    assert remark is not None
    assert "waited 16 s for a CPU core" in remark
    assert "its threads sleep" in remark
    assert "renice" in remark
    machine.run(60, share=0.7)
    assert machine.sharing.remark() is None


def test_too_many_threads_of_its_own_are_named(monkeypatch):
    monkeypatch.setattr("progan.runtime.contention._cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    machine = Machine()
    machine.run(30, share=2)
    remark = machine.sharing.remark()
    assert remark is not None
    assert "since 8 threads share 2; call torch.set_num_threads(2)" in remark
    assert "other" not in remark


def test_where_nothing_can_be_done_nothing_is_promised():
    machine = Machine()
    machine.sharing = CoreSharing(lambda: dict(machine.threads), lambda: machine.now)
    machine.run(30, share=0.9)
    assert not machine.sharing.sleeps
    remark = machine.sharing.remark()
    assert remark is not None
    assert "sleep" not in remark


def test_where_the_system_counts_nothing_nothing_happens():
    machine = Machine()
    machine.threads = {}
    machine.sharing = CoreSharing(dict, lambda: machine.now, machine.sleep)
    machine.run(30, share=0.9)
    assert machine.did == []
    assert machine.sharing.remark() is None


def test_one_thread_has_nobody_to_spin_for():
    assert torch.get_num_threads() == 1
    before = threading.active_count()
    with ExitStack() as stack:
        assert not _start_idle_teams(stack)
        assert threading.active_count() == before


def test_on_another_device_nothing_is_watched():
    with shared_cores(torch.device("cuda")) as cores:
        assert cores._before == {}


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "progan core watch"]


def test_a_thread_watches_while_something_else_is_computed(monkeypatch):
    looked = threading.Semaphore(0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(contention, "_INTERVAL_S", 0.001)
    monkeypatch.setattr(CoreSharing, "look", lambda sharing: looked.release())
    with watched_cores():
        assert looked.acquire(timeout=60)
        assert looked.acquire(timeout=60)
        assert len(watchers()) == 1
    assert watchers() == []

    @watched_cores()
    def fails():
        raise KeyError("none")

    with pytest.raises(KeyError, match="none"):
        fails()
    assert watchers() == []


def test_one_watch_serves_what_is_computed_within(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with watched_cores():
        with watched_cores():
            assert len(watchers()) == 1
        assert len(watchers()) == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # one thread waits for no other
    with watched_cores():
        assert watchers() == []


def drawn(tmp_path):
    write_png(tmp_path / "one.png", torch.zeros(3, 32, 32, dtype=torch.uint8))
    return tmp_path


IMAGES = torch.randint(0, 256, (16, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize(
    "compute",
    [
        lambda folder: GrownGenerator(presets.few_images(8, 640).build()[0], 1).sample(1),
        lambda folder: flip_verdict(IMAGES),
        lambda folder: evaluate(IMAGES, IMAGES, printed=False),
        lambda folder: compare(survey(drawn(folder))),
    ],
    ids=["sample", "flip_verdict", "evaluate", "survey"],
)
def test_what_computes_long_outside_of_training_is_watched(compute, monkeypatch, tmp_path):
    begun = []

    @contextmanager
    def shared(device):
        begun.append(device.type)
        with shared_cores(device) as sharing:
            yield sharing

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(contention, "shared_cores", shared)
    compute(tmp_path)
    assert begun
    assert set(begun) == {"cpu"}


# Two threads that are held to one core wait for each other as beside another busy process. `spun` is the CPU time that
# the second thread takes after an operation, while there is nothing to do.
PROGRAM = """
import os, statistics, sys, time
import torch
from progan.runtime.contention import shared_cores

def taken():
    return int(open(f"/proc/self/task/{second}/schedstat").read().split()[0])

def spun():
    found = []
    for _ in range(9):
        torch.ones(1 << 17)
        before = taken()
        time.sleep(0.05)
        found.append(taken() - before)
    return statistics.median(found)

torch.set_num_threads(2)
tasks = set(os.listdir("/proc/self/task"))
x = torch.rand(200, 200)
torch.ones(1 << 17)
(second,) = set(os.listdir("/proc/self/task")) - tasks
threads, spinning, product = len(os.listdir("/proc/self/task")), spun(), x @ x
all_cores = os.sched_getaffinity(0)
with shared_cores(torch.device("cpu")) as cores:
    for task in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(task), {min(all_cores)})
    deadline = time.monotonic() + 60
    while not cores.sleeps and time.monotonic() < deadline:
        torch.ones(1 << 17)
        cores.look()
    assert cores.sleeps
    assert len(os.listdir("/proc/self/task")) > threads + 1
    for task in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(task), all_cores)
    sleeping = spun()
    assert torch.equal(x @ x, product)
    assert torch.get_num_threads() == 2
for _ in range(100):
    if len(os.listdir("/proc/self/task")) == threads:  # the system needs a moment to forget threads that have ended
        break
    time.sleep(0.05)
assert len(os.listdir("/proc/self/task")) == threads
print(spinning, sleeping, spun())
assert sleeping < spinning / 3, (spinning, sleeping)
assert spun() > 3 * sleeping
"""


@LINUX
@TWO_CORES
def test_real_threads_sleep_when_they_wait_for_a_core():
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP", "KMP", "OMP"))}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr


def test_fit_looks_at_the_cores_after_each_step_and_warns_once(monkeypatch):
    looks = []

    class Busy(CoreSharing):
        def look(self) -> None:
            looks.append(1)
            self._waited_s += 10

    @contextmanager
    def busy(device):
        yield Busy(dict)

    monkeypatch.setattr("progan.training.engine.shared_cores", busy)
    trainer = Trainer.from_recipe(small_recipe(), device="cpu", progress=False)
    with pytest.warns(UserWarning, match="waited 20 s for a CPU core that other processes were using; stop") as caught:
        trainer.fit(torch.rand(9, 3, 16, 16), until=40)
    assert len(looks) == 5
    assert len(caught) == 1
    assert caught[0].filename == __file__
    looks.clear()
    trainer.plan(printed=False)
    assert len(looks) > 20
