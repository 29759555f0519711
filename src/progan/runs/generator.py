"""The averaged generator of a run, read from its newest checkpoint."""

from __future__ import annotations

from os import PathLike

import torch

from progan.errors import CheckpointError
from progan.networks.progressive import Block, ProgressiveGenerator
from progan.recipe import Recipe
from progan.runs.checkpoint import (
    MANIFEST,
    blocks_of,
    describing,
    find_checkpoint,
    images_seen_of,
    read_manifest,
    read_tensors,
)
from progan.runs.rebuild import check_block, check_tensors, without_memory
from progan.sampling import GrownGenerator
from progan.storage.paths import user_path


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
        check_tensors(generator, checkpoint, "ema/")
    else:
        with torch.random.fork_rng(devices=[]):
            generator = ProgressiveGenerator(recipe.architecture, block=block)
        check_block(generator.block_name, recorded, checkpoint, "block")
    state = read_tensors(checkpoint, "ema/")
    try:
        generator.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{checkpoint}: its average does not fit its architecture: {error}") from error
    generator.requires_grad_(False)
    return GrownGenerator(generator, *recipe.schedule.reached(images_seen)).to(device or "cpu")
