"""Whether left-right flips are a safe augmentation: whether mirror images look like other pictures of the set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from progan.data.curation.pictures import at_even_distances, check_pictures
from progan.runtime.contention import watched_cores

SIZE = 32  # pixels at which pictures are looked at; larger ones are averaged down, so thumbnails of it do as well
_MOST = 1500  # pictures; of more, some are taken at even distances
_AT_ONCE = 64  # of these, where what is computed of each takes much memory
_FEWEST = 40
_REPEATS = 8  # near-duplicates of each picture, on average, that make a set of symbols
_INVISIBLE = 5.0  # grey levels
_NEAR = 0.15  # distance of near-duplicates, in that of two usual pictures
_RIDGES = (0.1, 10.0)  # for sides that each kind of picture has of its own; for one that a minority has in common
_RESHUFFLES = 256
_TOLD = 0.6
_DOUBTFUL, _CERTAIN = 1.7, 3.7  # standard deviations above chance


@dataclass(frozen=True)
class FlipVerdict:
    """A judgement of whether flips are safe.

    Attributes:
        safe: Whether flips look safe; None if there are too few pictures to judge.
        told_apart: Share of pictures whose mirror image was told from the original, by a judge that had not seen them
            or their near-duplicates. 0.5 is chance.
    """

    safe: bool | None
    told_apart: float

    def __str__(self) -> str:
        if self.safe is None:
            return "left-right flips: too few different pictures to tell whether they are safe"
        return (
            f"left-right flips look {'safe' if self.safe else 'unsafe'}: {round(100 * self.told_apart)} of 100 "
            "pictures can be told from their mirror images (chance: 50)"
        )


@watched_cores()
def flip_verdict(images: Tensor) -> FlipVerdict:
    """Judge whether left-right flips of these pictures look like other pictures of the set.

    A judge learns from the other pictures which of a picture and its mirror image is the original. Flips are unsafe if
    it is right for 60 % or more, and more often than chance explains: than for the same pictures flipped at random.
    Differences that nobody would see do not count, nor does an axis of symmetry that is half a pixel off the middle.

    Args:
        images: (N, C, H, W), uint8, with 1, 3 or 4 channels; the fourth is opacity.

    Raises:
        TypeError: If they are not uint8.
        ValueError: If they have another shape.
    """
    check_pictures(images)
    if len(images) < _FEWEST:
        return FlipVerdict(None, 0.5)
    images = at_even_distances(images, _MOST)
    with torch.no_grad():
        return _judge(_some_at_a_time(lambda part: _centred(_small(part)), images.detach().cpu()))


def thumbnails(images: Tensor) -> Tensor:
    """Return images at the size that `flip_verdict` compares; its verdict on them is the same.

    Args:
        images: (N, C, H, W), uint8 or floats in [0, 1].

    Returns:
        (N, C, 32, 32), uint8.
    """
    scale = 255 if images.is_floating_point() else 1
    return F.adaptive_avg_pool2d(images.cpu().float() * scale, SIZE).round().to(torch.uint8)


def _some_at_a_time(of: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Apply a function to a few images at a time, which bounds the memory."""
    return torch.cat([of(part) for part in torch.split(images, _AT_ONCE)])


def _judge(x: Tensor) -> FlipVerdict:
    sides = _some_at_a_time(_sides, x)
    clearly = (F.avg_pool2d(sides, 2).flatten(1).square().mean(dim=1).sqrt() - 1).clamp(0, 1).double()
    x = (x + x.flip(-1) + sides) / 2  # without what nobody sees
    kinds, kernel = _kinds(x), _kernel(x)
    verdict = _verdict(kernel, kinds, clearly)
    if verdict.safe is False or len(kinds) == len(x):
        return verdict
    # Other kinds do not tell the side of a picture. If its near-duplicates do, then either they are many, and the set
    # is one of symbols, such as letters, with nothing else to learn from; or each kind could have had the other side.
    each = _verdict(kernel, list(torch.split(torch.arange(len(x)), 1)), clearly)
    if each.safe:
        return verdict
    return each if len(x) >= _REPEATS * len(kinds) else FlipVerdict(None, verdict.told_apart)


