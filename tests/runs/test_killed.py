"""kill -9 or a signal at any moment, then the same command again: the end is that of a run left alone, to the bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import contents
from killed import LEFT_AT_ONCE, SAVE_EVERY
from launcher import Aim, Launcher
from running import BATCH, PRESETS, SIGNALS, program

from progan.runs.checkpoint import FOLDER

PHASES = ("step", "save", "rotation", "growth", "sampling", "judging", "logging")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def kills(each: int, by_clock: int, seed: int) -> list[Aim]:
    rng = random.Random(seed)
    planned = [Aim(phase, rng.randint(1, 2), rng.random() ** 3 * 0.004) for phase in PHASES for _ in range(each)]
    planned += [Aim("clock", 1, rng.random() * 0.4) for _ in range(by_clock)]
    rng.shuffle(planned)
    return planned


def killed_and_begun_again(launcher: Launcher, folder: Path, planned: list[Aim], preset: str) -> None:
    launcher.run(folder / "whole", preset)
    expected = contents(folder / "whole")
    histogram: Counter[str] = Counter()
    number, last_seen, attempts = 0, 0, 0
    waiting = list(planned)
    while waiting:
        attempts += 1
        assert attempts < 10 * len(planned), f"the phases are not reached: {waiting[:3]}"
        run_dir = folder / f"{number}"
        heard = launcher.run(run_dir, preset, waiting[0])
        assert heard.resumed >= last_seen - SAVE_EVERY - BATCH, "more than one save interval was lost"
        last_seen = heard.seen
        if heard.status:
            histogram[heard.phase] += 1
            aim = waiting.pop(0)
            if aim.phase not in (heard.phase, "clock"):  # it was too late, and had gone on to another one
                waiting.append(aim.once_more())
        else:
            assert contents(run_dir) == expected
            number, last_seen = number + 1, 0
    launcher.run(folder / f"{number}", preset)
    assert contents(folder / f"{number}") == expected
    print("\nkilled in", dict(histogram))
    assert histogram.total() >= len(planned)
    return histogram


def test_twenty_kills(launcher, tmp_path):
    histogram = killed_and_begun_again(launcher, tmp_path, kills(each=3, by_clock=2, seed=0), "mel_icon")
    assert min(histogram[phase] for phase in PHASES) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["mel_icon", "karras2018"])
def test_two_hundred_kills(preset, launcher, tmp_path):
    histogram = killed_and_begun_again(launcher, tmp_path, kills(each=30, by_clock=20, seed=1), preset)
    assert min(histogram[phase] for phase in PHASES) >= 25


def signals(each: int, seed: int) -> list[Aim]:
    """In every phase, and twice as many within a save."""
    rng = random.Random(seed)
    phases = ["step", "growth", "sampling", "judging", "logging", *["save"] * 4, "clock"] * each
    planned = [
        Aim(phase, rng.randint(1, 2), rng.random() * (0.3 if phase == "clock" else 0.004), SIGNALS[index % 3])
        for index, phase in enumerate(phases)
    ]
    rng.shuffle(planned)
    return planned


def signalled_and_begun_again(launcher, folder: Path, planned: list[Aim], preset: str) -> Counter[str]:
    """Signal a run per aim; see how it leaves, and that the same command ends it as if nothing had been."""
    assert launcher.run(folder / "whole", preset, keep=1).status == 0
    expected = contents(folder / "whole")
    histogram: Counter[str] = Counter()
    waiting, attempts = list(planned), 0
    while waiting:
        attempts += 1
        assert attempts < 10 * len(planned), f"the phases are not reached: {waiting[:3]}"
        aim, run_dir = waiting.pop(0), folder / f"{attempts}"
        heard = launcher.run(run_dir, preset, aim, keep=1)
        if heard.signalled is None:  # it had ended before
            assert heard.status == 0
        else:
            phase, count = heard.signalled
            histogram[phase] += 1
            assert heard.status == 128 + aim.number
            assert heard.begun_since["step"] + heard.begun_since["growth"] <= (phase == "between")
            assert heard.begun_since["save"] <= (phase != "save")
            assert heard.stopped in (count, count + BATCH), "the step is finished, and no other one begun"
            assert [int(path.name) for path in (run_dir / FOLDER).iterdir()] == [heard.stopped]
            assert not list(run_dir.rglob(".*")), "a stray file"
            again = launcher.run(run_dir, preset, keep=1)
            assert (again.resumed, again.status) == (heard.stopped, 0)
        assert contents(run_dir) == expected
        if heard.signalled is None or aim.phase not in (heard.signalled[0], "clock"):  # it was too late
            waiting.append(aim.once_more())
    print("\nsignalled in", dict(histogram))
    return histogram


def test_signals(launcher, tmp_path):
    planned = signals(each=1, seed=0)
    histogram = signalled_and_begun_again(launcher, tmp_path, planned, "mel_icon")
    assert 3 <= histogram["save"] >= len(planned) / 5


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_fifty_signals(preset, launcher, tmp_path):
    planned = signals(each=7, seed=1)
    assert len(planned) >= 50
    histogram = signalled_and_begun_again(launcher, tmp_path, planned, preset)
    assert histogram["save"] >= histogram.total() / 5


def test_a_second_ctrl_c_leaves_at_once_and_the_same_command_goes_on(launcher, tmp_path):
    launcher.run(tmp_path / "whole", "mel_icon")
    twice = Aim("step", 4, 0.0, signal.SIGINT), Aim("signalled", 1, 0.0, signal.SIGINT)
    heard = launcher.run(tmp_path / "run", "mel_icon", *twice, long_step=4)
    assert heard.status == LEFT_AT_ONCE
    assert heard.signalled is not None
    assert not heard.begun_since, "it saved, or went on"
    assert (
        max(int(path.name) for path in (tmp_path / "run" / FOLDER).iterdir()) == heard.seen // SAVE_EVERY * SAVE_EVERY
    )
    assert not list((tmp_path / "run").rglob(".*")), "a stray file"
    assert launcher.run(tmp_path / "run", "mel_icon").status == 0
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


UNCAUGHT = """
import os, signal, sys, torch
from running import make, pixels
from conftest import small_recipe
from progan import Callback

