"""kill -9 at any moment, and the same command again: the end is that of a run that nobody killed, to the bit."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest
from conftest import contents
from killed import SAVE_EVERY
from launcher import Aim, Launcher

PHASES = ("step", "save", "rotation", "growth", "sampling", "logging")
BATCH = 8

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
