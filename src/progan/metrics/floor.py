"""The noise floor of a distance: how far two sets of real images of that size are from each other.

No distance between finite sets is 0, and most fall with the number of images, so a number alone says little. Beside
its floor it says whether samples can still be told from real images with that many of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from progan.arguments import check_flag, check_int, check_number, wrong_type
from progan.metrics.images import Images, ImageSet, MapDataset
from progan.randomness import keyed_generator

SPLITS = 8
FEW = 100  # images of a set below which a value within the floor's interval counts as no result


@dataclass(frozen=True)
class Floor:
    """A distance between disjoint sets of real images."""

    value: float
    """Mean over random splits."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""
    images: int | None = None
    """Number of images of each of the two sets; None if unknown."""


def noise_floor(
    real: Images,
    distance: Callable[[Images, Images], float],
    *,
    n: int | None = None,
    splits: int = SPLITS,
    seed: int = 0,
) -> Floor:
    """Measure a distance between two disjoint random sets of real images, over several splits.

    The interval is the one in which the distance of two further real sets falls with a probability of about 95 %: the
    mean of the splits +- t s sqrt(1 + 1 / splits), with their standard deviation s and the quantile t of Student's
    distribution. The sets are drawn without replacement (a bootstrap with replacement would repeat images, which raises
    most distances). A value above ``high`` can therefore be told from real images, and one below cannot.

    Compare like with like: distances such as `sliced_wasserstein` fall with the number of images. ``n`` should be the
    number of samples that were compared; where the real images are fewer than twice that, the floor is that of two
    halves, which is too high, and `compare_with_floor` says so.

    Args:
        real: Real images, (N, C, H, W), uint8 or floats in [0, 1], or a map-style data set of images.
        distance: Function of two sets of images to a number, such as
            ``lambda a, b: sliced_wasserstein(a, b).mean``. It receives tensors if real is one, else data sets.
        n: Number of images of each set; at most half of the real ones are taken; None = half of them.
        splits: Number of random splits, at least 4.
        seed: Random seed of the splits.

    Raises:
        TypeError: If the images are no such tensor or data set, or distance is not such a function.
        ValueError: If there are fewer than four images, or n is below 2, or splits below 4.

    Example:
        >>> noise = torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> def brightness(a, b): return abs(float(a.mean() - b.mean()))
        >>> floor = noise_floor(noise, brightness)
        >>> floor.images, floor.low < floor.value < floor.high
        (20, True)
    """
    real_set = ImageSet("real", real, least=4)
    if not callable(distance):
        raise wrong_type("distance", "a function of two sets of images to a number", distance)
    check_int("n", 2 if n is None else n, 2)
    check_int("splits", splits, 4)
    half = len(real_set) // 2
    each = half if n is None else min(n, half)
    values: list[float] = []
    for split in range(splits):
        order = torch.from_numpy(keyed_generator(seed, "metrics", f"floor {split}").permutation(len(real_set)))
        value = distance(subset(real, order[:each]), subset(real, order[each : 2 * each]))
        check_number("distance(a, b)", value)
        values.append(float(value))
    return Floor(*prediction_interval(values), each)


class Part:
    """Some items of a data set, in order."""

    def __init__(self, images: MapDataset, indices: Tensor) -> None:
        self._images = images
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int, /) -> Any:
        return self._images[int(self._indices[index])]


def subset(images: Images, indices: Tensor) -> Images:
    """Return some of the images: a tensor of a tensor, and else a data set."""
    if isinstance(images, Tensor):
        return images[indices.to(images.device)]
    return Part(images, indices)


def prediction_interval(values: list[float]) -> tuple[float, float, float]:
    """Return the mean of some values, and the interval in which a further one falls with a probability of 95 %."""
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    reach = student_quantile(len(values) - 1) * deviation * math.sqrt(1 + 1 / len(values))
    return mean, mean - reach, mean + reach


def student_quantile(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's distribution, to 1 % from three degrees of freedom on.

    Abramowitz and Stegun 1964, equation 26.7.5.
    """
    z = 1.959964
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))


def compare_with_floor(value: float, floor: Floor, *, images: int | None = None, higher_is_better: bool = False) -> str:
    """Say in words how a value stands against its floor.

    Args:
        value: Distance between real images and samples.
        floor: Distance between two sets of real images.
        images: Number of images of the smaller set that was compared; None = as many as the floor's.
        higher_is_better: Whether a higher value is better, as of coverage.

    Returns:
        A sentence.

    Example:
        >>> floor = Floor(9.45, 7.9, 11.0, images=640)
        >>> compare_with_floor(9.9, floor)
        'as good as the data allows: two sets of 640 real images are at 9.45 (7.9 to 11)'
        >>> compare_with_floor(28.1, floor)
        '3.0 times the floor: two sets of 640 real images are at 9.45 (7.9 to 11)'
        >>> compare_with_floor(60, Floor(52, 31, 73, images=20), images=40)
        'this number means nothing with 40 images: two sets of 20 real images are at 52 (31 to 73)'
    """
    check_number("value", value)
    check_flag("higher_is_better", higher_is_better)
    count = floor.images if images is None else images
    sets = "two sets of real images" if floor.images is None else f"two sets of {floor.images} real images"
    fact = f"{sets} are at {floor.value:.3g} ({floor.low:.3g} to {floor.high:.3g})"
    worst, best = (floor.low, floor.high) if higher_is_better else (floor.high, floor.low)
    worse = value < worst if higher_is_better else value > worst
    better = value > best if higher_is_better else value < best
    if not math.isfinite(value):
        return f"no number; {fact}"
    if worse:
        rough = f"; {count} images give a rough number" if count is not None and count < FEW else ""
        times = f"{value / floor.value:.1f} times" if floor.low > 0 else "above"
        return f"{'below' if higher_is_better else times} the floor: {fact}{rough}"
    if count is not None and count < FEW:
        return f"this number means nothing with {count} images: {fact}"
    if floor.images is not None and count is not None and count > floor.images:
        return (
            f"not worse than the floor, but this is too high for {count} images: {fact}; "
            f"compare {floor.images} with {floor.images} images"
        )
    if better:
        return f"nearer to the data than real images are, which copies would be: {fact}"
    return f"as good as the data allows: {fact}"
