"""Whether pictures are of flat colours, as many drawings are, or shaded, as paintings and photographs are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

import torch
import torch.nn.functional as F
from torch import Tensor

from progan.data.curation.pictures import at_even_distances, check_pictures

SIDE = 64  # pixels at which pictures are looked at: an enlarged photograph is smooth, too
_SMALLEST = 32  # pixels; in smaller drawings, nearly every pixel is on a contour
_FEWEST, MOST = 40, 200  # pictures; of more, some are taken at even distances
_EQUAL = 1.001  # of 255: by how much the channels of a place of 2x2 may vary, and the rounding of a mean
_STEP = 8  # of 255: colours nearer than about this count as one
_LEAST = 0.05  # share of flat places: in drawings 0.15 to 0.45, 0.09 if they were JPEG files; in photographs up to 0.03
_AT_ONCE = 64


@dataclass(frozen=True)
class ColourVerdict:
    """A judgement of whether pictures are of flat colours.

    Attributes:
        flat: Whether they are; None if they are too few or too small to judge.
        share: Share of the places of 2x2 pixels that have one colour, without those of the picture's most frequent
            colour, such as the background of a photograph; of the median picture.
    """

    flat: bool | None
    share: float

    def __str__(self) -> str:
        if self.flat is None:
            return "colours: too few or too small pictures to tell whether they are flat"
        kind, percent = "flat" if self.flat else "shaded", round(100 * self.share)
        return f"colours look {kind}: {percent} % of all places, beside the most frequent colour's, have one colour"


def colour_verdict(images: Tensor) -> ColourVerdict:
    """Judge whether pictures are of flat colours: those that the palette of `progan.presets.few_images` is for.

    They are if at least 5 % of the places of 2x2 pixels have one colour, of which no channel varies by more than 1 of
    255, in the median picture. Places of a picture's most frequent colour do not count, so that a photograph's white or
    transparent background makes it no drawing. Pictures of 128 px and more are averaged down to 64 to 127.

    Args:
        images: (N, C, H, W), uint8, with 1, 3 or 4 channels; the fourth is opacity.

    Raises:
        TypeError: If they are not uint8.
        ValueError: If they have another shape.

    Example:
        >>> squares = torch.zeros(40, 3, 32, 32, dtype=torch.uint8)
        >>> squares[:, :, 8:24, 8:24] = 200
        >>> colour_verdict(squares).flat
        True
    """
    check_pictures(images)
    if min(images.shape[2:]) < _SMALLEST:
        return verdict_on([])
    images = at_even_distances(images, MOST).detach().cpu()
    return verdict_on([share for some in torch.split(images, _AT_ONCE) for share in _flat_shares(some)])


def flat_share(image: Tensor) -> float | None:
    """Return the share of flat places of one picture, (C, H, W), uint8, as `verdict_on` takes it.

    NaN = the picture has one colour; None = it is too small to tell.
    """
    return None if min(image.shape[1:]) < _SMALLEST else _flat_shares(image[None])[0]


def verdict_on(shares: Sequence[float]) -> ColourVerdict:
    """Return the judgement of a set of pictures from the shares of flat places of some of them."""
    if len(shares) < _FEWEST:
        return ColourVerdict(None, 0.0)
    known = [share for share in shares if not math.isnan(share)]
    share = median_low(known) if known else 1.0  # pictures of one colour each are as flat as can be
    return ColourVerdict(share >= _LEAST, round(share, 4))


def reduced(images: Tensor) -> Tensor:
    """Return images at the size that `colour_verdict` looks at; its verdict on them is the same, but for rounding.

    Args:
        images: (N, C, H, W), uint8 or floats in [0, 1].

    Returns:
        (N, C, h, w), uint8.
    """
    scale = 255 if images.is_floating_point() else 1
    return _averaged(images.cpu().float() * scale).round().to(torch.uint8)


def _averaged(x: Tensor) -> Tensor:
    factor = max(1, min(x.shape[2:]) // SIDE)
    return F.avg_pool2d(x, factor)


def _flat_shares(images: Tensor) -> list[float]:
    """Return each image's share of flat places beside its most frequent colour; NaN = it has no other."""
    x = _averaged(images.float())
    spread = F.max_pool2d(x, 2, 1) + F.max_pool2d(-x, 2, 1)
    flat = (spread <= _EQUAL).all(dim=1)
    bins = ((x[:, :, :-1, :-1] + _STEP / 2) / _STEP).long()
    base = 256 // _STEP + 1
    colours = (bins * (base ** torch.arange(x.shape[1]))[:, None, None]).sum(dim=1)
    shares = []
    for places, colour in zip(flat, colours, strict=True):
        _, counts = colour[places].unique(return_counts=True)
        most = int(counts.max()) if len(counts) else 0
        left = places.numel() - most
        shares.append((int(places.sum()) - most) / left if left else math.nan)
    return shares