def _verdict(kernel: Tensor, kinds: list[Tensor], clearly: Tensor) -> FlipVerdict:
    """Judge each kind of pictures from the others, (N, N), where ``clearly``, (N,), says how visible sides are."""
    # 1 where the original is shown before its mirror image, else -1; after the first column, by chance.
    orders = torch.ones(len(kernel), 1 + _RESHUFFLES, dtype=torch.float64)
    coins = np.random.default_rng(0).integers(0, 2, (len(kinds), _RESHUFFLES)) * 2.0 - 1
    for kind, coin in zip(kinds, torch.from_numpy(coins), strict=True):
        orders[kind, 1:] = coin
    right = [(_held_out(kernel, ridge, orders, kinds) * orders).sign() for ridge in _RIDGES]
    scores = torch.stack([clearly @ signs / len(kernel) for signs in right]).amax(dim=0)
    score, chance = float(scores[0]), scores[1:]
    middle = chance.median()
    spread = (chance[chance >= middle] - middle).square().mean().sqrt()
    surely = (score - float(middle)) / max(float(spread), 1e-6)
    told_apart = 0.5 + max(score, 0.0) / 2
    if told_apart < _TOLD or surely < _DOUBTFUL:
        return FlipVerdict(True, told_apart)
    return FlipVerdict(False if surely >= _CERTAIN else None, told_apart)


def _small(images: Tensor) -> Tensor:
    """Return (N, C, SIZE, SIZE), in [0, 255], what is transparent black."""
    x = F.adaptive_avg_pool2d(images.float(), (SIZE, SIZE))
    return torch.cat([x[:, :3] * x[:, 3:] / 255, x[:, 3:]], dim=1) if x.shape[1] == 4 else x


def _centred(x: Tensor) -> Tensor:
    """Shift each picture sideways, by at most half a pixel, to where it is most like its mirror image."""
    padded = F.pad(x, (1, 1, 0, 0), mode="replicate")
    before, after = padded[..., :-2], padded[..., 2:]
    slope = (after - before) / 2
    odd, change = x - x.flip(-1), slope - slope.flip(-1)
    shift = -(odd * change).sum(dim=(1, 2, 3)) / change.square().sum(dim=(1, 2, 3)).clamp_min(1e-3)
    shift = shift.clamp(-0.5, 0.5)[:, None, None, None]
    return x + torch.where(shift > 0, shift * (after - x), shift * (x - before))


def _sides(x: Tensor) -> Tensor:
    """Return how pictures differ from their mirror images, less what half a pixel or few grey levels explain."""
    mirrored = x.flip(-1)
    return (_beyond(x, mirrored) - _beyond(mirrored, x)) / 2


def _beyond(x: Tensor, other: Tensor) -> Tensor:
    """Return by how much x is outside the range of the other image within half a pixel."""
    low, high = (other - _highest(-other)) / 2, (other + _highest(other)) / 2
    return x - x.clamp(low - _INVISIBLE, high + _INVISIBLE)


def _highest(x: Tensor) -> Tensor:
    """Return the maximum over each pixel and its neighbours."""
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    x = torch.maximum(torch.maximum(x[..., :-2], x[..., 2:]), x[..., 1:-1])
    return torch.maximum(torch.maximum(x[..., :-2, :], x[..., 2:, :]), x[..., 1:-1, :])


def _kinds(x: Tensor) -> list[Tensor]:
    """Return the indices of pictures, near-duplicates together, flipped or not."""
    small = F.avg_pool2d(x, 2).flatten(1)
    flipped = F.avg_pool2d(x.flip(-1), 2).flatten(1)
    straight = _distances(small, small)
    crossed = _distances(small, flipped)
    near = torch.minimum(straight, crossed) < _NEAR**2 * (straight.mean() + crossed.mean()) / 2
    near.fill_diagonal_(True)
    free = torch.ones(len(x), dtype=torch.bool)
    kinds = []
    for index in range(len(x)):
        if free[index]:
            kinds.append((near[index] & free).nonzero()[:, 0])
            free[kinds[-1]] = False
    return kinds


def _distances(rows: Tensor, others: Tensor) -> Tensor:
    """Return squared distances."""
    lengths = rows.square().sum(dim=1)[:, None] + others.square().sum(dim=1)
    return lengths.addmm_(rows, others.T, alpha=-2).clamp_min_(0)


