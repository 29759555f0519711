"""The log of metrics: its rows, and the file that they are written to."""

from __future__ import annotations

import json
import time
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import override

from progan.arguments import check_flag
from progan.errors import warn
from progan.storage.files import append_line, write_file
from progan.training.callbacks.base import Callback, Run, check_every, crosses, run_dir_of
from progan.training.step import StepMetrics

_Key = tuple[float, Hashable]


class LossRows(Callback):
    """The rows of losses that `Callback.on_log` handles: one per interval, of the step that reaches it.

    Keys ending in ``_s`` are in seconds; all other values are identical in two equal runs.

    Args:
        every: Number of real images between two rows.
    """

    def __init__(self, every: int) -> None:
        check_every(every, self)
        self.every = every

    @override
    def on_start(self, run: Run) -> None:
        self._begun = self._last = time.perf_counter()
        self._last_seen = run.images_seen

    @override
    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        growth = metrics.growth
        if not crosses(self.every, metrics.images_seen - growth.batch_size, metrics.images_seen):
            return
        now = time.perf_counter()
        steps = max(1, (metrics.images_seen - self._last_seen) // growth.batch_size)
        row = {
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
        run.log(row)

    @override
    def on_return(self, run: Run) -> None:
        self._last, self._last_seen = time.perf_counter(), run.images_seen


class MetricsLog(LossRows):
    """The log of metrics, ``metrics.jsonl``: one JSON object per row of losses, judgement, and row of a callback.

    Keys ending in ``_s`` are in seconds; all other values are identical in two equal runs.

    Args:
        every: Number of real images between two rows of losses.
        go_on: Whether to warn when a line cannot be written, and to write it with the next one, instead of raising.
            For a judgement it always warns.
    """

    def __init__(self, every: int, *, go_on: bool = False) -> None:
        super().__init__(every)
        check_flag("go_on", go_on)
        self.go_on = go_on
        self._lines = JsonLines("metrics.jsonl")

    @override
    def on_start(self, run: Run) -> None:
        super().on_start(run)
        self._lines.begin(run_dir_of(run, self), run.images_seen)

    @override
    def on_return(self, run: Run) -> None:
        super().on_return(run)
        self._lines.begin(run_dir_of(run, self), run.images_seen)

    @override
    def on_log(self, run: Run, row: Mapping[str, Any]) -> None:
        again = any(kind in row for kind in ("setback", "average_choice", "data_change"))  # where a run was resumed
        self._lines.add(row, replaces=again)
        try:
            self.write(run)
        except OSError as error:
            if not self.go_on and not {"measures", "average_choice"} & row.keys():
                raise
            warn(f"no line of metrics at {run.images_seen:,} images yet; training continues: {error}")

    def write(self, run: Run) -> None:
        """Write the pending lines, if any.

        Raises:
            OSError: If they cannot be written; they stay pending.
        """
        self._lines.write(run_dir_of(run, self), run.images_seen)


class JsonLines:
    """A file of JSON objects in a run directory, one per line, each with the count of images that it belongs to.

    Args:
        name: Name of the file.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._pending: dict[_Key, str] = {}
        self._repairs = False

    def begin(self, run_dir: Path, images_seen: int) -> None:
        """Remove lines past a count of images, also pending ones, and what a process that died has cut off."""
        self._pending = {key: line for key, line in self._pending.items() if key[0] <= images_seen}
        self._repair(run_dir, images_seen)

    def add(self, row: Mapping[str, Any], *, replaces: bool = False) -> None:
        """Add a line; it is pending until it is written.

        Args:
            row: Row of the line.
            replaces: Whether the line may be in the file already, which is then replaced.
        """
        self._pending[_key(row)] = json.dumps(row)
        self._repairs |= replaces

    def write(self, run_dir: Path, images_seen: int) -> None:
        """Write the pending lines, if any.

        Raises:
            OSError: If they cannot be written; they stay pending.
        """
        if not self._pending:
            return
        if self._repairs:
            self._repair(run_dir, images_seen)
        self._repairs = True
        append_line(run_dir / self.name, "\n".join(self._pending.values()))
        self._repairs = False
        self._pending.clear()

    def _repair(self, run_dir: Path, images_seen: int) -> None:
        """Remove lines past a count, lines that were cut off, and lines that are pending."""
        path = run_dir / self.name
        if path.exists():
            lines = path.read_bytes().splitlines(keepends=True)
            keys = map(_key_of_line, lines)
            kept = [
                line
                for line, key in zip(lines, keys, strict=True)
                if key is not None and key[0] <= images_seen and key not in self._pending
            ]
            if kept != lines:  # a run continued past its last checkpoint, or died while it wrote a line
                write_file(path, b"".join(kept))


def _key(row: Mapping[str, Any]) -> _Key:
    """Return what identifies a row: its count of images, and what kind of row it is."""
    return row["images_seen"], (*row, row.get("text"))


def _key_of_line(line: bytes) -> _Key | None:
    """Return what identifies the row of a line; None if the line was cut off."""
    try:
        row = json.loads(line) if line.endswith(b"\n") else {}
        return _key(row | {"images_seen": int(row["images_seen"])})
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
