"""kill -9 at any moment, and the same command again: the end is that of a run that nobody killed, to the bit."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT
from killed import SAVE_EVERY

from progan.checkpoint import FOLDER, TENSORS

PHASES = ("step", "save", "rotation", "growth", "sampling", "logging")
BATCH = 8

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


class Launcher:
    """Forks training processes from one that has torch loaded."""

    def __init__(self) -> None:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "tests", ROOT / "examples/mel_icon")))
        }
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/killed.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(self, run_dir: Path, preset: str, kill: tuple[str, int, float] | None) -> tuple[str | None, int, int]:
        """Train until it ends or is killed.

        Args:
            run_dir: of the run.
            preset: of its recipe.
            kill: phase, its how-manieth time, and seconds from then; None = never. "clock" counts from the first step.

        Returns:
            The phase that it was killed in, None if it ended; images at which it resumed; images when last heard of.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps({"run_dir": str(run_dir), "preset": preset}), file=self.process.stdin, flush=True)
        pid = resumed = seen = 0
        phase, times = "start", 0
        for line in self.process.stdout:
            word, *rest = line.split()
            if word == "began":
                pid = int(rest[0])
            elif word == "resumed":
                resumed = seen = int(rest[0])
            elif word == "failed":
                pytest.fail(line)
            elif word == "ended":
                return (phase if int(rest[0]) else None), resumed, seen
            else:
                phase, seen = rest[0], max(seen, int(rest[1]))
                if kill is not None and (kill[0] == phase or (kill[0] == "clock" and phase == "step")):
                    times += 1
                    if times == kill[1]:
                        time.sleep(kill[2])
                        with contextlib.suppress(ProcessLookupError):  # it has ended
                            os.kill(pid, signal.SIGKILL)
        raise AssertionError("the launcher has died")


@pytest.fixture(scope="module")
def launcher():
    made = Launcher()
    yield made
    made.process.stdin.close()
    made.process.wait()
    made.process.stdout.close()


def outcome(run_dir: Path) -> dict[str, object]:
    """All that a run is: tensors and pictures to the byte, metrics but for times."""
    newest = sorted((run_dir / FOLDER).iterdir())[-1]
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    pictures = sorted([*(run_dir / "samples").iterdir(), run_dir / "progress.png"])
    return {
        "checkpoints": [path.name for path in sorted((run_dir / FOLDER).iterdir())],
        "tensors": (newest / TENSORS).read_bytes(),
        "metrics": [{name: value for name, value in line.items() if not name.endswith("_s")} for line in lines],
        "pictures": {path.name: path.read_bytes() for path in pictures},
        "files": sorted(path.relative_to(run_dir).as_posix() for path in run_dir.rglob("*")),
    }


def kills(each: int, by_clock: int, seed: int) -> list[tuple[str, int, float]]:
    rng = random.Random(seed)
    planned = [(phase, rng.randint(1, 2), rng.random() ** 3 * 0.004) for phase in PHASES for _ in range(each)]
    planned += [("clock", 1, rng.random() * 0.4) for _ in range(by_clock)]
    rng.shuffle(planned)
    return planned


def killed_and_begun_again(
    launcher: Launcher, folder: Path, planned: list[tuple[str, int, float]], preset: str
) -> None:
    launcher.run(folder / "whole", preset, None)
    expected = outcome(folder / "whole")
    histogram: Counter[str] = Counter()
    number, last_seen, attempts = 0, 0, 0
    waiting = list(planned)
    while waiting:
        attempts += 1
        assert attempts < 10 * len(planned), f"the phases are not reached: {waiting[:3]}"
        run_dir = folder / f"{number}"
        phase, resumed, seen = launcher.run(run_dir, preset, waiting[0])
        assert resumed >= last_seen - SAVE_EVERY - BATCH, "more than one save interval was lost"
        last_seen = seen
        if phase is not None:
            histogram[phase] += 1
            aimed_at, times, _ = waiting.pop(0)
            if aimed_at not in (phase, "clock"):  # it was too late, and had gone on to another one
                waiting.append((aimed_at, times, 0.0))
        else:
            assert outcome(run_dir) == expected
            number, last_seen = number + 1, 0
    launcher.run(folder / f"{number}", preset, None)
    assert outcome(folder / f"{number}") == expected
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
