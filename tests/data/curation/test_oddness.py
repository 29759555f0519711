"""Irregular pictures: odd ones of many kinds, planted among drawings, faces, photographs and icons."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import draw_icons
import numpy as np
import planted
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from progan.data.curation import oddness
from progan.data.curation.oddness import IRREGULAR, appearance, irregularity

STYLES: dict[str, Callable[[int], Image.Image]] = {
    "drawings": lambda index: planted.line_drawing(np.random.default_rng([1, index])),
    "faces": lambda index: planted.drawn_face(np.random.default_rng([2, index])),
    "photographs": lambda index: planted.photograph(np.random.default_rng([3, index])),
    "icons": lambda index: draw_icons.draw_icon(index, size=planted.SIZE),
}
# What is odd among photographs: not a photograph, and none of a few blurred colours, such as a sky.
NOT_PHOTOGRAPHED = [kind for kind in planted.ODD if kind not in ("photograph", "blurred drawing")]


def tensor(pictures: Sequence[Image.Image]) -> Tensor:
    return torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) for picture in pictures]).float() / 255


@cache
def usual(style: str) -> Tensor:
    """The appearance of 150 pictures of a style."""
    return appearance(tensor([STYLES[style](index) for index in range(150)]))


@cache
def odd(kind: str, count: int = 1) -> Tensor:
    """The appearance of so many odd pictures of one kind."""
    pictures = [planted.ODD[kind](np.random.default_rng([9, index])) for index in range(count)]
    return appearance(tensor(pictures))


def odd_kinds(style: str) -> list[str]:
    return NOT_PHOTOGRAPHED if style == "photographs" else list(planted.ODD)


def figures(regular: Tensor, irregular: Tensor) -> tuple[float, float]:
    """The share of the odd ones that is found, and of the others that is lost."""
    found = irregularity(torch.cat([regular, irregular])) >= IRREGULAR
    lost, planted_ones = found[: len(regular)], found[len(regular) :]
    return planted_ones.float().mean().item(), lost.float().mean().item()


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("style", STYLES)
def test_odd_pictures_are_found_in_every_style(style, half):
    found, lost = figures(usual(style), torch.cat([odd(kind) for kind in odd_kinds(style)[half::2]]))
    assert found >= 0.9
    assert lost <= 0.03


@pytest.mark.parametrize("style", STYLES)
def test_each_kind_is_found_by_itself(style):
    """Blank pictures, pale gradients and pale symbols too: where there is little to see, nothing looked unusual."""
    kinds = odd_kinds(style)
    regular = usual(style)
    missed = [kind for kind in kinds if figures(regular, odd(kind))[0] < 1]
    assert len(missed) <= 0.1 * len(kinds), missed


@pytest.mark.parametrize("style", STYLES)
def test_a_set_without_odd_pictures_loses_few(style):
    assert (irregularity(usual(style)) >= IRREGULAR).float().mean() <= 0.03


@pytest.mark.parametrize("kind", ["blank pale", "pale gradient", "pale on white", "photograph"])
def test_a_few_odd_pictures_that_are_alike_are_found(kind):
    found, lost = figures(usual("drawings"), odd(kind, 6))
    assert found >= 0.9
    assert lost <= 0.03


@pytest.mark.parametrize("count", [120, 150])
@pytest.mark.parametrize("style", ["drawings", "icons"])
def test_a_group_of_odd_pictures_is_found_where_they_are_a_sixth_of_the_set(style, count):
    """10 pale symbols, 3 blank pages and 11 pale gradients, which are neighbours of each other."""
    group = [odd("pale symbol", 10), odd("blank white"), odd("blank pale", 2), odd("pale gradient", 11)]
    found, lost = figures(usual(style)[:count], torch.cat(group))
    assert found >= 0.9
    assert lost <= 0.03


@pytest.mark.parametrize(("common", "rarer"), [("icons", "drawings"), ("drawings", "photographs"), ("faces", "icons")])
def test_a_style_of_a_fifth_of_the_set_is_not_irregular(common, rarer):
    found = irregularity(torch.cat([usual(common)[:120], usual(rarer)[:30]])) >= IRREGULAR
    assert found[:120].float().mean() <= 0.03
    assert found[120:].float().mean() <= 0.05


@pytest.mark.parametrize(
    ("common", "rarer"), [("icons", "drawings"), ("drawings", "photographs"), ("photographs", "faces")]
)
def test_of_two_styles_the_rarer_is_not_irregular(common, rarer):
    """70 % of the one and 30 % of the other."""
    found = irregularity(torch.cat([usual(common)[:140], usual(rarer)[:60]])) >= IRREGULAR
    assert found[:140].float().mean() <= 0.03
    assert found[140:].float().mean() <= 0.05


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("count", [40, 60, 100])
def test_small_sets(style, count):
    found, lost = figures(usual(style)[:count], torch.cat([odd("blank pale"), odd("noise")]))
    assert found == 1
    assert lost <= 0.05


def test_near_duplicates_do_not_make_the_others_irregular():
    """100 drawings, and 100 of one drawing, moved by a few pixels."""
    drawing = tensor([STYLES["drawings"](500)])
    moved = torch.cat([drawing.roll((k // 10 - 5, k % 10 - 5), dims=(2, 3)) for k in range(100)])
    assert figures(usual("drawings")[:100], appearance(moved))[1] <= 0.03


def test_of_a_large_set_a_sample_is_enough(monkeypatch):
    monkeypatch.setattr(oddness, "_REFERENCES", 80)
    found, lost = figures(usual("icons"), torch.cat([odd(kind) for kind in odd_kinds("icons")[::2]]))
    assert found >= 0.9
    assert lost <= 0.03


def test_blocks_change_nothing(monkeypatch):
    pictures = torch.cat([usual("faces")[:90], odd("noise")])
    whole = irregularity(pictures)
    monkeypatch.setattr(oddness, "_BLOCK", 7)
    torch.testing.assert_close(irregularity(pictures), whole)


def test_few_pictures_are_never_irregular():
    few = torch.cat([usual("icons")[:38], odd("noise")])
    assert irregularity(few).tolist() == [0] * 39
    assert irregularity(torch.cat([few, usual("icons")[38:39]]))[38] >= IRREGULAR


def test_of_pictures_that_are_all_the_same_none_is_irregular():
    """Nor of those that differ by what nobody sees: a value of one."""
    same = torch.full((50, 3, 16, 16), 0.5)
    assert irregularity(appearance(same)).tolist() == [0] * 50
    same[7, :, 5, 5] += 1 / 255
    assert irregularity(appearance(same)).abs().max() == 0


def test_scores_are_finite_where_all_but_a_few_are_alike():
    images = torch.ones(100, 3, 128, 128)
    generator = torch.Generator().manual_seed(0)
    images[:95, :, 40:80, 40:80] = torch.rand(95, 3, 1, 1, generator=generator)
    images[95:] = torch.rand(5, 3, 128, 128, generator=generator)
    scores = irregularity(appearance(images))
    assert scores.isfinite().all()
    assert scores[95:].min() > scores[:95].max()


def plain_appearance(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """One picture's, (C, H, W), with quantiles by sorting."""

    def pooled(size: int) -> NDArray[np.float64]:
        channels, height, width = image.shape
        return image.reshape(channels, height // size, size, width // size, size).mean(axis=(2, 4))

    def edges(x: NDArray[np.float64]) -> NDArray[np.float64]:
        strongest = np.zeros(x.shape[1:])
        across, down = np.abs(np.diff(x, axis=2)).max(axis=0), np.abs(np.diff(x, axis=1)).max(axis=0)
        strongest[:, :-1] = across
        strongest[:-1] = np.maximum(strongest[:-1], down)
        return strongest

    def quantiles(values: NDArray[np.float64], shares: Sequence[float]) -> list[float]:
        ranked = np.sort(values.ravel())
        return [float(ranked[math.ceil(share * len(ranked)) - 1]) for share in shares]

    strengths = [quantiles(edges(pooled(scale)), (0.25, 0.5, 0.75, 0.9, 0.97, 0.995)) for scale in (1, 2, 4, 8)]
    shares = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
    mean = pooled(4)
    tones = [quantiles(mean.mean(axis=0), shares), quantiles(np.ptp(mean, axis=0), shares)]
    height, width = image.shape[1] // 8, image.shape[2] // 8
    cells = edges(image).reshape(8, height, 8, width).max(axis=(1, 3))
    return np.concatenate([np.log(np.ravel(strengths) + 0.01), np.ravel(tones), np.log(cells.ravel() + 0.01)])


def plain_irregularity(pictures: NDArray[np.float64]) -> list[float]:
    """With every distance at once, in three passes."""

    def nearest(distances: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        first, last = int(0.19 * len(usual)), math.ceil(0.24 * len(usual))
        distances = np.where(np.arange(len(pictures))[:, None] == usual, np.inf, distances[:, usual])
        order = np.argsort(distances, axis=1)[:, :last]
        return np.take_along_axis(distances, order[:, first:], axis=1).mean(axis=1), usual[order]

    usual, scores, affected = np.arange(len(pictures)), np.zeros(len(pictures)), np.ones(len(pictures), bool)
    parts = np.split(pictures, [24, 38], axis=1)
    apart = [np.abs(part[:, None] - part).mean(axis=2) for part in parts]
    for _ in range(3):
        total = np.zeros((len(pictures), len(pictures)))
        for distances, weight, invisible in zip(apart, (1, 1 / 2, 1 / 3), (0.05, 0.01, 0.05), strict=True):
            total += weight * distances / (np.quantile(nearest(distances)[0][usual], 0.75) + invisible)
        own, neighbours = nearest(total)
        own = np.maximum(own, max(1, 0.85 * np.quantile(own[usual], 0.75)))
        again = np.array([10 * math.log(own[k] / own[neighbours[k]].mean()) for k in range(len(pictures))])
        scores = np.where(affected, again, scores)
        affected = (scores[neighbours] >= 5).mean(axis=1) > 0.05
        usual = usual[scores[usual] < 5]
    return scores.tolist()


def test_against_a_plain_version():
    images = tensor(
        [STYLES["icons"](index) for index in range(50)]
        + [planted.ODD[kind](np.random.default_rng(4)) for kind in ("noise", "pale gradient", "blank white")]
    )
    described = appearance(images)
    plain = np.stack([plain_appearance(image) for image in images.double().numpy()])
    # Quantiles are rounded to 1/1020, by at most half of that.
    np.testing.assert_allclose(described[:, 24:38], plain[:, 24:38], atol=0.51 / 1020)
    edges = [*range(24), *range(38, 102)]
    np.testing.assert_allclose(described[:, edges].exp(), np.exp(plain[:, edges]), atol=0.51 / 1020)
    np.testing.assert_allclose(
        irregularity(described), plain_irregularity(described.double().numpy()), rtol=1e-4, atol=1e-4
    )
