"""Random numbers got ready while the device still works on the steps before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from progan.training.step import Draws

AHEAD = 4  # steps, each in a thread: one thread alone takes longer for them than a GPU for a step at 4x4


class DrawsAhead:
    """Make a step's random numbers, and within `running` those of the next ones in threads.

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
        self._threads: ThreadPoolExecutor | None = None
        self._next: deque[tuple[tuple[int, int], Future[Draws]]] = deque()

    def at(self, images_seen: int, batch_size: int) -> Draws:
        """Return the numbers of the step that begins at ``images_seen``, of a batch of this size."""
        if self._next and self._next[0][0] != (images_seen, batch_size):
            self._next.clear()
        draws = self._next.popleft()[1].result() if self._next else self._make(images_seen, batch_size)
        if self._threads is not None:
            for steps in range(len(self._next) + 1, AHEAD + 1):
                following = images_seen + steps * batch_size, batch_size  # as most often
                self._next.append((following, self._threads.submit(self._make, *following)))
        return draws

    @contextmanager
    def running(self) -> Iterator[None]:
        """Make the next steps' numbers while a step is under way."""
        with ThreadPoolExecutor(AHEAD, "progan draws") as threads:
            self._threads = threads
            try:
                yield
            finally:
                self._threads = None
                self._next.clear()
                threads.shutdown(wait=False, cancel_futures=True)

    def _make(self, images_seen: int, batch_size: int) -> Draws:
        return Draws.at(images_seen, batch_size, self._latent_shape, self._seed, self._augmentations)
