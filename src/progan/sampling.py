"""Sampling: images from the latents of a trained generator."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from numbers import Integral

import torch
from torch import Tensor, nn
from typing_extensions import override

from progan.arguments import check_instance, check_int, check_number, check_tensor
from progan.networks.fused import generate
from progan.networks.generator import ProgressiveGenerator
from progan.randomness import latents
from progan.runtime.memory import hold_heap_for

_TINY = torch.finfo(torch.float64).tiny


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


def slerp(start: Tensor, end: Tensor, weight: float | Tensor) -> Tensor:
    """Interpolate between latents on the sphere.

    With u and v the directions of start and end, omega the angle between them, and t the weight, the direction is
    sin((1 - t) omega) / sin(omega) u + sin(t omega) / sin(omega) v (Shoemake 1985; for latents: White 2016, "Sampling
    Generative Networks"), and the norm goes linearly from one to the other. Latents of many dimensions have norms close
    to one another; a straight line passes through norms that the generator has never seen, and this path does not. A
    latent of any shape counts as one vector.

    Args:
        start: Latents, (B, ...), floats.
        end: Latents of the same shape; a batch of 1 on either side goes with all of the other.
        weight: 0 for start, 1 for end: a number, or one for each pair, (B,). Above 1 and below 0 the path goes on.

    Returns:
        (B, ...), in start's dtype and on its device; equal to start and end where the weight is 0 and 1. Where start
        and end are opposite, many paths are shortest, and the same one is taken each time.

    Raises:
        TypeError: If start or end is not a tensor of floats.
        ValueError: If the shapes do not fit.

    Example:
        >>> slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]), torch.tensor([0.0, 0.5, 1.0]))
        tensor([[1.0000, 0.0000],
                [1.0607, 1.0607],
                [0.0000, 2.0000]])
    """
    for name, given in (("start", start), ("end", end)):
        if not isinstance(given, Tensor) or not given.is_floating_point():
            got = given.dtype if isinstance(given, Tensor) else type(given).__name__
            raise TypeError(f"{name} must be a tensor of floats, got {got}; GrownGenerator.latents draws some")
    if not isinstance(weight, Tensor):
        check_number("weight", weight)
    weights = torch.as_tensor(weight, dtype=torch.float64, device="cpu").detach()
    sizes = {len(part) for part in (start, end, weights) if part.ndim} - {1}
    if min(start.ndim, end.ndim) < 2 or start.shape[1:] != end.shape[1:] or weights.ndim > 1 or len(sizes) > 1:
        raise ValueError(
            "slerp takes start and end (B, ...) of one shape and a weight, a number or (B,), got "
            f"{tuple(start.shape)}, {tuple(end.shape)} and {tuple(weights.shape)}; pass z[None] for one latent"
        )
    # In float64, which not all devices have.
    first, last = (z.detach().to("cpu", torch.float64).flatten(1) for z in (start, end))
    t = weights.reshape(-1, 1)
    norms = [torch.linalg.vector_norm(each, dim=1, keepdim=True) for each in (first, last)]
    u, v = first / norms[0].clamp_min(_TINY), last / norms[1].clamp_min(_TINY)
    u, v = torch.where(norms[0] > 0, u, v), torch.where(norms[1] > 0, v, u)  # 0 has no direction: that of the other
    side = _perpendicular(u, v)
    angle = torch.atan2((side * v).sum(1, keepdim=True).clamp_min(0), (u * v).sum(1, keepdim=True))
    direction = torch.cos(t * angle) * u + torch.sin(t * angle) * side
    path = ((1 - t) * norms[0] + t * norms[1]) * direction
    path = torch.where(t == 0, first, torch.where(t == 1, last, path))
    return path.reshape(-1, *start.shape[1:]).to(start.device, start.dtype)


def _perpendicular(u: Tensor, v: Tensor) -> Tensor:
    """Return unit vectors perpendicular to u in the plane of u and v; in any plane where they span none: (B, D)."""
    u = u.expand(max(len(u), len(v)), -1)
    # Of the axes, the one that u lies along the least.
    axis = torch.nn.functional.one_hot(u.abs().argmin(1), u.shape[1]).to(u.dtype)
    side = v - (u * v).sum(1, keepdim=True) * u
    flat = torch.linalg.vector_norm(side, dim=1, keepdim=True) < 1e-14
    side = torch.where(flat, axis, side)
    for _ in range(2):  # the second time takes away what rounding left of u
        side = side - (u * side).sum(1, keepdim=True) * u
        side = side / torch.linalg.vector_norm(side, dim=1, keepdim=True).clamp_min(_TINY)
    return side
