"""The report page of a run, refreshed while it trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import override

from progan.errors import warn
from progan.training.callbacks.base import Callback, Run, check_every, crosses, ends_stage, run_dir_of
from progan.training.step import StepMetrics

_SHARE = 0.01  # of the training's time; judgements have the rest of 3 %
_GRACE_S = 1.0  # for a whole run that is too short for its share


def write_report(run_dir: Path, *, training: bool) -> Path:
    """Write the report of a run; `progan.reports` is imported here, when one is written."""
    from progan import reports

    return reports.write_report(run_dir, training=training)


class ReportPage(Callback):
    """The report page of a run, ``report.html``: refreshed after each preview and judgement, and at the end of fit.

    It takes at most 1 % of the training's time, but 1 s in a run in which that is less; where that does not suffice, it
    is refreshed less often. A report that cannot be written is a warning.

    Args:
        every: Number of real images between two refreshes; the end of a stage and a judgement bring one too.
        write: Function that writes the report of a run directory, with the keyword argument ``training``: whether
            training goes on. None = `progan.reports.write_report`.
    """

    def __init__(self, every: int, write: Callable[..., object] | None = None) -> None:
        check_every(every, self)
        self.every = every
        self._write: Callable[..., object] | None = write or write_report
        self._judged = False
        self._stale = False
        self._warned = False
        self._started = False

    @override
    def on_start(self, run: Run) -> None:
        self._begun = time.perf_counter()
        self._spent_s = self._last_s = 0.0
        self._started = True

    @override
    def on_log(self, run: Run, row: Mapping[str, Any]) -> None:
        self._judged |= "measures" in row

    @override
    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        before = metrics.images_seen - metrics.growth.batch_size
        if self._judged or ends_stage(run, metrics) or crosses(self.every, before, metrics.images_seen):
            self._judged, self._stale = False, True
        if self._stale and self._affordable():
            self._refresh(run, training=True)

    @override
    def on_end(self, run: Run) -> None:
        if self._started:  # otherwise another callback's on_start has failed
            self._refresh(run, training=False)
        self._started = False

    def _affordable(self) -> bool:
        trained_s = time.perf_counter() - self._begun - self._spent_s
        return self._spent_s + self._last_s <= max(_GRACE_S, _SHARE * trained_s)

    def _refresh(self, run: Run, *, training: bool) -> None:
        if self._write is None:
            return
        begun = time.perf_counter()
        try:
            self._write(run_dir_of(run, self), training=training)
        except Exception as error:
            if not self._warned:
                self._warned = True
                warn(f"the report could not be written; training continues: {type(error).__name__}: {error}")
        self._stale = False
        self._last_s = time.perf_counter() - begun
        self._spent_s += self._last_s
