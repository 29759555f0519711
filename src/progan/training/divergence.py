"""Detection of values that are not finite: on the device, without waiting for it, and by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from progan.errors import DivergenceError
from progan.schedule import Schedule
from progan.training.state import TrainingState


class Watch:
    """A record on the device, made without waiting for it, of what was first not finite, and when.

    Steps may report different values, such as those of a regulariser that is applied in some steps only.
    """

    def __init__(self) -> None:
        self._first: dict[tuple[str, ...], Tensor] = {}  # images_seen by names, -1 = finite so far; changed in place

    @staticmethod
    def measure(tensors: Sequence[Tensor]) -> Tensor:
        """Return a number that is finite where all values are, short of 1e19; 0-d."""
        if tensors[0].device.type == "cpu":  # twice as fast there; elsewhere it would be many small kernels
            return torch.stack([tensor.sum() for tensor in tensors]).sum()
        return torch.stack(torch._foreach_norm(list(tensors))).sum()

    def look(self, values: Mapping[str, Tensor], images_seen: int | Tensor) -> None:
        """Look at 0-d values of the step that began at a count."""
        bad = ~torch.stack(list(values.values())).isfinite()
        names = tuple(values)
        if names not in self._first:
            self._first[names] = torch.full(bad.shape, -1, device=bad.device)
        first = self._first[names]
        first.copy_(torch.where(bad & (first < 0), images_seen, first))

    def found(self) -> tuple[str, int] | None:
        """Return the name of what was first not finite, and the real images shown when that step began; else None."""
        found = [
            (name, count)
            for names, first in self._first.items()
            for name, count in zip(names, first.tolist(), strict=True)
            if count >= 0
        ]
        return min(found, key=lambda each: each[1], default=None)

    def tensors(self) -> list[Tensor]:
        """Return what `look` changes in place."""
        return list(self._first.values())

    def forget(self) -> None:
        """Begin anew."""
        for first in self._first.values():
            first.fill_(-1)


def not_finite(networks: Mapping[str, nn.Module], images_seen: int) -> tuple[str, int] | None:
    """Return the name of a weight that is not finite, and the images shown so far; else None.

    Args:
        networks: Networks by name.
        images_seen: Real images shown so far.
    """
    for role, network in networks.items():
        norms = torch.stack(torch._foreach_norm(list(network.parameters())))
        if not torch.isfinite(norms).all():
            names = [name for name, parameter in network.named_parameters() if not torch.isfinite(parameter).all()]
            return f"the {role}'s {names[0] if names else 'weights'}", images_seen
    return None


class DivergenceCheck:
    """What ends a training that has diverged, on every rank alike.

    Args:
        watch: Watch of the training step.
        state: State of the training.
        schedule: Schedule of the run.
        saves: Whether the run writes checkpoints, for the message.
    """

    def __init__(self, watch: Watch, state: TrainingState, schedule: Schedule, *, saves: bool) -> None:
        self._watch = watch
        self._state = state
        self._schedule = schedule
        self._saves = saves

    def __call__(self, *, weights: bool) -> None:
        """Raise where a loss or a gradient was not finite, or a weight is not.

        Args:
            weights: Whether to check the weights too.

        Raises:
            DivergenceError: If a value is not finite.
        """
        state = self._state
        networks = {"generator": state.generator, "discriminator": state.discriminator} if weights else {}
        if found := self._watch.found() or not_finite(networks, state.images_seen):
            tried = state.recovery.describe()
            raise DivergenceError(*found, self._schedule.at(found[1]), saved=self._saves, tried=tried)

    def forget(self) -> None:
        """Forget what the watch has recorded, since another state was loaded."""
        self._watch.forget()