def _kernel(x: Tensor) -> Tensor:
    """Return how alike the sides of every two pictures are, (N, N): negative if one is like the other's mirror image.

    For each way to look at pictures, the linear and the Gaussian kernel's part that changes sign with a flip.
    """
    total, n = x.new_zeros(len(x), len(x), dtype=torch.float64), 0
    for seen, flipped in zip(_all_looks(x), _all_looks(x.flip(-1)), strict=True):
        seen, flipped = seen.double(), flipped.double()  # small differences of large numbers follow
        sides = (seen - flipped) / 2
        straight, crossed = _distances(seen, seen), _distances(seen, flipped)
        width = ((straight.mean() + crossed.mean()) / 2).clamp_min(1e-3)
        crossed = crossed + crossed.T
        gaussian = straight.neg_().div_(width).exp_().sub_(crossed.neg_().div_(2 * width).exp_())
        for kernel in (sides @ sides.T, gaussian):
            total += kernel.div_(kernel.diagonal().mean().clamp_min(1e-3))
            n += 1
    return total.div_(n)


def _all_looks(x: Tensor) -> list[Tensor]:
    """Return every way to look at pictures."""
    parts = [list(_looks(part)) for part in torch.split(x, _AT_ONCE)]
    return [torch.cat(looks) for looks in zip(*parts, strict=True)]


def _looks(x: Tensor) -> Iterator[Tensor]:
    """Yield ways to look at pictures, (N, features) each."""
    x = x / 255
    border = torch.cat([x[:, :, 0], x[:, :, -1], x[:, :, :, 0], x[:, :, :, -1]], dim=2)
    drawn = (x - border.median(dim=2).values[..., None, None]).abs().amax(dim=1, keepdim=True)
    yield F.avg_pool2d(x, 2).flatten(1)
    yield F.avg_pool2d(drawn, 2).flatten(1)
    yield _framed(drawn)
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    across = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
    down = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2
    # Which way edges run, whichever of their sides is bright.
    level, steep = across.square().sum(dim=1, keepdim=True), down.square().sum(dim=1, keepdim=True)
    strength = (level + steep).sqrt() + 1e-3
    slant = 2 * (across * down).sum(dim=1, keepdim=True)
    edges = torch.cat([strength, (level - steep) / strength, slant / strength], dim=1)
    edges = edges / (strength.mean(dim=(1, 2, 3), keepdim=True) + 0.01)
    yield F.avg_pool2d(edges, 4).flatten(1)
    yield _pooled(edges, (8, 16, 32))
    # Which side is bright, of faint shades as well as of edges.
    rise = across.mean(dim=1, keepdim=True) * 255
    yield _pooled(torch.cat([torch.tanh(rise / level) for level in (3, 10, 30)], dim=1), (8, 32))


def _pooled(x: Tensor, cells: Sequence[int]) -> Tensor:
    """Return means over cells of some widths, those over wide ones with more weight."""
    return torch.cat([F.avg_pool2d(x, cell).flatten(1) * cell / cells[0] for cell in cells], dim=1)


def _framed(drawn: Tensor, size: int = 16) -> Tensor:
    """Return what is drawn, (N, 1, SIZE, SIZE), as seen in a frame of its own place and extent: (N, size²)."""
    weight = drawn[:, 0].square() + 1e-6
    weight = weight / weight.sum(dim=(1, 2), keepdim=True)
    places = (torch.arange(SIZE) - (SIZE - 1) / 2) * 2 / SIZE
    middles, variance = [], torch.zeros(len(drawn))
    for profile in (weight.sum(dim=1), weight.sum(dim=2)):
        middle = profile @ places
        variance += (profile * (places - middle[:, None]).square()).sum(dim=1)
        middles.append(middle)
    reach = variance.sqrt().clamp(0.1, 0.7)[:, None] * 2
    steps = (torch.arange(size) - (size - 1) / 2) * 2 / size
    x, y = (middle[:, None] + reach * steps for middle in middles)
    grid = torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], dim=-1)
    framed = F.grid_sample(drawn, grid, padding_mode="border", align_corners=False).flatten(1)
    return framed / (framed.square().sum(dim=1, keepdim=True).sqrt() + 0.5)


def _held_out(kernel: Tensor, ridge: float, targets: Tensor, kinds: list[Tensor]) -> Tensor:
    """Return what kernel ridge regression predicts of each picture from those of the other kinds, like the targets."""
    regularised = kernel + ridge * torch.eye(len(kernel), dtype=kernel.dtype)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(regularised))
    weights = inverse @ targets
    predicted = targets - weights / inverse.diagonal()[:, None]
    for kind in kinds:
        if len(kind) > 1:
            predicted[kind] = targets[kind] - torch.linalg.solve(inverse[kind][:, kind], weights[kind])
    return torch.where(predicted.abs() > 1e-9, predicted, 0.0)
