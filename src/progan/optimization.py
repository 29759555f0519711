"""Settings of both optimizers, and of the generator's moving average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from progan.arguments import check_flag, check_int, check_number, tuple_of
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

    Raises:
        TypeError: If a setting is of a wrong kind.
        ValueError: If a setting is out of its range.
    """

    decay: float = 0.999
    batch: int | None = None
    warm_up: bool = False

    def __post_init__(self) -> None:
        """Check each setting once, here."""
        check_ema(self.decay, self.batch, self.warm_up, "Ema.")


def check_ema(decay: float, batch: int | None, warm_up: bool, prefix: str = "") -> None:
    """Check the settings of a moving average.

    Args:
        decay: Weight of the old average in each step.
        batch: Batch size for which decay is meant.
        warm_up: Whether the average begins as a plain mean.
        prefix: What the errors put before the names of the settings.

    Raises:
        TypeError: If a setting is of a wrong kind.
        ValueError: If a setting is out of its range.
    """
    check_number(f"{prefix}decay", decay)
    if batch is not None:
        check_int(f"{prefix}batch", batch)
    check_flag(f"{prefix}warm_up", warm_up)
    if not 0 <= decay < 1:
        raise ValueError(f"{prefix}decay must be in [0, 1), got {decay!r}")
    if batch is not None and batch < 1:
        raise ValueError(f"{prefix}batch must be at least 1, or None, got {batch!r}")
