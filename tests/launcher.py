"""Start training processes, hear what they do, and signal them in the middle of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest


class Aim(NamedTuple):
    """When to send a signal."""

    phase: str
    """of the training; "clock" counts from the first step."""
    times: int
    """its how-manieth time."""
    delay_s: float
    number: int = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has none, and no fork either
    missed: bool = False
    """it came too late before: the process is to wait a moment in that phase."""

    def once_more(self) -> Aim:
        """Return the aim that cannot miss."""
        return self._replace(delay_s=0.0, missed=True)


@dataclass
class Heard:
    """What a process said."""

    resumed: int = 0
    """images at which it began."""
    seen: int = 0
    """images when last heard of."""
    phase: str = "start"
    """begun last."""
    signalled: tuple[str, int] | None = None
    """phase and images at which it noted a signal."""
    begun_since: Counter[str] = field(default_factory=Counter)
    """phases begun since then."""
    stopped: int | None = None
    """images at which the signal ended it."""
    status: int = 0
    """of the exit; a signal's number, negative, where that ended the process."""


class Launcher:
    """Forks training processes from one that has torch loaded."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("killed.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, run_dir: Path, preset: str, *aims: Aim, **options: int) -> Heard:
        """Train until it ends, or is ended by a signal.

        Args:
            run_dir: of the run.
            preset: of its recipe.
            aims: when to signal it; each counts from the one before.
            options: of `killed.train`.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        wait_in = [aim.phase for aim in aims if aim.missed]
        settings = {"run_dir": str(run_dir), "preset": preset, "wait_in": wait_in, **options}
        print(json.dumps(settings), file=self.process.stdin, flush=True)
        heard, waiting, pid, times = Heard(), list(aims), 0, 0
        for line in self.process.stdout:
            word, *rest = line.split()
            if word == "began":
                pid = int(rest[0])
            elif word == "resumed":
                heard.resumed = heard.seen = int(rest[0])
            elif word == "failed":
                pytest.fail(line)
            elif word == "stopped":
                heard.stopped = int(rest[0])
            elif word == "ended":
                heard.status = os.waitstatus_to_exitcode(int(rest[0]))
                return heard
            else:
                phase, count = rest[0], int(rest[1])
                heard.seen = max(heard.seen, count)
                if word == "signalled":
                    heard.signalled, phase = (phase, count), "signalled"
                else:
                    heard.phase = phase
                    heard.begun_since.update([phase] * (heard.signalled is not None))
                if waiting and (waiting[0].phase == phase or (waiting[0].phase == "clock" and phase == "step")):
                    times += 1
                    if times == waiting[0].times:
                        aim, times = waiting.pop(0), 0
                        time.sleep(aim.delay_s)
                        with contextlib.suppress(ProcessLookupError):  # it has ended
                            os.kill(pid, aim.number)
        raise AssertionError("the launcher has died")

    def close(self) -> None:
        """End the process that forks."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
