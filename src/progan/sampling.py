"""A trained generator, as it is used: latents in, pictures out."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from progan.checkpoint import (
    MANIFEST,
    CheckpointError,
    blocks_of,
    describing,
    find_checkpoint,
    images_seen_of,
    read_entries,
    read_manifest,
    read_tensors,
)
from progan.networks import Architecture, Block, ProgressiveDiscriminator, ProgressiveGenerator
from progan.randomness import latents
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
        generator.architecture.check_growth(level, alpha)
        self.generator = generator
        self.level = level
        self.alpha = alpha
        self.eval()

    @override
    def forward(self, z: Tensor) -> Tensor:
        """Return images: (B, *latent_shape) -> (B, C, H, W), in the architecture's image_range."""
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
        if n < 1 or batch_size < 1:
            raise ValueError(f"sample takes n and batch_size of at least 1, got n={n}, batch_size={batch_size}")
        shape = self.generator.architecture.latent_shape
        batches = [range(begin, min(begin + batch_size, n)) for begin in range(0, n, batch_size)]
        return torch.cat([self.images(latents(batch, shape, seed, "sample")) for batch in batches])

    @torch.no_grad()
    def images(self, z: Tensor) -> Tensor:
        """Return images in [0, 1], float32, without a graph: (B, *latent_shape) -> (B, C, H, W)."""
        parameter = next(self.generator.parameters())
        low, high = self.generator.architecture.image_range
        images: Tensor = self(z.to(parameter.device, parameter.dtype)).float()
        return ((images - low) / (high - low)).clamp(0, 1)


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
    checkpoint = find_checkpoint(Path(path))
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


Network = TypeVar("Network", ProgressiveGenerator, ProgressiveDiscriminator)


def without_memory(kind: type[Network], architecture: Architecture, path: Path) -> Network:
    """Build a network of built-in blocks whose tensors have shapes and no memory: a crafted file may ask for any size.

    Args:
        kind: of network.
        architecture: of it.
        path: of the file that asks for it.

    Raises:
        CheckpointError: if it is larger than torch can count.
    """
    try:
        with torch.device("meta"):
            return kind(architecture)
    except (RuntimeError, OverflowError, TypeError) as error:
        raise CheckpointError(f"{path} asks for a network that is too large: {str(error).splitlines()[0]}") from None


def check_tensors(
    network: ProgressiveGenerator | ProgressiveDiscriminator, checkpoint: Path, prefix: str
) -> torch.dtype:
    """Return the kind of floats that a checkpoint's tensors of a network are.

    Raises:
        CheckpointError: if their shapes are not the network's, or they are of several kinds.
    """
    needed = {f"{prefix}{name}": tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    there = {name: entry for name, entry in read_entries(checkpoint).items() if name.startswith(prefix)}
    shapes = {name: entry.shape for name, entry in there.items()}
    if differing := [name for name in {**needed, **shapes} if needed.get(name) != shapes.get(name)]:
        name = differing[0]
        raise CheckpointError(
            f"{checkpoint}: its {prefix.rstrip('/')} does not fit its architecture: {name[:200]!r} is "
            f"{shapes.get(name)}, and should be {needed.get(name)}"
        )
    dtypes = {entry.dtype for entry in there.values()}
    dtype = dtypes.pop()
    if dtypes or not dtype.is_floating_point:
        raise CheckpointError(
            f"{checkpoint}: its {prefix.rstrip('/')} must be of one kind of floats, got "
            f"{', '.join(sorted(map(str, {dtype, *dtypes})))}"
        )
    return dtype


def check_block(given: str | None, recorded: str | None, path: Path, keyword: str) -> None:
    """Raise where networks are not built from the blocks that a file records."""
    if not same_block(given, recorded):
        raise CheckpointError(
            f"{path} was made with {recorded or 'the built-in block'}, got {given or 'the built-in block'}; "
            + (f"pass {keyword}={recorded.rsplit('.', 1)[-1]}" if recorded else f"leave {keyword} out")
        )


def same_block(one: str | None, other: str | None) -> bool:
    """Tell whether two qualified names can be of one block: a script's own is in ``__main__`` while it runs.

    Example:
        >>> same_block("__main__.Block", "train.Block"), same_block("other.Block", "train.Block")
        (True, False)
    """
    if one is None or other is None or one == other:
        return one == other
    first, second = one.split(".", 1), other.split(".", 1)
    return "__main__" in (first[0], second[0]) and one.rsplit(".", 1)[-1] == other.rsplit(".", 1)[-1]
