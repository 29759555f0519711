"""The record of the choice among averages, which becomes part of the state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from progan.runs.average_choice import AverageChoice
from progan.training.callbacks.base import Callback, Run
from progan.training.state import TrainingState


def choice_row(run: Run, choice: AverageChoice) -> dict[str, Any]:
    """Return a choice as a row of metrics.jsonl."""
    text = choice.describe((1, *run.training.ema.other_half_lives))
    return {"images_seen": choice.images_seen, "text": text, "average_choice": choice.to_json()}


class ChoiceRecord(Callback):
    """What takes the choice among averages that a judgement has logged into the state, before it is saved.

    Args:
        state: State of the training.
    """

    def __init__(self, state: TrainingState) -> None:
        self.state = state

    @override
    def on_log(self, run: Run, row: Mapping[str, Any]) -> None:
        if "average_choice" in row:
            self.state.choice = AverageChoice.from_json(row["average_choice"])
