"""The order of a run's images: which image is the k-th.

Epochs are full permutations laid end to end, each keyed by (seed, epoch), so the k-th image of a run is a pure function
of (seed, k), batches are always full, and at every moment the uses of any two images differ by at most one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from progan.randomness import permutation
from progan.runtime.memory import to_device


class Order:
    """The order of the images of a run: ``order[k]`` is the index of the k-th.

    Args:
        n: Number of images.
        seed: Random seed of the run.
        chosen: Indices of the images of the run, (n,); None = 0 to n - 1.

    Example:
        >>> order = Order(3, seed=0)
        >>> sorted(order[k] for k in range(3)), sorted(order[k] for k in range(3, 6))
        ([0, 1, 2], [0, 1, 2])
    """

    def __init__(self, n: int, seed: int, chosen: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None) -> None:
        self.n = n
        self.seed = seed
        self._chosen = chosen
        self._epoch = -1
        self._permutation: np.ndarray[tuple[int], np.dtype[np.int64]]

    def __getitem__(self, position: int) -> int:
        epoch, place = divmod(position, self.n)
        return int(self.of_epoch(epoch)[place])

    def of_epoch(self, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return the images of an epoch, in order: (n,)."""
        if epoch != self._epoch:
            order = permutation(self.n, self.seed, epoch)
            self._epoch, self._permutation = epoch, order if self._chosen is None else self._chosen[order]
        return self._permutation


class OrderOnDevice:
    """The same order as tensors on the device that holds the data; each epoch is copied there once."""

    def __init__(self, order: Order, device: torch.device) -> None:
        self._order = order
        self._device = device
        self._epoch = -1
        self._images: Tensor

    def __getitem__(self, positions: range) -> Tensor:
        """Return the images at positions in rising order: int64, (len(positions),)."""
        parts = []
        while positions:
            epoch, place = divmod(positions.start, self._order.n)
            if epoch != self._epoch:
                self._epoch = epoch
                self._images = to_device(torch.from_numpy(self._order.of_epoch(epoch)), self._device)
            part = self._images[place : place + positions.stop - positions.start : positions.step]
            parts.append(part)
            positions = positions[len(part) :]
        return parts[0] if len(parts) == 1 else torch.cat(parts)
