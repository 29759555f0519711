"""Copies are found whatever was done to them, and other pictures are not taken for copies."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from drawn import drawings

from progan import upsample
from progan.metrics.copying import QUERIES, Copying, Pair, _queries, closest_pairs, compared, copying, usual_threshold
from progan.metrics.images import ImageSet
from progan.metrics.nearest import Features, Nearest, nearest
from progan.metrics.significance import binomial_p, rank_test


def oracle_distance(picture: np.ndarray, training: np.ndarray) -> float:
    """The distance of two pictures (C, H, W) of 255, by loops."""
    _, height, width = picture.shape
    factor = max(1, min(height, width) // 32)
    rows, columns = (height - 2) // factor, (width - 2) // factor
    top, left = (height - rows * factor) // 2, (width - columns * factor) // 2

    def small(image, down, right):
        window = image[:, top + down :, left + right :][:, : rows * factor, : columns * factor]
        return window.reshape(len(image), rows, factor, columns, factor).mean(axis=(2, 4))

    reference = small(training, 0, 0)
    alignments = [
        small(image, down, right)
        for image in (picture, picture[:, :, ::-1])
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    ]
    best = min(alignments, key=lambda aligned: ((aligned - reference) ** 2).sum())
    squares = ((best - reference) ** 2).mean(axis=0)
    tiles = [
        squares[y : y + 4, x : x + 4].mean() for y in range(0, rows - 3, 2) for x in range(0, columns - 3, 2)
    ]  # fmt: skip
    return math.sqrt(max(tiles))


def planted(training: torch.Tensor) -> torch.Tensor:
    """Copies of training images: with noise, shifted, mirrored, and mirrored with noise, in turn."""
    generator = torch.Generator().manual_seed(5)
    noisy = (training.int() + torch.randint(-2, 3, training.shape, generator=generator)).clamp(0, 255).byte()
    shifted = training.roll((1, -1), (2, 3))
    kinds = torch.stack((noisy, shifted, training.flip(3), noisy.flip(3)))
    return kinds[torch.arange(len(training)) % 4, torch.arange(len(training))]


@pytest.mark.parametrize(("height", "width", "channels"), [(32, 32, 3), (64, 64, 1), (72, 48, 3), (16, 24, 4)])
def test_distances_are_those_of_the_oracle(height, width, channels):
    images = drawings(12, height, width, channels, seed=1)
    samples, training = images[:5], images[5:]
    near = nearest(ImageSet("samples", samples), Features.of(ImageSet("training", training)))
    alpha = channels == 4
    seen = [np.concatenate((x[:, :3] * x[:, 3:] / 255, x[:, 3:]), axis=1) if alpha else x for x in
            (samples.double().numpy(), training.double().numpy())]  # fmt: skip
    # Of fewer training images than candidates, all are compared.
    expected = np.array([[oracle_distance(picture, other) for other in seen[1]] for picture in seen[0]])
    assert near.indices.tolist() == expected.argmin(axis=1).tolist()
    np.testing.assert_allclose(near.distances, expected.min(axis=1), rtol=1e-4)


def test_leaving_one_out_compares_with_the_others_only():
    images = drawings(10, seed=2)
    images[7] = images[2]
    features = Features.of(ImageSet("training", images))
    near = nearest(ImageSet("training", images), features, left_out=torch.arange(10))
    assert (near.indices != torch.arange(10)).all()
    assert near.indices[[2, 7]].tolist() == [7, 2]
    assert near.distances[[2, 7]].tolist() == [0, 0]
    assert near.distinct.min() > 3  # nobody sees smaller differences: a duplicate


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("n", [40, 200])
def test_planted_copies_are_found_and_others_are_not(n, size):
    images = drawings(n + 120, size, size, seed=3)
    training, others = images[:n], images[n:]
    copies = planted(training[:16])
    result = copying(torch.cat((others, copies)), training)
    assert result.share == pytest.approx(16 / 136)
    assert result.alarm
    assert {pair.image for pair in result.pairs[:16]} == set(range(120, 136))
    assert all(pair.training == pair.image - 120 for pair in result.pairs[:16])
    assert result.remark.startswith("11.8% of the samples are copies of training images")
    assert not copying(others, training).alarm


def test_duplicates_in_the_data_hide_no_copies():
    images = drawings(140, seed=4)
    training, others = torch.cat((images[:60], images[:30])), images[60:]
    samples = torch.cat((others, planted(images[:20])))
    result = copying(samples, training, held_out=others)
    assert result.share == 0.2
    assert result.share_training == pytest.approx(60 / 90)
    assert result.share_held_out == 0
    assert result.alarm
    assert "The data contain duplicates" in result.remark
    # Without held-out images, the data's own duplicates explain as many copies.
    assert not copying(samples, training).alarm


def test_held_out_images_are_compared_like_samples():
    images = drawings(180, seed=5)
    training, samples, held_out = images[:60], images[60:120], images[120:]
    result = copying(samples, training, held_out=held_out)
    swapped = copying(held_out, training, held_out=samples)
    assert (result.distance_held_out, result.share_held_out) == (swapped.distance, swapped.share)
    assert result.pairs_held_out == swapped.pairs
    assert result.statistic_held_out == pytest.approx(1 - swapped.statistic_held_out)
    assert json.loads(json.dumps(asdict(result)))["pairs"][0]["image"] == result.pairs[0].image


def test_memory_and_underfitting_are_not_told_apart_far_from_the_data():
    images = drawings(160, seed=6)
    squares = torch.randint(0, 2, (80, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    remark = copying(upsample(255.0 * squares, 4).byte(), images[:80]).remark
    assert "memory cannot be told from underfitting" in remark
    assert "memory" not in copying(images[80:], images[:80]).remark


def test_smoother_samples_are_said_to_lie_nearer_without_an_alarm():
    images = drawings(200, seed=7)
    halfway = ((images[100:].float() + images[:100].float()) / 2).byte()
    result = copying(halfway, images[:100])
    assert result.statistic > 0.9
    assert result.p < 0.01
    assert not result.alarm
    assert "lie nearer to the training images than real pictures do" in result.remark


def test_pinned():
    images = drawings(100, seed=8)
    result = copying(images[:50], images[50:])
    numbers = (result.threshold, result.distance, result.distance_training, result.statistic, result.p)
    assert numbers == pytest.approx((21.678222, 109.716304, 107.098875, 0.4476, 0.817675), rel=1e-4)


def test_a_draw_bounds_the_training_images_that_are_compared(monkeypatch):
    monkeypatch.setattr(sys.modules[Pair.__module__], "QUERIES", 20)
    images = drawings(80, seed=9)
    first, again, other = (copying(images[:30], images[30:], seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.distance == other.distance
    assert first.distance_training != other.distance_training


def test_the_threshold_is_half_of_what_one_real_picture_in_a_hundred_shows():
    distances = torch.arange(10.0, 210.0).double()
    assert usual_threshold(distances) == 6
    assert usual_threshold(distances[:50] + 10) == 5  # and of fewer pictures less
    assert usual_threshold(torch.tensor([4.0, math.inf]).double()) == 3
    assert usual_threshold(torch.tensor([math.inf]).double()) == 3


def test_the_rank_test_is_mann_and_whitneys():
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 9, 30), generator.integers(2, 11, 40)
    u = sum((a < b) + (a == b) / 2 for a in first for b in second)
    pooled = np.concatenate((first, second))
    ranks = np.array([(pooled < value).sum() + ((pooled == value).sum() + 1) / 2 for value in pooled])
    # The variance of a sum of ranks drawn without replacement, ties and all.
    variance = 30 * 40 / (70 * 69) * ((ranks - ranks.mean()) ** 2).sum()
    p = math.erfc((u - 600 - 0.5) / math.sqrt(2 * variance)) / 2
    statistic, found = rank_test(torch.from_numpy(first).double(), torch.from_numpy(second).double())
    assert statistic == pytest.approx(u / 1200)
    assert found == pytest.approx(p)
    assert rank_test(torch.ones(9), torch.ones(9)) == (0.5, 0.5)


def test_the_share_test_is_binomial():
    expected = sum(math.comb(20, k) * (3.5 / 31) ** k * (27.5 / 31) ** (20 - k) for k in range(5, 21))
    assert binomial_p(5, 20, 3, 30) == pytest.approx(expected)


def compared_at(samples: list[float], training: list[float], held_out: list[float] | None = None) -> Copying:
    """Compare pictures at distances."""
    sets = (None if of is None else torch.tensor(of, dtype=torch.float64) for of in (samples, training, held_out))
    near = [None if at is None else Nearest(at, torch.arange(len(at)), at) for at in sets]
    return compared(near[0], near[1], near[2])


def test_an_alarm_takes_a_share_that_is_significant_and_not_tiny():
    usual = [20.0 + k % 10 for k in range(2000)]
    assert not compared_at([1.0] * 12 + usual[12:], usual).alarm  # 0.6 %, p = 3e-10
    assert compared_at([1.0] * 30 + usual[30:], usual).alarm
    assert not compared_at([1.0, *usual[:8]], usual[:20]).alarm  # 11 %, p = 0.2


def test_held_out_images_say_what_is_usual():
    training, nearer = [20.0] * 300, [8.0] * 300
    assert compared_at(training, training).threshold == 10
    assert compared_at(training, training, nearer).threshold == 4
    found = compared_at([7.0] * 300, training, nearer)
    assert (found.p, found.p_held_out) == (pytest.approx(0, abs=1e-20), pytest.approx(0, abs=1e-20))
    assert "But the samples lie nearer to the training images than real pictures do" in found.remark
    assert "nearer" not in compared_at(nearer, training, nearer).remark  # nearer than training images, as held-out ones


def test_duplicates_are_remarked():
    assert "The data contain duplicates: 2.0% of" in compared_at([20.0] * 100, [1.0] * 2 + [20.0] * 98).remark
    assert "duplicates" not in compared_at([20.0] * 100, [1.0] + [20.0] * 99).remark


def test_of_many_training_images_some_are_compared_with_all_others():
    """Each of them once."""
    assert torch.equal(_queries(QUERIES, 0), torch.arange(1024))
    drawn = _queries(2000, 0)
    assert drawn.unique().numel() == len(drawn) == 1024
    assert not torch.equal(drawn, _queries(2000, 1))


def test_closest_pairs_stand_side_by_side():
    images = drawings(9, 32, 48, seed=10)
    sheet = closest_pairs(images, images.flip(0), [Pair(0, 1, 0.0), Pair(2, 3, 0.0), Pair(4, 5, 0.0)], columns=2)
    assert sheet.shape == (3, 2 * 34, 2 * 98)
    assert sheet.dtype == torch.uint8
    assert torch.equal(sheet[:, :32, :96], torch.cat((images[0], images[7]), dim=2))
    assert torch.equal(sheet[:, :32, 98:194], torch.cat((images[2], images[5]), dim=2))
    assert torch.equal(sheet[:, 34:66, :96], torch.cat((images[4], images[3]), dim=2))
    assert (sheet[:, 34:, 98:] == 255).all()


def test_bad_input():
    images = drawings(20)
    with pytest.raises(ValueError, match="training must be at least 8 images, got 7"):
        copying(images, images[:7])
    with pytest.raises(ValueError, match="held_out and training must have one size"):
        copying(images, images, held_out=drawings(8, 64, 64))
    with pytest.raises(ValueError, match=r"samples must be floats in \[0, 1\]"):
        copying(images.float(), images)
    with pytest.raises(ValueError, match="pairs must be at least one pair"):
        closest_pairs(images, images, [])
    with pytest.raises(ValueError, match="got index 20 of 20 training"):
        closest_pairs(images, images, [Pair(0, 20, 0.0)])
