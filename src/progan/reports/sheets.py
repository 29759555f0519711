"""Sheets of one generator's pictures: chosen samples, and what lies between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from progan.arguments import check_flag, check_instance, check_int, tuple_of
from progan.networks.generator import ProgressiveGenerator
from progan.render import enlarge, image_grid, to_uint8
from progan.reports.captions import captioned
from progan.sampling import GrownGenerator

_BATCH = 64
_GAP = 2  # pixels


def sample_sheet(
    grown: GrownGenerator,
    which: int | Iterable[int],
    *,
    seed: int = 0,
    columns: int | None = None,
    height: int = 96,
    numbers: bool = True,
) -> Tensor:
    """Draw a sheet of chosen samples, each with its index below it, of the classes that the generator draws for them.

    Args:
        grown: Trained generator.
        which: How many samples, from the first one on; or the indices of those wanted, such as ``[3, 17]``.
        seed: Random seed of the samples.
        columns: Pictures in a row; None = about as many as rows.
        height: Height in pixels to which smaller images are enlarged, by a whole factor.
        numbers: Whether to write the indices.

    Returns:
        (C, H, W), uint8, for `progan.write_png`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If no samples are chosen, or an index is below 0.

    Example:
        >>> from progan import presets
        >>> grown = GrownGenerator(presets.karras2018(8, channels=(8, 8)).build()[0], level=1)
        >>> sample_sheet(grown, [3, 17, 40], columns=3, height=32).shape
        torch.Size([3, 43, 100])
    """
    _check(grown, height)
    check_flag("numbers", numbers)
    indices = list(which) if isinstance(which, Iterable) else which
    z, labels = grown.latents(indices, seed=seed), grown.labels(indices, seed=seed)
    if columns is None:
        columns = max(1, round(len(z) ** 0.5))
    check_int("columns", columns, 1)
    pictures = _pictures(grown, z, height, labels)
    if numbers:
        names = [str(int(index)) for index in (range(len(z)) if isinstance(indices, int) else indices)]
        pictures = torch.stack([captioned(*pair) for pair in zip(pictures, names, strict=True)])
    return image_grid(pictures, columns, gap=_GAP)


def class_sheet(
    grown: GrownGenerator, columns: int = 8, *, seed: int = 0, height: int = 96, numbers: bool = True
) -> Tensor:
    """Draw a sheet with a row for each class: the same latents in each.

    Args:
        grown: Trained generator with classes.
        columns: Pictures in a row: the first samples of the seed.
        seed: Random seed of the samples.
        height: Height in pixels to which smaller images are enlarged, by a whole factor.
        numbers: Whether to write the label of the class below each picture; ``grown.classes.names`` has the names.

    Returns:
        (C, H, W), uint8, for `progan.write_png`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If columns is below 1, or the generator has no classes.

    Example:
        >>> from progan import presets
        >>> recipe = presets.karras2018(8, channels=(8, 8)).with_classes(3)
        >>> class_sheet(GrownGenerator(recipe.build()[0], level=1), 4, height=32).shape
        torch.Size([3, 133, 134])
    """
    _check(grown, height)
    check_int("columns", columns, 1)
    check_flag("numbers", numbers)
    if grown.classes is None:
        raise ValueError("the generator has no classes, so there are no rows; use sample_sheet")
    z = grown.latents(columns, seed=seed)
    rows = []
    for label in range(len(grown.classes)):
        pictures = _pictures(grown.of_class(label), z, height)
        if numbers:
            pictures = torch.stack([captioned(picture, str(label)) for picture in pictures])
        rows.append(pictures)
    return image_grid(torch.cat(rows), columns, gap=_GAP)


def interpolation_sheet(
    grown: GrownGenerator, pairs: Iterable[Sequence[int]], n: int = 9, *, seed: int = 0, height: int = 96
) -> Tensor:
    """Draw a sheet of interpolations between pairs of samples, one row each, both ends included.

    Args:
        grown: Trained generator.
        pairs: Pairs of indices of samples, such as ``[(3, 17), (4, 9)]``.
        n: Number of pictures in a row, at least 2.
        seed: Random seed of the samples.
        height: Height in pixels to which smaller images are enlarged, by a whole factor.

    Returns:
        (C, H, W), uint8, for `progan.write_png`. The left column has the first sample of each pair, the right
        one the second.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If there are no pairs, one is not two indices of at least 0, or n is below 2.

    Example:
        >>> from progan import presets
        >>> grown = GrownGenerator(presets.karras2018(8, channels=(8, 8)).build()[0], level=1)
        >>> interpolation_sheet(grown, [(3, 17), (4, 9)], n=5, height=32).shape
        torch.Size([3, 66, 168])
    """
    _check(grown, height)
    grown.check_one_class("the pictures of an interpolation")
    chosen = [tuple_of("each of pairs", pair, "two indices") for pair in tuple_of("pairs", pairs, "pairs of indices")]
    if not chosen or any(len(pair) != 2 for pair in chosen):
        raise ValueError(f"pairs must be at least one pair of indices, such as [(3, 17)], got {chosen!r}")
    starts, ends = (grown.latents([pair[side] for pair in chosen], seed=seed) for side in (0, 1))
    return image_grid(_pictures(grown, grown.latents_between(starts, ends, n), height), int(n), gap=_GAP)


def corner_sheet(
    grown: GrownGenerator, corners: Sequence[int], n: int = 7, *, seed: int = 0, height: int = 96
) -> Tensor:
    """Draw a square sheet of interpolations between four samples at its corners.

    Args:
        grown: Trained generator.
        corners: Indices of the samples at the top left, the top right, the bottom left and the bottom right.
        n: Number of rows and of columns, at least 2.
        seed: Random seed of the samples.
        height: Height in pixels to which smaller images are enlarged, by a whole factor.

    Returns:
        (C, H, W), uint8, for `progan.write_png`. The left and the right column go in equal angles from corner
        to corner, and each row from the left column to the right one.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If corners are not four indices of at least 0, or n is below 2.

    Example:
        >>> from progan import presets
        >>> grown = GrownGenerator(presets.karras2018(8, channels=(8, 8)).build()[0], level=1)
        >>> corner_sheet(grown, [3, 17, 4, 9], n=5, height=32).shape
        torch.Size([3, 168, 168])
    """
    _check(grown, height)
    grown.check_one_class("the pictures of an interpolation")
    chosen = tuple_of("corners", corners, "four indices")
    if len(chosen) != 4:
        raise ValueError(
            f"corners must be four indices, of top left, top right, bottom left and bottom right, got {chosen!r}"
        )
    z = grown.latents(chosen, seed=seed)
    left, right = (grown.latents_between(z[top], z[top + 2], n) for top in (0, 1))
    return image_grid(_pictures(grown, grown.latents_between(left, right, n), height), int(n), gap=_GAP)


def _check(grown: object, height: object) -> None:
    check_instance("grown", grown, GrownGenerator, [(ProgressiveGenerator, "pass GrownGenerator(generator, level)")])
    check_int("height", height, 1)


def _pictures(grown: GrownGenerator, z: Tensor, height: int, labels: Tensor | None = None) -> Tensor:
    """Return the images of latents, enlarged: (n, *latent_shape) -> (n, C, H, W), uint8, on the CPU."""
    parts = [slice(begin, begin + _BATCH) for begin in range(0, len(z), _BATCH)]
    images = [grown.images(z[part], None if labels is None else labels[part]) for part in parts]
    return enlarge(torch.cat([to_uint8(each) for each in images]), height)
