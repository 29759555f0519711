"""Which pictures of a set are unlike all the others, whatever its style.

A picture is described by how strong its edges are at four scales, how bright and colourful it is, and where its edges
are. It is irregular if the pictures most like it are still much farther away than is usual among them: the local
outlier factor (Breunig et al. 2000), in its simplest form. Irregular pictures do not count as neighbours, so that a
group of them is found as a whole.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

IRREGULAR = 5.0
_FEWEST = 40  # below this, a set is too small to show what is usual
_SCALES = (1, 2, 4, 8)  # pixels
# Thin strokes cover a few percent of a drawing, so the strongest edges count too.
_EDGE_SHARES = (0.25, 0.5, 0.75, 0.9, 0.97, 0.995)
_TONE_SHARES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
_CELLS = 8  # per side
_PARTS = (len(_SCALES) * len(_EDGE_SHARES), 2 * len(_TONE_SHARES), _CELLS**2)
_WEIGHTS = (1, 1 / 2, 1 / 3)  # of these parts
_INVISIBLE = (0.05, 0.01, 0.05)  # differences this small, in each of these parts, cannot be seen
_LEVELS = 1020  # of the histograms: four for each value of a uint8
# A picture's distance is that to the references from one share of all to the other: beyond a group of odd pictures.
_NEAREST, _BEYOND = 0.24, 0.19
_PASSES = 3
_TAKEN_OUT = 0.05  # of a picture's neighbours, for it to be scored again; fewer change nothing but the last digits
_MOST = 0.2  # of the set: if more would be irregular together, they are a style of their own
_CLOSE = 0.85  # of the upper quartile of all distances: closer pictures are not told apart
_REFERENCES = 1000  # pictures of a larger set that each is compared with
_BLOCK = 512


def appearance(images: Tensor) -> Tensor:
    """Describe what pictures look like as a whole.

    Args:
        images: (N, C, H, W), values in [0, 1]; H and W are multiples of 16.

    Returns:
        (N, 102). 24 quantiles of the edge strength, six at each of four scales, as logarithms; 14 quantiles, seven of
        the brightness and seven of the colourfulness (the largest channel minus the smallest); and the strongest edge
        in each of 8x8 cells, as a logarithm.
    """
    edges = [_edges(images if scale == 1 else F.avg_pool2d(images, scale)) for scale in _SCALES]
    means = F.avg_pool2d(images, 4)
    tones = means.mean(dim=1), means.amax(dim=1) - means.amin(dim=1)
    height, width = images.shape[2:]
    cells = F.max_pool2d(edges[0][:, None], (height // _CELLS, width // _CELLS)).flatten(1)
    return torch.cat(
        [
            *(_logarithm(_quantiles(strengths, _EDGE_SHARES)) for strengths in edges),
            *(_quantiles(values, _TONE_SHARES) for values in tones),
            _logarithm(cells),
        ],
        dim=1,
    )


def irregularity(appearances: Tensor) -> Tensor:
    """Score how unlike the others each picture of a set is.

    The distance of two pictures is a weighted sum of three: between their edge strengths, between their tones (1/2),
    and between the positions of their edges (1/3); each a mean absolute difference, in units of what is usual in the
    set. Of a picture's neighbours, the nearest 24 % of the set, those beyond the nearest 19 % give its distance. Its
    score compares that with the same distance of its neighbours. Each picture is thus judged by the style it is closest
    to, if that style is large enough; a smaller group of odd pictures stays odd, even if they are alike.

    Some of such a group may seem usual beside the others. Therefore pictures with a score of 5 or more are taken out of
    the references, and those that had more than 5 % of their neighbours among these are scored again; and once more. A
    pass after which more than 20 % of the set would be irregular does not count.

    Args:
        appearances: `appearance` of each picture, (N, 102).

    Returns:
        Scores, (N,): 10 times the natural logarithm of the ratio of the two distances. About 0 for usual pictures, 5
        for one that is 1.65 times as far from its neighbours as they are from theirs; 0 for all if N is below 40.
    """
    n = len(appearances)
    if n < _FEWEST:
        return torch.zeros(n)
    # A random sample shows what is usual as well as the whole of a large set does.
    references = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:_REFERENCES]
    scores, neighbours = _scores(appearances, references)
    for _ in range(_PASSES - 1):
        usual = references[scores[references] < IRREGULAR]
        if len(usual) in (len(references), 0):
            break
        affected = (scores[neighbours] >= IRREGULAR).float().mean(dim=1) > _TAKEN_OUT
        references = usual
        again, neighbours = _scores(appearances, references)
        again = torch.where(affected, again, scores)
        if (again >= IRREGULAR).sum() > _MOST * n:
            break
        scores = again
    return scores


def _scores(appearances: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """Score pictures by some of them, whose indices are given, (m,): return scores, (N,), and neighbours' indices."""
    position = torch.full((len(appearances),), -1)
    position[references] = torch.arange(len(references))
    parts = []
    for part, weight, invisible in zip(appearances.split_with_sizes(_PARTS, dim=1), _WEIGHTS, _INVISIBLE, strict=True):
        part = part / part.shape[1]
        distances, _ = _nearest(part[references], part[references], position[references])
        parts.append(part * (weight / (distances.quantile(0.75) + invisible)))
    scaled = torch.cat(parts, dim=1)
    distances, neighbours = _nearest(scaled, scaled[references], position)
    # Without a lower limit, near-duplicates would make every picture beside them look far away.
    distances = distances.clamp_min(max(1.0, _CLOSE * float(distances[references].quantile(0.75))))
    ratio: Tensor = distances / distances[references][neighbours].mean(dim=1)
    return 10 * ratio.log(), references[neighbours]


