"""The feature distance, progan's leading measure: the energy distance between two sets of features.

The energy distance (Székely and Rizzo 2013, "Energy statistics") between distributions P and Q is
2 E|X - Y| - E|X - X'| - E|Y - Y'|, with X, X' drawn from P and Y, Y' from Q. It is 0 only if P = Q, it grows
linearly with the distance of sets that lie far apart, and it has an unbiased estimate, so two sets of real images are
at 0 in the mean, for any number of images.
"""

from __future__ import annotations

import math

from torch import Tensor

from progan.metrics.features import Extractor, features_of_both
from progan.metrics.images import Images
from progan.metrics.pairs import distances


def feature_distance(real: Images, fake: Images, *, features: Extractor | None = None) -> float:
    """Measure the energy distance between the features of two sets of images, x 1000.

    Distances are Euclidean, divided by the square root of the number of features. With the built-in features, a
    distance of 1000 is as large as the spread of the real images.

    Args:
        real: Real images, (N, C, H, W), uint8 or floats in [0, 1], or a map-style data set of images.
        fake: Images to compare with them, of the same shape; N may differ.
        features: Function of images, (B, C, H, W) in [0, 1], to features (B, D); None = the built-in features.

    Returns:
        The distance; below 0 by chance where the two sets are alike.

    Raises:
        TypeError: If the images are no such tensors or data sets, or features is not a function of images to features.
        ValueError: If there are fewer than two images in a set, or shapes differ, or values are not in [0, 1].

    Example:
        >>> import torch
        >>> noise = torch.rand(2, 50, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> abs(feature_distance(*noise)) < 20 < feature_distance(noise[0], noise[1] * 0.9)
        True
    """
    return 1000 * energy_distance(*features_of_both(real, fake, features))


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Return the unbiased estimate of the energy distance, in units of sqrt(D): (N, D), (M, D)."""
    within = [mean_distance(each, each) * len(each) / (len(each) - 1) for each in (x, y)]  # without a self-distance
    return (2 * mean_distance(x, y) - sum(within)) / math.sqrt(x.shape[1])


def mean_distance(x: Tensor, y: Tensor) -> float:
    """Return the mean Euclidean distance of all pairs: (N, D), (M, D); a vector is at 0 from itself."""
    return sum(float(found.sum()) for found in distances(x, y)) / (len(x) * len(y))
