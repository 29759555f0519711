"""The check that mirrored images could belong to the training data."""

from __future__ import annotations

from typing_extensions import override

from progan.augment.geometric import HorizontalFlip
from progan.data import Feed
from progan.errors import report, warn
from progan.recipe import Training
from progan.training.callbacks.base import Callback, Run


class FlipCheck(Callback):
    """A warning where the training mirrors images that should not be mirrored, such as those of writing.

    A trainer that mirrors images adds this callback by itself. It inspects the first data set only.
    """

    def __init__(self) -> None:
        self._checked = False
        self._unlogged: str | None = None

    @override
    def on_data(self, run: Run, feed: Feed) -> None:
        if self._checked:
            return
        self._checked = True
        verdict = feed.flip_verdict()
        if verdict.safe is False:
            self._unlogged = f"HorizontalFlip is on, and {verdict}; leave it out of Training.augment_real"
            warn(self._unlogged)

    @override
    def on_start(self, run: Run) -> None:
        if self._unlogged is not None:
            report(self._unlogged)  # to the log of warnings, which begins with fit
            self._unlogged = None


def mirrors(training: Training) -> bool:
    """Return whether a training mirrors images."""
    return any(isinstance(augmentation, HorizontalFlip) for augmentation in training.augment_real)
