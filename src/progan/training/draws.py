"""The random numbers of a training step: what its parts ask for, each by a key of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from torch import Tensor

from progan.randomness import normal, uniform
from progan.recipe import Training
from progan.reconstruction import half_of
from progan.runtime.ranks import part_of

AHEAD = 4  # steps, each in a thread: one thread alone takes longer for them than a GPU for a step at 4x4


class Draws(dict[str, Tensor]):
    """The random numbers of one step, by name.

    - ``z_critic``, ``z_generator``: latents of each network's update, (B, *latent_shape), N(0, 1).
    - ``coded``: shares of the images whose latents begin with a code, as of `half_of`, (B,), where there are codes.
    - ``mix``: numbers for the regularisers, if there are any, (B,), U[0, 1).
    - ``real/Contrast``: numbers of that augmentation of real images, (draws_per_image, B), U[0, 1).
    - ``critic/Translate``, ``generator/Translate``: the same, of all images in each network's update.

    Each depends on the seed, its name and the count of images only: another part in a recipe changes none of them.
    """

    @classmethod
    def at(
        cls, images_seen: int, batch_size: int, latent_shape: tuple[int, ...], seed: int, training: Training
    ) -> Draws:
        """Draw the numbers of the step that begins at ``images_seen``: float32, on the CPU.

        Args:
            images_seen: Real images shown when it begins.
            batch_size: B.
            latent_shape: Shape of one latent.
            seed: Random seed of the run.
            training: Parts that ask for numbers.
        """
        shape = (batch_size, *latent_shape)
        draws = cls(
            z_critic=normal(shape, seed, "z_critic", images_seen),
            z_generator=normal(shape, seed, "z_generator", images_seen),
        )
        if training.reconstruction is not None:
            draws["coded"] = half_of(batch_size)  # of the whole batch, whatever its parts
        if training.regularizers:
            draws["mix"] = uniform((batch_size,), seed, "mix", images_seen)
        roles = {"real": training.augment_real, "critic": training.augment_all, "generator": training.augment_all}
        for role, augmentations in roles.items():
            for augmentation in augmentations:
                name = f"{role}/{type(augmentation).__name__}"
                # The key of Contrast was there before others, and keeps runs what they were.
                position = images_seen if name == "real/Contrast" else f"{images_seen} {name}"
                draws[name] = uniform((augmentation.draws_per_image, batch_size), seed, "augment", position)
        return draws

    def for_augment(self, role: str) -> dict[str, Tensor]:
        """Return the numbers of augmentations by their names; role is ``real``, ``critic`` or ``generator``."""
        return {name.partition("/")[2]: draw for name, draw in self.items() if name.startswith(f"{role}/")}

    def beside(self, images: Tensor) -> Draws:
        """Return them on the device of images, and in their dtype."""
        return Draws({name: draw.to(images.device, images.dtype, non_blocking=True) for name, draw in self.items()})

    def part(self, number: int, parts: int) -> Draws:
        """Return those of one of the parts of the batch, such as a rank's."""
        return Draws(
            {name: part_of(draw, number, parts, draw.ndim - 1 if "/" in name else 0) for name, draw in self.items()}
        )

    def mirrored(self) -> Draws:
        """Return other numbers of the same distributions."""
        return Draws({name: -draw if name.startswith("z_") else 1 - draw for name, draw in self.items()})


class DrawsAhead:
    """Draw a step's random numbers, and within `running` those of the next steps in threads.

    They depend on (seed, images seen, batch) only, so those drawn ahead are those drawn when asked for, to the bit.

    Args:
        latent_shape: Shape of one latent.
        seed: Random seed of the run.
        training: Parts that ask for numbers.
    """

    def __init__(self, latent_shape: tuple[int, ...], seed: int, training: Training) -> None:
        self._latent_shape = latent_shape
        self._seed = seed
        self._training = training
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
        """Draw the next steps' numbers while a step is under way."""
        with ThreadPoolExecutor(AHEAD, "progan draws") as threads:
            self._threads = threads
            try:
                yield
            finally:
                self._threads = None
                self._next.clear()
                threads.shutdown(wait=False, cancel_futures=True)

    def _make(self, images_seen: int, batch_size: int) -> Draws:
        return Draws.at(images_seen, batch_size, self._latent_shape, self._seed, self._training)
