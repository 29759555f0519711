"""Keyed randomness: every draw is a pure function of (seed, purpose, position).

A key is 128 bits of blake2b over the three, and seeds numpy's Philox generator. Numbers are generated on the CPU and
then moved, so a seed gives the same icons on any device. Only `keyed_state` changes global random states, and
restores them.
"""

from __future__ import annotations

import hashlib
import json
import operator
import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from progan.arguments import check_int

Purpose = Literal[
    "z_critic",
    "z_generator",
    "mix",
    "augment",
    "order",
    "item",
    "weights",
    "sample",
    "preview",
    "picture",
    "plan",
    "block",
    "metrics",
    "held_out",
    "film",
    "label",
    "class_order",
    "direction",
]


def key(seed: int, purpose: Purpose, position: int | str) -> int:
    """Return the 128-bit key of one draw.

    Example:
        >>> key(0, "mix", 8) == key(0, "mix", 8), key(0, "mix", 8) == key(0, "mix", 16)
        (True, False)
    """
    check_int("seed", seed)
    text = json.dumps([operator.index(seed), purpose, position], separators=(",", ":"))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def keyed_generator(seed: int, purpose: Purpose, position: int | str) -> np.random.Generator:
    """Return numpy's generator for one draw."""
    return np.random.Generator(np.random.Philox(key=key(seed, purpose, position)))


def normal(shape: tuple[int, ...], seed: int, purpose: Purpose, position: int | str) -> Tensor:
    """Draw from N(0, 1): float32 of the given shape, on the CPU."""
    return torch.from_numpy(keyed_generator(seed, purpose, position).standard_normal(shape, dtype=np.float32))


def uniform(shape: tuple[int, ...], seed: int, purpose: Purpose, position: int | str) -> Tensor:
    """Draw from U[0, 1): float32 of the given shape, on the CPU."""
    return torch.from_numpy(keyed_generator(seed, purpose, position).random(shape, dtype=np.float32))


def latents(
    indices: Sequence[int],
    latent_shape: tuple[int, ...],
    seed: int,
    purpose: Literal["sample", "preview", "metrics", "film"],
) -> Tensor:
    """Draw each latent by its own index, so that the k-th is the same whatever the number of latents.

    Returns:
        float32, (len(indices), *latent_shape), N(0, 1).
    """
    return torch.stack([normal(latent_shape, seed, purpose, index) for index in indices])


def permutation(n: int, seed: int, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the order of n images in one epoch: int64, (n,)."""
    return keyed_generator(seed, "order", epoch).permutation(n)


def item_state(seed: int, position: int) -> AbstractContextManager[None]:
    """Seed the global random states for one item of the run, and restore them at the end.

    Random transforms of a data set then depend only on (seed, position), also in a worker process.
    """
    return keyed_state(seed, "item", position)


@contextmanager
def keyed_state(seed: int, purpose: Purpose, position: int) -> Iterator[None]:
    """Seed torch's (CPU), numpy's and random's global state by a key, and restore all three at the end."""
    item_key = key(seed, purpose, position)
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    # Not torch.manual_seed, which would seed every CUDA device too.
    torch.default_generator.manual_seed(item_key & (2**63 - 1))
    np.random.seed([(item_key >> shift) & 0xFFFFFFFF for shift in (0, 32, 64, 96)])
    # Not the same key: numpy's and random's generators are the same kind and would draw the same numbers.
    random.seed(key(seed, purpose, f"{position} random"))
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
