"""The images of a judgement: real ones and samples at the level that is trained, and what the critic makes of them."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from progan.data import Feed, match_level
from progan.networks.fused import generate, score
from progan.networks.layers import fitting_group_size
from progan.randomness import keyed_generator, latents
from progan.render import to_uint8
from progan.sampling import GrownGenerator
from progan.training.callbacks.base import Run
from progan.training.step import to_range

Result = TypeVar("Result")
_AT_ONCE = 16  # images that are converted or generated at once


class CriticScores(NamedTuple):
    """The critic's scores at a judgement, of sets that were scored in batches of the same size.

    Attributes:
        training: Scores of training images, (N,), float32, on the CPU.
        held_out: Scores of images that were held out, (M,).
        generated: Scores of images of the generator that trains against the critic, (K,).
    """

    training: Tensor
    held_out: Tensor
    generated: Tensor


class LevelImages:
    """The images of a feed at a level, as a map-style data set: (C, H, W), uint8 each.

    Args:
        feed: Feed of the images.
        level: Level that they are averaged down to.
        base_size: (height, width) at level 0.
    """

    def __init__(self, feed: Feed, level: int, base_size: tuple[int, int]) -> None:
        self._feed = feed
        self._level = level
        self._base_size = base_size

    def __len__(self) -> int:
        return self._feed.n_images

    def __getitem__(self, position: int) -> Tensor:
        if not 0 <= position < len(self):
            raise IndexError(f"there are {len(self)} images, got index {position}")
        return self.at([position])[0]

    def at(self, positions: list[int]) -> Tensor:
        """Return the images at some positions: (N, C, H, W), uint8, on the CPU."""
        return torch.cat([self._converted(positions[k : k + _AT_ONCE]) for k in range(0, len(positions), _AT_ONCE)])

    def chosen(self, n: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """Return at most n images, chosen by a seed, (N, C, H, W), uint8, and their labels, (N,), if there are classes.

        Both are on the CPU.
        """
        order = keyed_generator(seed, "metrics", "real").permutation(len(self))
        positions = sorted(order[:n].tolist())
        return self.at(positions), self._feed.labels_at(positions)

    def _converted(self, positions: list[int]) -> Tensor:
        images = self._feed.images_at(positions)
        images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        return to_uint8(match_level(images, self._level, base_size=self._base_size))


@dataclass
class RealImages:
    """The real images that all judgements of a level share, and what measures keep from one to the next.

    Attributes:
        level: Level of the images.
        real: At most N training images, (N, C, H, W), uint8.
        training: All training images.
        held_out: Images that are held out, at most N; None = there are none.
        labels: Labels of the real images, (N,); None = the networks have no classes.
        held_out_labels: The same, of the images that are held out.
        kept: What measures keep, by key.
        prepared_s: Seconds that were spent on all of it so far.
        costly_s: Seconds that costly measures took so far.
    """

    level: int
    real: Tensor
    training: Tensor | LevelImages
    held_out: Tensor | None
    labels: Tensor | None = None
    held_out_labels: Tensor | None = None
    kept: dict[str, Any] = field(default_factory=dict)
    prepared_s: float = 0.0
    costly_s: float = 0.0

    @classmethod
    def read(
        cls, feed: Feed, level: int, base_size: tuple[int, int], n: int, seed: int, device: torch.device
    ) -> RealImages:
        """Read the real images of a level.

        Args:
            feed: Feed of the run.
            level: Level of the images.
            base_size: (height, width) at level 0.
            n: Number of images at most.
            seed: Random seed of the run.
            device: Device to put them on.
        """
        begun = time.perf_counter()
        training = LevelImages(feed, level, base_size)
        real, labels = training.chosen(n, seed)
        real = real.to(device)
        held_out, held_out_labels = None, None
        if feed.held_out is not None:
            held_out, held_out_labels = LevelImages(feed.held_out, level, base_size).chosen(n, seed)
            held_out = held_out.to(device)
        everything = real if len(real) == len(training) else training
        made = cls(level, real, everything, held_out, labels, held_out_labels)
        made.prepared_s = time.perf_counter() - begun
        return made


class JudgedImages:
    """The images of one judgement, which a measure is given.

    Attributes:
        samples: Samples of the averaged generator, the same latents at every judgement, (N, C, H, W), uint8.
        real: Training images, at most as many as there are samples, chosen by the seed, (M, C, H, W), uint8.
        training: All training images at this size: a tensor, or a map-style data set of (C, H, W), uint8.
        held_out: Images that are never trained on, uint8; None = there are none.
        grown: Copy of the averaged generator, for other samples than these.
        latents: Latents of the samples, ``(N, *latent_shape)``, on the CPU.
        labels: Labels of the samples, (N,), on the CPU, as frequent as in the data; None = there are no classes.
        level: Level of the images.
        images_seen: Real images shown so far.
        thorough: Whether costly measures are taken: at the end of the run, and of a stage if the time allows.
        seed: Random seed of the run.

    Example:
        >>> def brightness(images: JudgedImages) -> float:
        ...     real = images.once("brightness", lambda: images.real.float().mean().item())
        ...     return images.samples.float().mean().item() / real
    """

    def __init__(
        self,
        run: Run,
        reals: RealImages,
        samples: Tensor,
        latents: Tensor,
        labels: Tensor | None,
        *,
        grown: GrownGenerator,
        thorough: bool,
    ) -> None:
        self.samples = samples
        self.real: Tensor = reals.real
        self.training: Tensor | LevelImages = reals.training
        self.held_out: Tensor | None = reals.held_out
        self.grown = grown
        self.latents = latents
        self.labels = labels
        self.level: int = reals.level
        self.images_seen: int = run.images_seen
        self.thorough = thorough
        self.seed: int = run.seed
        self._run = run
        self._reals = reals

    def once(self, key: str, function: Callable[[], Result]) -> Result:
        """Return the result of a function, which is kept for all later judgements of the level.

        For what depends on the real images alone, such as their features and the floor of a distance.

        Args:
            key: Name of the result.
            function: Function to call if there is no result yet.
        """
        if key not in self._reals.kept:
            begun = time.perf_counter()
            self._reals.kept[key] = function()
            self._reals.prepared_s += time.perf_counter() - begun
        result: Result = self._reals.kept[key]
        return result

    def costly(self, function: Callable[[], Result]) -> Result | None:
        """Return the result of a function in a thorough judgement, and None in others.

        For measures that take long: they do not make the other judgements of a stage rarer.

        Args:
            function: Function to call in a thorough judgement.
        """
        if not self.thorough:
            return None
        begun, prepared_s = time.perf_counter(), self._reals.prepared_s
        try:
            return function()
        finally:
            self._reals.costly_s += time.perf_counter() - begun
            self._reals.prepared_s = prepared_s  # what it has prepared is part of its own time

    def critic_scores(self) -> CriticScores | None:
        """Return the critic's scores of training, held-out and generated images, as a tuple of these names, (N,) each.

        None without held-out images. Generated images are those of the generator itself, not of its average, since it
        is the one that trains against the critic.

        The critic is a copy in evaluation mode. All batches have one size, since its score of an image depends on the
        batch that the image is in (`MiniBatchStd`).
        """
        if self.held_out is None:
            return None
        sets = {"training": self.real, "held_out": self.held_out}
        labels = {
            "training": self._reals.labels,
            "held_out": self._reals.held_out_labels,
            "generated": self.labels,
        }
        return _critic_scores(self._run, sets, self.latents, labels, self.grown.level, self.grown.alpha)


def sample_images(
    grown: GrownGenerator, n: int, seed: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """Generate the samples of a judgement.

    Returns:
        Samples, (n, C, H, W), uint8, their latents, and their labels if there are classes; None where a value is not
        finite.
    """
    labels = None if grown.classes is None else grown.classes.draw(range(n), seed, "metrics")
    z = latents(range(n), grown.generator.architecture.latent_shape, seed, "metrics")
    batches = []
    for begin in range(0, n, _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        images = grown.images(z[part], None if labels is None else labels[part])
        if not bool(torch.isfinite(images).all()):
            return None
        batches.append(to_uint8(images))
    return torch.cat(batches).to(device), z, labels


@torch.no_grad()
def _critic_scores(
    run: Run,
    sets: Mapping[str, Tensor],
    z: Tensor,
    labels: Mapping[str, Tensor | None],
    level: int,
    alpha: float | None,
) -> CriticScores:
    architecture, training = run.generator.architecture, run.training
    discriminator, generator = (copy.deepcopy(network).eval() for network in (run.discriminator, run.generator))
    parameter = next(discriminator.parameters())
    size = _batch_size(run.growth.batch_size, min(len(z), *map(len, sets.values())), architecture.minibatch_std_group)

    def part_of(name: str, part: slice) -> Tensor | None:
        found = labels[name]
        return None if found is None else found[part].to(parameter.device)

    def scores(name: str, images_of: Callable[[slice], Tensor], n: int) -> Tensor:
        parts = [slice(begin, begin + size) for begin in range(0, n - n % size, size)]
        batches = [score(discriminator, images_of(part), level, alpha, 1, part_of(name, part)) for part in parts]
        return torch.cat([batch.float().cpu() for batch in batches])

    def real(images: Tensor, part: slice) -> Tensor:
        batch = images[part].to(parameter.device, parameter.dtype) / 255
        if training.blend_real:
            batch = match_level(batch, level, alpha, blend=True, base_size=architecture.base_size)
        return to_range(batch, architecture.image_range)

    def generated(part: slice) -> Tensor:
        latents = z[part].to(parameter.device, parameter.dtype)
        return generate(generator, latents, level, alpha, part_of("generated", part))

    found = {name: scores(name, partial(real, images), len(images)) for name, images in sets.items()}
    return CriticScores(found["training"], found["held_out"], scores("generated", generated, len(z)))


def _batch_size(wanted: int, most: int, group: int | None) -> int:
    """Return the size of the batches to score: that of the training, or the largest below that a set has images for."""
    size = min(wanted, most)
    if group is not None and size > group:
        size -= size % group
    fitting_group_size(size, group)
    return size
