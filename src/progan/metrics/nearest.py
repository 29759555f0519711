"""The training image nearest to each picture, by pixels aligned at low resolution.

Two pictures are compared where they differ most. Both are averaged down to about 32 px; their distance is the largest
root mean square difference in any tile of 4x4 of those pixels, in grey levels of 255 (the largest over tiles: Carlini
et al. 2023, section 4.2). Noise changes every tile a little, another face on the same head changes a few tiles a lot.
The picture is aligned first: as it is or mirrored, and shifted by up to one pixel of the full size. Only those training
images are compared that one of two coarse descriptors, of colours and of edges, puts nearest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from progan.metrics.descriptors import colours, edges, visible
from progan.metrics.images import ImageSet

WORKING_SIZE = 32  # pixels: the shorter side is averaged down to at least this, where it is longer
TILE = 4  # pixels of the working size
CANDIDATES = 6  # training images per descriptor that a picture is compared with
SAME = 3.0  # of 255: pictures nearer than this look the same
_MOST_AT_ONCE, _PIXELS_AT_ONCE = 32, 2**19  # pictures, and pixels of them, in all their alignments: memory


@dataclass(frozen=True)
class Nearest:
    """The nearest training image of each of n pictures.

    Attributes:
        distances: (n,), float64, of 255.
        indices: (n,), int64, of the training images.
        distinct: (n,), float64: distance of the nearest training image that does not look the same; infinite where all
            candidates do.
    """

    distances: Tensor
    indices: Tensor
    distinct: Tensor


@dataclass(frozen=True)
class Features:
    """Training images at the working size, and the descriptors that find candidates.

    Attributes:
        images: (N, C, h, w).
        descriptors: (N, D) of each kind.
    """

    images: Tensor
    descriptors: tuple[Tensor, ...]

    @classmethod
    def of(cls, training: ImageSet) -> Features:
        """Return the features of a set."""
        images: Tensor | None = None
        count = 0
        for batch in training.batches():
            small = next(_shifted(visible(batch), offsets=(0,)))
            images = small.new_empty((len(training), *small.shape[1:])) if images is None else images
            images[count : count + len(small)] = small
            count += len(small)
        assert images is not None
        parts = (images[begin : begin + 256] for begin in range(0, len(images), 256))
        kinds = zip(*(_descriptors(part) for part in parts), strict=True)
        return cls(images, tuple(torch.cat(kind) for kind in kinds))


def nearest(pictures: ImageSet, training: Features, *, left_out: Tensor | None = None) -> Nearest:
    """Find the nearest training image of each picture.

    Args:
        pictures: Pictures to look for.
        training: Features of the training images.
        left_out: Indices of the pictures wanted, if they are the training images themselves; each is compared with all
            others.
    """
    count = len(pictures) if left_out is None else len(left_out)
    # Written into tensors made at once: small ones made between large ones would keep the heap from being used again.
    distances, distinct = torch.empty(2, count, dtype=torch.float64)
    indices = torch.empty(count, dtype=torch.int64)
    begin = 0
    at_once = min(_MOST_AT_ONCE, max(1, _PIXELS_AT_ONCE // math.prod(pictures.shape[1:])))
    for batch in pictures.batches(at_once, left_out):
        part = slice(begin, begin + len(batch))
        begin = part.stop
        images = visible(batch.to(training.images.device))
        own = None if left_out is None else left_out[part].to(images.device)
        plain, mirrored = [*_shifted(images)], [*_shifted(images.flip(3))]
        candidates = _candidates([plain[len(plain) // 2], mirrored[len(mirrored) // 2]], training, own)
        found = _tile_distances([*plain, *mirrored], training.images, candidates)
        distances[part], place = (value.cpu() for value in found.min(dim=1))
        distinct[part] = found.masked_fill(found < SAME, math.inf).amin(dim=1)
        indices[part] = candidates.cpu().gather(1, place[:, None])[:, 0]
    return Nearest(distances, indices, distinct)


def _shifted(images: Tensor, offsets: Sequence[int] = (-1, 0, 1)) -> Iterator[Tensor]:
    """Yield images at the working size, shifted by pixels of the full size: (B, C, H, W) -> (B, C, h, w) each.

    A margin of at least a pixel is cut off, so that what a shift brings in at the edge does not count.
    """
    factor = max(1, min(images.shape[2:]) // WORKING_SIZE)
    for down in offsets:
        rows = F.avg_pool2d(_window(images, 2, factor, down), (factor, 1))
        for right in offsets:
            yield F.avg_pool2d(_window(rows, 3, factor, right), (1, factor))


def _window(images: Tensor, axis: int, factor: int, offset: int) -> Tensor:
    """Return the middle of an axis, a multiple of the factor long, moved by an offset."""
    size = images.shape[axis]
    length = (size - 2) // factor * factor
    return images.narrow(axis, (size - length) // 2 + offset, length)


def _descriptors(images: Tensor) -> tuple[Tensor, Tensor]:
    return colours(images), edges(images)


def _candidates(versions: Sequence[Tensor], training: Features, own: Tensor | None) -> Tensor:
    """Return the indices of the training images to compare with: (B, K), int64; some may be there twice.

    Args:
        versions: The pictures as they are and mirrored, (B, C, h, w) each.
        training: The training images' features.
        own: Indices of training images never to be compared, one per picture; None = there are none.
    """
    count = min(CANDIDATES, len(training.images) - (own is not None))
    chosen: list[Tensor] = []
    for kind, references in enumerate(training.descriptors):
        both = [torch.cdist(_descriptors(version)[kind], references) for version in versions]
        distances = torch.stack(both).amin(dim=0)
        if own is not None:
            distances.scatter_(1, own[:, None], math.inf)
        chosen.append(distances.topk(count, largest=False).indices)
    return torch.cat(chosen, dim=1)


def _tile_distances(versions: Sequence[Tensor], references: Tensor, candidates: Tensor) -> Tensor:
    """Return the distances of pictures to their candidates, each in its best alignment: (B, K), float64, of 255.

    Args:
        versions: The pictures in each of V alignments, (B, C, h, w) each.
        references: Training images, (N, C, h, w).
        candidates: Indices of training images, (B, K).
    """
    pictures, others = torch.stack([*versions], dim=1), references[candidates]
    products = pictures.flatten(2) @ others.flatten(2).mT  # (B, V, K)
    squares = pictures.flatten(2).square().sum(dim=2)[:, :, None] - 2 * products
    alignment = squares.argmin(dim=1)  # the same as of the squared differences
    aligned = pictures[torch.arange(len(pictures), device=pictures.device)[:, None], alignment]
    differences = (aligned - others).square().mean(dim=2)
    return 255 * F.avg_pool2d(differences, TILE, TILE // 2).amax(dim=(2, 3)).double().sqrt()
