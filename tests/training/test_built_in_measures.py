"""The built-in measures of a judgement: what they are given, and what becomes of what they find."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from progan.metrics.comparison import PARTS, Findings
from progan.metrics.copying import Pair, closest_pairs
from progan.training.callbacks import built_in_measures as room
from progan.training.callbacks import judged_images
from progan.training.callbacks.judged_images import CriticScores, JudgedImages, RealImages


def judged(*, thorough: bool = True) -> JudgedImages:
    """Images of which 4 samples are compared with 6 of 9 training images, and 5 are held out."""
    sets = torch.randint(0, 256, (24, 3, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8).split(9)
    training, real = sets[0], sets[0][3:]
    run = SimpleNamespace(images_seen=8, seed=7)
    reals = RealImages(2, real, training, sets[1][:5])
    return JudgedImages(run, reals, sets[2][:4], torch.zeros(4, 5), None, grown=None, thorough=thorough)


@pytest.fixture
def called(monkeypatch):
    """The calls of two parts of a comparison, and of the reference that they share."""
    calls = []

    class Reference:
        features, feature_floors, patch_floors = None, None, None

        def __init__(self, *given, **named):
            calls.append((given, named))

    def part(name):
        return lambda reference, samples: calls.append((name, samples)) or Findings({name: 1.0})

    monkeypatch.setattr(room, "Reference", Reference)
    monkeypatch.setattr(room, "PARTS", {name: part(name) for name in ("features", "patches")})
    return calls


def test_their_names():
    assert [*room.built_in_measures()] == [*PARTS, "dead_directions", "critic_overfitting"]


@pytest.mark.parametrize("thorough", [True, False])
def test_parts_compare_with_one_reference_of_all_real_images_and_patches_are_costly(thorough, called):
    images, measures = judged(thorough=thorough), room.built_in_measures()
    found = [measures[name](images).values for name in ("features", "patches")]
    assert found == [{"features": 1.0}, {"patches": 1.0} if thorough else {}]
    (((real,), named), *parts) = called
    assert real is images.real
    assert named == {"training": images.training, "held_out": images.held_out, "n_samples": 4, "seed": 7}
    assert parts == [("features", images.samples), ("patches", images.samples)][: 1 + thorough]


def test_what_real_images_need_is_prepared_once(called):
    images, measures = judged(), room.built_in_measures()
    for name in ("features", "patches", "features"):
        measures[name](images)
    assert {*images._reals.kept} == {
        "reference",
        *(f"reference {name}" for name in ("features", "feature_floors", "patch_floors")),
    }


@pytest.mark.parametrize(("alpha", "ratio"), [(None, 0.3), (0.5, 0.3), (0.5, 0.1), (0.5, 0.9)])
def test_a_fall_of_diversity_is_no_alarm_while_a_level_fades_in_unless_it_is_deep(alpha, ratio, called, monkeypatch):
    alarms = ("Collapse",) if ratio < 0.4 else ()
    part = lambda reference, samples: Findings({"diversity": ratio}, alarms=alarms)  # noqa: E731
    monkeypatch.setattr(room, "PARTS", {"diversity": part})
    images = judged()
    images.grown = SimpleNamespace(alpha=alpha)
    found = room.built_in_measures()["diversity"](images)
    passes = alpha is not None and ratio == 0.3
    assert found.alarms == (() if passes else alarms)
    assert found.remarks == (alarms if passes else ())


def test_overfitting_is_that_of_the_critics_scores(monkeypatch):
    images = judged()
    scores = CriticScores(torch.tensor([2.0, 2.2]), torch.tensor([1.0, 1.2]), torch.tensor([-2.0, -1.8]))
    monkeypatch.setattr(images, "critic_scores", lambda: scores)
    measure = room.built_in_measures()["critic_overfitting"]
    assert measure(images).values == {"critic_overfitting": pytest.approx(0.25)}
    monkeypatch.setattr(images, "critic_scores", lambda: None)
    assert measure(images).values == {}


def test_the_sheet_shows_pairs_of_all_training_images():
    images, pairs = judged(), (Pair(1, 8, 0.0), Pair(3, 0, 1.0))
    found = room._measured(Findings({"copies": 1.0}, copies=SimpleNamespace(pairs=pairs)), images)
    assert torch.equal(found.sheet, closest_pairs(images.samples, images.training, pairs))


def test_the_critic_is_given_each_set_with_its_own_labels(monkeypatch):
    images, found = judged(), []
    images.labels = torch.tensor([0, 1, 2, 0])
    images._reals.labels, images._reals.held_out_labels = torch.arange(6) % 3, torch.arange(1, 6) % 3
    images.grown = SimpleNamespace(level=2, alpha=0.5)
    monkeypatch.setattr(judged_images, "_critic_scores", lambda *given: found.append(given))
    images.critic_scores()
    ((_, sets, latents, labels, *growth),) = found
    assert sets == {"training": images.real, "held_out": images.held_out}
    reals = images._reals
    assert labels == {"training": reals.labels, "held_out": reals.held_out_labels, "generated": images.labels}
    assert latents is images.latents
    assert growth == [2, 0.5]
