"""What a trainer makes from its networks, kept in line with them: the average, Adam's moments, what ranks agreed on."""

from __future__ import annotations

import warnings

from progan.runtime.ranks import Ranks
from progan.training.ema import EmaGenerator
from progan.training.step import TrainingStep
from progan.training.tracking import ParameterTracker

# What much is derived from while a trainer is made, and how to change it instead.
_FIXED = {
    "generator": "load weights with trainer.generator.load_state_dict, or pass start=",
    "discriminator": "load weights with trainer.discriminator.load_state_dict, or pass start=",
    "ema": "load weights with trainer.ema.module.load_state_dict",
    **dict.fromkeys(("recipe", "schedule", "training"), "to train on with other settings, pass start="),
    "seed": "pass seed=",
    "device": "pass device=",
    "run_dir": "pass run_dir=",
}


def set_attribute(trainer: object, name: str, value: object) -> None:
    """Set an attribute of a trainer, unless it is one that others were made from."""
    if name in _FIXED and name in vars(trainer):
        remedy = _FIXED[name] + " to a new Trainer" * _FIXED[name].endswith("=")
        raise AttributeError(f"trainer.{name} cannot be replaced, since much was made from it; {remedy}")
    object.__setattr__(trainer, name, value)


class Upkeep:
    """Bring what was made from the weights in line with weights that were set from outside, or warn.

    Args:
        step: Of the trainer.
        ema: Of its generator.
        ranks: That train together.

    Attributes:
        tracker: Of the parameters of both networks and the average.
    """

    def __init__(self, step: TrainingStep, ema: EmaGenerator, ranks: Ranks) -> None:
        networks = {"generator": step.state.generator, "discriminator": step.state.discriminator}
        self.tracker: ParameterTracker = ParameterTracker(networks, ema)
        self._step = step
        self._ema = ema
        self._ranks = ranks
        self._warned = False

    def see_to_changes(self, images_seen: int, *, together: bool) -> bool:
        """Look for changes since the tracker's last record, and take them in.

        Before the first step, the average is taken anew from the generator, unless weights were loaded into it too, and
        all ranks take the weights of rank 0. Later, a warning says what is no longer consistent.

        Args:
            images_seen: Real images shown so far.
            together: Whether all ranks do so now.

        Returns:
            Whether a captured step would no longer do what the plain one does.

        Raises:
            ValueError: If the networks are no longer what the trainer was made for.
            RankError: If the ranks no longer hold the same weights.
        """
        changed, untouched = self.tracker.changed(), self.tracker.is_untouched()
        if self.tracker.check():  # a fused Adam walks a parameter and its moments alike
            self._step.state.load_adam_tensors(self._step.state.adam_tensors())
        on_any = self._ranks.highest(int(bool(changed)), "begin fit") > 0 if together else bool(changed)
        if on_any and images_seen == 0:
            if "ema" in changed:
                self._ema.warm_up = False  # its first step would forget it
            elif "generator" in changed:
                self._ema.take(self._step.state.generator)
                self._ema.warm_up = self._step.training.ema.warm_up
            self._ema.warm_up = self._ranks.broadcast(self._ema.warm_up)
            self._ranks.take(self._step.state.tensors())
        elif on_any:
            if together:
                self._ranks.check_equal(self._step.state.tensors())
            self._warn(images_seen, self.tracker.changed_beside_hooks(changed), average_too="ema" in changed)
        self.tracker.record()
        return not untouched

    def _warn(self, images_seen: int, roles: set[str], *, average_too: bool) -> None:
        """Warn, once, of weights that were set in the middle of a run."""
        if not roles or self._warned:
            return
        self._warned = True
        stale = "Adam's moments are"
        if "generator" in roles and not average_too:
            stale = "the running average, which draws the pictures, and Adam's moments are"
        warnings.warn(
            f"the weights of the {' and the '.join(sorted(roles, reverse=True))} were changed from outside after "
            f"{images_seen:,} images; training goes on from them, but {stale} still those of the weights before. "
            "If your program loads weights each time that it starts, load them only where trainer.images_seen is 0; to "
            "begin a new run from other weights, pass start= to a new Trainer",
            stacklevel=5,
        )
