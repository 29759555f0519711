"""The checks that a recipe suits the data: that mirrored images could belong to them, and that colours are flat."""

from __future__ import annotations

from abc import abstractmethod

from typing_extensions import override

from progan.augment.geometric import HorizontalFlip
from progan.data import Feed
from progan.errors import report, warn
from progan.recipe import Training
from progan.training.callbacks.base import Callback, Run


class DataCheck(Callback):
    """A warning where the first data set of a training does not suit its recipe."""

    def __init__(self) -> None:
        self._checked = False
        self._unlogged: str | None = None

    @abstractmethod
    def fault(self, run: Run, feed: Feed) -> str | None:
        """Return what does not suit, and what to do about it; None = nothing is known to."""

    @override
    def on_data(self, run: Run, feed: Feed) -> None:
        if self._checked:
            return
        self._checked = True
        self._unlogged = self.fault(run, feed)
        if self._unlogged is not None:
            warn(self._unlogged)

    @override
    def on_start(self, run: Run) -> None:
        if self._unlogged is not None:
            report(self._unlogged)  # to the log of warnings, which begins with fit
            self._unlogged = None


class FlipCheck(DataCheck):
    """A warning where the training mirrors images that should not be mirrored, such as those of writing.

    A trainer that mirrors images adds this callback by itself. It inspects the first data set only.
    """

    @override
    def fault(self, run: Run, feed: Feed) -> str | None:
        verdict = feed.flip_verdict()
        if verdict.safe is not False:
            return None
        return f"HorizontalFlip is on, and {verdict}; leave it out of Training.augment_real"


class PaletteCheck(DataCheck):
    """A warning where the generator ends in a palette, and the images are of no flat colours.

    A trainer adds this callback by itself. It inspects the first data set only.
    """

    @override
    def fault(self, run: Run, feed: Feed) -> str | None:
        n = run.generator.architecture.palette
        if not n or (verdict := feed.colour_verdict()).flat is not False:
            return None
        return (
            f"the generator mixes its colours from a palette of {n}, which is for flat ones, and {verdict}; pass "
            "flat=False to presets.few_images, or palette=0 to Architecture"
        )


def mirrors(training: Training) -> bool:
    """Return whether a training mirrors images."""
    return any(isinstance(augmentation, HorizontalFlip) for augmentation in training.augment_real)
