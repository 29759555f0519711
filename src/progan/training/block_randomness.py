"""torch's random state around custom blocks, which may draw from it, such as for dropout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from progan.randomness import key
from progan.runtime.ranks import Ranks


class BlockRandomness:
    """What seeds torch's random state for each step, and restores it afterwards.

    Args:
        custom_blocks: Whether the networks have custom blocks; without them the random state is left alone.
        device: Device of the networks.
        seed: Random seed of the run.
        ranks: Processes that train together.
    """

    def __init__(self, *, custom_blocks: bool, device: torch.device, seed: int, ranks: Ranks) -> None:
        self._custom_blocks = custom_blocks
        self._devices = [device] if device.type == "cuda" else []
        self._seed = seed
        self._ranks = ranks

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Restore the random state at the end."""
        if not self._custom_blocks:
            yield
            return
        with torch.random.fork_rng(devices=self._devices):
            yield

    @contextmanager
    def keyed(self, images_seen: int) -> Iterator[None]:
        """Seed the random state by the key of a step, and restore it at the end.

        Args:
            images_seen: Real images shown when the step begins.
        """
        if not self._custom_blocks:
            yield
            return
        with self.preserved():
            position = images_seen if self._ranks.size == 1 else f"{images_seen} {self._ranks.rank}"
            seed = key(self._seed, "block", position) & (2**63 - 1)
            torch.default_generator.manual_seed(seed)
            if self._devices:
                torch.cuda.manual_seed(seed)
            yield
