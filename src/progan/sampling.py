"""A trained generator, as it is used: latents in, pictures out."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from os import PathLike

import torch
from torch import Tensor, nn
from typing_extensions import override

from progan.arguments import check_instance, check_int, check_tensor
from progan.averaging import Average
from progan.checkpoint import (
    MANIFEST,
    CheckpointError,
    blocks_of,
    describing,
    find_checkpoint,
    images_seen_of,
    read_manifest,
    read_tensors,
)
from progan.interpolation import slerp
from progan.memory import hold_heap_for
from progan.networks import Block, ProgressiveGenerator
from progan.paths import user_path
from progan.randomness import latents
from progan.rebuild import check_block, check_tensors, without_memory
from progan.recipe import Recipe


class GrownGenerator(nn.Module):
    """Hold a generator at the level to which it has been trained.

    Args:
        generator: whose images these are.
        level: to which it has grown.
        alpha: weight of that level, where it was still fading in; None = fully grown.
    """

    def __init__(self, generator: ProgressiveGenerator, level: int, alpha: float | None = None) -> None:
        super().__init__()
        remedies = [(Average, "pass average.module"), (GrownGenerator, "pass its generator")]
        if hasattr(generator, "grown"):
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
        images: Tensor = self.generator(z, self.level, self.alpha)
        return images

    def sample(self, n: int, *, seed: int = 0, batch_size: int = 64) -> Tensor:
        """Draw n images. The k-th depends on (seed, k) alone, however many are asked for, up to rounding.

        Args:
            n: how many, at least 1.
            seed: of the latents.
            batch_size: images made at once; another number may round the last bits otherwise.

        Returns:
            (n, C, H, W), float32 in [0, 1], on the generator's device.

        Raises:
            ValueError: if n or batch_size is below 1.
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
            which: How many, from the first one on; or the indices of those wanted, such as ``[3, 17]``.
            seed: Random seed, the one given to `sample`.

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
        if not isinstance(n, int) or n < 2:
            raise ValueError(f"latents_between takes n of at least 2, both ends included, got {n!r}")
        shape = self.generator.architecture.latent_shape
        ends = [z[None] if isinstance(z, Tensor) and z.shape == shape else z for z in (start, end)]
        for z in ends:
            if isinstance(z, Tensor) and z.shape[1:] != shape:
                expected = ", ".join(map(str, shape))
                raise ValueError(f"latents must be ({expected}) or (B, {expected}), got {tuple(z.shape)}")
        ways = [slerp(ends[0], ends[1], weight) for weight in torch.linspace(0, 1, n, dtype=torch.float64).tolist()]
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


def load_generator(
    path: str | PathLike[str], device: str | torch.device | None = None, *, block: Block | None = None
) -> GrownGenerator:
    """Load the averaged generator of a run, as far as it has grown.

    Args:
        path: a run directory (its newest sound checkpoint) or one checkpoint of it.
        device: where to put it; None = the CPU.
        block: the block of one's own with which it was built, if any.

    Raises:
        CheckpointError: if there is no sound checkpoint, or its block is not the one given.
    """
    checkpoint = find_checkpoint(user_path(path))
    manifest = read_manifest(checkpoint)
    with describing(checkpoint / MANIFEST):
        recipe = Recipe.from_json(manifest["recipe"])
        recorded, images_seen = blocks_of(manifest)["generator"], images_seen_of(manifest)
    if block is None:
        check_block(None, recorded, checkpoint, "block")
        generator = without_memory(ProgressiveGenerator, recipe.architecture, checkpoint / MANIFEST)
        check_tensors(generator, checkpoint, "average/")
    else:
        with torch.random.fork_rng(devices=[]):
            generator = ProgressiveGenerator(recipe.architecture, block=block)
        check_block(generator.block_name, recorded, checkpoint, "block")
    state = read_tensors(checkpoint, "average/")
    try:
        generator.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{checkpoint}: its average does not fit its architecture: {error}") from error
    generator.requires_grad_(False)
    return GrownGenerator(generator, *recipe.schedule.reached(images_seen)).to(device or "cpu")
