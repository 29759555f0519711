"""Copying: which generated pictures are training images, and are there more of them than real pictures explain?

Which distance to the nearest training image is suspicious follows from real pictures: the distances of the training
images to each other (leave one out) and, if there are any, those of held-out images to the training images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from progan.arguments import check_int
from progan.metrics.images import Images, ImageSet, check_same_shape
from progan.metrics.nearest import SAME, Features, Nearest, nearest
from progan.metrics.significance import binomial_p, rank_test
from progan.randomness import keyed_generator

LEAST = 8  # images: fewer do not show what is usual
QUERIES = 1024  # training images for which the nearest other one is found
PAIRS = 32  # closest pairs that are listed
USUAL = 0.01  # share of real pictures whose distances are too rare to be called usual
ALARM_SHARE = 0.01  # of the samples
SIGNIFICANT = 0.01  # of p
FAR = 1.25  # times the real pictures' median distance; from there on samples are too unlike the data


@dataclass(frozen=True)
class Pair:
    """A picture and the training image nearest to it.

    Attributes:
        image: Index of the picture, a sample or a held-out image.
        training: Index of the training image.
        distance: Distance of the two, in grey levels of 255.
    """

    image: int
    training: int
    distance: float


@dataclass(frozen=True)
class Copying:
    """How near samples lie to the training images, beside real pictures; the result of `copying`.

    Attributes:
        share: Share of the samples that are copies: a training image lies nearer than ``threshold``.
        share_held_out: The same share of the held-out images; None without them.
        share_training: The same share of the training images, each compared with all others: duplicates in the data.
        threshold: Distance below which no pair of real pictures explains it, in grey levels of 255.
        distance: Median distance of the samples to their nearest training images, of 255.
        distance_held_out: The same for the held-out images; None without them.
        distance_training: The same for the training images, each compared with all others.
        statistic: Probability that a sample lies nearer to the training images than one of these lies to the others
            (Mann and Whitney's U, divided by its largest value); 0.5 for real pictures.
        p: Probability of this statistic or a larger one if the samples were real pictures (one-sided).
        statistic_held_out: The statistic against held-out images instead; None without them.
        p_held_out: Its p; None without held-out images.
        alarm: Whether there are more copies than real pictures explain.
        remark: What this means, in words.
        pairs: The closest pairs of a sample and a training image, at most 32, the closest first.
        pairs_held_out: The same for the held-out images; empty without them.
    """

    share: float
    share_held_out: float | None
    share_training: float
    threshold: float
    distance: float
    distance_held_out: float | None
    distance_training: float
    statistic: float
    p: float
    statistic_held_out: float | None
    p_held_out: float | None
    alarm: bool
    remark: str
    pairs: tuple[Pair, ...]
    pairs_held_out: tuple[Pair, ...]


def copying(samples: Images, training: Images, *, held_out: Images | None = None, seed: int = 0) -> Copying:
    """Find copies of training images among samples.

    A sample is a copy if a training image lies nearer than a threshold: half of the distance below which 1 % of the
    real pictures have their nearest neighbour. Below 100 real pictures it is n / 200 of the smallest distance, since
    few pictures do not show how near two may lie. Pairs that look the same do not count here, so that duplicates in
    the data hide no copies; a sample that looks the same as a training image (3 of 255) always is a copy. There is an
    alarm if more than 1 % of the samples are copies, and significantly more than of the held-out images (without them:
    of the training images among each other).

    Args:
        samples: Generated images, (N, C, H, W), uint8 or floats in [0, 1], or a map-style data set.
        training: Images that the networks were trained on, of the same shape.
        held_out: Real images that the networks were not trained on; None = there are none.
        seed: Random seed of which training images are compared with all others, where there are more than 1024.

    Raises:
        TypeError: If a set is not one of images.
        ValueError: If a set has fewer than 8 images, or the images have different shapes, values outside [0, 1], or
            NaN.

    Example:
        >>> training = torch.rand(40, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> result = copying(training[:8].flip(3), training)
        >>> result.share, result.alarm, result.pairs[0].distance
        (1.0, True, 0.0)
    """
    check_int("seed", seed)
    generated, references = ImageSet("samples", samples, least=LEAST), ImageSet("training", training, least=LEAST)
    others = None if held_out is None else ImageSet("held_out", held_out, least=LEAST)
    for images in (generated, others):
        if images is not None:
            check_same_shape(images, references)
    features = Features.of(references)
    return compared(
        nearest(generated, features),
        nearest(references, features, left_out=_queries(len(references), seed)),
        None if others is None else nearest(others, features),
    )


def compared(samples: Nearest, training: Nearest, held_out: Nearest | None) -> Copying:
    """Compare samples with real pictures: distances -> numbers and words."""
    real = training if held_out is None else held_out
    pools = [training.distinct] if held_out is None else [training.distinct, held_out.distinct]
    threshold = usual_threshold(torch.cat(pools))
    shares = [float((near.distances < threshold).double().mean()) for near in (samples, training, real)]
    statistic, p = rank_test(samples.distances, training.distances)
    against_held_out = (None, None) if held_out is None else rank_test(samples.distances, held_out.distances)
    distances = [float(near.distances.median()) for near in (samples, training, real)]
    counts = [int((near.distances < threshold).sum()) for near in (samples, real)]
    p_copies = binomial_p(counts[0], len(samples.distances), counts[1], len(real.distances))
    alarm = shares[0] > ALARM_SHARE and p_copies < SIGNIFICANT
    return Copying(
        share=shares[0],
        share_held_out=None if held_out is None else shares[2],
        share_training=shares[1],
        threshold=threshold,
        distance=distances[0],
        distance_held_out=None if held_out is None else distances[2],
        distance_training=distances[1],
        statistic=statistic,
        p=p,
        statistic_held_out=against_held_out[0],
        p_held_out=against_held_out[1],
        alarm=alarm,
        remark=_remark(alarm, shares, distances, p if against_held_out[1] is None else against_held_out[1]),
        pairs=_closest(samples),
        pairs_held_out=() if held_out is None else _closest(held_out),
    )


def usual_threshold(distances: Tensor) -> float:
    """Return the distance below which no pair of real pictures explains it.

    Args:
        distances: Of real pictures to the nearest training image that does not look the same, (n,), of 255.
    """
    finite = distances[distances.isfinite()].sort().values
    if len(finite) == 0:
        return SAME
    return max(SAME, float(finite[int(USUAL * len(finite))]) / 2 * min(1.0, USUAL * len(finite)))


def closest_pairs(samples: Images, training: Images, pairs: Sequence[Pair], *, columns: int = 4) -> Tensor:
    """Lay out pairs of pictures as one picture: each sample with the training image nearest to it on its right.

    Args:
        samples: The images whose indices the pairs have.
        training: The training images.
        pairs: At least one pair, such as ``Copying.pairs``.
        columns: Pairs per row.

    Returns:
        uint8, (C, rows * (H + 2), columns * (2 * W + 2)), with a white margin of 2 px to the right of each pair and
        below it.

    Raises:
        TypeError: If a set is not one of images.
        ValueError: If there are no pairs, or the images have different shapes.

    Example:
        >>> images = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
        >>> closest_pairs(images, images, [Pair(0, 3, 0.0), Pair(1, 2, 0.0)], columns=2).shape
        torch.Size([3, 34, 132])
    """
    check_int("columns", columns, 1)
    if len(pairs) == 0:
        raise ValueError("pairs must be at least one pair, got none")
    sets = ImageSet("samples", samples, least=1), ImageSet("training", training, least=1)
    check_same_shape(*sets)
    indices = torch.tensor([[pair.image, pair.training] for pair in pairs])
    for images, column in zip(sets, indices.T, strict=True):
        if int(column.max()) >= len(images):
            raise ValueError(
                f"pairs must be of these images, got index {int(column.max())} of {len(images)} {images.name}"
            )
    shown = (torch.cat([*images.batches(indices=column)]).cpu() for images, column in zip(sets, indices.T, strict=True))
    both = (torch.cat([*shown], dim=3) * 255).round().to(torch.uint8)
    tiles = F.pad(both, (0, 2, 0, 2), value=255)
    missing = -len(tiles) % columns
    tiles = torch.cat((tiles, tiles.new_full((missing, *tiles.shape[1:]), 255)))
    _, channels, height, width = tiles.shape
    rows = tiles.view(-1, columns, channels, height, width).permute(2, 0, 3, 1, 4)
    return rows.reshape(channels, -1, columns * width)


def _queries(n: int, seed: int) -> Tensor:
    """Return the indices of the training images that are compared with all others: all, or 1024 of them drawn."""
    if n <= QUERIES:
        return torch.arange(n)
    drawn = keyed_generator(seed, "metrics", "copying").choice(n, QUERIES, replace=False)
    return torch.from_numpy(drawn).sort().values


def _closest(near: Nearest) -> tuple[Pair, ...]:
    order = near.distances.argsort(stable=True)[:PAIRS].tolist()
    return tuple(Pair(index, int(near.indices[index]), float(near.distances[index])) for index in order)


def _remark(alarm: bool, shares: Sequence[float], distances: Sequence[float], p: float) -> str:
    """Return what shares and distances, of the samples, the training images and real pictures, mean."""
    if alarm:
        remark = f"{shares[0]:.1%} of the samples are copies of training images; of real pictures, {shares[2]:.1%} are."
    else:
        remark = "No more copies of training images than real pictures explain."
    if distances[0] > FAR * distances[2]:
        times = distances[0] / max(distances[2], 1e-9)
        remark += (
            f" The samples lie {times:.1f} times as far from the training images as real pictures do: until they are "
            "nearly as good as the data, memory cannot be told from underfitting."
        )
    elif p < SIGNIFICANT and not alarm:
        remark += (
            f" But the samples lie nearer to the training images than real pictures do (p = {p:.1g}), as memorised "
            "pictures would, and as smoother ones would too."
        )
    if shares[1] > ALARM_SHARE:
        remark += f" The data contain duplicates: {shares[1]:.1%} of the training images are copies of others."
    return remark
