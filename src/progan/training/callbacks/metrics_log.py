"""The log of metrics."""

from __future__ import annotations

import json
import time
from pathlib import Path

from typing_extensions import override

from progan.arguments import check_flag
from progan.errors import warn
from progan.storage.files import append_line, write_file
from progan.training.callbacks.base import Callback, Run, check_every, crosses, run_dir_of
from progan.training.step import StepMetrics


class MetricsLog(Callback):
    """The log of metrics, ``metrics.jsonl``: one JSON object per interval, from the step that reaches it.

    Keys ending in ``_s`` are in seconds; all other values are identical in two equal runs.

    Args:
        every: Number of real images between two lines.
        go_on: Whether to warn when a line cannot be written, and to write it with the next one, instead of raising.
    """

    def __init__(self, every: int, *, go_on: bool = False) -> None:
        check_every(every, self)
        check_flag("go_on", go_on)
        self.every = every
        self.go_on = go_on
        self._pending: dict[int, str] = {}  # lines by images_seen
        self._failed = False

    @override
    def on_start(self, run: Run) -> None:
        self._begun = self._last = time.perf_counter()
        self._last_seen = run.images_seen
        self._pending = {count: line for count, line in self._pending.items() if count <= run.images_seen}
        self._repair(run)

    @override
    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        growth = metrics.growth
        if not crosses(self.every, metrics.images_seen - growth.batch_size, metrics.images_seen):
            return
        now = time.perf_counter()
        steps = max(1, (metrics.images_seen - self._last_seen) // growth.batch_size)
        line = {
            "images_seen": metrics.images_seen,
            "stage": growth.stage,
            "level": growth.level,
            "alpha": growth.alpha,
            "learning_rate": growth.learning_rate,
            **{name: loss.item() for name, loss in metrics.losses.items()},
            "step_s": round((now - self._last) / steps, 6),
            "elapsed_s": round(now - self._begun, 3),
        }
        self._last, self._last_seen = now, metrics.images_seen
        self._pending[metrics.images_seen] = json.dumps(line)
        try:
            self.write(run)
        except OSError as error:
            if not self.go_on:
                raise
            warn(f"no line of metrics at {metrics.images_seen:,} images yet; training continues: {error}")

    def write(self, run: Run) -> None:
        """Write the pending lines, if any.

        Raises:
            OSError: If they cannot be written; they stay pending.
        """
        if not self._pending:
            return
        if self._failed:
            self._repair(run)
        self._failed = True
        append_line(self._path(run), "\n".join(self._pending.values()))
        self._failed = False
        self._pending.clear()

    def _repair(self, run: Run) -> None:
        """Remove lines past the run's count, lines that were cut off, and lines that are pending."""
        path = self._path(run)
        if path.exists():
            lines = path.read_bytes().splitlines(keepends=True)
            counts = map(_images_seen, lines)
            kept = [
                line
                for line, count in zip(lines, counts, strict=True)
                if count <= run.images_seen and count not in self._pending
            ]
            if kept != lines:  # a run continued past its last checkpoint, or died while it wrote a line
                write_file(path, b"".join(kept))

    def _path(self, run: Run) -> Path:
        return run_dir_of(run, self) / "metrics.jsonl"


def _images_seen(line: bytes) -> float:
    """Return the count in a line of metrics; infinity if the line was cut off."""
    try:
        return int(json.loads(line)["images_seen"]) if line.endswith(b"\n") else float("inf")
    except (ValueError, TypeError, KeyError):
        return float("inf")
