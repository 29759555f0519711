"""Keyed randomness: every draw hangs on seed, purpose and position only, and its stream never changes."""

import random

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from progan.randomness import item_state, key, keyed_generator, latents, normal, permutation, uniform


def identical(actual, expected):
    assert_close(actual, expected, rtol=0, atol=0)


@pytest.fixture
def _seeded():
    torch.manual_seed(1)
    np.random.seed(2)
    random.seed(3)


def global_draws():
    return torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random() for _ in range(3)]


def test_keys_differ_by_seed_purpose_and_position():
    seeds = [0, 1, -1, 2**32, 2**63, 2**64 + 1]  # torch would keep 32 bits of a seed
    positions = [0, 8, 2**40, "8", "blocks.0.weight"]
    keys = {key(seed, purpose, at) for seed in seeds for purpose in ("z_critic", "mix", "order") for at in positions}
    assert len(keys) == len(seeds) * 3 * len(positions)
    assert all(0 <= each < 2**128 for each in keys)


@pytest.mark.parametrize("draw", [normal, uniform])
def test_draws_differ_by_seed_purpose_and_position(draw):
    first = draw((4,), 0, "z_critic", 0)
    identical(draw((4,), 0, "z_critic", 0), first)
    for other in ((1, "z_critic", 0), (0, "z_generator", 0), (0, "z_critic", 8)):
        assert (draw((4,), *other) - first).abs().min() > 1e-4
    assert (first.dtype, first.device.type, draw((2, 3), 0, "mix", 0).shape) == (torch.float32, "cpu", (2, 3))


def test_streams_are_pinned():
    # A change of these numbers is a change of every run: it belongs under Numerics in the changelog.
    assert key(2018, "z_critic", 480_000) == 241343331814747063698018038028479086440
    assert_close(normal((4,), 2018, "z_critic", 480_000), torch.tensor([1.122534, 0.99355805, -0.30698326, 0.13676356]))
    assert_close(uniform((4,), 2018, "mix", 8), torch.tensor([0.02779001, 0.358734, 0.36224306, 0.4431936]))
    assert permutation(8, 2018, 1).tolist() == [6, 1, 5, 4, 0, 2, 3, 7]
    with item_state(2018, 7):
        torch_draw, numpy_draw, python_draw = torch.rand(1).item(), np.random.rand(), random.random()
    assert_close([torch_draw, numpy_draw, python_draw], [0.4930134415626526, 0.5784734946527355, 0.23303249011244642])


def test_draws_have_their_distributions():
    z, u = normal((100_000,), 0, "sample", 0), uniform((100_000,), 0, "mix", 0)
    assert_close(torch.stack([z.mean(), z.std()]), torch.tensor([0.0, 1.0]), rtol=0, atol=0.01)
    assert_close(torch.stack([u.mean(), u.std()]), torch.tensor([0.5, 12**-0.5]), rtol=0, atol=0.005)
    assert 0 <= u.min() < u.max() < 1


def test_latent_k_does_not_hang_on_how_many_are_asked_for():
    many = latents(range(6), (4, 2, 2), 5, "sample")
    assert many.shape == (6, 4, 2, 2)
    identical(latents(range(2), (4, 2, 2), 5, "sample"), many[:2])
    identical(latents(range(3, 5), (4, 2, 2), 5, "sample"), many[3:5])
    assert not torch.equal(many[0], many[1])
    assert not torch.equal(latents(range(6), (4, 2, 2), 5, "preview"), many)


def test_permutations():
    orders = [permutation(100, seed, epoch).tolist() for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert permutation(100, 0, 1).tolist() == orders[1]


@pytest.mark.usefixtures("_seeded")
def test_nothing_reads_or_moves_a_global_state():
    draws = []
    for _ in range(2):
        draws.append((normal((2,), 0, "mix", 0), uniform((2,), 0, "mix", 0), latents(range(2), (2,), 0, "sample")))
        keyed_generator(0, "picture", 0).random()
        permutation(4, 0, 0)
        global_draws()
    identical(draws[0], draws[1])

    expected = [global_draws() for _ in range(2)]
    for module_seed, seed in ((torch.manual_seed, 1), (np.random.seed, 2), (random.seed, 3)):
        module_seed(seed)
    global_draws(), global_draws()
    after = []
    for _ in range(2):
        normal((2,), 0, "mix", 0), uniform((2,), 0, "mix", 0), permutation(4, 0, 0)
        after.append(global_draws())
    assert after == expected


@pytest.mark.usefixtures("_seeded")
def test_an_items_state_hangs_on_seed_and_item_only():
    def draws(seed, item):
        with item_state(seed, item):
            return global_draws()

    first = draws(0, 5)
    global_draws()
    assert draws(0, 5) == first
    for other in (draws(0, 6), draws(1, 5)):
        assert all(ours != theirs for ours, theirs in zip(first, other, strict=True))


@pytest.mark.usefixtures("_seeded")
@pytest.mark.parametrize("fails", [False, True])
def test_an_items_state_is_put_back(fails):
    np.random.standard_normal()  # leaves a second number waiting, which is state too
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        with item_state(0, 5):
            global_draws()
            np.random.standard_normal()
            if fails:
                raise KeyError("an item that cannot be read")
    except KeyError:
        assert fails
    identical(torch.get_rng_state(), states[0])
    assert [np.asarray(part).tolist() for part in np.random.get_state()] == [
        np.asarray(part).tolist() for part in states[1]
    ]
    assert random.getstate() == states[2]


@pytest.mark.usefixtures("_seeded")
def test_an_items_error_comes_through():
    with pytest.raises(KeyError, match="unreadable"), item_state(0, 5):
        raise KeyError("unreadable")
