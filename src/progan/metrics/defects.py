"""Two defects that a person sees at once and no distance shows: fixed patterns, and a flat background that is not flat.

A fixed pattern, such as stripes or dots, is at the same place in every sample. So it stays in the mean of all samples'
high-pass parts h, while other details cancel each other: its share of the energy is |E h|^2 / E |h|^2. The mean of n
pictures also holds 1 / n of the energy of all that varies. To be the same for few and for many pictures, |E h|^2 is
the mean product of different pictures, (|sum of h|^2 - sum of |h|^2) / (n (n - 1)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from progan.arguments import check_int, tuple_of
from progan.metrics.descriptors import visible
from progan.metrics.images import Images, ImageSet, check_same_shape

BATCH = 2**22  # values of the images that are read at once
CORNER = 16  # times a corner's side is the shorter side of the picture

Region = tuple[int, int, int, int]


@dataclass(frozen=True)
class Defects:
    """Two defects, in samples and in real images; the result of `defects`.

    Attributes:
        fixed_pattern: Share of the high-pass energy that all samples have in common. An unbiased estimate, so it can be
            slightly below 0.
        fixed_pattern_real: The same of the real images: contours that are at the same place in all of them.
        corners: Median difference between the colours of the samples' two upper corners, in grey levels of 255.
        corners_real: The same of the real images; 0 if their backgrounds are flat.
    """

    fixed_pattern: float
    fixed_pattern_real: float
    corners: float
    corners_real: float


def defects(samples: Images, real: Images, *, region: Region | None = None) -> Defects:
    """Measure fixed patterns and uneven backgrounds.

    Args:
        samples: Generated images, (N, C, H, W), uint8 or floats in [0, 1], or a map-style data set.
        real: Real images, of the same shape.
        region: Part in which fixed patterns are looked for, (top, left, bottom, right) in pixels, such as the faces,
            which have fewer contours in common than whole portraits; None = the whole picture.

    Raises:
        TypeError: If a set is not one of images, or the region is not one of ints.
        ValueError: If a set has fewer than 2 images, or the images have different shapes, values outside [0, 1], or
            NaN; if the region is empty or does not lie in the picture.

    Example:
        >>> real = torch.rand(64, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> striped = real / 2
        >>> striped[:, :, ::2] += 0.5  # every second row
        >>> found = defects(striped, real)
        >>> round(found.fixed_pattern, 2), abs(found.fixed_pattern_real) < 0.01
        (0.79, True)
    """
    sets = ImageSet("samples", samples), ImageSet("real", real)
    check_same_shape(*sets)
    box = _box(region, sets[0].shape)
    (pattern, corners), (pattern_real, corners_real) = (_measured(images, box) for images in sets)
    return Defects(pattern, pattern_real, corners, corners_real)


def high_pass(images: Tensor) -> Tensor:
    """Return images without their low-pass part: (B, C, H, W), the same shape.

    The low-pass is that of a Laplacian pyramid (Burt and Adelson 1983): binomial 5x5, with reflected edges.
    """
    low = F.pad(images, (2, 2, 2, 2), mode="reflect")
    for _ in range(4):  # 1 4 6 4 1, the fourth row of Pascal's triangle
        low = low[:, :, 1:] + low[:, :, :-1]
    for _ in range(4):
        low = low[..., 1:] + low[..., :-1]
    return images - low / 256


def common_share(total: Tensor, energy: float, count: int) -> float:
    """Return the share of energy that pictures have in common, without bias from their number.

    Args:
        total: Sum of their features, of any shape.
        energy: Sum of their features' squares.
        count: Number of pictures.

    Returns:
        The mean product of two different pictures, over the mean square; 0 for pictures without energy.
    """
    common = (float(total.double().square().sum()) - energy) / (count * (count - 1))
    return common / (energy / count) if energy > 0 else 0.0


def corner_difference(images: Tensor) -> Tensor:
    """Return how much the upper corners' mean colours differ: (B, C, H, W) -> (B,), mean over channels, of 255."""
    side = max(1, min(images.shape[2:]) // CORNER)
    left, right = images[:, :, :side, :side].mean(dim=(2, 3)), images[:, :, :side, -side:].mean(dim=(2, 3))
    return 255 * (left - right).abs().mean(dim=1)


def _measured(images: ImageSet, box: tuple[slice, slice]) -> tuple[float, float]:
    """Return the share of the energy that a set has in common, and its median difference of corners."""
    rows, columns = box
    size = images.shape[0], rows.stop - rows.start, columns.stop - columns.start
    total, energy = torch.zeros(size, dtype=torch.float64), 0.0
    # Written into a tensor made at once: small ones made between large ones would keep the heap from being used again.
    corners, begin = torch.empty(len(images), dtype=torch.float64), 0
    for batch in images.batches(max(1, BATCH // math.prod(images.shape))):
        seen = visible(batch)
        details = high_pass(seen)[..., rows, columns]
        total += details.sum(dim=0).cpu()
        energy += float(details.square().sum(dim=(1, 2, 3)).double().sum())
        corners[begin : begin + len(batch)] = corner_difference(seen)
        begin += len(batch)
    return common_share(total, energy, len(images)), float(corners.quantile(0.5))


def _box(region: Any, shape: tuple[int, int, int]) -> tuple[slice, slice]:
    """Return a region as slices of rows and columns."""
    height, width = shape[1:]
    if region is None:
        return slice(0, height), slice(0, width)
    sides = tuple_of("region", region, "ints")
    for side in sides:
        check_int("a side of region", side, 0)
    if len(sides) != 4 or not (sides[0] < sides[2] <= height and sides[1] < sides[3] <= width):
        raise ValueError(
            f"region must be (top, left, bottom, right) in pixels, within {height}x{width} and not empty, got {sides}"
        )
    top, left, bottom, right = sides
    return slice(top, bottom), slice(left, right)
