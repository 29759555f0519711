"""Settings of both optimizers, and of the generator's moving average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from progan.arguments import check_flag, check_int, check_number, check_weight, tuple_of
from progan.schedule import Growth

AdamReset = Literal["never", "level", "level_and_fade"]


@dataclass(frozen=True)
class Adam:
    """The settings of both optimizers (Kingma and Ba 2015).

    Args:
        betas: Decay of the first and of the second moment, in [0, 1).
        eps: Added to the root of the second moment, positive.
        reset: When the moments are forgotten: ``never``, at a new ``level``, or at a new level and the end of its fade.

    Raises:
        TypeError: If a setting is of a wrong kind.
        ValueError: If a setting is out of its range.

    Example:
        >>> Adam(reset="level").resets(Growth(0, 0, None, 1e-3, 8), Growth(1, 1, 0.0, 1e-3, 8))
        True
    """

    betas: tuple[float, float] = (0.0, 0.99)
    eps: float = 1e-8
    reset: AdamReset = "never"

    def __post_init__(self) -> None:
        """Check each setting once, here."""
        object.__setattr__(self, "betas", tuple_of("Adam.betas", self.betas, "two numbers"))
        for beta in self.betas:
            check_number("each of Adam.betas", beta)
        check_number("Adam.eps", self.eps)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"Adam.betas must be two numbers in [0, 1), got {self.betas!r}")
        if not self.eps > 0:
            raise ValueError(f"Adam.eps must be positive, got {self.eps!r}")
        if self.reset not in get_args(AdamReset):
            raise ValueError(f"Adam.reset must be one of {', '.join(get_args(AdamReset))}, got {self.reset!r}")

    def resets(self, before: Growth, after: Growth) -> bool:
        """Return whether the moments are forgotten between two steps."""
        if self.reset == "never":
            return False
        fade_ended = before.alpha is not None and after.alpha is None
        return after.level != before.level or (self.reset == "level_and_fade" and fade_ended)


@dataclass(frozen=True)
class Ema:
    """The settings of the exponential moving average of the generator; see `EmaGenerator`.

    Args:
        decay: Weight of the old average in each step, in [0, 1).
        batch: Batch size for which decay is meant; None = decay per step, whatever the batch.
        warm_up: Whether the average begins as a plain mean.
        ramp_up: Greatest share of the images seen that the average's half-life may be (Karras et al. 2020a, whose
            program has 0.05), so that the average of a short run's first levels is not of networks long gone; above 0.
            None = the half-life is the same all along.

    Raises:
        TypeError: If a setting is of a wrong kind.
        ValueError: If a setting is out of its range.

    Example:
        >>> Ema(0.5, batch=10_000, ramp_up=0.05)  # a half-life of 10,000 images, from 200,000 images on
        Ema(decay=0.5, batch=10000, warm_up=False, ramp_up=0.05)
    """

    decay: float = 0.999
    batch: int | None = None
    warm_up: bool = False
    ramp_up: float | None = None

    def __post_init__(self) -> None:
        """Check each setting once, here."""
        check_ema(self.decay, self.batch, self.warm_up, self.ramp_up, "Ema.")


def check_ema(decay: float, batch: int | None, warm_up: bool, ramp_up: float | None, prefix: str = "") -> None:
    """Check the settings of a moving average.

    Args:
        decay: Weight of the old average in each step.
        batch: Batch size for which decay is meant.
        warm_up: Whether the average begins as a plain mean.
        ramp_up: Greatest share of the images seen that the half-life may be.
        prefix: What the errors put before the names of the settings.

    Raises:
        TypeError: If a setting is of a wrong kind.
        ValueError: If a setting is out of its range.
    """
    check_number(f"{prefix}decay", decay)
    if batch is not None:
        check_int(f"{prefix}batch", batch)
    check_flag(f"{prefix}warm_up", warm_up)
    if ramp_up is not None:
        check_weight(f"{prefix}ramp_up", ramp_up, above_0=True)
    if not 0 <= decay < 1:
        raise ValueError(f"{prefix}decay must be in [0, 1), got {decay!r}")
    if batch is not None and batch < 1:
        raise ValueError(f"{prefix}batch must be at least 1, or None, got {batch!r}")
