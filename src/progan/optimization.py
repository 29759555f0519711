"""Settings of both optimizers, and of the generator's moving average."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from progan.arguments import check_flag, check_int, check_number, check_weight, tuple_of
from progan.schedule import Growth

AdamReset = Literal["never", "level", "level_and_fade"]

FIRST_AVERAGE = "ema"
_MOST_OTHERS = 4  # averages beside the first one; each is a copy of the generator


@dataclass(frozen=True)
class Adam:
    """The settings of both optimizers (Kingma and Ba 2015).

    Args:
        betas: Decay of the first and of the second moment, in [0, 1).
        eps: Added to the root of the second moment, positive.
        reset: When the moments are forgotten: ``never``, at a new ``level``, or at a new level and the end of its fade.
        generator_factor: Learning rate of the generator, as a multiple of the stage's, which is the discriminator's;
            above 0. Other than 1, it is the two time-scale update rule (Heusel et al. 2017).

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
    generator_factor: float = 1.0

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
        check_weight("Adam.generator_factor", self.generator_factor, above_0=True)

    def resets(self, before: Growth, after: Growth) -> bool:
        """Return whether the moments are forgotten between two steps."""
        if self.reset == "never":
            return False
        fade_ended = before.alpha is not None and after.alpha is None
        return after.level != before.level or (self.reset == "level_and_fade" and fade_ended)


@dataclass(frozen=True)
class Ema:
    """The settings of the exponential moving average of the generator; see `EmaGenerator`.

    A run may keep further averages of the same generator, which differ in their half-lives. At the end of the schedule,
    its judgement chooses the best of all: see `Trainer.choose_average`.

    Args:
        decay: Weight of the old average in each step, in [0, 1).
        batch: Batch size for which decay is meant; None = decay per step, whatever the batch.
        warm_up: Whether the average begins as a plain mean.
        ramp_up: Greatest share of the images seen that the average's half-life may be (Karras et al. 2020a, whose
            program has 0.05), so that the average of a short run's first levels is not of networks long gone; above 0.
            None = the half-life is the same all along.
        other_half_lives: Half-lives of further averages, as multiples of this one's, from 0.001 to 1000, at most 4; the
            limit that ramp_up sets is multiplied too. Each average takes the memory of a generator.

    Raises:
        TypeError: If a setting is of a wrong kind.
        ValueError: If a setting is out of its range.

    Example:
        >>> ema = Ema(0.5, batch=10_000, ramp_up=0.05)  # a half-life of 10,000 images, from 200,000 images on
        >>> ema = Ema(0.5, batch=10_000, ramp_up=0.05, other_half_lives=(0.5, 2))  # and of 5,000 and 20,000
        >>> [round(each.decay, 4) for each in ema.averages().values()]
        [0.5, 0.25, 0.7071]
    """

    decay: float = 0.999
    batch: int | None = None
    warm_up: bool = False
    ramp_up: float | None = None
    other_half_lives: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check each setting once, here."""
        check_ema(self.decay, self.batch, self.warm_up, self.ramp_up, "Ema.")
        multiples = tuple_of("Ema.other_half_lives", self.other_half_lives, "numbers")
        object.__setattr__(self, "other_half_lives", multiples)
        for multiple in multiples:
            check_number("each of Ema.other_half_lives", multiple)
            if not 0.001 <= multiple <= 1000:
                raise ValueError(f"each of Ema.other_half_lives must be from 0.001 to 1000, got {multiple!r}")
        if len(multiples) > _MOST_OTHERS:
            raise ValueError(f"Ema.other_half_lives takes at most {_MOST_OTHERS} numbers, got {len(multiples)}")
        if len({1, *multiples}) <= len(multiples):
            raise ValueError(f"Ema.other_half_lives must differ from 1 and from one another, got {multiples!r}")
        if multiples and self.decay == 0:
            raise ValueError("Ema.other_half_lives are multiples of a half-life, and one with decay 0 has none")

    def averages(self) -> dict[str, Ema]:
        """Return the settings of each average by name: ``ema`` is the first, the others are ``ema_1``, ``ema_2``, ...

        An average with m times the half-life has decay ** (1 / m), and m times the ramp_up.
        """
        first = replace(self, other_half_lives=())
        return {FIRST_AVERAGE: first} | {
            f"{FIRST_AVERAGE}_{number}": replace(
                first,
                decay=self.decay ** (1 / multiple),
                ramp_up=None if self.ramp_up is None else self.ramp_up * multiple,
            )
            for number, multiple in enumerate(self.other_half_lives, 1)
        }


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
