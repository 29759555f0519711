"""The watch for a collapse: what the judgements of a run say of the diversity of its samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from progan.runs.recovery import RecoveryRecord
from progan.training.callbacks.base import Callback, Run

MEASURE = "diversity"


def least_diversity() -> float:
    """Return the diversity of collapsed samples; `progan.metrics` is imported here, when a run is made."""
    from progan.metrics.diversity import COLLAPSED

    return COLLAPSED


class DiversityWatch(Callback):
    """The watch for a collapse, which records whether each judgement of a fully grown level finds one.

    While a level fades in, diversity may fall for a while, so that such judgements do not count.

    Args:
        record: Record to write to.
    """

    def __init__(self, record: RecoveryRecord) -> None:
        self.record = record
        self.least: float = least_diversity()

    @override
    def on_log(self, run: Run, row: Mapping[str, Any]) -> None:
        value = row["measures"].get(MEASURE) if "measures" in row else None
        if value is not None and row["alpha"] is None:
            self.record.note_diversity(row["images_seen"], collapsed=value < self.least)
