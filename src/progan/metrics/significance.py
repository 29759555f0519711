"""Tests whether one set of values is smaller, or one share larger, than chance allows."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def rank_test(first: Tensor, second: Tensor) -> tuple[float, float]:
    """Test whether values of one sample are smaller than those of another (Mann and Whitney 1947), one-sided.

    Args:
        first: (n,), on the CPU.
        second: (m,), on the CPU.

    Returns:
        The probability that a value of first is smaller than one of second, equal ones counted half; and p, by the
        normal approximation, corrected for ties and for continuity.

    Example:
        >>> rank_test(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0]))[0]
        0.875
    """
    n, m = len(first), len(second)
    ordered = second.sort().values
    smaller = m - torch.searchsorted(ordered, first, right=True)
    equal = m - smaller - torch.searchsorted(ordered, first)
    u = float(smaller.sum()) + float(equal.sum()) / 2
    ties = np.unique(torch.cat((first, second)).numpy(), return_counts=True)[1].astype(np.float64)
    total = n + m
    variance = n * m / 12 * (total + 1 - float((ties**3 - ties).sum()) / (total * (total - 1)))
    z = (u - n * m / 2 - 0.5) / math.sqrt(variance) if variance > 0 else 0.0
    return u / (n * m), math.erfc(z / math.sqrt(2)) / 2


def binomial_p(count: int, n: int, real_count: int, m: int) -> float:
    """Return the probability of at least count cases among n, if they are as frequent as real_count cases among m.

    The binomial distribution with Jeffreys' estimate, (real_count + 1/2) / (m + 1).

    Example:
        >>> binomial_p(0, 10, 0, 10), round(binomial_p(1, 1, 1, 2), 12)
        (1.0, 0.5)
    """
    expected = (real_count + 0.5) / (m + 1)
    below = math.fsum(
        math.exp(
            math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
            + k * math.log(expected) + (n - k) * math.log1p(-expected)
        )
        for k in range(count)
    )  # fmt: skip
    return max(0.0, 1 - below)
