"""Rebuilding the networks that a run directory or a checkpoint describes; a crafted one may ask for too much."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import torch

from progan.errors import CheckpointError
from progan.networks.architecture import Architecture
from progan.networks.base import Block
from progan.networks.discriminator import ProgressiveDiscriminator
from progan.networks.generator import ProgressiveGenerator
from progan.optimization import FIRST_AVERAGE
from progan.runs.blocks import check_block
from progan.runs.checkpoint import read_entries
from progan.runs.record import DTYPES, RunRecord

# Bytes of a network that a config.json without a checkpoint may ask for; those of 1024x1024 have 92 million.
_LARGEST_UNSEEN = 1_000_000_000

Network = TypeVar("Network", ProgressiveGenerator, ProgressiveDiscriminator)


def rebuild(
    record: RunRecord,
    found: RunRecord | None,
    generator_block: Block | None,
    discriminator_block: Block | None,
    averages: Iterable[str] = (FIRST_AVERAGE,),
) -> tuple[ProgressiveGenerator, ProgressiveDiscriminator]:
    """Build the networks of a run on the CPU, to be filled from a checkpoint.

    Networks of built-in blocks take memory only after the tensors of the checkpoint have been seen to fit.

    Args:
        record: Record of the run.
        found: Record of the checkpoint that they are to be filled from; None = there is none yet.
        generator_block: Custom block of the generator, if any.
        discriminator_block: Custom block of the discriminator, if any.
        averages: Names of the generator's averages, of which the checkpoint must have the tensors too.

    Raises:
        CheckpointError: If the blocks are not the recorded ones, or the checkpoint does not fit.
    """
    dtype = record.dtype or _dtype_of(record.path)
    checkpoint = None if found is None else found.path

    def built(kind: type[Network], block: Block | None, *prefixes: str) -> Network:
        recorded, keyword = record.blocks[kind._role], f"{kind._role}_block"
        if block is None:
            check_block(None, recorded, record.path, keyword)
            planned = without_memory(kind, record.architecture, record.file).to(dtype)
            if checkpoint is not None:
                for there in (check_tensors(planned, checkpoint, prefix) for prefix in prefixes):
                    if there != dtype:
                        raise CheckpointError(f"{record.file} records {dtype}, but {checkpoint} holds {there}")
                return planned.to_empty(device="cpu")
            size = sum(parameter.nbytes for parameter in planned.parameters())
            if size > _LARGEST_UNSEEN:
                raise CheckpointError(
                    f"{record.file} asks for a {kind._role} of {size:,} bytes, and there is no checkpoint of it; "
                    "make the trainer with Trainer.from_recipe"
                )
        with torch.random.fork_rng(devices=[]):
            network = kind(record.architecture, block=block)
        check_block(network.block_name, recorded, record.path, keyword)
        network.initialize(record.seed)
        return network.to(dtype)

    generator = built(ProgressiveGenerator, generator_block, "generator/", *(f"{name}/" for name in averages))
    discriminator = built(ProgressiveDiscriminator, discriminator_block, "discriminator/")
    return generator, discriminator


def _dtype_of(folder: Path) -> torch.dtype:
    """Return the data type of a checkpoint's generator; one that networks cannot have is refused later."""
    dtypes = (entry.dtype for name, entry in read_entries(folder).items() if name.startswith("generator/"))
    return next((dtype for dtype in dtypes if dtype in DTYPES.values()), torch.float32)


def without_memory(kind: type[Network], architecture: Architecture, path: Path) -> Network:
    """Build a network of built-in blocks on the meta device, without memory: a crafted file may ask for any size.

    Args:
        kind: Class of the network.
        architecture: Architecture of the network.
        path: Path of the file that describes it.

    Raises:
        CheckpointError: If it is larger than torch can count.
    """
    try:
        with torch.device("meta"):
            return kind(architecture)
    except (RuntimeError, OverflowError, TypeError) as error:
        raise CheckpointError(f"{path} asks for a network that is too large: {str(error).splitlines()[0]}") from None


def check_tensors(
    network: ProgressiveGenerator | ProgressiveDiscriminator, checkpoint: Path, prefix: str
) -> torch.dtype:
    """Return the data type of a network's tensors in a checkpoint.

    Args:
        network: Network that the tensors must fit.
        checkpoint: Folder of the checkpoint.
        prefix: Prefix of the tensors' names.

    Raises:
        CheckpointError: If the shapes are not those of the network, or there are several data types.
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
