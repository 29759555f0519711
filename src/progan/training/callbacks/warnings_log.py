"""The log of warnings."""

from __future__ import annotations

from contextlib import ExitStack, suppress

from typing_extensions import override

from progan.errors import listening
from progan.training.callbacks.base import Callback, Run, run_dir_of
from progan.training.callbacks.metrics_log import JsonLines


class WarningsLog(Callback):
    """The log of the warnings that progan gives while it trains, ``warnings.jsonl``: one JSON object per warning.

    It never fails a run: a line that cannot be written waits for the next one.
    """

    def __init__(self) -> None:
        self._lines = JsonLines("warnings.jsonl")
        self._listening = ExitStack()

    @override
    def on_start(self, run: Run) -> None:
        with suppress(OSError):
            self._lines.begin(run_dir_of(run, self), run.images_seen)
        self._listening.enter_context(listening(lambda text: self._hear(run, text)))

    @override
    def on_return(self, run: Run) -> None:
        with suppress(OSError):
            self._lines.begin(run_dir_of(run, self), run.images_seen)

    @override
    def on_end(self, run: Run) -> None:
        self._listening.close()
        self._write(run)

    def _hear(self, run: Run, text: str) -> None:
        self._lines.add({"images_seen": run.images_seen, "text": text}, replaces=True)
        self._write(run)

    def _write(self, run: Run) -> None:
        with suppress(OSError):
            self._lines.write(run_dir_of(run, self), run.images_seen)
