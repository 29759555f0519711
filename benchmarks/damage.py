"""Measure real pictures against others, against the same others after known damage, and against generated ones.

python benchmarks/damage.py --data portraits/ --sheets judged/ --resolution 64

The pictures are split into halves at random; one half is compared with the other, as it is and after each damage, with
320 images (half of the portraits) and with 100. Each half of each split is the reference once, and the tables have the
means. Two tables go to the standard output as Markdown, and all numbers into benchmarks/results/damage.json.

The sheets are those that a person has ranked, without gaps between their pictures. With them come a column with the
distances on an ImageNet classifier's features, and the rank correlation of each measure with it: that column belongs to
the portraits at 64x64, so that other pictures are measured without --sheets.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from measuring import circumstances
from PIL import Image
from quality.imagenet import images_of
from torch import Tensor

from progan import ImageFolder
from progan.metrics.comparison import PARTS, Reference

RESULTS = Path(__file__).resolve().parent / "results" / "damage.json"
FEW = 100  # images of a set in the second comparison
JPEG_QUALITY = 50

Values = dict[str, float]


def as_they_are(images: Tensor, rng: np.random.Generator) -> Tensor:
    return images


def blurred(images: Tensor, rng: np.random.Generator, *, sigma: float) -> Tensor:
    """Blur with a Gaussian, its sigma in pixels, with reflected edges."""
    reach = math.ceil(4 * sigma)
    weights = torch.exp(-(torch.arange(-reach, reach + 1).double() / sigma).square() / 2)
    weights = (weights / weights.sum()).expand(images.shape[1], 1, 1, -1)
    padded = F.pad(images.double(), (reach,) * 4, mode="reflect")
    rows = F.conv2d(padded, weights, groups=images.shape[1])
    return pixels(F.conv2d(rows, weights.transpose(2, 3), groups=images.shape[1]))


def noisy(images: Tensor, rng: np.random.Generator, *, sigma: float) -> Tensor:
    """Add normal noise, independent in each value, its sigma in levels of 255."""
    return pixels(images + torch.from_numpy(rng.normal(0, sigma, images.shape)))


def striped(images: Tensor, rng: np.random.Generator, *, levels: int) -> Tensor:
    darker = images.double()
    darker[:, :, ::3] -= levels
    return pixels(darker)


def greener(images: Tensor, rng: np.random.Generator, *, levels: int) -> Tensor:
    green = images.double()
    green[:, 1] += levels
    return pixels(green)


def as_jpeg(images: Tensor, rng: np.random.Generator) -> Tensor:
    decoded = []
    for image in images:
        file = io.BytesIO()
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        picture.save(file, "JPEG", quality=JPEG_QUALITY, subsampling="4:2:0")
        decoded.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))
    return torch.stack(decoded)


def darker_half(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Replace the brighter half of the set by a copy of the darker one."""
    order = images.double().mean(dim=(1, 2, 3)).argsort(stable=True)
    return images[order[: len(images) // 2]].repeat(2, 1, 1, 1)


def a_tenth(images: Tensor, rng: np.random.Generator) -> Tensor:
    return images[: len(images) // 10].repeat(10, 1, 1, 1)


def one_picture(images: Tensor, rng: np.random.Generator) -> Tensor:
    return images[:1].repeat(len(images), 1, 1, 1)


def pixels(values: Tensor) -> Tensor:
    """Round to levels of 255, uint8."""
    return values.round().clamp(0, 255).to(torch.uint8)


REAL = "other real images"
DAMAGES: Mapping[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    REAL: as_they_are,
    "blur, sigma 0.5 px": functools.partial(blurred, sigma=0.5),
    "blur, sigma 1 px": functools.partial(blurred, sigma=1),
    "noise, sigma 4 of 255": functools.partial(noisy, sigma=4),
    "noise, sigma 12": functools.partial(noisy, sigma=12),
    "every third row 2 levels darker": functools.partial(striped, levels=2),
    "every third row 4 levels darker": functools.partial(striped, levels=4),
    "every third row 12 levels darker": functools.partial(striped, levels=12),
    "green 8 levels up": functools.partial(greener, levels=8),
    "JPEG, quality 50": as_jpeg,
    "the darker half of the set only": darker_half,
    "a tenth of the pictures, ten times each": a_tenth,
    "one picture, repeated": one_picture,
}
# The sheets that a person has ranked, worst first.
SHEETS: Mapping[str, str] = {
    "mel_icon": "generated: shapes, smeared faces, stripes, clouds",
    "try_a": "generated: clean skins and shirts, features at times",
    "try_b": "generated: eyes, mouths, glasses in most",
}
# The kernel distance (KID) x 1000 on the pooled features of a small ImageNet classifier, as it was published with the
# sheets, in the README of their folder. Another program computed it, from 640 portraits against the sheets and against
# damaged ones of 640 other portraits, so it is independent of how this one damages and splits. Stripes of 2 levels were
# not among them.
IMAGENET: Mapping[str, float] = {
    REAL: 1.2,
    "blur, sigma 0.5 px": 21,
    "blur, sigma 1 px": 232,
    "noise, sigma 4 of 255": 347,
    "noise, sigma 12": 385,
    "every third row 4 levels darker": 87,
    "every third row 12 levels darker": 301,
    "green 8 levels up": 18,
    "JPEG, quality 50": 160,
    "the darker half of the set only": 79,
    "a tenth of the pictures, ten times each": 32,
    "one picture, repeated": 992,
    SHEETS["mel_icon"]: 1088,
    SHEETS["try_a"]: 781,
    SHEETS["try_b"]: 692,
}
# Columns of the first table, after the feature distance with both numbers of images.
COLUMNS: Mapping[str, str] = {
    "swd": "SWD x 1000",
    "coverage": "coverage",
    "ms_ssim": "MS-SSIM",
    "diversity": "diversity",
    "fixed_pattern": "fixed pattern",
    "corners": "corners",
}
SHARES = ("coverage", "ms_ssim", "diversity", "fixed_pattern")
HIGHER_IS_BETTER = ("density", "coverage", "diversity")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables and write all numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of real images")
    parser.add_argument("--sheets", type=Path, help="folder of the sheets that a person has ranked")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--splits", type=int, default=2, help="random splits, each compared both ways")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    images = ImageFolder(options.data, options.resolution).images
    sheets = {}
    for name, title in SHEETS.items() if options.sheets else ():
        sheets[title] = images_of(options.sheets / f"{name}.png", options.resolution)
        if len(sheets[title]) < len(images) // 2:
            raise SystemExit(f"{name}.png must have at least {len(images) // 2} pictures, got {len(sheets[title])}")
    half, few = len(images) // 2, min(FEW, len(images) // 2)
    found = {
        count: [
            compared(real[:count], {name: sets[:count] for name, sets in others.items()}, rng)
            for real, others, rng in comparisons(images, sheets, options.splits)
        ]
        for count in dict.fromkeys((half, few))
    }
    tables = [table_of_measures(found[half], found[few], half, few, published=bool(sheets))]
    result: dict[str, Any] = {"data": options.data.name, "n_images": len(images), "resolution": options.resolution}
    result |= {"splits": options.splits, "comparisons": 2 * options.splits}
    result["floors"] = floors(found[half])
    result |= {f"{count}_images": spread([rows for rows, _ in each]) for count, each in found.items()}
    if sheets:
        result["rank_correlation"] = {
            f"{count}_images": correlations([rows for rows, _ in each]) for count, each in found.items()
        }
        result["imagenet"] = dict(IMAGENET)
        tables.append(table_of_correlations(result["rank_correlation"], 2 * options.splits, half, few))
    tables.insert(1, sentence_of_floors(result["floors"], half // 2))
    print("\n\n".join(tables))
    options.out.write_text(json.dumps({**result, **circumstances()}, indent=1) + "\n")
    return 0


def comparisons(
    images: Tensor, sheets: Mapping[str, Tensor], splits: int
) -> Iterable[tuple[Tensor, dict[str, Tensor], np.random.Generator]]:
    """Yield real images, the sets to compare with them, and a generator for the noise: twice for each split.

    The first time, a split's first half is the reference and the sheets' first pictures are taken; then the second, and
    the last ones.
    """
    half = len(images) // 2
    for split in range(splits):
        order = torch.from_numpy(np.random.default_rng(split).permutation(len(images)))
        halves = images[order[:half]], images[order[half : 2 * half]]
        for turn in (0, 1):
            generated = {name: sheet[-half:] if turn else sheet[:half] for name, sheet in sheets.items()}
            yield halves[turn], {REAL: halves[1 - turn], **generated}, np.random.default_rng((split, turn))


def compared(
    real: Tensor, others: Mapping[str, Tensor], rng: np.random.Generator
) -> tuple[dict[str, Values], dict[str, tuple[float, float, float]]]:
    """Return the measures of each damage and sheet by name, and the floors of the real images: mean, low, high."""
    reference = Reference(real)
    sets = {name: functools.partial(damage, others[REAL], rng) for name, damage in DAMAGES.items()}
    sets |= {name: functools.partial(as_they_are, images, rng) for name, images in others.items() if name != REAL}
    rows: dict[str, Values] = {}
    found: dict[str, tuple[float, float, float]] = {}
    for name, make in sets.items():
        samples = make()
        rows[name] = {}
        for part in (part for title, part in PARTS.items() if title != "copies"):
            findings = part(reference, samples)
            rows[name] |= findings.values
            found |= {
                measure: (floor.value, floor.low, floor.high)
                for measure, floor in findings.floors.items()
                if floor.images is not None
            }
    return rows, found


def floors(found: Sequence[tuple[Any, Mapping[str, tuple[float, float, float]]]]) -> dict[str, dict[str, float]]:
    """Return the mean over the references of each floor and of its interval."""
    means = {name: np.mean([each[name] for _, each in found], axis=0) for name in found[0][1]}
    return {
        name: {key: round(float(value), 4) for key, value in zip(("value", "low", "high"), values, strict=True)}
        for name, values in means.items()
    }


def spread(runs: Sequence[Mapping[str, Values]]) -> dict[str, dict[str, list[float]]]:
    """Return mean, lowest and highest value of all comparisons, by set and measure."""
    result: dict[str, dict[str, list[float]]] = {}
    for name, measures in runs[0].items():
        result[name] = {}
        for measure in measures:
            values = [run[name][measure] for run in runs]
            result[name][measure] = [round(value, 4) for value in (float(np.mean(values)), min(values), max(values))]
    return result


def mean_of(runs: Sequence[Mapping[str, Values]]) -> dict[str, Values]:
    """Return the mean of all comparisons, by set and measure."""
    return {
        name: {measure: float(np.mean([run[name][measure] for run in runs])) for measure in measures}
        for name, measures in runs[0].items()
    }


def correlations(runs: Sequence[Mapping[str, Values]]) -> dict[str, dict[str, float]]:
    """Return how each measure agrees with the ImageNet distance and with a person.

    Returns:
        By measure: Spearman's rank correlation with the distance, of the means and the lowest and highest one of single
        comparisons, positive if both call the same sets bad; and the number of comparisons that have the sheets in the
        person's order.
    """
    result = {}
    for measure in runs[0][REAL]:
        sign = -1 if measure in HIGHER_IS_BETTER else 1

        def correlation(rows: Mapping[str, Values], measure: str = measure, sign: int = sign) -> float:
            return rank_correlation([sign * rows[name][measure] for name in IMAGENET], list(IMAGENET.values()))

        each = [correlation(rows) for rows in runs]
        right = 0
        for rows in runs:
            bad, middle, good = (sign * rows[name][measure] for name in SHEETS.values())
            right += bad > middle > good
        result[measure] = {"mean": correlation(mean_of(runs)), "low": min(each), "high": max(each)}
        result[measure] = {name: round(value, 4) for name, value in result[measure].items()} | {"right": right}
    return result


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Return Spearman's rank correlation, equal values sharing their mean rank.

    Example:
        >>> rank_correlation([1, 5, 9], [0.1, 7, 300])
        1.0
    """
    places = [np.array([(np.less(v, a).sum() + np.less_equal(v, a).sum()) / 2 for a in v]) for v in (x, y)]
    return round(float(np.corrcoef(*places)[0, 1]), 12) if all(place.std() > 0 for place in places) else 0.0


def table_of_measures(many: Sequence[Any], fewer: Sequence[Any], half: int, few: int, *, published: bool) -> str:
    """Return the table of all sets: the means of the comparisons."""
    rows, rows_few = (mean_of([rows for rows, _ in found]) for found in (many, fewer))
    titles = ["the other set", f"feature distance x 1000, {half} images", f"{few} images", *COLUMNS.values()]
    lines = [titles + ["ImageNet KID x 1000"] * published]
    for name, values in rows.items():
        cells = [name, text(values["feature_distance"]), text(rows_few[name]["feature_distance"])]
        cells += [f"{values[key]:.2f}" if key in SHARES else text(values[key]) for key in COLUMNS]
        lines.append(cells + [f"{IMAGENET[name]:,g}" if name in IMAGENET else ""] * published)
    return markdown(lines)


def table_of_correlations(found: Mapping[str, Mapping[str, Any]], n: int, half: int, few: int) -> str:
    """Return the table of the measures' agreement with the ImageNet distance and with a person, best first."""
    many, fewer = found[f"{half}_images"], found[f"{few}_images"]
    finest = next(name for name in many if name.startswith("swd_"))
    titles = {
        "feature_distance": "feature distance",
        "kernel_distance": "kernel distance on the same features",
        "coverage": "coverage",
        "density": "density",
        finest: f"SWD, its level of {finest.removeprefix('swd_')} px",
        "swd": "SWD, mean of its levels",
        "corners": "unevenness of corners",
        "diversity": "diversity",
        "ms_ssim": "MS-SSIM",
        "fixed_pattern": "fixed pattern",
    }
    lines = [
        ["measure", f"correlation, {half} images", f"{few} images", f"right order, {half} images", f"{few} images"]
    ]
    for name in sorted(titles, key=lambda name: -many[name]["mean"]):
        cells = [f"{each['mean']:.2f} ({each['low']:.2f} to {each['high']:.2f})" for each in (many[name], fewer[name])]
        lines.append([titles[name], *cells, *(f"{each[name]['right']} of {n}" for each in (many, fewer))])
    return markdown(lines)


def sentence_of_floors(found: Mapping[str, Mapping[str, float]], quarter: int) -> str:
    """Return what real images among themselves have, in a sentence; nothing where there are too few."""
    if not found:
        return ""
    distance, swd = (
        "{} ({} to {})".format(*(text(found[name][key]) for key in ("value", "low", "high")))
        for name in ("feature_distance", "swd")
    )
    return (
        f"The floors (two halves of {quarter}): feature distance {distance}, SWD {swd}, "
        f"coverage {found['coverage']['value']:.2f}."
    )


def text(value: float) -> str:
    """Return a number with two digits, or three.

    Example:
        >>> text(215.34), text(-1.37), text(0.413), text(0.0)
        ('215', '-1.4', '0.41', '0.00')
    """
    return f"{value:.0f}" if abs(value) >= 20 else f"{value:.1f}" if abs(value) >= 1 else f"{value:.2f}"


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a table, the first line of which is its head."""
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([rows[0], "|" + "---|" * len(lines[0]), *rows[1:]])


if __name__ == "__main__":
    raise SystemExit(main())
