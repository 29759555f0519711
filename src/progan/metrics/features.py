"""Features of images that need no download: what the distances between sets compare.

The built-in features come from one layer of fixed random filters on the bands of a Laplacian pyramid. Random filters
with a rectifier are useful features without any training (Jarrett et al. 2009, "What is the best multi-stage
architecture for object recognition?"; for judging generative models: Naeem et al. 2020, section 3.3). Two things make
them see what a person sees in drawn pictures: each band is compressed before it is filtered, so that faint dirt in a
flat colour counts beside a hard outline, and the responses are averaged over 3x3 parts of the picture, so that their
place counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from progan.arguments import wrong_type
from progan.metrics.images import LEAST_SIZE, Images, ImageSet, check_same_shape
from progan.metrics.pairs import in_blocks, mean_row
from progan.metrics.pyramid import enlarge, shrink
from progan.randomness import keyed_generator

Extractor = Callable[[Tensor], Tensor]
"""A function of images (B, C, H, W), floats in [0, 1], that returns features (B, D), floats."""

FILTERS = 64
FILTER_SIZE = 3  # pixels
PARTS = 3  # per side of the picture
FAINT = 0.002  # differences, of 1, below which the compression is linear: half a level of grey
COLOUR_CELLS = 8  # per side of the picture
COLOUR_WEIGHT = 0.7  # of the colours beside the filters: shares of the spread of the data
_TINY = 1e-12
_BATCH = 2**22  # numbers of a batch of images


def random_filters(channels: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return the filters, (FILTERS, channels, 3, 3), each of length 1, and their biases, (FILTERS,), N(0, 1/4)."""
    rng = keyed_generator(seed, "metrics", "filters")
    filters = torch.from_numpy(rng.standard_normal((FILTERS, channels, FILTER_SIZE, FILTER_SIZE))).float()
    biases = torch.from_numpy(rng.standard_normal(FILTERS)).float() / 2
    return F.normalize(filters.flatten(1), dim=1).view_as(filters), biases


def bands(images: Tensor) -> list[Tensor]:
    """Return the bands of a Laplacian pyramid, finest first, down to the one of at least 16 px: (B, C, h, w) each."""
    found = []
    while min(images.shape[2:]) >= LEAST_SIZE:
        coarser = shrink(images)
        found.append(images - enlarge(coarser, (images.shape[2], images.shape[3])))
        images = coarser
    return found


class RandomFilters:
    """An extractor of features: responses of fixed random filters to the bands of a Laplacian pyramid.

    A band v becomes asinh(v / FAINT), is filtered with stride 2 and rectified, and its responses are averaged over 3x3
    parts of the picture.

    Args:
        channels: Channels of the images.
        seed: Random seed of the filters.

    Example:
        >>> RandomFilters(3)(torch.rand(2, 3, 32, 32)).shape  # two bands, 64 filters, 3x3 parts
        torch.Size([2, 1152])
    """

    def __init__(self, channels: int, seed: int = 0) -> None:
        self._filters, self._biases = random_filters(channels, seed)

    def __call__(self, images: Tensor) -> Tensor:
        """Return features: (B, C, H, W), values in [0, 1] -> (B, bands * FILTERS * 9)."""
        filters, biases = (part.to(images) for part in (self._filters, self._biases))
        responses = []
        for band in bands(images):
            padded = F.pad(torch.asinh(band / FAINT), (1, 1, 1, 1), mode="reflect")
            response = F.conv2d(padded, filters, biases, stride=2).relu_()
            responses.append(F.adaptive_avg_pool2d(response, PARTS).flatten(1))
        return torch.cat(responses, dim=1)


def cell_colours(images: Tensor) -> Tensor:
    """Return the mean colours of 8x8 cells: (B, C, H, W) -> (B, C * 64)."""
    return F.adaptive_avg_pool2d(images, COLOUR_CELLS).flatten(1)


@dataclass(frozen=True)
class BuiltInFeatures:
    """The built-in extractor: random filters and coarse colours, centred and scaled by the real images.

    Each of the two parts is divided by the root of its total variance over the real images; then both are scaled
    together so that a feature has a variance of 1 in the mean, as a kernel (x . y / D + 1)^3 expects.

    Attributes:
        parts: The extractors.
        means: Mean features of each part over the real images, (D,).
        scales: Factor of each part.
    """

    parts: tuple[Extractor, ...]
    means: tuple[Tensor, ...]
    scales: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Return features: (B, C, H, W), values in [0, 1] -> (B, D)."""
        each = zip(self.parts, self.means, self.scales, strict=True)
        return torch.cat([(part(images) - mean.to(images)) * scale for part, mean, scale in each], dim=1)


def built_in_features(real: ImageSet) -> BuiltInFeatures:
    """Return the built-in extractor for comparisons with a set of real images.

    Args:
        real: Real images, which set the centre and the scales.
    """
    parts: tuple[Extractor, ...] = (RandomFilters(real.shape[0]), cell_colours)
    found = [features_of(real, part) for part in parts]
    means = tuple(map(mean_row, found))
    spreads = [
        math.sqrt(sum(float(part.square().sum()) for part in in_blocks(features, mean)) / len(features))
        for features, mean in zip(found, means, strict=True)
    ]
    size = sum(features.shape[1] for features in found)
    weights = torch.tensor([1.0, COLOUR_WEIGHT])
    weights = weights / weights.norm() * size**0.5
    scales = tuple(
        weight / spread if spread > _TINY else weight for weight, spread in zip(weights.tolist(), spreads, strict=True)
    )
    return BuiltInFeatures(parts, means, scales)


def features_of_both(real: Images, fake: Images, features: Extractor | None) -> tuple[Tensor, Tensor]:
    """Return the features of two sets of images: (N, D) and (M, D), on the CPU, of the extractor's precision.

    Args:
        real: Real images.
        fake: Images to compare with them.
        features: The extractor; None = the built-in one, scaled by the real images.
    """
    real_set, fake_set = ImageSet("real", real), ImageSet("fake", fake)
    check_same_shape(real_set, fake_set)
    if features is not None and not callable(features):
        raise wrong_type("features", "a function of images (B, C, H, W) to features (B, D)", features)
    extractor = built_in_features(real_set) if features is None else features
    return features_of(real_set, extractor), features_of(fake_set, extractor)


@torch.no_grad()
def features_of(images: ImageSet, extractor: Extractor) -> Tensor:
    """Return the features of all images: (N, D), on the CPU, of the extractor's precision.

    Raises:
        TypeError: If the extractor returns anything but a tensor.
        ValueError: If it returns another shape than (B, D), or numbers that are not finite.
    """
    rows = torch.empty(0)
    begin = 0
    for batch in images.batches(max(1, _BATCH // math.prod(images.shape))):
        found = extractor(batch)
        if not isinstance(found, Tensor):
            raise wrong_type("features(images)", "a tensor (B, D)", found)
        if found.ndim != 2 or len(found) != len(batch) or (begin > 0 and found.shape[1] != rows.shape[1]):
            raise ValueError(
                f"features must return one row per image, (B, D), got {tuple(found.shape)} for {len(batch)} images; "
                "flatten or pool what it returns"
            )
        if not found.isfinite().all():
            raise ValueError(f"features must return finite numbers, got NaN or infinity for {images.name}")
        if begin == 0:  # all at once: a list of parts and its concatenation would need twice the memory
            precision = found.dtype if found.is_floating_point() else torch.float64
            rows = torch.empty(len(images), found.shape[1], dtype=precision)
        rows[begin : begin + len(found)] = found
        begin += len(found)
    return rows
