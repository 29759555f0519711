"""Sampling: images from the latents of a trained generator."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Iterable
from numbers import Integral
from typing import Self

import torch
from torch import Tensor, nn
from typing_extensions import override

from progan.arguments import check_instance, check_int, check_tensor
from progan.labels import Classes
from progan.latents import slerp, walk_weights
from progan.networks.classes import check_labels
from progan.networks.drawing import Drawing, drawing_of
from progan.networks.fused import generate
from progan.networks.generator import ProgressiveGenerator
from progan.randomness import latents
from progan.runtime.contention import watched_cores
from progan.runtime.memory import hold_heap_for

_PIXELS_AT_ONCE = 4 * 1024**2


class GrownGenerator(nn.Module):
    """A generator at the level to which it has been trained.

    Args:
        generator: Generator of the images.
        level: Level to which it has grown.
        alpha: Weight of that level if it was still fading in; None = fully grown.
        classes: Classes of the data that it was trained on; None = equally frequent ones without names, if the
            generator has classes.

    Attributes:
        generator: The same.
        level: The same.
        alpha: The same.
        classes: The same; None = the generator has no classes.
        label: Label of the only class that it generates, see `of_class`; None = any.
        drawing: How the weights of a palette are drawn.
    """

    def __init__(
        self,
        generator: ProgressiveGenerator,
        level: int,
        alpha: float | None = None,
        *,
        classes: Classes | None = None,
    ) -> None:
        super().__init__()
        remedies: list[tuple[type, str]] = [(GrownGenerator, "pass its generator")]
        if isinstance(getattr(generator, "module", None), ProgressiveGenerator):
            remedies = [(object, "pass ema.module")]
        elif hasattr(generator, "grown"):
            remedies = [(object, "call its grown()")]
        if not isinstance(
            getattr(generator, "_orig_mod", None), ProgressiveGenerator
        ):  # one that torch.compile has made
            check_instance("generator", generator, ProgressiveGenerator, remedies)
        generator.architecture.check_growth(level, alpha)
        self.generator = generator
        self.level = level
        self.alpha = alpha
        n = generator.architecture.classes
        self.classes: Classes | None = None if n == 0 else Classes((1,) * n) if classes is None else classes
        self.label: int | None = None
        self.drawing: Drawing = drawing_of(generator.architecture)
        self.eval()

    def of_class(self, label: int | str) -> Self:
        """Return this generator, with the same weights, of the images of one class.

        All that takes a generator takes it: walks, films, sheets, measures, truncation and the search for a latent.

        Args:
            label: Name of the class, or its label.

        Raises:
            TypeError: If label is neither.
            ValueError: If there is no such class, or the generator has none.

        Example:
            >>> from progan import presets
            >>> recipe = presets.karras2018(8, channels=(8, 8)).with_classes(3)
            >>> grown = GrownGenerator(recipe.build()[0], level=1)
            >>> torch.equal(grown.of_class(2).sample(4), grown.sample(4, label=2))
            True
        """
        if self.classes is None:
            raise ValueError(f"the generator has no classes, got label {label!r}; leave it out")
        one = copy.copy(self)
        one.label = self.classes.index(label)
        return one

    def enlarged(self, scale: int) -> Self:
        """Return this generator, with the same weights, of images that are larger by a factor than this one's.

        For generators with a palette, whose contours lie between pixels: they are as sharp in a larger image, pixel by
        pixel, where those of an image that is enlarged afterwards are soft. Details are those of the level.

        Args:
            scale: Factor of height and width.

        Raises:
            TypeError: If scale is not an int.
            ValueError: If scale is below 1, or above 1 for a generator without a palette.

        Example:
            >>> from progan import presets
            >>> grown = GrownGenerator(presets.few_images(16).build()[0], level=2)
            >>> grown.enlarged(4).sample(1).shape
            torch.Size([1, 3, 64, 64])
        """
        check_int("scale", scale, 1)
        if scale > 1 and not self.generator.architecture.palette:
            raise ValueError(
                "the generator has no palette, which only pictures with flat colours have, so its images cannot be "
                "drawn larger; resize them instead"
            )
        larger = copy.copy(self)
        larger.drawing = drawing_of(self.generator.architecture, scale * self.drawing.scale)
        return larger

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the images in pixels."""
        height, width = self.generator.architecture.size(self.level)
        return self.drawing.scale * height, self.drawing.scale * width

    @override
    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images: ``(B, *latent_shape)`` -> (B, C, H, W), in the architecture's image_range.

        Args:
            z: Latents, N(0, 1).
            labels: Label of each image, (B,), int64; None for a generator without classes, or of one class.
        """
        return generate(self.generator, z, self.level, self.alpha, self._labels_of(z, labels), drawing=self.drawing)

    def _labels_of(self, z: Tensor, labels: Tensor | None) -> Tensor | None:
        """Return the labels of latents, on their device."""
        if labels is not None:
            check_tensor("labels", labels)
            check_labels(self.generator.architecture.classes, labels, len(z))
            return labels.to(z.device)
        if self.label is None:
            self.check_one_class("images of latents alone")
            return None
        return torch.full((len(z),), self.label, dtype=torch.int64, device=z.device)

    def one_class(self) -> GrownGenerator:
        """Return a generator of images from latents alone: that of the most frequent class, if there are several."""
        if self.classes is None or self.label is not None:
            return self
        return self.of_class(self.classes.most_frequent)

    def check_one_class(self, what: str) -> None:
        """Raise ValueError if the generator has several classes, and none was chosen.

        Args:
            what: What needs one class, for the message.
        """
        if self.classes is not None and self.label is None:
            raise ValueError(
                f"{what} are of one class, and the generator has {self.classes}; choose one with of_class(label), or "
                "pass labels where they are taken"
            )

    @watched_cores()
    def sample(self, n: int, *, label: int | str | None = None, seed: int = 0, batch_size: int = 64) -> Tensor:
        """Generate n images. The k-th depends only on (seed, k), whatever n is, up to rounding.

        Args:
            n: Number of images, at least 1.
            label: Class of the images, by its name or its label; None = classes drawn as often as they occur in the
                data, each keyed by (seed, k); without classes, none.
            seed: Random seed of the latents.
            batch_size: Number of images generated at once; another number may change the last bits.

        Returns:
            (n, C, H, W), float32 in [0, 1], on the generator's device.

        Raises:
            ValueError: If n or batch_size is below 1, or there is no such class.
        """
        if label is not None:
            return self.of_class(label).sample(n, seed=seed, batch_size=batch_size)
        check_int("n", n)
        check_int("batch_size", batch_size)
        if n < 1 or batch_size < 1:
            raise ValueError(f"sample takes n and batch_size of at least 1, got n={n}, batch_size={batch_size}")
        batches = [range(begin, min(begin + batch_size, n)) for begin in range(0, n, batch_size)]
        return torch.cat(
            [self.images(self.latents(batch, seed=seed), self.labels(batch, seed=seed)) for batch in batches]
        )

    def labels(self, which: int | Iterable[int], *, seed: int = 0) -> Tensor | None:
        """Return the labels of the images that `sample` makes.

        Args:
            which: Number of images, from the first one on; or their indices, as for `latents`.
            seed: Random seed, as for `sample`.

        Returns:
            (n,), int64, on the CPU; None for a generator without classes.
        """
        if self.classes is None:
            return None
        indices = list(which) if isinstance(which, Iterable) else range(which)
        if self.label is not None:
            return torch.full((len(indices),), self.label, dtype=torch.int64)
        return self.classes.draw(indices, seed, "sample")

    def latents(self, which: int | Iterable[int], *, seed: int = 0) -> Tensor:
        """Draw the latents from which `sample` makes its images.

        Args:
            which: Number of latents, from the first one on; or their indices, such as ``[3, 17]``.
            seed: Random seed, as for `sample`.

        Returns:
            ``(n, *latent_shape)``, float32, N(0, 1), on the CPU: the k-th of `sample` is ``images(latents([k]))``.

        Raises:
            TypeError: If which is neither an int nor a list of ints.
            ValueError: If which is empty or has an index below 0.

        Example:
            >>> from progan import presets
            >>> grown = GrownGenerator(presets.karras2018(8, channels=(8, 8)).build()[0], level=1)
            >>> z = grown.latents([3, 17], seed=1)
            >>> grown.images(grown.latents_between(z[0], z[1], 9)).shape
            torch.Size([9, 3, 8, 8])
        """
        try:
            indices = [operator.index(index) for index in (which if isinstance(which, Iterable) else range(which))]
        except TypeError:
            raise TypeError(f"latents takes a number of latents, or a list of indices, got {which!r}") from None
        if not indices or min(indices) < 0:
            raise ValueError(f"latents takes at least one index, none below 0, got {which!r}")
        return latents(indices, self.generator.architecture.latent_shape, seed, "sample")

    def latents_between(self, start: Tensor, end: Tensor, n: int) -> Tensor:
        """Return the latents on the way from one to another, both included, in equal steps of the angle: see `slerp`.

        Args:
            start: One latent, latent_shape, or several, ``(B, *latent_shape)``.
            end: The same of the other end; one goes with several.
            n: Number of latents on each way, at least 2.

        Returns:
            ``(B * n, *latent_shape)``, way after way, so that an image grid of n columns has one in each row.

        Raises:
            TypeError: If start or end is not a tensor of floats.
            ValueError: If n is below 2, or the shapes do not fit.
        """
        if not isinstance(n, Integral) or n < 2:
            raise ValueError(f"latents_between takes n of at least 2, both ends included, got {n!r}")
        shape = self.generator.architecture.latent_shape
        ends = [z[None] if isinstance(z, Tensor) and z.shape == shape else z for z in (start, end)]
        for z in ends:
            if isinstance(z, Tensor) and z.shape[1:] != shape:
                expected = ", ".join(map(str, shape))
                raise ValueError(f"latents must be ({expected}) or (B, {expected}), got {tuple(z.shape)}")
        ways = [
            slerp(ends[0], ends[1], weight) for weight in torch.linspace(0, 1, int(n), dtype=torch.float64).tolist()
        ]
        return torch.stack(ways, dim=1).flatten(0, 1)

    def walk(self, n: int, *, through: int | Iterable[int] | Tensor = 7, seed: int = 0) -> Tensor:
        """Return latents on a closed walk through samples: n equal steps that end where they began.

        The walk is a smooth curve on the sphere (see `slerp` for why), without a bend at its key points, and each of
        its latents is as typical as a sample's. It begins at the first key point, and passes the others within half a
        step.

        Args:
            n: Number of latents, at least 1.
            through: Key points of the walk, at least 2: how many samples, from the first one on; or the indices of
                those wanted, such as ``[3, 17, 40]``; or latents, ``(K, *latent_shape)``.
            seed: Random seed, the one given to `sample`.

        Returns:
            ``(n, *latent_shape)``, float32, on the CPU; the step from the last to the first is as long as the others.

        Raises:
            TypeError: If n is not an int, or through is none of these.
            ValueError: If there are fewer than 2 key points, or they are all alike or opposite to one another.

        Example:
            >>> from progan import presets
            >>> grown = GrownGenerator(presets.karras2018(8, channels=(8, 8)).build()[0], level=1)
            >>> z = grown.walk(60, through=[3, 17, 40])
            >>> z.shape, torch.equal(z[0], grown.latents([3])[0])
            (torch.Size([60, 512]), True)
        """
        check_int("n", n, 1)
        keys = key_points(self, through, seed)
        return walked(keys, walk_weights(keys, n))

    @watched_cores()
    def images(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images in [0, 1], float32, without a graph: ``(B, *latent_shape)`` -> (B, C, H, W).

        Args:
            z: Latents, N(0, 1).
            labels: Label of each image, (B,), int64; None for a generator without classes, or of one class.
        """
        check_tensor("z", z)
        parameter = next(self.generator.parameters())
        low, high = self.generator.architecture.image_range
        if parameter.device.type == "cpu":
            hold_heap_for(self)
        with torch.inference_mode():
            given = () if labels is None else (labels,)
            images: Tensor = self(z.to(parameter.device, parameter.dtype), *given).float()
            if (low, high) != (0.0, 1.0):
                images.sub_(low).div_(high - low)
            images.clamp_(0, 1)
        return images.clone()  # one that autograd takes too


