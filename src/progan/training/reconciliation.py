"""Reconciling what a trainer derives from its networks with weights that the user has changed."""

from __future__ import annotations

from collections.abc import Mapping

from progan.errors import warn
from progan.optimization import FIRST_AVERAGE
from progan.runtime.ranks import Ranks
from progan.training.ema import EmaGenerator
from progan.training.step import TrainingStep
from progan.training.tracking import ParameterTracker


class WeightReconciler:
    """What brings the averages, Adam's moments and the other ranks in line with weights that were changed from outside.

    Args:
        step: Training step.
        averages: Moving averages of the generator by name.
        ranks: Processes that train together.

    Attributes:
        tracker: Tracker of the parameters of both networks and the averages.
    """

    def __init__(self, step: TrainingStep, averages: Mapping[str, EmaGenerator], ranks: Ranks) -> None:
        networks = {"generator": step.state.generator, "discriminator": step.state.discriminator}
        self.tracker: ParameterTracker = ParameterTracker(networks, averages)
        self._step = step
        self._averages = averages
        self._ranks = ranks
        self._warned = False

    def reconcile(self, images_seen: int, *, together: bool, before: str = "begin fit") -> bool:
        """Find changes since the tracker's last record, and adapt to them.

        Before the first step, the averages are reset to the generator, unless weights were loaded into one too, and all
        ranks take the weights of rank 0. Later, a warning says what is no longer consistent.

        Args:
            images_seen: Real images shown so far.
            together: Whether all ranks reconcile now.
            before: What the ranks are about to do together.

        Returns:
            Whether a captured step would no longer do what the plain one does.

        Raises:
            ValueError: If the networks no longer have the parameters that the trainer was made for.
            RankError: If the ranks no longer hold the same weights.
        """
        changed, untouched = self.tracker.changed(), self.tracker.is_untouched()
        if self.tracker.check():  # a fused Adam needs its moments in the memory layout of the parameter
            self._step.state.load_adam_tensors(self._step.state.adam_tensors())
        on_any = self._ranks.maximum(int(bool(changed)), before) > 0 if together else bool(changed)
        if on_any and images_seen == 0:
            self._begin_averages(changed)
            self._ranks.broadcast_tensors(self._step.state.tensors())
        elif on_any:
            if together:
                self._ranks.check_same_tensors(self._step.state.tensors())
            self._warn_once(images_seen, self.tracker.changed_beside_hooks(changed), ema_too=FIRST_AVERAGE in changed)
        self.tracker.record()
        return not untouched

    def _begin_averages(self, changed: set[str]) -> None:
        """Begin the averages anew from what was loaded: an average, or else the generator."""
        state, loaded = self._step.state, changed & self._averages.keys()
        warm_up = self._averages[FIRST_AVERAGE].warm_up
        if FIRST_AVERAGE in loaded or "generator" in changed:
            source = self._averages[FIRST_AVERAGE].module if FIRST_AVERAGE in loaded else state.generator
            for name in self._averages.keys() - loaded:
                self._averages[name].take(source)
            warm_up = self._step.training.ema.warm_up
        if loaded:
            warm_up = False  # the first step would discard the loaded weights
        state.set_warm_up(self._ranks.broadcast(warm_up))

    def _warn_once(self, images_seen: int, roles: set[str], *, ema_too: bool) -> None:
        """Warn of weights that were changed in the middle of a run."""
        if not roles or self._warned:
            return
        self._warned = True
        stale = "Adam's moments are"
        if "generator" in roles and not ema_too:
            stale = "the moving average, which generates the images, and Adam's moments are"
        warn(
            f"the weights of the {' and the '.join(sorted(roles, reverse=True))} were changed from outside after "
            f"{images_seen:,} images; training continues from them, but {stale} still those of the previous "
            "weights. If your program loads weights each time it starts, load them only if trainer.images_seen is 0; "
            "to begin a new run from other weights, pass start= to a new Trainer"
        )
