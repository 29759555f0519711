"""Micro-batches: a batch taken in parts, one after another, where a step on all of it does not fit into memory.

A loss is a mean over images. So its gradient is the mean of its gradients on parts of equal size, and only one part's
features are in memory at a time. A part is what a rank gets of a batch: whole MiniBatchStd groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from torch import Tensor, nn

from progan.runtime.memory import is_out_of_memory
from progan.runtime.ranks import part_of
from progan.training.draws import Draws

Key = TypeVar("Key")


class StepBatch(NamedTuple):
    """What a step trains on, or a part of it.

    Attributes:
        real: Real images as the critic is given them, (B, C, H, W).
        draws: Random numbers of these images.
        labels: Labels of the images, (B,); None where the networks have no classes.
    """

    real: Tensor
    draws: Draws
    labels: Tensor | None

    def micro_batches(self, size: int | None) -> list[StepBatch]:
        """Return the parts of this size, which divides the batch; the batch itself if it is no larger, or for None."""
        n = len(self.real)
        if size is None or size >= n:
            return [self]
        assert n % size == 0, (n, size)  # as check_micro_batch makes sure
        return [self._part(number, n // size) for number in range(n // size)]

    def _part(self, number: int, parts: int) -> StepBatch:
        labels = None if self.labels is None else part_of(self.labels, number, parts)
        return StepBatch(part_of(self.real, number, parts).contiguous(), self.draws.part(number, parts), labels)


class Derivatives(NamedTuple):
    """Losses on some images, and the gradient of the first one.

    Attributes:
        losses: Losses by name, 0-d, detached.
        gradients: Gradients by parameter; a parameter that the loss does not depend on is missing.
    """

    losses: dict[str, Tensor]
    gradients: dict[nn.Parameter, Tensor]

    @classmethod
    def mean(cls, parts: Iterable[Derivatives]) -> Derivatives:
        """Return the means over parts of equal size; no part is held when the next one is computed."""
        losses: dict[str, Tensor] = {}
        gradients: dict[nn.Parameter, Tensor] = {}
        count = 0
        for part in parts:
            _add(losses, part.losses)
            _add(gradients, part.gradients)
            count += 1
            del part
        if count > 1:
            _divide(losses, count)
            _divide(gradients, count)
        return cls(losses, gradients)


def _add(sums: dict[Key, Tensor], values: Mapping[Key, Tensor]) -> None:
    """Add values to sums, one after another, so that few copies are held at a time."""
    for name, value in values.items():
        sums[name] = sums[name] + value if name in sums else value


def _divide(sums: dict[Key, Tensor], count: int) -> None:
    for name in sums:
        sums[name] = sums[name] / count


def memory_remedy(sizes: Sequence[int], most: int, stage: int) -> str:
    """Return how to make the batch of a stage fit into memory.

    Args:
        sizes: Values of micro_batch that the run's batches can be split into, rising.
        most: Greatest number of images that may fit.
        stage: Index of the stage.
    """
    fitting = [size for size in sizes if size <= most]
    split = f"pass micro_batch={fitting[-1]} to train on the same batch in parts, " if fitting else ""
    return f"{split}give stage {stage} a smaller batch_size, or train a lower resolution"


@contextmanager
def naming_remedy(sizes: Sequence[int], at_once: int, stage: int) -> Iterator[None]:
    """Add a note to an error for lack of memory that says what to do.

    Args:
        sizes: Values of micro_batch that the run's batches can be split into, rising.
        at_once: Number of images that are trained on at once.
        stage: Index of the stage.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            error.add_note(f"a step on {at_once} images at once: {memory_remedy(sizes, at_once - 1, stage)}")
        raise
