"""Sampling: images from the latents of a trained generator."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from numbers import Integral

import torch
from torch import Tensor, nn
from typing_extensions import override

from progan.arguments import check_instance, check_int, check_tensor
from progan.latents import slerp, walk_weights
from progan.networks.fused import generate
from progan.networks.generator import ProgressiveGenerator
from progan.randomness import latents
from progan.runtime.memory import hold_heap_for


class GrownGenerator(nn.Module):
    """A generator at the level to which it has been trained.

    Args:
        generator: Generator of the images.
        level: Level to which it has grown.
        alpha: Weight of that level if it was still fading in; None = fully grown.
    """

    def __init__(self, generator: ProgressiveGenerator, level: int, alpha: float | None = None) -> None:
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
        self.eval()

    @override
    def forward(self, z: Tensor) -> Tensor:
        """Return images: ``(B, *latent_shape)`` -> (B, C, H, W), in the architecture's image_range."""
        return generate(self.generator, z, self.level, self.alpha)

    def sample(self, n: int, *, seed: int = 0, batch_size: int = 64) -> Tensor:
        """Generate n images. The k-th depends only on (seed, k), whatever n is, up to rounding.

        Args:
            n: Number of images, at least 1.
            seed: Random seed of the latents.
            batch_size: Number of images generated at once; another number may change the last bits.

        Returns:
            (n, C, H, W), float32 in [0, 1], on the generator's device.

        Raises:
            ValueError: If n or batch_size is below 1.
        """
        check_int("n", n)
        check_int("batch_size", batch_size)
        if n < 1 or batch_size < 1:
            raise ValueError(f"sample takes n and batch_size of at least 1, got n={n}, batch_size={batch_size}")
        batches = [range(begin, min(begin + batch_size, n)) for begin in range(0, n, batch_size)]
        return torch.cat([self.images(self.latents(batch, seed=seed)) for batch in batches])

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

    def images(self, z: Tensor) -> Tensor:
        """Return images in [0, 1], float32, without a graph: ``(B, *latent_shape)`` -> (B, C, H, W)."""
        check_tensor("z", z)
        parameter = next(self.generator.parameters())
        low, high = self.generator.architecture.image_range
        if parameter.device.type == "cpu":
            hold_heap_for(self)
        with torch.inference_mode():
            images: Tensor = self(z.to(parameter.device, parameter.dtype)).float()
            if (low, high) != (0.0, 1.0):
                images.sub_(low).div_(high - low)
            images.clamp_(0, 1)
        return images.clone()  # one that autograd takes too


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
