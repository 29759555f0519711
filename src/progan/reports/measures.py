"""What each measure is called, what it says in a few words, and how its number reads beside that of the data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from progan.reports.rows import Band

_SLACK = 0.1  # relative: a value this close to the data's own is called the data's
_UNSEEN = 2.0  # of 255: a difference that nobody sees
_FEW_DEAD = 0.1  # share of the latent directions
_CLOSE_COPIES = 0.01  # share of samples up to which `progan.metrics.copying` raises no alarm


@dataclass(frozen=True)
class Measure:
    """How a measure reads.

    Attributes:
        title: Its name.
        about: What it measures, as a sentence.
        kind: ``distance`` (to the data, lower is better), ``variety`` (the data's share, higher is better), ``defect``
            (the data's own value is best, more is worse), ``copies``, ``dead`` or ``overfitting``.
        unit: ``%`` where the number is a share, else what stands after the number.
    """

    title: str
    about: str
    kind: Literal["distance", "variety", "defect", "copies", "dead", "overfitting", "unknown"]
    unit: str = ""


_SWD = "Sliced Wasserstein distance x 1000 between patches of samples and data{}. Lower is better."
_MEASURES = {
    "feature_distance": Measure(
        "Feature distance", "Distance x 1000 between features of samples and data. Lower is better.", "distance"
    ),
    "kernel_distance": Measure(
        "Kernel distance", "Unbiased kernel distance x 1000 of features (KID). Lower is better.", "distance"
    ),
    "swd": Measure("SWD", _SWD.format(", mean of all sizes"), "distance"),
    "ms_ssim": Measure("MS-SSIM", "Similarity of random pairs of samples. Above the data's: less varied.", "defect"),
    "diversity": Measure(
        "Diversity", "Variety of the samples as a share of the data's. A fall means collapse.", "variety", "%"
    ),
    "density": Measure("Density", "How densely the data lies around the samples. 1 is the data's own.", "variety"),
    "coverage": Measure("Coverage", "Share of the data that has a sample near it. Higher is better.", "variety", "%"),
    "copies": Measure(
        "Copies", "Share of samples that are closer to a training image than real images explain.", "copies", "%"
    ),
    "critic_overfitting": Measure(
        "Critic overfitting",
        "0: the critic scores held-out images like training images. 1: it scores them like generated ones.",
        "overfitting",
    ),
    "dead_directions": Measure(
        "Dead directions", "Share of the latent directions along which pictures do not change.", "dead", "%"
    ),
    "fixed_pattern": Measure(
        "Fixed patterns", "Share of fine detail that is the same in all samples: stripes, dots.", "defect", "%"
    ),
    "corners": Measure(
        "Uneven corners", "How much the corners of a flat background differ, of 255. Lower is better.", "defect"
    ),
}


def measure_of(name: str) -> Measure:
    """Return how a measure reads; one that is not known goes by its own name.

    Example:
        >>> measure_of("swd_64").title, measure_of("my_score").title
        ('SWD at 64 px', 'My score')
    """
    if name in _MEASURES:
        return _MEASURES[name]
    if size := re.fullmatch(r"swd_(\d{1,5})", name):
        return Measure(f"SWD at {size[1]} px", _SWD.format(f" at {size[1]} px"), "distance")
    return Measure(name[:1].upper() + name[1:].replace("_", " "), "", "unknown")


def amount(name: str, value: float | None) -> str:
    """Return the value of a measure as text.

    Example:
        >>> amount("swd", 23.14), amount("copies", 0.034), amount("corners", None)
        ('23.1', '3.4 %', 'not available')
    """
    if value is None:
        return "not available"
    return f"{digits(value * 100)} %" if measure_of(name).unit == "%" else digits(value)


def digits(value: float) -> str:
    """Return a number in three digits, or in all those before the point.

    Example:
        >>> [digits(value) for value in (0, 0.04512, 9.999, 23.14, 1234.5, 2e-07, -3.1e9)]
        ['0', '0.0451', '10', '23.1', '1,234', '2e-07', '-3.1e+09']
    """
    size = abs(float(f"{value:.3g}"))
    if size and not 1e-3 <= size < 1e7:
        return f"{value:.2g}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.3g}"


def verdict(name: str, value: float | None, band: Band | None) -> str:
    """Return what a value means, beside that of the data where it is known; empty if nothing is to be said.

    Example:
        >>> verdict("swd", 9.2, Band(9.0, 8.5, 9.5)), verdict("swd", 23.0, Band(9.0, 8.5, 9.5))
        ('as good as the data allows', '2.6 times the floor')
        >>> verdict("diversity", 0.62, None), verdict("copies", 0.0, None)
        ("62 % of the data's", 'no copies found')
    """
    if value is None:
        return ""
    kind = measure_of(name).kind
    if kind == "copies":
        return _copies(value, band)
    if kind == "dead":
        return (
            "all directions matter" if value < _FEW_DEAD else "the pictures ignore most of the latent" * (value > 0.5)
        )
    if kind == "overfitting":
        return "no overfitting" if value < 0.2 else "some overfitting" if value < 0.5 else "overfits"
    if name == "diversity":
        band = Band(1.0, min(1.0, band.low if band is not None else 1.0), 1.0)
    if band is None:
        return ""
    if kind == "distance":
        return _distance(value, band)
    if kind == "variety":
        as_data = value >= min(band.low, band.value * (1 - _SLACK))
        return "as the data" if as_data else f"{_ratio(value, band.value) * 100:.0f} % of the data's"
    return _defect(name, value, band) if kind == "defect" else ""


def phrase(name: str, value: float | None, band: Band | None) -> str:
    """Return a measure as a part of a sentence; empty if it is not known.

    Example:
        >>> phrase("swd", 23.1, Band(9.0, 8.5, 9.5)), phrase("diversity", 0.98, None), phrase("copies", 0.0, None)
        ('SWD 23.1 (floor 9)', "diversity as the data's", 'no copying found')
    """
    if value is None:
        return ""
    if name == "copies":
        return "no copying found" if _is_clean(value, band) else f"copies: {amount(name, value)} of the samples"
    if name == "diversity":
        said = verdict(name, value, band)
        return "diversity as the data's" if said == "as the data" else f"diversity {said}"
    return f"{within_sentence(name)} {amount(name, value)}" + (
        "" if band is None else f" (floor {amount(name, band.value)})"
    )


def within_sentence(name: str) -> str:
    """Return the name of a measure as it stands within a sentence.

    Example:
        >>> within_sentence("feature_distance"), within_sentence("swd")
        ('feature distance', 'SWD')
    """
    title = measure_of(name).title
    return title if title[:2].isupper() else title[:1].lower() + title[1:]


def _distance(value: float, band: Band) -> str:
    if value < band.low:
        return "nearer to the data than real images are, as copies would be"
    if value <= band.high:
        return "as good as the data allows"
    if band.low > 0:
        return f"{digits(round(_ratio(value, band.value), 1))} times the floor"
    if band.high > 0:  # an unbiased distance, whose floor is about 0
        return f"{digits(round(_ratio(value, band.high), 1))} times the upper end of the floor"
    return "above the floor"


def _defect(name: str, value: float, band: Band) -> str:
    as_data = value <= max(band.high, band.value * (1 + _SLACK), _UNSEEN if name == "corners" else 0.0)
    if name == "ms_ssim":
        return "as varied as the data" if as_data else "less varied than the data"
    if as_data:
        return "less than in the data" if value < band.value * (1 - _SLACK) else "as in the data"
    more = _ratio(value, band.value)
    return f"{digits(round(more, 1))} times the data's" if more else "above the data's"


def _copies(value: float, band: Band | None) -> str:
    return "no copies found" if _is_clean(value, band) else "copies of training images"


def _is_clean(value: float, band: Band | None) -> bool:
    return value <= max(_CLOSE_COPIES, band.high if band is not None else 0.0)


def _ratio(value: float, of: float) -> float:
    return value / of if of > 0 else 0.0
