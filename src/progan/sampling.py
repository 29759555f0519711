"""A trained generator, as it is used: latents in, pictures out."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn
from typing_extensions import override

from progan.checkpoint import CheckpointError, find_checkpoint, read_manifest, read_shapes, read_tensors
from progan.networks import Block, ProgressiveDiscriminator, ProgressiveGenerator
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
    try:
        recipe = Recipe.from_json(manifest["recipe"])
        recorded, images_seen = manifest["blocks"]["generator"], int(manifest["images_seen"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint}: its manifest does not describe a run: {error}") from error
    # A crafted manifest may ask for any size: nothing is made before the tensors that are there are seen to fit.
    if block is None and recorded is None:
        check_shapes(ProgressiveGenerator, recipe, checkpoint, "average/")
    elif block is None:
        check_block(None, recorded, checkpoint, "block")
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


def check_shapes(
    network: type[ProgressiveGenerator] | type[ProgressiveDiscriminator],
    recipe: Recipe,
    checkpoint: Path,
    prefix: str,
) -> None:
    """Raise where a network of built-in blocks would not have the shapes of the tensors in a checkpoint."""
    with torch.device("meta"):
        made = network(recipe.architecture)
    needed = {f"{prefix}{name}": tuple(tensor.shape) for name, tensor in made.state_dict().items()}
    there = {name: shape for name, shape in read_shapes(checkpoint).items() if name.startswith(prefix)}
    differing = [name for name in {**needed, **there} if needed.get(name) != there.get(name)]
    if differing:
        name = differing[0]
        raise CheckpointError(
            f"{checkpoint}: its {prefix.rstrip('/')} does not fit its architecture: {name} is {there.get(name)}, and "
            f"should be {needed.get(name)}"
        )


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
