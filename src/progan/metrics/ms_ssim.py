"""Multi-scale structural similarity between images of one set (Wang et al. 2003), a measure of collapse.

Two images are compared at five scales by their local contrast and structure, and at the coarsest one by their local
brightness too. As Karras et al. 2018 (section 5) use it, the mean over random pairs says how alike the images of a set
are: where it is above the data's own value, samples vary less than the data. It says nothing of whether they look
like the data.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from progan.arguments import check_int
from progan.metrics.images import Images, ImageSet
from progan.randomness import keyed_generator

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, finest first; Wang et al. 2003, section 4
WINDOW, SIGMA = 11, 1.5  # pixels
C1, C2 = 0.01**2, 0.03**2  # for values in [0, 1]
PAIRS = 4096
_BATCH = 2**20  # numbers of a batch of images


class Scale(NamedTuple):
    """Images at one scale, with the statistics of each window of theirs."""

    images: Tensor
    """(B, C, h, w), values in [0, 1]."""
    mean: Tensor
    """(B, C, h - s + 1, w - s + 1) for windows of s x s pixels."""
    variance: Tensor
    """Of the shape of mean."""


@torch.no_grad()
def ms_ssim(images: Images, *, pairs: int | None = None, seed: int = 0) -> float:
    """Measure how alike the images of a set are: the mean MS-SSIM of random pairs (Karras et al. 2018, section 5).

    1 means that all images are equal. Only a comparison with the data's own value says whether this is much.

    As in the paper's program, the Gaussian window of 11x11 pixels and its standard deviation shrink where a scale is
    smaller than that (images below 176 pixels), only whole windows count, scales are made by averaging 2x2 pixels, and
    a negative mean of a scale counts as 0. All channels count alike.

    Differs: pairs are drawn so that all images that are drawn are in equally many, which lowers the spread. The paper's
    program compares each image with the one after it, which is no random pair where neighbours in a folder are alike.

    Args:
        images: Images, (N, C, H, W), uint8 or floats in [0, 1], or a map-style data set of images.
        pairs: Number of different pairs, rounded up to a multiple of N where N is smaller, and at most half of all
            N (N - 1); None = 4,096.
        seed: Random seed of the pairs.

    Raises:
        TypeError: If the images are no such tensor or data set, or pairs is not an int.
        ValueError: If there are fewer than two images, or values are not in [0, 1], or pairs is below 1.

    Example:
        >>> ms_ssim(torch.full((4, 1, 16, 16), 0.5))
        1.0
    """
    image_set = ImageSet("images", images)
    pairs = PAIRS if pairs is None else pairs
    check_int("pairs", pairs, 1)
    ring, partners = random_ring(len(image_set), pairs, seed)
    at_once = max(1, 2 * partners, _BATCH // math.prod(image_set.shape))
    similarities: list[Tensor] = []
    for begin in range(0, len(ring), at_once):
        count = min(at_once, len(ring) - begin)
        members = ring[torch.arange(begin, begin + count + partners) % len(ring)]
        scales = five_scales(torch.cat(list(image_set.batches(len(members), members))))
        similarities += [
            similarity(part(scales, 0, count), part(scales, step, step + count)) for step in range(1, partners + 1)
        ]
    return float(torch.cat(similarities).double().mean())


def random_ring(n: int, pairs: int, seed: int) -> tuple[Tensor, int]:
    """Draw pairs as a ring of images in random order, each compared with so many after it.

    Returns:
        Indices, (min(n, pairs),), of at least two images, and the number of partners.
    """
    order = torch.from_numpy(keyed_generator(seed, "metrics", "ms-ssim pairs").permutation(n))[: max(2, pairs)]
    return order, max(1, min(-(-pairs // len(order)), (len(order) - 1) // 2))


def five_scales(images: Tensor) -> list[Scale]:
    """Return images at five scales with the statistics of their windows: (B, C, H, W), values in [0, 1]."""
    scales: list[Scale] = []
    for _ in WEIGHTS:
        images = F.avg_pool2d(images, 2) if scales else images
        mean = window_means(images)
        scales.append(Scale(images, mean, window_means(images.square()).sub_(mean.square())))
    return scales


def window_means(images: Tensor) -> Tensor:
    """Return the mean of each window, weighted by a Gaussian: (B, C, h, w) -> (B, C, h - s + 1, w - s + 1).

    The windows are s x s pixels, 11 or the shorter side. A convolution of each channel by itself: fast, and in full
    precision on every device.
    """
    count, channels, height, width = images.shape
    size = min(WINDOW, height, width)
    offsets = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weights = (-0.5 * (offsets / (SIGMA * size / WINDOW)).square()).exp()
    weights = (weights / weights.sum()).to(images).expand(count * channels, 1, 1, size)
    planes = images.reshape(1, count * channels, height, width)
    planes = F.conv2d(planes, weights, groups=count * channels)
    planes = F.conv2d(planes, weights.transpose(2, 3), groups=count * channels)
    return planes.view(count, channels, *planes.shape[2:])


def similarity(first: list[Scale], second: list[Scale]) -> Tensor:
    """Return the MS-SSIM of B pairs of images (Wang et al. 2003, equation 7): (B,)."""
    product = torch.ones((), device=first[0].mean.device)
    for index, (one, two, weight) in enumerate(zip(first, second, WEIGHTS, strict=True)):
        covariance = window_means(one.images * two.images) - one.mean * two.mean
        terms = (2 * covariance + C2) / (one.variance + two.variance + C2)
        if index == len(WEIGHTS) - 1:
            terms = terms * (2 * one.mean * two.mean + C1) / (one.mean.square() + two.mean.square() + C1)
        product = product * terms.mean(dim=(1, 2, 3)).clamp_min(0) ** weight
    return product


def part(scales: list[Scale], begin: int, end: int) -> list[Scale]:
    """Return some of the images at each scale."""
    return [Scale(*(tensor[begin:end] for tensor in scale)) for scale in scales]
