"""Training on classes: labels reach both networks, runs resume to the bit, samples are of the class asked for."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from conftest import small_recipe
from running import make
from test_graph import Recording, Remembering, assert_same

from progan import (
    Architecture,
    Batch,
    CheckpointError,
    Ema,
    GrownGenerator,
    Judge,
    Recipe,
    Stage,
    Trainer,
    Training,
    TruncatedGenerator,
    find_latent,
    load_generator,
    metrics,
    presets,
)
from progan.render import read_png
from progan.reports import class_sheet, interpolation_sheet, sample_sheet, walk_film
from progan.training.callbacks.built_in_measures import built_in_measures
from progan.training.captured_step import DeviceStep
from progan.training.step import StepCritic

NAMES = ("red", "green", "blue")


class Coloured:
    """Images of one colour each, plus a little noise; more red ones than green and blue."""

    classes = NAMES

    def __init__(self, size=16, labels=(0, 0, 0, 1, 2) * 8):
        rng = torch.Generator().manual_seed(0)
        self.labels = labels
        noise = torch.rand(len(labels), 3, size, size, generator=rng) * 0.2
        self.images = noise + 0.8 * torch.eye(4, 3)[list(labels)][:, :, None, None]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


def conditional(preset=presets.karras2018, balanced=False, **training) -> Recipe:
    return small_recipe(preset, **training).with_classes(3, balanced=balanced)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("preset", [presets.mel_icon, presets.karras2018])
def test_a_run_resumes_to_the_bit(preset, balanced, tmp_path):
    recipe, data = conditional(preset, balanced), Coloured()
    whole = make(recipe, tmp_path / "whole")
    whole.fit(data)
    for until in (24, 64, None):
        make(recipe, tmp_path / "parts").fit(data, until=until)
    resumed = make(recipe, tmp_path / "parts")
    assert_same(whole, resumed)
    previews = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.png")]
    assert previews
    for path in previews:
        assert torch.equal(read_png(tmp_path / "whole" / path), read_png(tmp_path / "parts" / path))


def test_samples_have_the_colour_of_their_class(tmp_path):
    """Trained for 300 steps, at least 14 of 15 samples of each class have its colour."""
    architecture = Architecture((16,), latent_shape=(8,), classes=3, class_embedding=8)
    recipe = Recipe(architecture, (Stage(0, 0, 8 * 300, 8, 3e-3),), Training(ema=Ema(0.95)))
    trainer = Trainer.from_recipe(recipe, run_dir=tmp_path, device="cpu", progress=False, judge_every=0)
    trainer.fit(Coloured(4))
    grown = load_generator(tmp_path)
    assert grown.classes.names == NAMES
    assert grown.classes.counts == (24, 8, 8)
    for label, name in enumerate(NAMES):
        samples = grown.sample(15, label=name)
        assert torch.equal(samples, grown.sample(15, label=label))
        assert torch.equal(samples, trainer.grown().sample(15, label=name))
        assert (samples.mean((2, 3)).argmax(1) == label).sum() >= 14
    drawn = grown.sample(40)
    assert (drawn.mean((2, 3)).argmax(1) == grown.labels(40)).sum() >= 37
    torch.testing.assert_close(grown.images(grown.latents([3, 17]), grown.labels([3, 17])), drawn[[3, 17]])


def test_both_updates_take_the_labels_of_the_real_images(monkeypatch):
    seen = []

    class Spying(StepCritic):
        def __init__(self, step, growth, draws, labels):
            super().__init__(step, growth, draws, labels)
            seen.append(labels)

    monkeypatch.setattr("progan.training.step.StepCritic", Spying)
    trainer, labels = make(conditional()), torch.tensor([0, 2, 1, 1, 0, 2, 2, 2])
    trainer.step(Batch(torch.rand(8, 3, 4, 4), labels))
    assert len(seen) == 2
    assert all(torch.equal(each, labels) for each in seen)


def test_labels_may_be_other_ints():
    real, trainers = torch.rand(8, 3, 4, 4), [make(conditional()) for _ in range(2)]
    for trainer, dtype in zip(trainers, (torch.int64, torch.uint8), strict=True):
        trainer.step(Batch(real, torch.tensor([0, 2, 1, 1, 0, 2, 2, 2], dtype=dtype)))
    assert_same(*trainers)


def test_labels_matter_to_a_step():
    real, trainers = torch.rand(8, 3, 4, 4), [make(conditional()) for _ in range(3)]
    for trainer, labels in zip(trainers, ([0] * 8, [0] * 8, [0] * 7 + [1]), strict=True):
        trainer.step(Batch(real, torch.tensor(labels)))
    assert_same(trainers[0], trainers[1])
    for role in ("generator", "discriminator"):
        first, last = (
            trainer.state_dict()["tensors"][f"{role}/blocks.0.embedding.weight"] for trainer in trainers[::2]
        )
        assert torch.equal(first[2], last[2])
        assert not torch.equal(first[1], last[1])


@pytest.mark.parametrize("graphs", [Remembering, Recording])
def test_captured_steps_take_the_labels_of_each_step(graphs):
    stages = (Stage(0, 0, 96, 8, 2**-10),)
    captured, plain = (make(replace(conditional(), stages=stages)) for _ in range(2))
    captured._engine.device_step = DeviceStep(captured._engine.step, graphs())
    plain._engine.device_step = DeviceStep(plain._engine.step, None)
    for number in range(12):
        rng = torch.Generator().manual_seed(number)
        batch = Batch(torch.rand(8, 3, 4, 4, generator=rng), torch.randint(3, (8,), generator=rng))
        captured.step(batch)
        plain.step(batch)
    assert captured._engine.captures
    assert_same(captured, plain)


def test_a_run_is_judged_and_planned(tmp_path):
    stages, judge = (Stage(2, 0, 64, 8, 1e-3),), Judge(64, n=24, measures=built_in_measures())
    trainer = make(replace(conditional(), stages=stages), tmp_path, held_out=0.2, callbacks=[judge], save_every=64)
    trainer.plan(printed=False)
    trainer.fit(Coloured())
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    values = next(row["measures"] for row in rows if "measures" in row)
    assert "critic_overfitting" in values
    assert None not in [values[name] for name in ("feature_distance", "swd", "dead_directions")]
    found = metrics.evaluate(load_generator(tmp_path), Coloured(), n=20, printed=False)
    assert found.n_samples == 20
    assert found.values["dead_directions"] is not None


def test_another_data_set_of_labels_is_another_run(tmp_path):
    make(conditional(), tmp_path).fit(Coloured(), until=16)
    with pytest.raises(ValueError, match=r"the data is not that of the run .*labels\.counts"):
        make(conditional(), tmp_path).fit(Coloured(labels=(0, 0, 1, 1, 2) * 8))
    with pytest.raises(ValueError, match=r"recipe.training.balance_classes False -> True"):
        make(conditional(balanced=True), tmp_path)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (torch.rand(20, 3, 16, 16), {}, "the networks have 3 classes, and the data has no labels"),
        (Coloured(labels=(0, 2) * 10), {}, "no image to train on is of class 'green'; add images"),
        (Coloured(labels=(0, 0, 1, 3) * 5), {}, "labels must be 0 to 2, and the data has labels from 0 to 3"),
        (Coloured(labels=(0,) * 9 + (1, 2)), {"held_out": 0.4}, "no image to train on is of class 'green', 'blue'"),
    ],
)
def test_data_that_does_not_fit_is_refused_before_the_first_step(data, options, message, tmp_path):
    trainer = make(conditional(), tmp_path / "run", **options)
    for call in (trainer.check, trainer.fit):
        with pytest.raises(ValueError, match=message):
            call(data)
    assert trainer.images_seen == 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "the networks have 3 classes; pass labels=, each 0 to 2"),
        (torch.tensor([0, 1, 2, 3] * 2), "labels must be 0 to 2, since the networks have 3 classes, got 0 to 3"),
    ],
)
def test_a_step_needs_labels(labels, message):
    with pytest.raises(ValueError, match=message):
        make(conditional()).step(Batch(torch.rand(8, 3, 4, 4), labels))


def test_balance_needs_classes():
    with pytest.raises(ValueError, match="balance_classes is for networks with classes; pass Architecture"):
        small_recipe(presets.karras2018, balance_classes=True)
    with pytest.raises(TypeError, match=r"Training.balance_classes must be True or False"):
        Training(balance_classes="yes")


@pytest.fixture(scope="module")
def grown() -> GrownGenerator:
    recipe = replace(conditional(), stages=(Stage(1, 0, 8),))
    return GrownGenerator(recipe.build()[0], 1)


def test_tools_take_one_class(grown, tmp_path):
    one = grown.of_class(1)
    z = grown.latents(3)
    assert torch.equal(one.images(z), grown.images(z, torch.tensor([1, 1, 1])))
    assert torch.equal(one.sample(3), grown.sample(3, label=1))
    assert not torch.equal(one.sample(3), grown.sample(3, label=2))
    assert grown.label is None
    assert one.of_class(2).label == 2
    assert find_latent(one, one.sample(9, seed=5)[8], steps=5, draws=9, starts=2).distance < 0.5
    truncated = TruncatedGenerator(one, 1.0, n=8)
    torch.testing.assert_close(truncated.sample(3), one.sample(3))
    assert TruncatedGenerator(one, 0.5, n=8).sample(3).shape == (3, 3, 8, 8)
    modulated = replace(conditional(), architecture=replace(conditional().architecture, modulation=True))
    several = GrownGenerator(modulated.build()[0], 1)
    torch.testing.assert_close(TruncatedGenerator(several.of_class(2), 1.0, n=8).sample(3), several.sample(3, label=2))
    typical = [TruncatedGenerator(several.of_class(label), 0.0, n=8).sample(2) for label in (1, 2)]
    torch.testing.assert_close(typical[0][0], typical[0][1])
    assert not torch.allclose(typical[0], typical[1])
    assert walk_film(one, tmp_path / "walk.png", duration_s=0.2).frames > 1
    assert interpolation_sheet(one, [(0, 1)], n=3).shape[0] == 3


@pytest.mark.parametrize(
    "use",
    [
        lambda grown: grown.images(grown.latents(2)),
        lambda grown: grown(grown.latents(2)),
        lambda grown: find_latent(grown, torch.zeros(3, 8, 8)),
        lambda grown: TruncatedGenerator(grown),
        lambda grown: walk_film(grown, "walk.png"),
        lambda grown: interpolation_sheet(grown, [(0, 1)]),
    ],
)
def test_tools_that_need_one_class_say_so(use, grown):
    with pytest.raises(ValueError, match=r"of one class, and the generator has 3 classes; choose one with of_class"):
        use(grown)


def test_a_sheet_has_a_row_for_each_class(grown):
    sheet = class_sheet(grown, 4, height=8, numbers=False)
    for label in range(3):
        row = sample_sheet(grown.of_class(label), 4, columns=4, height=8, numbers=False)
        begin = label * (8 + 2)
        assert torch.equal(sheet[:, begin : begin + row.shape[1]], row)
    with pytest.raises(ValueError, match="the generator has no classes, so there are no rows; use sample_sheet"):
        class_sheet(GrownGenerator(small_recipe().build()[0], 1))


@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        (3, ValueError, "label must be 0 to 2, of 3 classes, got 3"),
        (-1, ValueError, "label must be 0 to 2"),
        ("cats", ValueError, "the classes have no names; pass a label, 0 to 2, not 'cats'"),
        (1.5, TypeError, "label must be the name of a class or its number, got 1.5"),
    ],
)
def test_a_class_that_is_not_there(label, error, message, grown):
    with pytest.raises(error, match=message):
        grown.sample(2, label=label)


def test_a_name_that_is_not_there_and_a_generator_without_classes():
    recipe = small_recipe()
    with pytest.raises(ValueError, match="the generator has no classes, got label 'cats'; leave it out"):
        GrownGenerator(recipe.build()[0], 1).sample(2, label="cats")
    trainer = make(conditional())
    trainer.check(Coloured())
    with pytest.raises(ValueError, match=r"there is no class 'cats', there are 3 classes \('red', 'green', 'blue'\)"):
        trainer.grown().sample(2, label="cats")


def test_a_checkpoint_of_other_classes_is_refused(tmp_path):
    trainer = make(conditional(), tmp_path)
    trainer._identity.data = {"labels": {"names": None, "counts": [1, 2]}}
    trainer._checkpointer.save(trainer)
    with pytest.raises(
        CheckpointError, match=r"does not describe a run: the data has 2 classes, and the networks have"
    ):
        load_generator(tmp_path)
