"""The kernel distance between two sets of images, known as KID (Binkowski et al. 2018), on features of any kind.

It is the squared maximum mean discrepancy with the polynomial kernel k(x, y) = (x . y / D + 1)^3, which compares the
features' means, covariances and skewness. The estimate is unbiased: two sets of real images are at 0 in the mean, for
any number of images, and a value may be negative. It sees what the features see.
"""

from __future__ import annotations

import torch
from torch import Tensor

from progan.arguments import check_int
from progan.metrics.features import Extractor, features_of_both
from progan.metrics.images import Images
from progan.metrics.pairs import in_blocks
from progan.randomness import keyed_generator


def kernel_distance(
    real: Images,
    fake: Images,
    *,
    features: Extractor | None = None,
    subsets: int | None = None,
    subset_size: int = 1000,
    seed: int = 0,
) -> float:
    """Measure the kernel distance between two sets of images, x 1000 (Binkowski et al. 2018, section 4).

    The estimate uses all images at once. With ``subsets`` it is the mean over random subsets instead, as the paper
    computes it: the same in the mean, with a wider spread.

    Args:
        real: Real images, (N, C, H, W), uint8 or floats in [0, 1], or a map-style data set of images.
        fake: Images to compare with them, of the same shape; N may differ.
        features: Function of images, (B, C, H, W) in [0, 1], to features, (B, D); None = the built-in features.
        subsets: Number of random subsets; None = all images at once.
        subset_size: Number of images that a subset takes from each set.
        seed: Random seed of the subsets.

    Raises:
        TypeError: If the images are no such tensors or data sets, or features is not such a function.
        ValueError: If there are fewer than two images in a set, or fewer than a subset takes, or shapes differ, or
            values are not in [0, 1], or features are not finite.

    Example:
        >>> noise = torch.rand(2, 50, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> def colour(images): return images.mean(dim=(2, 3))
        >>> alike = kernel_distance(*noise, features=colour)
        >>> darker = kernel_distance(noise[0], noise[1] / 2, features=colour)
        >>> abs(alike) < 1 < darker
        True
    """
    x, y = features_of_both(real, fake, features)
    if subsets is None:
        return 1000 * squared_discrepancy(x, y)
    check_int("subsets", subsets, 1)
    check_int("subset_size", subset_size, 2)
    if subset_size > min(len(x), len(y)):
        raise ValueError(
            f"subset_size must be at most the number of images of either set, {min(len(x), len(y))}, got {subset_size}"
        )
    generator = keyed_generator(seed, "metrics", "kernel distance subsets")
    total = 0.0
    for _ in range(subsets):
        chosen = (torch.from_numpy(generator.permutation(len(rows))[:subset_size]) for rows in (x, y))
        total += squared_discrepancy(*(rows[indices] for rows, indices in zip((x, y), chosen, strict=True)))
    return 1000 * total / subsets


def squared_discrepancy(x: Tensor, y: Tensor) -> float:
    """Return the unbiased estimate of the squared maximum mean discrepancy of (n, D) and (m, D)."""
    within = 0.0
    for rows in (x, y):
        of_itself = sum(float(kernel(part.square().sum(dim=1), part.shape[1]).sum()) for part in in_blocks(rows))
        within += (kernel_sum(rows, rows) - of_itself) / (len(rows) * (len(rows) - 1))
    return within - 2 * kernel_sum(x, y) / (len(x) * len(y))


def kernel_sum(x: Tensor, y: Tensor) -> float:
    """Return the sum of k(x_i, y_j) over all i and j, block by block."""
    blocks = ((some, others) for some in in_blocks(x) for others in in_blocks(y))
    return sum(float(kernel(some @ others.T, x.shape[1]).sum()) for some, others in blocks)


def kernel(products: Tensor, dimensions: int) -> Tensor:
    """Return the polynomial kernel of degree 3 of inner products."""
    return (products / dimensions + 1) ** 3
