"""Laplacian pyramids (Burt and Adelson 1983): an image as what each scale adds to the next coarser one.

One level is the difference between an image and its own coarser version, enlarged again; the coarsest level is the
image at that size. The filter is the binomial one, (1, 4, 6, 4, 1) / 16 in both directions, and edges are reflected:
the pixel beyond the edge is the one before it, and the edge itself is not repeated.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_SIDE = 16  # pixels of the shorter side at the coarsest level


def pyramid_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Return (height, width) of each level, finest first: halved, rounded up, while the shorter side is at least 16.

    Example:
        >>> pyramid_sizes(64, 64), pyramid_sizes(75, 50)
        ([(64, 64), (32, 32), (16, 16)], [(75, 50), (38, 25)])
    """
    sizes = [(height, width)]
    while min(coarser := ((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2)) >= LEAST_SIDE:
        sizes.append(coarser)
    return sizes


def laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """Return all levels of a Laplacian pyramid.

    Args:
        images: Images, (B, C, H, W), floats.

    Returns:
        The levels, finest first, (B, C, h, w) of the sizes of `pyramid_sizes`.
    """
    levels = [images]
    for size in pyramid_sizes(*images.shape[2:])[:-1]:
        levels.append(shrink(levels[-1]))
        levels[-2] = levels[-2] - enlarge(levels[-1], size)
    return levels


def laplacian_level(images: Tensor, level: int) -> Tensor:
    """Return one level of a Laplacian pyramid: (B, C, H, W) -> (B, C, h, w); 0 is the finest."""
    for _ in range(level):
        images = shrink(images)
    sizes = pyramid_sizes(*images.shape[2:])
    return images - enlarge(shrink(images), sizes[0]) if len(sizes) > 1 else images


def shrink(images: Tensor) -> Tensor:
    """Blur images and keep every second pixel: (B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2))."""
    for dim, padding in ((3, (2, 2, 0, 0)), (2, (0, 0, 2, 2))):
        taps = F.pad(images, padding, mode="reflect").unfold(dim, 5, 2).unbind(-1)
        images = (taps[0] + taps[4]).mul_(1 / 16).add_(taps[1] + taps[3], alpha=4 / 16).add_(taps[2], alpha=6 / 16)
    return images


def enlarge(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Put zeros between pixels and blur with four times the filter: (B, C, ceil(H / 2), ceil(W / 2)) -> (B, C, H, W).

    Args:
        images: Coarse images.
        size: (H, W) of the result.
    """
    for dim, before, after, length in (
        (2, (0, 0, 1, 0), (0, 0, 0, 1), size[0]),
        (3, (1, 0, 0, 0), (0, 1, 0, 0), size[1]),
    ):
        # Beyond the far edge of an even number of pixels, reflection meets the last coarse pixel once more.
        padded = F.pad(images, before, mode="reflect")
        padded = F.pad(padded, after, mode="reflect" if length % 2 else "replicate")
        left, centre, right = padded.unfold(dim, 3, 1).unbind(-1)
        even = (left + right).mul_(1 / 8).add_(centre, alpha=6 / 8)
        odd = (centre + right).mul_(1 / 2)
        images = torch.stack((even, odd), dim + 1).flatten(dim, dim + 1).narrow(dim, 0, length)
    return images


def pyramid_descriptors(images: Tensor) -> Tensor:
    """Describe images by what each level of their pyramids holds where: (B, C, H, W) in [0, 1] -> (B, D).

    Each level is cut into 4x4 cells. A cell of the coarsest level is described by its mean colour, and one of the
    others by the mean size of its values, per channel; D = levels * C * 16. A difference of fine texture counts as much
    as one of composition: values of fine levels are taken to the power 1/2.
    """
    *fine, coarsest = laplacian_pyramid(images)
    cells = [F.adaptive_avg_pool2d(level.abs(), 4).sqrt() for level in fine]
    return torch.cat([each.flatten(1) for each in (*cells, F.adaptive_avg_pool2d(coarsest, 4))], dim=1)
