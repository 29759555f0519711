"""Which pictures are nearly the same: those that share most of their cells.

The descriptors are our own, about a thousand numbers per picture; those of
`progan.data.curation.oddness` are kept with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from progan.data.curation.oddness import appearance

SIZE = 128  # pixels at which pictures are compared
SIMILAR = 0.75
_EQUAL = 0.03  # of the range of values, in every channel
_BLOCK = 512


class Descriptors(NamedTuple):
    """Descriptors of N pictures, by which they are compared."""

    colours: Tensor
    """(N, C, 256), in [0, 1]: the mean colours of 16x16 cells."""
    drawn: Tensor
    """(N, 256), bool: which cells are not plain background."""
    appearance: Tensor
    """(N, 102): by which irregular pictures are found."""


def describe(images: Tensor) -> Descriptors:
    """Describe pictures.

    Args:
        images: (N, C, H, W), uint8, of one size, a multiple of 16.
    """
    x = images.float() / 255
    backdrop = _backdrop(x)
    half = x.shape[2] // 16, x.shape[3] // 16
    mean = F.avg_pool2d(x, half)
    variance = (F.avg_pool2d(x.square(), half) - mean.square()).mean(dim=1)
    drawn = ((mean - backdrop).abs().amax(dim=1) > 0.04) | (variance > 1e-3)
    return Descriptors(mean.flatten(2), drawn.flatten(1), appearance(x))


def similarity(one: Descriptors, others: Descriptors) -> Tensor:
    """Return the share of equal cells of one picture with others.

    Pictures are cut into 16x16 cells; those that are plain background in both do not count, and two cells are equal
    where their mean colours differ by less than 3 % in every channel. So pictures that differ in one part only are
    near 1, and others of one style far below, which a distance over all pixels does not tell apart.

    Args:
        one: Descriptors of one picture.
        others: Descriptors of N pictures.

    Returns:
        (N,), in [0, 1].
    """
    equal = (others.colours - one.colours).abs().amax(dim=1) < _EQUAL
    counted = others.drawn | one.drawn
    # Two pictures that are nothing but background are alike where their colours are.
    share = (equal & counted).sum(dim=1) / counted.sum(dim=1).clamp_min(1)
    return torch.where(counted.any(dim=1), share, equal.float().mean(dim=1))


def near_duplicates(pictures: Descriptors, index: int, others: Tensor, similar: float = SIMILAR) -> Tensor:
    """Return the pictures whose `similarity` to one picture is at least ``similar``, (k,), of n given ones.

    Args:
        pictures: Descriptors of all pictures.
        index: Index of the one picture.
        others: Indices of the pictures to compare it with, (n,).
        similar: Share of equal cells, in (0, 1].
    """
    return others[similarity(_rows(pictures, slice(index, index + 1)), _rows(pictures, others)) >= similar]


def possible_duplicates(pictures: Descriptors, similar: float = SIMILAR) -> Iterator[Tensor]:
    """Yield, for each picture in turn, the indices of those before it that may be `near_duplicates` of it: (n,).

    Not every pair is compared cell by cell. Where two cells are equal, the cosine of their difference, at so many turns
    over the range of values, is near 1; so the sum of the cosines, one matrix product for a block of pictures, has a
    lower bound that no near-duplicate falls below.
    """
    turns = 2.0
    # Of the counted cells so many are equal; of the others nothing is known, and a cosine is at least -1.
    bound = similar * math.cos(math.tau * turns * _EQUAL) - (1 - similar)
    for begin in range(0, len(pictures.drawn), _BLOCK):
        block = _rows(pictures, slice(begin, begin + _BLOCK))
        waves = _waves(block.colours, turns)
        mask = block.drawn[:, None].repeat(1, waves.shape[1], 1)
        left = torch.cat([waves * mask, waves * ~mask], dim=1).flatten(1)
        candidates = []
        for start in range(0, begin + 1, _BLOCK):
            earlier = _rows(pictures, slice(start, start + _BLOCK))
            waves = _waves(earlier.colours, turns)
            right = torch.cat([waves, waves * earlier.drawn[:, None]], dim=1).flatten(1)
            drawn, earlier_drawn = block.drawn.float(), earlier.drawn.float()
            counted = drawn.sum(dim=1)[:, None] + earlier_drawn.sum(dim=1) - drawn @ earlier_drawn.T
            candidates.append(left @ right.T >= counted * bound - 1e-2)
        possible = torch.cat(candidates, dim=1)
        for row in range(len(possible)):
            yield possible[row, : begin + row].nonzero()[:, 0]


class Groups:
    """Groups of pictures, in which each is linked to another by being alike.

    Args:
        n: Number of pictures.
    """

    def __init__(self, n: int) -> None:
        self._labels = np.arange(n)  # of each picture, the first of its group

    def add(self, index: int, possible: Tensor, alike: Callable[[Tensor], Tensor]) -> None:
        """Put a picture into one group with the earlier pictures that are like it.

        No further pictures of a group that it has joined are compared, so a large group costs little.

        Args:
            index: Index of the picture.
            possible: Indices of earlier pictures that may be like it, (n,).
            alike: Function that returns those of some indices whose pictures are like it.
        """
        count = 16
        while len(possible):
            joined = np.unique(self._labels[[index, *alike(possible[:count]).tolist()]])
            if len(joined) > 1:
                self._labels[np.isin(self._labels, joined)] = joined[0]
            possible = possible[count:]
            possible = possible[torch.from_numpy(self._labels[possible.numpy()] != self._labels[index])]
            count *= 2

    def found(self) -> list[list[int]]:
        """Return the groups of more than one, the largest first."""
        firsts, counts = np.unique(self._labels, return_counts=True)
        groups: list[list[int]] = [np.flatnonzero(self._labels == first).tolist() for first in firsts[counts > 1]]
        return sorted(groups, key=lambda group: -len(group))


def _rows(pictures: Descriptors, which: slice | Tensor) -> Descriptors:
    return Descriptors(*(tensor[which] for tensor in pictures))


def _waves(colours: Tensor, turns: float) -> Tensor:
    """Return numbers whose products add up to the cosines' mean over the channels: (N, C, 256) -> (N, 2 C, 256)."""
    angle = colours * (math.tau * turns)
    return torch.cat([angle.cos(), angle.sin()], dim=1) / math.sqrt(colours.shape[1])


def _backdrop(x: Tensor) -> Tensor:
    """Return the colour of each picture's background: the median along its top, left and right edge."""
    border = torch.cat([x[:, :, 0], x[:, :, :, 0], x[:, :, :, -1]], dim=2)
    return border.median(dim=2).values[:, :, None, None]