def _edges(x: Tensor) -> Tensor:
    """Return each pixel's largest difference, in any channel, from the next one across or down: (N, H, W)."""
    x = F.pad(x, (0, 1, 0, 1), mode="replicate")
    here = x[..., :-1, :-1]
    return torch.maximum((x[..., :-1, 1:] - here).abs_(), (x[..., 1:, :-1] - here).abs_()).amax(dim=1)


def _quantiles(values: Tensor, shares: tuple[float, ...]) -> Tensor:
    """Return the values that the given shares of each picture's pixels do not exceed: (N, H, W) -> (N, shares).

    By a histogram, which takes a fraction of the time of sorting.
    """
    levels = (values.flatten(1) * _LEVELS).round().long()
    counts = torch.zeros(len(levels), _LEVELS + 1).scatter_add_(1, levels, torch.ones(levels.shape))
    wanted = torch.tensor(shares) * levels.shape[1]
    return (counts.cumsum(dim=1)[:, None] < wanted[:, None]).sum(dim=2) / _LEVELS


def _logarithm(strengths: Tensor) -> Tensor:
    return (strengths + 0.01).log()


def _nearest(pictures: Tensor, references: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
    """Return each picture's mean distance to the farther of its nearest references, and these references.

    Args:
        pictures: (n, features).
        references: (m, features).
        position: Index of each picture among the references, (n,); -1 if it is not one of them.

    Returns:
        The distances, (n,), and the indices of the nearest 24 % of the references, (n, 0.24 m).
    """
    count, skipped = math.ceil(_NEAREST * len(references)), int(_BEYOND * len(references))
    means, neighbours = [], []
    for begin in range(0, len(pictures), _BLOCK):
        rows = slice(begin, begin + _BLOCK)
        distances = torch.cdist(pictures[rows], references, p=1)
        distances[position[rows, None] == torch.arange(len(references))] = math.inf
        found = distances.topk(count, largest=False)
        means.append(found.values[:, skipped:].mean(dim=1))
        neighbours.append(found.indices)
    return torch.cat(means), torch.cat(neighbours)
