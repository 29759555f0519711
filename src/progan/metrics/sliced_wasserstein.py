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
_CONSTANT = 1e-5  # standard deviation below which a channel counts as constant; one level of grey is 4e-3
_BATCH = 2**22  # numbers of a batch of images
_PATCH_BYTES = 2**28  # of one level's patches, up to which each repeat has its own
_PROJECTIONS = 2**23  # numbers that are sorted at once
_ROWS = 2**14  # patches that are projected at once


@dataclass(frozen=True)
class SlicedWasserstein:
    """A sliced Wasserstein distance x 1000; 0 is best."""

    levels: dict[int, float]
    """Distance of each level of the pyramid by its height in pixels, finest first."""
    mean: float
    """Mean over the levels."""


def sliced_wasserstein(real: Images, fake: Images, *, seed: int = 0) -> SlicedWasserstein:
    """Measure the sliced Wasserstein distance between two sets of images (Karras et al. 2018, section 5).

    From every image, 128 patches of 7x7 pixels are cut out at random at each level of its Laplacian pyramid, down to 16
    pixels. Each channel is normalised to mean 0 and variance 1 over a set's patches; both sets are projected on
    4 x 128 random directions, and sorted projections compared: 1000 times the mean absolute difference.

    Two sets of real images are not at 0 but at a floor that falls with the number of images: `noise_floor`. With
    another seed the value differs by a few percent at 640 images.

    Differs: the 128 directions of one repeat are orthogonal to each other, and each repeat cuts its own patches (one
    draw for all repeats where they would take more than 256 MB, from about 1,700 + 1,700 RGB images on). Both lower the
    spread between seeds and leave the expected value as it is. Patches are kept as float16, which changes the fourth
    digit. Sets of unequal size are compared by their quantile functions, the Wasserstein distance of unequal
    samples. Sides that are no power of two are halved and rounded up. A channel without variance, such as the
    transparency of opaque images, is set to 0. Grey images have one channel, and RGBA images four.

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
    real_set, fake_set = ImageSet("real", real), ImageSet("fake", fake)
    check_same_shape(real_set, fake_set)
    channels, height, width = real_set.shape
    numbers = channels * SIDE * SIDE
    patch_bytes = 2 * numbers * PATCHES * (len(real_set) + len(fake_set))
    own_patches = REPEATS * patch_bytes <= _PATCH_BYTES
    levels: dict[int, float] = {}
    for level, size in enumerate(pyramid_sizes(height, width)):
        draws = REPEATS if own_patches else 1
        real_patches = random_patches(real_set, level, size, draws, seed)
        fake_patches = random_patches(fake_set, level, size, draws, seed)
        differences = [
            mean_difference(
                real_patches[repeat % draws],
                fake_patches[repeat % draws],
                channels,
                random_directions(numbers, seed, f"swd directions {size[0]} {repeat}"),
            )
            for repeat in range(REPEATS)
        ]
        levels[size[0]] = 1000 * sum(differences) / REPEATS
    return SlicedWasserstein(levels, sum(levels.values()) / len(levels))


def random_patches(images: ImageSet, level: int, size: tuple[int, int], draws: int, seed: int) -> list[Tensor]:
    """Cut patches out of one level of the pyramids of all images, at positions drawn uniformly.

    Args:
        images: N images.
        level: Level of the pyramid, 0 = finest.
        size: (height, width) of the level.
        draws: How often 128 patches are drawn per image.
        seed: Random seed.

    Returns:
        Per draw (N * 128, C * 7 * 7), float16.
    """
    corners = [
        random_corners(len(images), size, seed, f"swd patches {images.name} {size[0]} {draw}") for draw in range(draws)
    ]
    patches: list[Tensor] = []
    begin = 0
    for batch in images.batches(max(1, _BATCH // math.prod(images.shape))):
        windows = laplacian_level(batch, level).unfold(2, SIDE, 1).unfold(3, SIDE, 1)
        if not patches:
            shape = (len(images), PATCHES, batch.shape[1] * SIDE * SIDE)
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


def random_directions(numbers: int, seed: int, position: str) -> Tensor:
    """Draw directions, uniform on the sphere and orthogonal to each other as far as the space has room for it.

    Returns:
        (numbers, 128), float32, each column of length 1.
    """
    generator = keyed_generator(seed, "metrics", position)
    blocks: list[Tensor] = []
    while sum(block.shape[1] for block in blocks) < DIRECTIONS:
        drawn = torch.from_numpy(generator.standard_normal((numbers, min(numbers, DIRECTIONS))))
        blocks.append(torch.linalg.qr(drawn).Q)
    return torch.cat(blocks, dim=1)[:, :DIRECTIONS].float()


def mean_difference(real: Tensor, fake: Tensor, channels: int, directions: Tensor) -> float:
    """Return the mean Wasserstein distance of two sets of patches over directions.

    Args:
        real: Patches, (n, C * 7 * 7).
        fake: Patches, (m, C * 7 * 7).
        channels: C.
        directions: (C * 7 * 7, K).
    """
    real_weights, fake_weights = (normalised(patches, channels, directions) for patches in (real, fake))
    at_once = max(1, _PROJECTIONS // (len(real) + len(fake)))
    total = 0.0
    for begin in range(0, directions.shape[1], at_once):
        chosen = slice(begin, begin + at_once)
        ours = sorted_projections(real, *(each[..., chosen] for each in real_weights))
        theirs = sorted_projections(fake, *(each[..., chosen] for each in fake_weights))
        total += float(quantile_distance(ours, theirs.to(ours.device)).sum())
    return total / directions.shape[1]


def normalised(patches: Tensor, channels: int, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights and offsets that project patches as if each channel had mean 0 and variance 1 in the set.

    Returns:
        Weights, (C * 7 * 7, K), and offsets, (K,), float32 on the device of the patches.
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
    weights = directions.double().view(channels, -1, directions.shape[1]) * scale
    offsets = -(weights * mean[:, None, None]).sum((0, 1))
    return weights.flatten(0, 1).float().to(patches.device), offsets.float().to(patches.device)


def sorted_projections(patches: Tensor, weights: Tensor, offsets: Tensor) -> Tensor:
    """Project patches on directions and sort the numbers of each direction: (n, D), (D, K), (K,) -> (K, n)."""
    projections = torch.empty(weights.shape[1], len(patches), device=patches.device)
    for begin in range(0, len(patches), _ROWS):
        rows = patches[begin : begin + _ROWS].float()
        projections[:, begin : begin + _ROWS] = torch.addmm(offsets[:, None], weights.T, rows.T)
    if projections.device.type == "cpu":
        projections.numpy().sort(axis=1)  # several times as fast as torch's, and in place
        return projections
    return projections.sort(dim=1).values


def quantile_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return the Wasserstein-1 distance of samples in each row: the mean difference of their quantile functions.

    Args:
        first: Sorted samples, (K, n).
        second: Sorted samples, (K, m).

    Returns:
        (K,).
    """
    n, m = first.shape[1], second.shape[1]
    if n == m:
        return (first - second).abs_().mean(dim=1)
    # Both functions are constant between two multiples of 1/n or 1/m, here in units of 1/(n m).
    steps = torch.from_numpy(np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)).to(first.device)
    widths = (steps.diff(prepend=steps.new_zeros(1)) / (n * m)).to(first.dtype)
    return (first[:, (steps - 1) // m] - second[:, (steps - 1) // n]).abs_().mv(widths)