class Ask(Callback):
    def on_step(self, run, metrics):
        for _ in range(int(sys.argv[2])):
            os.kill(os.getpid(), int(sys.argv[1]))

make(small_recipe(), callbacks=[Ask()]).fit(pixels())
"""


# A program that ends by a KeyboardInterrupt has the status of Ctrl-C; from 3.14 on, by a subclass of it, too.
TERMINATED = -signal.SIGINT if sys.version_info >= (3, 14) else 1


@pytest.mark.parametrize(
    ("number", "times", "status"), [(signal.SIGTERM, 1, TERMINATED), (signal.SIGINT, 2, -signal.SIGINT)]
)
def test_the_status_of_a_program_that_catches_nothing(number, times, status):
    """A shell calls the negative one 130."""
    done = program(UNCAUGHT, str(int(number)), str(times), check=False)
    assert done.returncode == status
    if times == 1:
        assert f"\nprogan.errors.Interrupted: signal {number:d}\n" in done.stderr


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_at_once_saves(number, tmp_path):
    """As `timeout` sends it, and a service manager: workers get it too."""
    program = """
import sys
import torch
from torch.utils.data import Dataset
from progan import Callback, Interrupted, Stage, Trainer, presets
from progan.recipe import Recipe

class Slow(Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, index):
        torch.randn(300, 300) @ torch.randn(300, 300)
        return torch.rand(3, 4, 4), index

class Tell(Callback):
    def on_step(self, run, metrics):
        if run.images_seen == 64:
            print("trains", flush=True)

recipe = presets.mel_icon(8, channels=(8, 8))
recipe = Recipe(recipe.architecture, (Stage(0, 0, 10**7),), recipe.training)
settings = {"device": "cpu", "progress": False, "workers": 2, "save_every": 10**7, "callbacks": [Tell()]}
if __name__ == "__main__":
    try:
        Trainer.from_recipe(recipe, run_dir=sys.argv[1], **settings).fit(Slow())
    except Interrupted as error:
        print(error.signal, flush=True)
"""
    (tmp_path / "program.py").write_text(program)  # a file, which workers can import where they are not forks
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "run")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "trains\n"
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=120)
    assert (out, err, process.returncode) == (f"{int(number)}\n", "", 0)
    assert len(list((tmp_path / "run/checkpoints").iterdir())) == 1
