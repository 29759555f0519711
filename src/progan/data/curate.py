"""Which pictures of a folder to train on: of near-duplicates only some, and none that is unlike all others.

The rule is that of the Mel Icon article, whose author did it by hand: of icons that are nearly the same at most 4 are
kept, and irregular ones are left out. Nothing is moved or removed: the result is a list, which a person can edit.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from progan.data.folder import picture_paths
from progan.data.read import Reading, read_image
from progan.files import write_file

SIZE = 128  # pixels at which pictures are compared
SIMILAR = 0.75
IRREGULAR = 4.5
_FEWEST = 40  # pictures without which nobody can say what is usual


@dataclass(frozen=True)
class Curation:
    """Hold which pictures of a folder to train on.

    Attributes:
        folder: in which they lie.
        kept: relative to the folder, in order.
        dropped: the others, with the reason.
    """

    folder: Path
    kept: list[Path]
    dropped: dict[Path, str]

    def save(self, path: str | PathLike[str]) -> None:
        """Write the list as text, to be edited: a line per picture, its word, its name and the reason.

        Raises:
            ValueError: if a name holds a tab or a line break.
        """
        lines = ["# keep or drop, a tab, the name, a tab, the reason. Change the first word; then read the list again."]
        reasons = {**dict.fromkeys(self.kept, ""), **self.dropped}
        for name in sorted(reasons):
            if any(character in name.as_posix() for character in "\t\r\n"):
                raise ValueError(f"{name.as_posix()!r} holds a tab or a line break; rename it")
            word = "drop" if name in self.dropped else "keep"
            lines.append(f"{word}\t{name.as_posix()}\t{reasons[name]}".rstrip())
        write_file(Path(path), ("\n".join(lines) + "\n").encode(errors="surrogateescape"))

    @classmethod
    def load(cls, path: str | PathLike[str], folder: str | PathLike[str]) -> Self:
        """Read a list that `save` wrote and a person may have edited.

        Args:
            path: of the list.
            folder: in which the pictures lie.

        Raises:
            ValueError: if a line is none of the list's, or names a picture twice.
        """
        kept: list[Path] = []
        dropped: dict[Path, str] = {}
        text = Path(path).read_bytes().decode(errors="surrogateescape")
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            word, name, reason = (*line.split("\t", 2), "", "")[:3]
            if word not in ("keep", "drop") or not name:
                raise ValueError(f"{path}, line {number}: expected keep or drop, a tab, a name; got {line!r}")
            if Path(name) in dropped or Path(name) in kept:
                raise ValueError(f"{path}, line {number}: {name} stands there twice; remove one of the lines")
            if word == "keep":
                kept.append(Path(name))
            else:
                dropped[Path(name)] = reason or "by hand"
        return cls(Path(folder), kept, dropped)


def curate(
    folder: str | PathLike[str],
    max_similar: int = 4,
    *,
    similar: float = SIMILAR,
    irregular: float = IRREGULAR,
) -> Curation:
    """Choose the pictures of a folder to train on.

    In the order of their names, a picture is kept unless it cannot be read; is irregular, see `irregularity`; or
    ``max_similar`` of those kept before it are near-duplicates of it, see `similarity`.

    Args:
        folder: with sub-folders.
        max_similar: near-duplicates to keep of each picture, itself included.
        similar: share of equal cells from which two pictures are near-duplicates, in (0, 1].
        irregular: score from which a picture is irregular; ``math.inf`` keeps all.

    Returns:
        The lists. Nothing on disk is changed.

    Raises:
        ImportError: if Pillow is missing.
        NotADirectoryError: if the folder is none.
        ValueError: if it holds no pictures, or a number is out of its range.
    """
    if not isinstance(max_similar, int) or max_similar < 1:
        raise ValueError(f"max_similar must be an int of at least 1, got {max_similar!r}")
    if not 0 < similar <= 1:
        raise ValueError(f"similar is a share of equal cells, in (0, 1], got {similar!r}")
    names: list[Path] = []
    pictures: list[Tensor] = []
    dropped: dict[Path, str] = {}
    reading = Reading(SIZE)
    for path in map(Path, picture_paths(Path(folder))):
        try:
            pictures.append(read_image(Path(folder) / path, reading))
        except MemoryError:
            raise
        except Exception as error:  # Pillow's decoders raise many kinds on a file that is no sound picture
            dropped[path] = f"cannot be read: {str(error) or type(error).__name__}"
        else:
            names.append(path)
    if not names:
        return Curation(Path(folder), [], dropped)
    images = torch.stack(pictures)
    scores = irregularity(images)
    colours, drawn = _cells(images)
    kept: list[int] = []
    kept_colours, kept_drawn = torch.empty_like(colours), torch.empty_like(drawn)
    for index, name in enumerate(names):
        if scores[index] >= irregular:
            dropped[name] = f"irregular: {scores[index]:.1f}, from {irregular:g} on"
            continue
        before = slice(len(kept))
        alike = _equal_cells(colours[index], drawn[index], kept_colours[before], kept_drawn[before]) >= similar
        if int(alike.sum()) >= max_similar:
            first = names[kept[int(alike.nonzero()[0])]]
            dropped[name] = f"{int(alike.sum())} near-duplicates are kept, such as {first.as_posix()}"
        else:
            kept_colours[len(kept)], kept_drawn[len(kept)] = colours[index], drawn[index]
            kept.append(index)
    return Curation(Path(folder), [names[index] for index in kept], dropped)


def similarity(images: Tensor) -> Tensor:
    """Return the share of equal cells of every two pictures.

    Pictures are cut into 16x16 cells; those that are plain background in both do not count, and two cells are equal
    where their mean colours differ by less than 3 % in every channel. So pictures that differ in one part only are
    near 1, and others of one style far below, which a distance over all pixels does not tell apart.

    Args:
        images: (N, C, H, W), uint8, of one size, a multiple of 16.

    Returns:
        (N, N), in [0, 1].
    """
    colours, drawn = _cells(images)
    return torch.stack([_equal_cells(*cell, colours, drawn) for cell in zip(colours, drawn, strict=True)])


def irregularity(images: Tensor) -> Tensor:
    """Score how unlike the others each picture of a set is, by where its edges and its background lie.

    The mean of two robust scores, each in units of the distance from the set's median to its upper quartile: the
    distance of its edges from the median picture's; and how improbable edges and background are under a Gaussian of
    few dimensions, fitted to the 85 % that it explains best. Odd pictures may resemble each other: they are few.

    Args:
        images: (N, C, H, W), uint8, of one size, a multiple of 8.

    Returns:
        (N,): about 0 for the usual ones; all 0 for fewer than 40 pictures.
    """
    n = len(images)
    if n < _FEWEST:
        return torch.zeros(n)
    maps = [_edges_and_background(part) for part in torch.split(images, 64)]
    edges, background = (torch.cat(parts) for parts in zip(*maps, strict=True))
    roots = edges.flatten(1).sqrt()
    distances = (roots - roots.median(dim=0).values).abs().mean(dim=1)
    whole = torch.cat([_scaled(edges.sum(dim=1).flatten(1)), _scaled(background.flatten(1))], dim=1)
    return (_robust(distances) + _robust(_improbability(whole, min(16, n // 20)))) / 2


def _edges_and_background(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean edge strength (N, 2, 8, 8), across and down, and the share that is not background (N, 8, 8)."""
    x = images.float() / 255
    across = F.pad((x[..., :, 1:] - x[..., :, :-1]).abs().amax(dim=1, keepdim=True), (0, 1))
    down = F.pad((x[..., 1:, :] - x[..., :-1, :]).abs().amax(dim=1, keepdim=True), (0, 0, 0, 1))
    drawn = ((x - _backdrop(x)).abs().amax(dim=1) > 0.08).float()
    cell = x.shape[2] // 8, x.shape[3] // 8
    return F.avg_pool2d(torch.cat([across, down], dim=1), cell), F.avg_pool2d(drawn[:, None], cell)[:, 0]


