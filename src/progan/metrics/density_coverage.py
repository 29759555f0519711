"""Density and coverage (Naeem et al. 2020): how near samples are to real images, and how many real images they reach.

Around the features of each real image is a ball that reaches to its k-th nearest real image. Density is high where
samples are in many balls: they look like the data, in its dense parts. Coverage is the share of balls with a sample in
them: it falls when part of the data is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from progan.arguments import check_int
from progan.metrics.features import Extractor, features_of_both
from progan.metrics.images import Images
from progan.metrics.pairs import distances, mean_row


@dataclass(frozen=True)
class DensityCoverage:
    """Density and coverage of samples, both 1 where samples are as the data."""

    density: float
    """Mean number of balls that a sample is in, over k; may be above 1."""
    coverage: float
    """Share of the real images whose ball holds a sample, in [0, 1]."""


def density_coverage(
    real: Images,
    fake: Images,
    *,
    k: int = 5,
    features: Extractor | None = None,
) -> DensityCoverage:
    """Measure density and coverage of samples (Naeem et al. 2020, section 3).

    Coverage needs samples: with as many as there are real images, real images themselves cover about 1 - 1 / 2^k of the
    balls, and fewer samples cover fewer.

    Args:
        real: Real images, (N, C, H, W), uint8 or floats in [0, 1], or a map-style data set of images.
        fake: Samples of the same shape; their number may differ.
        k: Rank of the neighbour that a ball reaches to, from 1 on; the paper uses 5.
        features: Function of images, (B, C, H, W) in [0, 1], to features, (B, D); None = the built-in features.

    Raises:
        TypeError: If the images are no such tensors or data sets, or features is not such a function.
        ValueError: If k is not below the number of real images, or shapes differ, or values are not in [0, 1], or
            features are not finite.

    Example:
        >>> noise = torch.rand(2, 50, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> def colour(images): return images.mean(dim=(2, 3))
        >>> density_coverage(noise[0], noise[1] / 2, features=colour)
        DensityCoverage(density=0.0, coverage=0.0)
    """
    check_int("k", k, 1)
    x, y = features_of_both(real, fake, features)
    if k >= len(x):
        raise ValueError(f"k must be below the number of real images, {len(x)}, got {k}")
    return compared_by_balls(x, y, k)


def compared_by_balls(x: Tensor, y: Tensor, k: int = 5) -> DensityCoverage:
    """Compare features of real images, (N, D), with those of samples, (M, D)."""
    centre = mean_row(x)
    counts, reached = balls(x, y, ball_radii(x, k, centre), centre)
    return DensityCoverage(float(counts.sum()) / (k * len(y)), float(reached.double().mean()))


def ball_radii(x: Tensor, k: int, centre: Tensor | None = None) -> Tensor:
    """Return the distance of each row to its k-th nearest other row: (N, D) -> (N,)."""
    radii = x.new_empty(len(x), dtype=torch.float64)
    begin = 0
    for found in distances(x, x, centre):
        found.diagonal(begin).fill_(torch.inf)  # not itself
        radii[begin : begin + len(found)] = found.kthvalue(k, dim=1).values
        begin += len(found)
    return radii


def balls(x: Tensor, y: Tensor, radii: Tensor, centre: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return how many balls each sample is in, and which balls hold a sample.

    Args:
        x: Centres, (N, D).
        y: Samples, (M, D).
        radii: Radii, (N,).
        centre: A point near all of them, (D,), for `distances`.

    Returns:
        (M,), int64, and (N,), bool.
    """
    counts: list[Tensor] = []
    reached = torch.zeros(len(x), dtype=torch.bool)
    for found in distances(y, x, centre):
        inside = found < radii
        counts.append(inside.sum(dim=1))
        reached |= inside.any(dim=0)
    return torch.cat(counts), reached
