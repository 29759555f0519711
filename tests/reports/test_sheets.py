"""Sheets: each picture is where it should be."""

from __future__ import annotations

import pytest
import torch
from conftest import small_recipe

from progan import GrownGenerator, enlarge, to_uint8, write_png
from progan.reports import corner_sheet, interpolation_sheet, sample_sheet, sheets
from progan.reports.captions import captioned

GAP = 2


@pytest.fixture(scope="module")
def grown() -> GrownGenerator:
    return GrownGenerator(small_recipe().build(seed=1)[0], level=2)


def cell(sheet: torch.Tensor, row: int, column: int, size: tuple[int, int] = (32, 32)) -> torch.Tensor:
    height, width = size
    top, left = row * (height + GAP), column * (width + GAP)
    return sheet[:, top : top + height, left : left + width].int()


def picture(grown: GrownGenerator, z: torch.Tensor) -> torch.Tensor:
    return enlarge(to_uint8(grown.images(z[None])), 32)[0]


def same(shown: torch.Tensor, expected: torch.Tensor) -> bool:
    """To the last bit but for the number of images made at once."""
    return shown.shape == expected.shape and bool((shown - expected.int()).abs().max() <= 1)


def test_chosen_samples_stand_in_the_order_given_with_their_numbers(grown, tmp_path):
    which = [17, 3, 40, 3]
    sheet = sample_sheet(grown, which, seed=5, columns=3, height=32)
    for place, index in enumerate(which):
        expected = captioned(picture(grown, grown.latents([index], seed=5)[0]), str(index))
        assert same(cell(sheet, *divmod(place, 3), (43, 32)), expected)
    assert torch.equal(sheet, sample_sheet(grown, iter(which), seed=5, columns=3, height=32))
    write_png(tmp_path / "sheet.png", sheet)
    plain = sample_sheet(grown, 9, seed=5, height=32, numbers=False)
    assert plain.shape == (3, 3 * 32 + 2 * GAP, 3 * 32 + 2 * GAP)
    for index in range(9):
        assert same(cell(plain, *divmod(index, 3)), picture(grown, grown.latents([index], seed=5)[0]))


def test_each_sample_of_a_sheet_is_of_its_own_class(monkeypatch):
    """Also where images are made in several batches."""
    monkeypatch.setattr(sheets, "_BATCH", 4)
    grown = GrownGenerator(small_recipe().with_classes(3).build(seed=1)[0], level=1)
    which = [17, 3, 40, 8, 21, 5]
    sheet = sample_sheet(grown, which, seed=5, columns=6, height=8, numbers=False)
    labels = grown.labels(which, seed=5)
    assert labels.tolist() != grown.labels(6, seed=5).tolist()
    for column, (z, label) in enumerate(zip(grown.latents(which, seed=5), labels, strict=True)):
        assert same(cell(sheet, 0, column, (8, 8)), to_uint8(grown.images(z[None], label[None]))[0])


def test_each_row_goes_from_one_of_a_pair_to_the_other(grown):
    pairs = [(3, 17), (17, 4)]
    sheet = interpolation_sheet(grown, pairs, 5, seed=2, height=32)
    assert sheet.shape == (3, 2 * 32 + GAP, 5 * 32 + 4 * GAP)
    for row, (start, end) in enumerate(pairs):
        ends = grown.latents([start, end], seed=2)
        for column, z in enumerate(grown.latents_between(ends[0], ends[1], 5)):
            assert same(cell(sheet, row, column), picture(grown, z))
        assert same(cell(sheet, row, 4), picture(grown, ends[1]))


def test_four_corners(grown):
    corners = [3, 17, 4, 9]
    sheet = corner_sheet(grown, corners, 4, seed=2, height=32)
    assert sheet.shape == (3, 4 * 32 + 3 * GAP, 4 * 32 + 3 * GAP)
    z = grown.latents(corners, seed=2)
    for place, corner in zip([(0, 0), (0, 3), (3, 0), (3, 3)], z, strict=True):
        assert same(cell(sheet, *place), picture(grown, corner))
    for row, (left, right) in enumerate(
        zip(grown.latents_between(z[0], z[2], 4), grown.latents_between(z[1], z[3], 4), strict=True)
    ):
        for column, between in enumerate(grown.latents_between(left, right, 4)):
            assert same(cell(sheet, row, column), picture(grown, between))


@pytest.mark.parametrize(
    ("draw", "error", "text"),
    [
        (lambda grown: sample_sheet(grown, []), ValueError, "at least one index"),
        (lambda grown: sample_sheet(grown, [-1]), ValueError, "none below 0"),
        (lambda grown: sample_sheet(grown, ["3"]), TypeError, "a list of indices"),
        (lambda grown: sample_sheet(grown, 4, columns=0), ValueError, "columns must be at least 1"),
        (lambda grown: sample_sheet(grown, 4, height=0), ValueError, "height must be at least 1"),
        (lambda grown: sample_sheet(grown, 4, numbers="no"), TypeError, "numbers must be True or False"),
        (lambda grown: sample_sheet(grown.generator, 4), TypeError, r"pass GrownGenerator\(generator, level\)"),
        (lambda grown: interpolation_sheet(grown, []), ValueError, r"at least one pair .*, got \[\]"),
        (lambda grown: interpolation_sheet(grown, [(1, 2, 3)]), ValueError, "at least one pair"),
        (lambda grown: interpolation_sheet(grown, [3, 17]), TypeError, "each of pairs must be a sequence of two"),
        (lambda grown: interpolation_sheet(grown, [(3, 17)], 1), ValueError, "n of at least 2"),
        (lambda grown: corner_sheet(grown, [1, 2, 3]), ValueError, r"four indices, .*, got \(1, 2, 3\)"),
        (lambda grown: corner_sheet(grown, [1, 2, 3, 4], 1), ValueError, "n of at least 2"),
    ],
)
def test_bad_arguments_are_refused(grown, draw, error, text):
    with pytest.raises(error, match=text):
        draw(grown)