def _backdrop(x: Tensor) -> Tensor:
    """Return the colour of each picture's background: the median along its top, left and right edge."""
    border = torch.cat([x[:, :, 0], x[:, :, :, 0], x[:, :, :, -1]], dim=2)
    return border.median(dim=2).values[:, :, None, None]


def _scaled(values: Tensor) -> Tensor:
    return values / values.std().clamp_min(1e-6)


def _improbability(values: Tensor, dimensions: int, rounds: int = 5) -> Tensor:
    """Return each row's Mahalanobis distance under a probabilistic PCA of the 85 % of rows that it explains best."""
    used = torch.ones(len(values), dtype=torch.bool)
    distances = values.new_zeros(len(values))
    for _ in range(rounds):
        centred = values - values[used].mean(dim=0)
        _, singular, axes = torch.linalg.svd(centred[used], full_matrices=False)
        variances = (singular.square() / used.sum()).clamp_min(1e-9)
        noise = (variances[dimensions:].sum() / (values.shape[1] - dimensions)).clamp_min(1e-9)
        along = (centred @ axes[:dimensions].T).square()
        rest = centred.square().sum(dim=1) - along.sum(dim=1)
        distances = ((along / variances[:dimensions]).sum(dim=1) + rest / noise).sqrt()
        used = distances <= torch.quantile(distances, 0.85)
    return distances


def _robust(scores: Tensor) -> Tensor:
    """Return scores in units of the distance from their median to their upper quartile."""
    middle, upper = torch.quantile(scores, torch.tensor([0.5, 0.75]))
    robust: Tensor = (scores - middle) / (upper - middle).clamp_min(1e-6)
    return robust


def _cells(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean colours of 16x16 cells, (N, C, 256), and which are not plain background, (N, 256)."""
    colours, drawn = [], []
    for part in torch.split(images, 64):
        x = part.float() / 255
        size = x.shape[2] // 16, x.shape[3] // 16
        mean = F.avg_pool2d(x, size)
        variance = (F.avg_pool2d(x.square(), size) - mean.square()).mean(dim=1)
        colours.append(mean.flatten(2))
        drawn.append((((mean - _backdrop(x)).abs().amax(dim=1) > 0.04) | (variance > 1e-3)).flatten(1))
    return torch.cat(colours), torch.cat(drawn)


def _equal_cells(colours: Tensor, drawn: Tensor, others: Tensor, others_drawn: Tensor) -> Tensor:
    """Return the share of equal cells of one picture, (C, 256), with others, (N, C, 256): (N,)."""
    equal = (others - colours).abs().amax(dim=1) < 0.03
    counted = others_drawn | drawn
    # Two pictures that are nothing but background are alike where their colours are.
    share = (equal & counted).sum(dim=1) / counted.sum(dim=1).clamp_min(1)
    return torch.where(counted.any(dim=1), share, equal.float().mean(dim=1))
