"""Random numbers made ahead are those made at once."""

import threading

import pytest
import torch

from progan.training import draws as ahead
from progan.training.draws import AHEAD, DrawsAhead
from progan.training.step import Draws

SHAPE = (5, 4, 4)


def same(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_they_are_those_made_at_once_whatever_comes_next():
    draws = DrawsAhead(SHAPE, 3, 2)
    with draws.running():
        for seen, batch in [(0, 8), (8, 8), (16, 4), (20, 4), (8, 8), (16, 8)]:  # another batch; back to a checkpoint
            assert same(draws.at(seen, batch), Draws.at(seen, batch, SHAPE, 3, 2))
    assert same(draws.at(24, 8), Draws.at(24, 8, SHAPE, 3, 2))


def test_they_are_made_in_threads_while_it_runs_only(monkeypatch):
    makers = []
    original = Draws.at

    def noted(*arguments):
        makers.append(threading.current_thread().name)
        return original(*arguments)

    monkeypatch.setattr(ahead.Draws, "at", noted)
    draws = DrawsAhead(SHAPE, 0, 0)
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
    draws = DrawsAhead(SHAPE, 0, 0)

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
    draws = DrawsAhead(SHAPE, 0, 0)

    def fail():
        with draws.running():
            draws.at(0, 8)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not any(thread.name.startswith("progan draws") for thread in threading.enumerate())
