"""Truncation: samples drawn towards the mean of the generator's features, so that they vary less and err less."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor
from typing_extensions import override

from progan.arguments import check_instance, check_int, check_number
from progan.networks.generator import ProgressiveGenerator
from progan.randomness import latents
from progan.sampling import GrownGenerator

_LEVEL = 2  # 16x16, unless the base size is another
_BATCH = 64


class TruncatedGenerator(GrownGenerator):
    """A grown generator whose features of one level are drawn towards their mean: mean + psi (features - mean).

    The truncation trick of StyleGAN (Karras et al. 2019, appendix B) draws an intermediate latent towards its mean.
    These generators have no intermediate latent, and they normalise early, so that scaling the latent itself changes
    next to nothing. The features of an early level stand in for it: their mean over many latents makes a typical
    picture, and a smaller psi makes samples more alike and more typical. Where the latent also modulates the levels
    above or makes a palette, psi multiplies what of it arrives there.

    Args:
        grown: Generator to truncate, with classes that of one class (`GrownGenerator.of_class`); its weights are
            shared, not copied.
        psi: Weight of a sample's own features, in [0, 1]: 1 = no truncation, 0 = the typical picture each time.
        level: Level of the features; None = 2 (16x16 pixels), or the one below the grown level where that is lower.
        n: Number of latents that the mean is taken over.

    Attributes:
        psi: The same.
        at: Level of the features.
        mean: Mean features, (1, C, h, w).

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If psi is outside [0, 1], or the level is not below the grown one.

    Example:
        >>> from progan import presets
        >>> grown = GrownGenerator(presets.karras2018(16, channels=(8, 8, 8)).build()[0], level=2)
        >>> images = TruncatedGenerator(grown, psi=0.7, n=64).sample(4, seed=1)
        >>> images.std(dim=0).mean() < grown.sample(4, seed=1).std(dim=0).mean()
        tensor(True)
    """

    def __init__(self, grown: GrownGenerator, psi: float = 0.7, *, level: int | None = None, n: int = 1024) -> None:
        check_instance(
            "grown", grown, GrownGenerator, [(ProgressiveGenerator, "pass GrownGenerator(generator, level)")]
        )
        grown.check_one_class("truncated samples")
        check_number("psi", psi)
        if not 0 <= psi <= 1:
            raise ValueError(f"psi is the weight of a sample's own features, in [0, 1], got {psi!r}; 1 = no truncation")
        check_int("n", n, 2)
        super().__init__(grown.generator, grown.level, grown.alpha, classes=grown.classes)
        self.label, self.drawing = grown.label, grown.drawing
        highest = max(grown.level - 1, 0)
        if level is not None:
            check_int("level", level, 0)
            if level > highest:
                raise ValueError(f"level must be at most {highest}, below the grown level {grown.level}, got {level}")
        self.psi: float = float(psi)
        self.at: int = min(_LEVEL, highest) if level is None else level
        self.mean: Tensor
        self.register_buffer("mean", self._mean(n), persistent=False)

    @override
    def of_class(self, label: int | str) -> Self:
        """Raise ValueError: the mean is one class's."""
        raise ValueError(f"the mean is of one class; pass grown.of_class({label!r}) to TruncatedGenerator")

    @override
    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images: ``(B, *latent_shape)`` -> (B, C, H, W), in the architecture's image_range."""
        labels = self._labels_of(z, labels)
        features = self.generator.features(z, self.at, labels)
        features = torch.lerp(self.mean.to(features.dtype), features, self.psi)
        latent = [each.clone() for each in self.generator.modulating(z, labels)]
        for each in latent:
            each[:, : z.shape[1]] *= self.psi  # whose mean is 0; the class stays
        return self.generator.images_of(features, self.at, self.level, self.alpha, *latent, drawing=self.drawing)

    def _mean(self, n: int) -> Tensor:
        """Return the mean features of n keyed latents."""
        parameter = next(self.generator.parameters())
        total: Tensor | None = None
        with torch.no_grad():
            for begin in range(0, n, _BATCH):
                indices = range(begin, min(begin + _BATCH, n))
                z = latents(indices, self.generator.architecture.latent_shape, 0, "film")
                z = z.to(parameter.device, parameter.dtype)
                features = self.generator.features(z, self.at, self._labels_of(z, None))
                part = features.sum(dim=0, keepdim=True)
                total = part if total is None else total + part
        assert total is not None
        return total / n
