"""The order of a run's images: which image is the k-th.

Epochs are full permutations laid end to end, each keyed by (seed, epoch), so the k-th image of a run is a pure function
of (seed, k), batches are always full, and at every moment the uses of any two images differ by at most one.
Balanced by class, the same holds for the classes, and within each class for its images.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from progan.randomness import keyed_generator, permutation
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

    def on_device(self, device: torch.device) -> OrderOnDevice:
        """Return the same order as tensors on a device."""
        return OrderOnDevice(self, device)

    def balanced(self, labels: np.ndarray[tuple[int], np.dtype[np.int64]]) -> BalancedOrder:
        """Return an order of the same images that is balanced by class.

        Args:
            labels: Label of each image of the data set, (N,).
        """
        return BalancedOrder(labels, self.seed, self._chosen)


class BalancedOrder:
    """The order of the images of a run in which every class is shown equally often.

    Positions are divided into rounds of one image of each class, in random order. Within a class, epochs are full
    permutations of its images, laid end to end: those of a small class come more often. So the k-th image is a pure
    function of (seed, k), as in `Order`.

    Args:
        labels: Label of each image of the data set, (N,); each of 0 to the highest occurs among the chosen.
        seed: Random seed of the run.
        chosen: Indices of the images of the run, (n,); None = 0 to N - 1.

    Example:
        >>> order = BalancedOrder(np.array([0, 0, 0, 1]), seed=0)
        >>> sorted(order[k] for k in range(6))
        [0, 1, 2, 3, 3, 3]
    """

    def __init__(
        self,
        labels: np.ndarray[tuple[int], np.dtype[np.int64]],
        seed: int,
        chosen: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None,
    ) -> None:
        self.seed = seed
        indices = np.arange(len(labels)) if chosen is None else chosen
        self._members = [indices[labels[indices] == label] for label in range(int(labels[indices].max()) + 1)]
        self._round = -1
        self._classes: np.ndarray[tuple[int], np.dtype[np.int64]]
        self._epochs: dict[int, tuple[int, np.ndarray[tuple[int], np.dtype[np.int64]]]] = {}

    def __getitem__(self, position: int) -> int:
        number, place = divmod(position, len(self._members))
        if number != self._round:
            rng = keyed_generator(self.seed, "class_order", number)
            self._round, self._classes = number, rng.permutation(len(self._members))
        label = int(self._classes[place])
        members = self._members[label]
        epoch, within = divmod(number, len(members))
        if self._epochs.get(label, (-1,))[0] != epoch:
            rng = keyed_generator(self.seed, "class_order", f"{label} {epoch}")
            self._epochs[label] = epoch, rng.permutation(len(members))
        return int(members[self._epochs[label][1][within]])

    def on_device(self, device: torch.device) -> BalancedOrderOnDevice:
        """Return the same order as tensors on a device."""
        return BalancedOrderOnDevice(self, device)


class BalancedOrderOnDevice:
    """The same order as tensors on the device that holds the data."""

    def __init__(self, order: BalancedOrder, device: torch.device) -> None:
        self._order = order
        self._device = device

    def __getitem__(self, positions: range) -> Tensor:
        """Return the images at positions: int64, (len(positions),)."""
        return to_device(torch.tensor([self._order[position] for position in positions]), self._device)


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
