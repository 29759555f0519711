"""The evaluation of samples: numbers, words, and what it adapts to."""

from __future__ import annotations

import json

import pytest
import torch

import progan
from progan import presets
from progan.metrics import Evaluation, Floor, evaluate
from progan.metrics.comparison import LEADING, Reference, compare_copies, compare_defects
from progan.metrics.defects import Defects


def pictures(n=24, size=16, channels=3, seed=0):
    """Discs of random colours on random plain colours."""
    rng = torch.Generator().manual_seed(seed)
    colours = torch.rand(2, n, channels, 1, 1, generator=rng)
    centres = torch.rand(n, 2, 1, 1, generator=rng) * size / 2 + size / 4
    y, x = torch.arange(size).view(1, size, 1), torch.arange(size).view(1, 1, size)
    inside = ((y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2 < (size / 4) ** 2)[:, None]
    return torch.where(inside, colours[0], colours[1])


def test_other_real_images_are_as_good_as_the_data_allow():
    images = pictures(96)
    found = evaluate(images[:48], images[48:], printed=False)
    floor = found.floors[LEADING]
    assert floor.low < found.leading < floor.high
    assert found.alarms == ()
    assert {"swd", "swd_16", "ms_ssim", "diversity", "coverage", "corners", "copies"} <= found.values.keys()
    assert found.values.keys() - {"dead_directions"} == found.floors.keys()


def test_one_picture_is_a_collapse_and_a_copy():
    images = pictures(48)
    found = evaluate(images[:1].expand(32, -1, -1, -1), images, printed=False)
    assert found.alarms[0].startswith("Collapse: the samples are")
    assert "of the samples are copies of training images" in found.alarms[1]
    assert found.leading > found.floors[LEADING].high


def test_a_generator_is_sampled_and_its_latent_directions_looked_at():
    generator, _ = presets.karras2018(16, channels=(8, 8, 8)).build()
    grown = progan.GrownGenerator(generator, level=2)
    found = evaluate(grown, pictures(24), n=40, seed=3, printed=False)
    assert (found.n_samples, found.n_real, found.shape) == (40, 24, (3, 16, 16))
    assert 0 <= found.values["dead_directions"] <= 1
    drawn = evaluate((grown.sample(40, seed=3) * 255).round().to(torch.uint8), pictures(24), seed=3, printed=False)
    assert drawn.values[LEADING] == found.values[LEADING]


def test_larger_real_images_are_averaged_down_and_this_is_said():
    small = pictures(24)
    found = evaluate(small, progan.upsample(small, 4), printed=False)
    assert found.remarks[0] == "data was averaged from 64x64 down to 16x16, the samples' size."
    assert found.values["copies"] == 1


def test_it_can_be_written_as_json():
    found = evaluate(pictures(24), pictures(24, seed=1), held_out=pictures(12, seed=2), printed=False)
    read = json.loads(json.dumps(found.to_json()))
    assert read["values"][LEADING] == found.leading
    assert (read["n_held_out"], read["shape"]) == (12, [3, 16, 16])
    assert read["copies"]["pairs_held_out"][0].keys() == {"image", "training", "distance"}


def test_the_table_says_what_the_numbers_mean(capsys):
    images = pictures(260)
    evaluate(images[:130] * 0.5, images[130:])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Judging takes about ")
    assert lines[1] == "130 samples against 130 real images, at 16x16:"
    (row,) = [line for line in lines if "feature distance" in line]
    assert row.endswith("above the floor")
    assert sum("real images" in line for line in lines) >= 2


def test_what_a_number_says_beside_its_floor():
    def word(name: str, value: float, floor: Floor, n: int = 640) -> str:
        """What the table says of a number of n samples and n real images."""
        found = Evaluation({name: value}, {name: floor}, (), (), (3, 16, 16), n, n, 0, None, 0.0)
        return found.table().splitlines()[3].split("   ")[-1]

    halves = {"images": 320}
    assert word(LEADING, 4.0, Floor(0, -5, 5, **halves)) == "as good as the data allows"  # unbiased for any number
    assert word("swd", 9.0, Floor(12, 10, 14, **halves)).startswith("not worse than the floor, but this is too high")
    assert word("swd", 30.0, Floor(12, 10, 14, **halves)) == "2.5 times the floor"
    assert word("swd", 12.0, Floor(12, 10, 14, images=20), n=40) == "this number means nothing with 40 images"
    assert word("coverage", 0.5, Floor(0.95, 0.9, 1.0, **halves)) == "below the floor"
    assert (
        word("density", 1.2, Floor(1.0, 0.9, 1.1, **halves))
        == "nearer to the data than real images are, which copies would be"
    )


def test_defects_are_remarked():
    images = pictures(48, size=32)
    striped = images * 0.6
    striped[:, :, ::3] += 0.3
    remarks = evaluate(striped[:24], images[24:], printed=False).remarks
    assert any(remark.startswith("A fixed pattern, such as stripes or dots: ") for remark in remarks)
    shaded, flat = torch.full((24, 3, 32, 32), 0.2) + torch.arange(32) / 64, images[24:].clone()
    flat[:, :, :4] = 0.5
    remark = compare_defects(Reference(flat), shaded).remarks[-1]
    assert remark.startswith("Uneven backgrounds: the upper corners of a sample differ by 1")
    assert compare_defects(Reference(flat), flat).remarks == ()


@pytest.mark.parametrize(
    ("pattern", "corners", "first_words"),
    [(0.14, 4.9, []), (0.16, 4.9, ["A fixed pattern"]), (0.14, 5.1, ["Uneven backgrounds"])],
)
def test_small_defects_are_not_remarked(pattern, corners, first_words, monkeypatch):
    found = Defects(pattern, 0.1, corners, 2.0)
    monkeypatch.setattr("progan.metrics.comparison.defects", lambda samples, real: found)
    remarks = compare_defects(Reference(pictures(2)), pictures(2)).remarks
    assert len(remarks) == len(first_words)
    assert all(remark.startswith(words) for remark, words in zip(remarks, first_words, strict=True))


def test_floors_are_of_as_many_real_images_as_there_are_samples():
    for n_samples, images in ((10, 10), (None, 20), (100, 20)):
        reference = Reference(pictures(40), n_samples=n_samples)
        floors = [*reference.feature_floors.values(), *reference.patch_floors.values()]
        assert {floor.images for floor in floors} == {images}, "at most one half of them"


def test_copies_are_looked_for_among_all_training_images():
    training = pictures(80, size=32)
    reference = Reference(training[:20], training=training)
    assert compare_copies(reference, training[40:60]).values["copies"] == 1


def test_few_images_have_no_floors():
    found = evaluate(pictures(6), pictures(7, seed=1), printed=False)
    assert found.floors.keys() == {"ms_ssim", "diversity", "fixed_pattern", "corners"}
    assert found.remarks[0] == "7 real images are too few to say what real images themselves give."
    assert found.copies is None
    assert found.table()


def test_the_reference_computes_once(monkeypatch):
    reference = Reference(pictures(24))
    assert reference.features is reference.features
    assert reference.patch_floors is reference.patch_floors


@pytest.mark.parametrize(
    ("samples", "data", "error", "message"),
    [
        (pictures(8), pictures(8, size=24), ValueError, "data must have the samples' shape .* or be larger"),
        (pictures(8), pictures(8, channels=1), ValueError, "data must have the samples' shape"),
        (pictures(1), pictures(8), ValueError, "samples must be at least 2 images, got 1"),
        (pictures(8, size=8), pictures(8), ValueError, "samples must be at least 16 px"),
        (pictures(8) * 2 - 1, pictures(8), ValueError, "samples must be floats in \\[0, 1\\], got values from -"),
        (pictures(8) / 0, pictures(8), ValueError, "samples must be floats in \\[0, 1\\], got values from"),
        (pictures(8), pictures(8).long(), TypeError, "data must be uint8 or floats in \\[0, 1\\], got torch.int64"),
        ("samples.png", pictures(8), TypeError, "samples must be a tensor"),
        (pictures(8), 3, TypeError, "data must be a tensor"),
    ],
)
def test_bad_input(samples, data, error, message):
    with pytest.raises(error, match=message):
        evaluate(samples, data, printed=False)


def test_a_trainer_is_not_a_generator_and_images_are_not_drawn():
    trainer = progan.Trainer.from_recipe(presets.mel_icon(16, channels=(8, 8, 8)), device="cpu", progress=False)
    with pytest.raises(TypeError, match=r"pass its grown\(\)"):
        evaluate(trainer, pictures(8), printed=False)
    with pytest.raises(ValueError, match="n is the number of samples that a generator draws"):
        evaluate(pictures(8), pictures(8), n=4, printed=False)


def test_a_generator_that_has_diverged():
    generator, _ = presets.karras2018(16, channels=(8, 8, 8)).build()
    with torch.no_grad():
        next(generator.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match="samples are not finite"):
        evaluate(progan.GrownGenerator(generator, level=2), pictures(8), printed=False)
