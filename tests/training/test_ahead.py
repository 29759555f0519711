"""Random numbers of a step: each part has its own, and those made ahead are those made at once."""

import threading
from dataclasses import replace

import pytest
import torch
from conftest import same

from progan import R1, Contrast, HorizontalFlip, NonSaturating, Training, Translate
from progan.randomness import normal, uniform
from progan.runtime.ranks import Ranks
from progan.training import draws as ahead
from progan.training.draws import AHEAD, Draws, DrawsAhead

SHAPE = (5, 4, 4)
TRAINING = Training(augment_real=(Contrast(), HorizontalFlip()), augment_all=Translate())


def test_names_shapes_and_keys():
    draws = Draws.at(16, 8, SHAPE, 3, TRAINING)
    assert {name: tuple(draw.shape) for name, draw in draws.items()} == {
        "z_critic": (8, *SHAPE),
        "z_generator": (8, *SHAPE),
        "mix": (8,),
        "real/Contrast": (1, 8),
        "real/HorizontalFlip": (1, 8),
        "critic/Translate": (3, 8),
        "generator/Translate": (3, 8),
    }
    assert torch.equal(draws["z_critic"], normal((8, *SHAPE), 3, "z_critic", 16))
    assert torch.equal(draws["mix"], uniform((8,), 3, "mix", 16))
    assert torch.equal(draws["real/Contrast"], uniform((1, 8), 3, "augment", 16))
    assert torch.equal(draws["critic/Translate"], uniform((3, 8), 3, "augment", "16 critic/Translate"))
    assert draws.for_augment("critic").keys() == {"Translate"}
    one_d = [draw.flatten()[:8].tolist() for draw in draws.values()]
    assert len({tuple(row) for row in one_d}) == len(draws)


ALL = Training(NonSaturating(), R1(), augment_real=(Translate(), Contrast(), HorizontalFlip()), augment_all=Contrast())


@pytest.mark.parametrize(
    "fewer",
    [
        replace(ALL, regularizers=()),
        replace(ALL, objective=Training().objective),
        replace(ALL, augment_real=(HorizontalFlip(0.1), Contrast())),
        replace(ALL, augment_all=()),
        Training(NonSaturating(), ()),
    ],
    ids=str,
)
def test_another_part_changes_no_numbers_of_the_others(fewer):
    draws, all_draws = Draws.at(16, 8, SHAPE, 3, fewer), Draws.at(16, 8, SHAPE, 3, ALL)
    assert set(draws) <= set(all_draws)
    assert ("mix" in draws) == bool(fewer.regularizers)
    assert all(torch.equal(draw, all_draws[name]) for name, draw in draws.items())


def test_each_rank_has_the_numbers_of_its_images():
    draws = Draws.at(16, 8, SHAPE, 3, TRAINING)
    for rank in (0, 1):
        ranks = Ranks()
        ranks.rank, ranks.size = rank, 2
        part = draws.part(ranks.rank, ranks.size)
        for name, draw in draws.items():
            mine = draw[:, rank::2] if "/" in name else draw[rank::2]
            assert torch.equal(part[name], mine)


def test_other_numbers_of_the_same_kind():
    draws = Draws.at(16, 8, SHAPE, 3, TRAINING)
    for name, draw in draws.mirrored().items():
        assert not torch.equal(draw, draws[name])
        assert name.startswith("z_") or (draw >= 0).all()


def test_they_are_those_made_at_once_whatever_comes_next():
    draws = DrawsAhead(SHAPE, 3, TRAINING)
    with draws.running():
        for seen, batch in [(0, 8), (8, 8), (16, 4), (20, 4), (8, 8), (16, 8)]:  # another batch; back to a checkpoint
            assert same(draws.at(seen, batch), Draws.at(seen, batch, SHAPE, 3, TRAINING))
    assert same(draws.at(24, 8), Draws.at(24, 8, SHAPE, 3, TRAINING))


def test_they_are_made_in_threads_while_it_runs_only(monkeypatch):
    makers = []
    original = Draws.at

    def noted(*arguments):
        makers.append(threading.current_thread().name)
        return original(*arguments)

    monkeypatch.setattr(ahead.Draws, "at", noted)
    draws = DrawsAhead(SHAPE, 0, Training())
    here = threading.current_thread().name
    draws.at(0, 8)
    assert makers == [here]
    with draws.running():
        draws.at(8, 8)
        for seen in range(16, 16 + 8 * 2 * AHEAD, 8):
            draws.at(seen, 8)
    assert makers.count(here) == 2, "of a run, only the first step's are made at once"
    assert 1 + 2 * AHEAD <= len(makers) - 1 <= 1 + 3 * AHEAD
    assert all(name.startswith("progan draws") for name in makers[2:])
    makers.clear()
    draws.at(24, 8)
    assert makers == [here]
    assert not any(thread.name.startswith("progan draws") for thread in threading.enumerate())


def test_what_fails_there_is_raised_here(monkeypatch):
    draws = DrawsAhead(SHAPE, 0, Training())

    def fail(images_seen, batch_size):
        raise MemoryError("no room for latents")

    with draws.running():
        draws.at(0, 8)
        monkeypatch.setattr(draws, "_make", fail)
        for step in range(1, AHEAD + 1):
            draws.at(8 * step, 8)  # made before
        with pytest.raises(MemoryError, match="no room"):
            draws.at(8 * (AHEAD + 1), 8)


def test_an_error_ends_the_threads():
    draws = DrawsAhead(SHAPE, 0, Training())

    def fail():
        with draws.running():
            draws.at(0, 8)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not any(thread.name.startswith("progan draws") for thread in threading.enumerate())
