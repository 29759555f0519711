"""benchmarks/damage.py on a small scale: each damage is what its name says, and both tables are made of all sets."""

import json
import re
import sys

import damage
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from progan import image_grid, write_png

IMAGES = torch.randint(20, 236, (40, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def damaged(name, images=IMAGES):
    return damage.DAMAGES[name](images, np.random.default_rng(0))


def test_every_damage_leaves_as_many_pictures_and_the_input_as_it_was():
    before = IMAGES.clone()
    for name in damage.DAMAGES:
        images = damaged(name)
        assert (images.shape, images.dtype) == (IMAGES.shape, torch.uint8), name
        assert torch.equal(images, damaged(name)), name
        assert torch.equal(images, IMAGES) == (name == damage.REAL), name
    assert torch.equal(before, IMAGES)


def test_damages_are_as_strong_as_their_names_say():
    def change(name):
        return damaged(name).double() - IMAGES.double()

    assert_close(change("noise, sigma 4 of 255").std(), torch.tensor(4.0, dtype=torch.float64), rtol=0.02, atol=0)
    for levels in (2, 4, 12):
        difference = change(f"every third row {levels} levels darker")
        assert difference[:, :, ::3].unique().tolist() == [-levels]
        assert difference[:, :, 1::3].unique().tolist() == difference[:, :, 2::3].unique().tolist() == [0]
    assert [channel.unique().tolist() for channel in change("green 8 levels up").unbind(1)] == [[0], [8], [0]]
    assert damaged("the darker half of the set only").unique(dim=0).shape[0] == 20
    assert damaged("the darker half of the set only").double().mean() < IMAGES.double().mean()
    assert damaged("a tenth of the pictures, ten times each").unique(dim=0).shape[0] == 4
    assert damaged("one picture, repeated").unique(dim=0).shape[0] == 1


def test_a_blurred_point_is_a_gaussian():
    point = torch.zeros(1, 1, 17, 17, dtype=torch.uint8)
    point[..., 8, 8] = 255
    squares = (torch.arange(17) - 8.0).square()
    gaussian = torch.exp(-(squares[:, None] + squares) / 2)
    expected = (255 * gaussian / gaussian.sum()).round().to(torch.uint8)
    assert_close(damaged("blur, sigma 1 px", point)[0, 0], expected)


def test_ranks_are_correlated_and_equal_values_share_theirs():
    assert damage.rank_correlation([3, 1, 2], [30, 10, 500]) == 0.5
    assert_close(damage.rank_correlation([1, 1, 2], [1, 2, 3]), 3**0.5 / 2)
    assert damage.rank_correlation([1, 1, 1], [1, 2, 3]) == 0


def test_both_tables_are_made_of_all_sets(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(damage, "FEW", 10)
    for name, number in (("PATCHES", 16), ("DIRECTIONS", 8), ("LEAST_BINS", 256)):  # which takes a tenth of the time
        monkeypatch.setattr(sys.modules["progan.metrics.sliced_wasserstein"], name, number)
    for folder in ("icons", "sheets"):
        (tmp_path / folder).mkdir()
    for index, image in enumerate(IMAGES):
        write_png(tmp_path / f"icons/{index}.png", image)
    for strength, name in zip((1, 2, 4), damage.SHEETS, strict=True):  # the first ranked, the darkest
        write_png(tmp_path / f"sheets/{name}.png", image_grid(IMAGES // 5 * strength, columns=8))
    out = tmp_path / "damage.json"
    command = ["--data", str(tmp_path / "icons"), "--resolution", "16", "--splits", "1", "--out", str(out)]
    assert damage.main([*command, "--sheets", str(tmp_path / "sheets")]) == 0
    measures, floors, correlations = capsys.readouterr().out.strip().split("\n\n")
    names = [line.split(" | ")[0].removeprefix("| ") for line in measures.splitlines()[2:]]
    assert names == [*damage.DAMAGES, *damage.SHEETS.values()]
    assert "| 1,088 |" in measures
    assert re.match(r"The floors \(two halves of 10\): feature distance -?\d", floors)
    assert len(correlations.splitlines()) == 12
    assert re.search(r"\| feature distance \|.*\| 2 of 2 \| 2 of 2 \|", correlations)

    found = json.loads(out.read_text())
    assert (found["data"], found["n_images"], found["comparisons"], found["device"]) == ("icons", 40, 2, "cpu")
    mean, low, high = found["20_images"]["one picture, repeated"]["diversity"]
    assert low <= mean <= high < 0.2
    assert found["10_images"].keys() == found["20_images"].keys()

    assert damage.main(command) == 0  # other pictures, of which there are no published distances
    (measures, _) = capsys.readouterr().out.strip().split("\n\n")
    assert "ImageNet" not in measures
    write_png(tmp_path / "sheets/try_a.png", image_grid(IMAGES[:8], columns=8))
    with pytest.raises(SystemExit, match=r"^try_a\.png must have at least 20 pictures, got 8$"):
        damage.main([*command, "--sheets", str(tmp_path / "sheets")])