def drawn_at_once(grown: GrownGenerator, most: int) -> int:
    """Return how many images to draw together: at most a number, and fewer of large images."""
    return max(1, min(most, _PIXELS_AT_ONCE // math.prod(grown.image_size)))


def key_points(grown: GrownGenerator, through: int | Iterable[int] | Tensor, seed: int) -> Tensor:
    """Return the key points of `GrownGenerator.walk`, from its arguments: (K, *latent_shape), float32, on the CPU."""
    if isinstance(through, Tensor) and through.is_floating_point():
        expected = grown.generator.architecture.latent_shape
        if through.shape[1:] != expected:
            raise ValueError(
                f"through must be latents (K, {', '.join(map(str, expected))}), got {tuple(through.shape)}"
            )
        keys = through.detach().to("cpu", torch.float32)
    else:
        keys = grown.latents(through, seed=seed)
    if len(keys) < 2:
        raise ValueError(f"a walk takes at least 2 key points in through, got {len(keys)}")
    return keys


def walked(keys: Tensor, weights: Tensor) -> Tensor:
    """Return the latents of which `walk_weights` gives the weights: (K, ...), (n, K) -> (n, ...), float32."""
    return (weights @ keys.double().flatten(1)).reshape(-1, *keys.shape[1:]).float()
