"""The report of a change of the training images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from progan.errors import warn
from progan.training.callbacks.base import Callback, Run

if TYPE_CHECKING:
    from progan.training.identity import RunIdentity


class DataChanges(Callback):
    """The report of a change of the training images: a row of metrics.jsonl, and a warning.

    A run that is killed before its next checkpoint reports the change again, in place of what was reported before.

    Args:
        identity: Identity of the run.
    """

    def __init__(self, identity: RunIdentity) -> None:
        self._identity = identity

    @override
    def on_start(self, run: Run) -> None:
        text, self._identity.data_change = self._identity.data_change, None
        if text is not None:
            self._log(run)
            warn(text)

    @override
    def on_return(self, run: Run) -> None:
        self._log(run)

    def _log(self, run: Run) -> None:
        """Log the change at the present count, if there is one."""
        history = self._identity.data_history
        if history and history[-1].images_seen == run.images_seen:
            before, after = (record.to_json() for record in history[-2:])
            run.log({"data_change": {"before": before, "after": after}})
