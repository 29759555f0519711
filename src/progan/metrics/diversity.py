"""Diversity: how many kinds of pictures there are, in samples and in the data; it falls when a generator collapses.

The mean distance of pairs of samples hardly falls when a generator makes four pictures only. So kinds are counted: the
Vendi score (Friedman and Dieng 2023) is the exponential of the entropy of the eigenvalues of K / n, where K holds the
similarities of n pictures. It is n for n pictures that have nothing in common, and m for m pictures repeated n / m
times each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from progan.arguments import check_int, wrong_type
from progan.metrics.descriptors import colours, visible
from progan.metrics.images import Images, ImageSet, check_same_shape
from progan.randomness import keyed_generator, normal

MOST = 512  # pictures of a set that are compared with each other
COLLAPSED = 0.4  # of the data's diversity; pictures that are merely bad have 0.55 to 0.85
STEP = 0.2  # radians, by which a latent is turned
DEAD = 0.05  # of the change that a linear generator shows along any direction
MOST_DEAD = 0.5  # of the directions


@dataclass(frozen=True)
class LatentDiversity:
    """How much pictures change along directions of the latent space; the result of `latent_diversity`.

    Attributes:
        changes: Root mean square change along each direction, relative to a linear generator of the same diversity: 1
            is usual, and 0 means that the direction does nothing.
        dead: Share of the dimensions spanned by these directions along which pictures do not change (by less than 0.05
            in the unit of changes).
    """

    changes: tuple[float, ...]
    dead: float


def diversity(samples: Images, real: Images, *, seed: int = 0) -> float:
    """Return the number of kinds of pictures among samples relative to real images: the ratio of Vendi scores.

    Pictures are described by their mean colours in 8x8 cells. The similarity of two is exp(-2 d^2 / m), where d is
    their distance and m the mean square distance of two real images. As many samples as real images are compared, at
    most 512, drawn by seed.

    Args:
        samples: Generated images, (N, C, H, W), uint8 or floats in [0, 1], or a map-style data set.
        real: Real images, of the same shape.
        seed: Random seed of the images drawn.

    Returns:
        About 1 for real images, 1 / (the data's number of kinds) for one picture repeated.

    Raises:
        TypeError: If a set is not one of images.
        ValueError: If a set has fewer than 2 images, or they have different shapes, values outside [0, 1], or NaN.

    Example:
        >>> real = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> diversity(real, real), round(diversity(real[:1].expand(64, -1, -1, -1), real), 3)
        (1.0, 0.02)
    """
    check_int("seed", seed)
    sets = ImageSet("samples", samples), ImageSet("real", real)
    check_same_shape(*sets)
    count = min(MOST, *map(len, sets))
    generated, data = (_features(images, count, seed) for images in sets)
    bandwidth = float(torch.pdist(data).square().mean())
    return vendi_score(similarity(generated, bandwidth)) / vendi_score(similarity(data, bandwidth))


def similarity(features: Tensor, bandwidth: float) -> Tensor:
    """Return how similar pictures are: (N, D) -> (N, N), float64, in [0, 1]; 1 for equal ones.

    Args:
        features: (N, D), float64.
        bandwidth: Square distance at which the similarity is exp(-2); 0 = only equal ones are similar.
    """
    squares = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist").square()
    return torch.exp(-2 * squares / bandwidth) if bandwidth > 0 else (squares == 0).double()


def vendi_score(similarities: Tensor) -> float:
    """Return the effective number of different pictures (Friedman and Dieng 2023): (N, N) -> between 1 and N.

    Example:
        >>> round(vendi_score(torch.eye(4)), 6), round(vendi_score(torch.ones(4, 4)), 6)
        (4.0, 1.0)
    """
    shares = torch.linalg.eigvalsh(similarities.double() / len(similarities)).clamp(min=1e-15)
    return math.exp(-float((shares * shares.log()).sum()))


def latent_diversity(
    generate: Callable[[Tensor], Tensor],
    latent_shape: tuple[int, ...],
    *,
    directions: int = 16,
    latents: int = 8,
    seed: int = 0,
) -> LatentDiversity:
    """Measure how much pictures change along random directions of the latent space.

    Each of some latents is turned by 0.2 radians towards each of the directions, which are at right angles to each
    other, and away from it; half of the difference is the change. It is compared with the differences between pictures
    of independent latents.

    Args:
        generate: Function from latents, float32 on the CPU, ``(B, *latent_shape)``, to images (B, C, H, W), uint8 or
            floats in [0, 1].
        latent_shape: Shape of one latent.
        directions: Number of directions; at most the number of a latent's values. With all of them, dead is the share
            of the latent space's dimensions that the generator does not use.
        latents: Number of latents that are turned, at least 2.
        seed: Random seed of latents and directions.

    Raises:
        TypeError: If generate is not callable, or does not return images.
        ValueError: If there are more directions than a latent has values, or the images are not valid.

    Example:
        >>> def generate(z):  # does not use the last two of four numbers
        ...     return torch.sigmoid(z[:, :2, None, None].repeat(1, 1, 16, 8).flatten(1).reshape(-1, 1, 16, 16))
        >>> latent_diversity(generate, (4,), directions=4).dead
        0.5
    """
    if not callable(generate):
        raise wrong_type("generate", "a callable, latents to images", generate)
    size = math.prod(latent_shape)
    check_int("directions", directions, 1)
    check_int("latents", latents, 2)
    if directions > size:
        raise ValueError(f"directions must be at most the {size} values of a latent, got {directions}")
    starts = normal((latents, size), seed, "metrics", "latents")
    drawn = normal((size, directions), seed, "metrics", "directions").double()
    units = torch.linalg.qr(drawn).Q.T.float()
    gram = torch.zeros(directions, directions, dtype=torch.float64)
    for start in starts:
        step = math.sin(STEP) * math.sqrt(size) * units
        there, back = (_pictures(generate, math.cos(STEP) * start + way, latent_shape) for way in (step, -step))
        changes = (there - back) / 2
        gram += changes @ changes.T / latents
    independent = torch.pdist(_pictures(generate, starts, latent_shape)).square().mean()
    return _along(gram, float(independent) * math.sin(STEP) ** 2 / 2)


def collapse_remark(ratio: float, latent: LatentDiversity | None = None) -> str | None:
    """Return a warning in words if samples vary much less than the data; None if they do not.

    Args:
        ratio: Result of `diversity`; a warning below 0.4.
        latent: Result of `latent_diversity`; a warning if more than half of the directions are dead.

    Example:
        >>> collapse_remark(0.97) is None
        True
        >>> collapse_remark(0.06)
        'Collapse: the samples are 6 % as diverse as the data.'
    """
    if ratio < COLLAPSED:
        return f"Collapse: the samples are {100 * ratio:.0f} % as diverse as the data."
    if latent is not None and latent.dead > MOST_DEAD:
        return f"Collapse: {100 * latent.dead:.0f} % of the latent directions do not change the pictures."
    return None


def _features(images: ImageSet, count: int, seed: int) -> Tensor:
    """Return the descriptors of as many images, drawn without replacement: (count, D), float64."""
    drawn = keyed_generator(seed, "metrics", "diversity").permutation(len(images))[:count]
    indices = torch.from_numpy(drawn).sort().values
    return torch.cat([colours(visible(batch)).cpu().double() for batch in images.batches(indices=indices)])


def _pictures(generate: Callable[[Tensor], Tensor], latents: Tensor, latent_shape: tuple[int, ...]) -> Tensor:
    """Return generated pictures as rows: (B, D) -> (B, C * H * W), float64, on the CPU."""
    with torch.no_grad():
        images = ImageSet("generate's images", generate(latents.view(len(latents), *latent_shape)), least=1)
    return torch.cat([visible(batch).flatten(1).cpu().double() for batch in images.batches()])


def _along(gram: Tensor, usual: float) -> LatentDiversity:
    """Return the changes along directions from their Gram matrix (M, M), and the usual square change."""
    if usual == 0:
        return LatentDiversity((0.0,) * len(gram), 1.0)
    principal = (torch.linalg.eigvalsh(gram).clamp(min=0) / usual).sqrt()
    changes = (gram.diagonal() / usual).sqrt()
    return LatentDiversity(tuple(changes.tolist()), float((principal < DEAD).double().mean()))
