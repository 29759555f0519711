"""The sliced Wasserstein distance between patches, scale by scale (Karras et al. 2018, section 5).

Patches of 7x7 pixels from one level of the images' Laplacian pyramids are projected on random directions; in each
direction, the distance between two sets of numbers is the mean difference of their sorted values. Fine levels compare
textures and edges, coarse ones the composition. A patch forgets where it was cut out, so shapes in wrong places cost
little, and faint structures that are the same in all images go nearly unseen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from progan.metrics.images import Images, ImageSet, check_same_shape
from progan.metrics.pyramid import laplacian_level, pyramid_sizes
from progan.randomness import keyed_generator

SIDE = 7  # pixels of a patch
PATCHES = 128  # per image and level
REPEATS = 4
DIRECTIONS = 128  # in each repeat
RANGE = 32.0  # standard deviations up to which projections are told apart; those of portraits reach 16
MOST_BINS = 2**15  # from -RANGE to RANGE: 1/512 of a standard deviation each
LEAST_BINS = 2**12
_CONSTANT = 1e-5  # standard deviation below which a channel counts as constant; one level of grey is 4e-3
_BATCH = 2**22  # numbers of a batch of images
_PATCH_BYTES = 2**28  # of one level's patches of a set, up to which each repeat has its own
_ROWS = 2**13  # patches that are projected at once


@dataclass(frozen=True)
class SlicedWasserstein:
    """A sliced Wasserstein distance x 1000; 0 is best."""

    levels: dict[int, float]
    """Distance of each level of the pyramid by its height in pixels, finest first."""
    mean: float
    """Mean over the levels."""


@torch.no_grad()
def sliced_wasserstein(real: Images, fake: Images, *, seed: int = 0) -> SlicedWasserstein:
    """Measure the sliced Wasserstein distance between two sets of images (Karras et al. 2018, section 5).

    From every image, 128 patches of 7x7 pixels are cut out at random at each level of its Laplacian pyramid, down to 16
    pixels. Each channel is normalised to mean 0 and variance 1 over a set's patches; both sets are projected on
    4 x 128 random directions, and sorted projections compared: 1000 times the mean absolute difference.

    Two sets of real images are not at 0 but at a floor that falls with the number of images: `noise_floor`. With
    another seed the value differs by a few percent at 640 images.

    Differs: the 128 directions of one repeat are orthogonal to each other, and each repeat cuts its own patches (one
    draw for all repeats where they would take more than 256 MB, from about 1,700 RGB images in a set on). Both lower
    the spread between seeds and leave the expected value as it is. Patches are kept as float16. Projections are
    counted in fine bins with randomly shifted edges instead of sorted: the area between two cumulative distributions
    is the mean difference of sorted values, also for sets of different size, and random edges make the expected value
    exact. Both change the fourth digit. Sides that are no power of two are halved and rounded up. A channel without
    variance, such as the transparency of opaque images, is set to 0. Grey images have one channel, and RGBA images
    four.

    Args:
        real: Real images, (N, C, H, W), uint8 or floats in [0, 1], or a map-style data set of images.
        fake: Images to compare with them, of the same shape; N may differ.
        seed: Random seed of patches and directions.

    Raises:
        TypeError: If the images are no such tensors or data sets.
        ValueError: If there are fewer than two images in a set, or shapes differ, or values are not in [0, 1].

    Example:
        >>> noise = torch.rand(2, 20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> alike, darker = sliced_wasserstein(*noise), sliced_wasserstein(noise[0], noise[1] * noise[1])
        >>> list(alike.levels), alike.mean < darker.mean
        ([32, 16], True)
    """
    return patch_distance(real, fake, seed=seed)


def patch_distance(real: Images, fake: Images, *, seed: int, repeats: int = REPEATS) -> SlicedWasserstein:
    """Measure the distance with a number of repeats: fewer cost less, and spread more between seeds."""
    real_set, fake_set = ImageSet("real", real), ImageSet("fake", fake)
    check_same_shape(real_set, fake_set)
    bins = number_of_bins(PATCHES * min(len(real_set), len(fake_set)))
    levels: dict[int, float] = {}
    for level, size in enumerate(pyramid_sizes(*real_set.shape[1:])):
        differences = histograms(real_set, level, size, bins, seed, repeats)
        differences -= histograms(fake_set, level, size, bins, seed, repeats).to(differences.device)
        levels[size[0]] = 1000 * mean_area(differences)
    return SlicedWasserstein(levels, sum(levels.values()) / len(levels))


def histograms(images: ImageSet, level: int, size: tuple[int, int], bins: int, seed: int, repeats: int) -> Tensor:
    """Return the histogram of patches' projections on each direction.

    Args:
        images: N images.
        level: Level of the pyramid, 0 = finest.
        size: (height, width) of the level.
        bins: Number of bins.
        seed: Random seed.
        repeats: Number of repeats.

    Returns:
        (repeats, DIRECTIONS, bins), shares of the patches, float32.
    """
    patches = random_patches(images, level, size, seed, repeats)
    found: list[Tensor] = []
    for repeat in range(repeats):
        chosen = patches[repeat % len(patches)]
        directions, shifts = random_directions(chosen.shape[1], seed, f"swd directions {size[0]} {repeat}")
        weights, offsets = binning(chosen, images.shape[0], directions, shifts, bins)
        found.append(projection_counts(chosen, weights, offsets, bins) / len(chosen))
    return torch.stack(found)


def random_patches(images: ImageSet, level: int, size: tuple[int, int], seed: int, repeats: int) -> list[Tensor]:
    """Cut patches out of one level of the pyramids of all images, at positions drawn uniformly.

    Args:
        images: N images.
        level: Level of the pyramid, 0 = finest.
        size: (height, width) of the level.
        seed: Random seed.
        repeats: Number of repeats.

    Returns:
        (N * 128, C * 7 * 7), float16, for each repeat, or once for all.
    """
    shape = (len(images), PATCHES, images.shape[0] * SIDE * SIDE)
    draws = repeats if 2 * math.prod(shape) * repeats <= _PATCH_BYTES else 1
    corners = [
        random_corners(len(images), size, seed, f"swd patches {images.name} {size[0]} {draw}") for draw in range(draws)
    ]
    patches: list[Tensor] = []
    begin = 0
    for batch in images.batches(max(1, _BATCH // math.prod(images.shape))):
        windows = laplacian_level(batch, level).unfold(2, SIDE, 1).unfold(3, SIDE, 1)
        if not patches:
            patches = [torch.empty(shape, dtype=torch.float16, device=batch.device) for _ in range(draws)]
        end = begin + len(batch)
        index = torch.arange(len(batch), device=batch.device)[:, None]
        for place, into in zip(corners, patches, strict=True):
            top, left = place[begin:end].to(batch.device).long().unbind(-1)
            into[begin:end] = windows[index, :, top, left].flatten(2)
        begin = end
    return [rows.flatten(0, 1) for rows in patches]


def random_corners(n: int, size: tuple[int, int], seed: int, position: str) -> Tensor:
    """Draw where patches begin: (n, 128, 2), int32, rows and columns of a level of a size."""
    ends = size[0] - SIDE + 1, size[1] - SIDE + 1
    drawn = keyed_generator(seed, "metrics", position).integers(0, ends, (n, PATCHES, 2), dtype=np.int32)
    return torch.from_numpy(drawn)


def random_directions(numbers: int, seed: int, position: str) -> tuple[Tensor, Tensor]:
    """Draw directions, uniform on the sphere and orthogonal to each other as far as the space has room for it.

    Returns:
        Directions, (numbers, 128), each of length 1, and where the bins of each begin, (128,), in [0, 1); float64.
    """
    generator = keyed_generator(seed, "metrics", position)
    blocks: list[Tensor] = []
    while sum(block.shape[1] for block in blocks) < DIRECTIONS:
        drawn = torch.from_numpy(generator.standard_normal((numbers, min(numbers, DIRECTIONS))))
        blocks.append(torch.linalg.qr(drawn).Q)
    return torch.cat(blocks, dim=1)[:, :DIRECTIONS], torch.from_numpy(generator.random(DIRECTIONS))


def number_of_bins(n: int) -> int:
    """Return the number of bins for a set of n patches: a power of two, as fine as the set's own noise allows."""
    return min(MOST_BINS, max(LEAST_BINS, 1 << (n // 2).bit_length()))


def binning(patches: Tensor, channels: int, directions: Tensor, shifts: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Return weights and offsets that take a patch to its bin in each direction.

    They normalise each channel to mean 0 and variance 1 over the patches on the way.

    Args:
        patches: (n, C * 7 * 7).
        channels: C.
        directions: (C * 7 * 7, K).
        shifts: Where the bins of each direction begin, (K,), in bins.
        bins: Number of bins.

    Returns:
        (C * 7 * 7, K) and (K,), float32 on the device of the patches.
    """
    near = patches[0].float().view(channels, -1).mean(dim=1)[:, None]  # the variance of values near 0 keeps its digits
    sums = torch.zeros(2, channels, dtype=torch.float64)
    for begin in range(0, len(patches), _ROWS):
        rows = patches[begin : begin + _ROWS]
        values = rows.float().view(len(rows), channels, -1) - near
        sums += torch.stack((values.sum((0, 2)), values.square().sum((0, 2)))).cpu()
    mean, square = sums / (patches.numel() / channels)
    deviation = (square - mean.square()).clamp_min(0).sqrt()
    mean += near[:, 0].cpu()
    scale = torch.where(deviation > _CONSTANT, 1 / deviation, 0.0)[:, None, None]
    weights = directions.view(channels, -1, directions.shape[1]) * scale * (bins / (2 * RANGE))
    offsets = bins / 2 + shifts - (weights * mean[:, None, None]).sum((0, 1))
    return weights.flatten(0, 1).float().to(patches.device), offsets.float().to(patches.device)


def projection_counts(patches: Tensor, weights: Tensor, offsets: Tensor, bins: int) -> Tensor:
    """Count the projections of patches in bins: (n, D), (D, K), (K,) -> (K, bins), int32."""
    counts = torch.zeros(weights.shape[1], bins, dtype=torch.int32, device=patches.device)
    one = counts.new_ones(1, 1)
    for begin in range(0, len(patches), _ROWS):
        rows = patches[begin : begin + _ROWS].float()
        places = torch.addmm(offsets[:, None], weights.T, rows.T).clamp_(0, bins - 1).long()
        counts.scatter_add_(1, places, one.expand_as(places))
    return counts


def mean_area(differences: Tensor) -> float:
    """Return the mean area between two cumulative distributions: the Wasserstein distance in each direction.

    Args:
        differences: Differences of two histograms that sum to 1, (..., bins).
    """
    return float(differences.cumsum(-1).abs_().sum(-1).mean()) * 2 * RANGE / differences.shape[-1]
