"""Random numbers got ready while the device still works on the step before."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from progan.step import Draws


class DrawsAhead:
    """Make a step's random numbers, and within `running` those of the next one in a thread of its own.

    They depend on (seed, images seen, batch) only, so those made ahead are those made at once, to the bit.

    Args:
        latent_shape: of one latent.
        seed: of the run.
        augmentations: their number.
    """

    def __init__(self, latent_shape: tuple[int, ...], seed: int, augmentations: int) -> None:
        self._latent_shape = latent_shape
        self._seed = seed
        self._augmentations = augmentations
        self._thread: ThreadPoolExecutor | None = None
        self._next: tuple[tuple[int, int], Future[Draws]] | None = None

    def at(self, images_seen: int, batch_size: int) -> Draws:
        """Return the numbers of the step that begins at ``images_seen``, of a batch of this size."""
        ready, self._next = self._next, None
        if ready is not None and ready[0] == (images_seen, batch_size):
            draws = ready[1].result()
        else:
            draws = self._make(images_seen, batch_size)
        if self._thread is not None:
            following = images_seen + batch_size, batch_size  # as most often
            self._next = following, self._thread.submit(self._make, *following)
        return draws

    @contextmanager
    def running(self) -> Iterator[None]:
        """Make the next step's numbers while a step is under way."""
        with ThreadPoolExecutor(1, "progan draws") as thread:
            self._thread = thread
            try:
                yield
            finally:
                self._thread = self._next = None

    def _make(self, images_seen: int, batch_size: int) -> Draws:
        return Draws.at(images_seen, batch_size, self._latent_shape, self._seed, self._augmentations)
