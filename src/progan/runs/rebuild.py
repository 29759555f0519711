"""The networks that a run directory or a checkpoint describes, built anew; a crafted one may ask for too much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from progan.arguments import check_instance
from progan.errors import CheckpointError
from progan.networks.architecture import Architecture
from progan.networks.progressive import Block, ProgressiveDiscriminator, ProgressiveGenerator
from progan.recipe import Recipe
from progan.runs import checkpoint
from progan.runs.checkpoint import blocks_of, describing, read_entries
from progan.runs.directory import CONFIG, read_config
from progan.runs.start import Start
from progan.schedule import Schedule

_INTERVALS = ("log_every", "save_every", "preview_every", "keep", "keep_every")
# Bytes of a network that a config.json without a checkpoint may ask for; those of 1024x1024 have 92 million.
_LARGEST_UNSEEN = 1_000_000_000
_DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}

Network = TypeVar("Network", ProgressiveGenerator, ProgressiveDiscriminator)


@dataclass(frozen=True)
class Settings:
    """Hold what a config.json says of a run.

    Attributes:
        recipe: of the run.
        seed: of the run.
        intervals: keywords of the trainer.
        dtype: of the networks.
        blocks: recorded of both networks; None = the built-in ones.
        start: Where the first weights came from; None = from the seed.
        fork: Checkpoint of another directory from which the run continues, if any.
    """

    recipe: Recipe
    seed: int
    intervals: dict[str, Any]
    dtype: torch.dtype
    blocks: dict[str, str | None]
    start: Start | None = None
    fork: Start | None = None

    @classmethod
    def of_checkpoint(cls, folder: Path) -> Settings:
        """Read those of one checkpoint; the intervals are those of the run that it lies in, where there is one.

        Raises:
            CheckpointError: If it is damaged.
        """
        manifest = checkpoint.verify(folder)
        try:
            intervals = cls.of(folder.resolve().parent.parent).intervals
        except (CheckpointError, OSError):
            intervals = {}
        dtypes = (entry.dtype for name, entry in read_entries(folder).items() if name.startswith("generator/"))
        with describing(folder / checkpoint.MANIFEST):
            recipe, seed = Recipe.from_json(manifest["recipe"]), manifest["seed"]
            if type(seed) is not int:
                raise ValueError(f"seed must be an int, got {seed!r}")
            dtype = next((dtype for dtype in dtypes if dtype in _DTYPES.values()), torch.float32)  # it is checked later
            starts = Start.from_json(manifest.get("start")), Start.from_json(manifest.get("fork"))
            return cls(recipe, seed, intervals, dtype, blocks_of(manifest), *starts)

    @classmethod
    def of(cls, run_dir: Path) -> Settings:
        """Read them.

        Raises:
            CheckpointError: if they are not there, or do not describe a run.
        """
        config = read_config(run_dir)
        if config is None:
            raise CheckpointError(f"{run_dir} holds no run of progan's: it has no sound {CONFIG}")
        with describing(run_dir / CONFIG):
            recipe = Recipe.from_json(config["recipe"])
            seed, intervals, dtype = config["seed"], config["intervals"], config["dtype"]
            if type(seed) is not int:
                raise ValueError(f"seed must be an int, got {seed!r}")
            if not isinstance(intervals, dict) or set(intervals) != set(_INTERVALS):
                raise ValueError(f"intervals must have {', '.join(_INTERVALS)}, got {intervals!r}")
            check_counts(intervals)
            if dtype not in _DTYPES:
                raise ValueError(f"dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
            starts = Start.from_json(config.get("start")), Start.from_json(config.get("fork"))
            return cls(recipe, seed, intervals, _DTYPES[dtype], blocks_of(config), *starts)


class Rebuilt(NamedTuple):
    """The networks of a run, built anew and still to be filled.

    Attributes:
        settings: Of the run.
        checkpoint: Folder of the checkpoint that they are to be filled from; None = there is none yet.
        generator: On the CPU.
        discriminator: On the CPU.
    """

    settings: Settings
    checkpoint: Path | None
    generator: ProgressiveGenerator
    discriminator: ProgressiveDiscriminator


def rebuild(path: Path, generator_block: Block | None, discriminator_block: Block | None) -> Rebuilt:
    """Build the networks of a run, to be filled from its newest sound checkpoint, or of the checkpoint that is named.

    Raises:
        CheckpointError: if there is no run, its checkpoints are damaged, or do not fit.
    """
    found: Path | None = path
    if checkpoint.is_checkpoint(path):
        settings, described = Settings.of_checkpoint(path), path / checkpoint.MANIFEST
    else:
        settings, described = Settings.of(path), path / CONFIG
        found = checkpoint.newest_sound(path)[0] if checkpoint.checkpoints(path) else None

    def built(kind: type[Network], block: Block | None, *prefixes: str) -> Network:
        """Build a network; one of built-in blocks only where the tensors of the checkpoint are seen to fit."""
        recorded, keyword = settings.blocks[kind._role], f"{kind._role}_block"
        if block is None:
            check_block(None, recorded, path, keyword)
            planned = without_memory(kind, settings.recipe.architecture, described).to(settings.dtype)
            if found is not None:
                for there in (check_tensors(planned, found, prefix) for prefix in prefixes):
                    if there != settings.dtype:
                        raise CheckpointError(f"{described} tells of {settings.dtype}, and {found} is of {there}")
                return planned.to_empty(device="cpu")
            size = sum(parameter.nbytes for parameter in planned.parameters())
            if size > _LARGEST_UNSEEN:
                raise CheckpointError(
                    f"{described} asks for a {kind._role} of {size:,} bytes, and there is no checkpoint of it; "
                    "make the trainer with Trainer.from_recipe"
                )
        with torch.random.fork_rng(devices=[]):
            network = kind(settings.recipe.architecture, block=block)
        check_block(network.block_name, recorded, path, keyword)
        network.initialize(settings.seed)
        return network.to(settings.dtype)

    generator = built(ProgressiveGenerator, generator_block, "generator/", "ema/")
    discriminator = built(ProgressiveDiscriminator, discriminator_block, "discriminator/")
    return Rebuilt(settings, found, generator, discriminator)


def check_counts(counts: Mapping[str, Any]) -> None:
    """Raise ValueError where an interval or another count of the trainer's is none; keep_every may be None."""
    for name, value in counts.items():
        least = int(name != "workers")
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (name == "keep_every" and value is None) and (not whole or value < least):
            raise ValueError(f"{name} must be an int of at least {least}, got {value!r}")


def check_networks(generator: object, discriminator: object) -> None:
    """Raise TypeError where a trainer's networks are not two of progan's, in this order."""
    kinds = {"generator": ProgressiveGenerator, "discriminator": ProgressiveDiscriminator}
    for (role, kind), network in zip(kinds.items(), (generator, discriminator), strict=True):
        if isinstance(network, kind):
            continue
        remedy = ""
        if isinstance(network, (*kinds.values(),)):
            remedy = "the generator comes first, then the discriminator"
        elif isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            remedy = "pass the network in it, its module; several GPUs train under torchrun, see docs/processes.md"
        elif isinstance(getattr(network, "_orig_mod", None), kind):
            remedy = "pass the network before torch.compile: the critic is differentiated twice, which compilers refuse"
        elif isinstance(network, Recipe):
            remedy = "pass a recipe to Trainer.from_recipe"
        elif isinstance(network, tuple):
            remedy = "pass the networks one by one, as in Trainer(*recipe.build(), recipe.schedule)"
        elif isinstance(getattr(network, "generator", None), kind):
            remedy = f"pass its {role}, once requires_grad_(True) was called on it"
        elif isinstance(getattr(network, "module", None), kind):
            remedy = "pass its module"
        check_instance(role, network, kind, [(object, remedy)])


def check_recipe(recipe: object) -> None:
    """Raise TypeError where a recipe is none."""
    remedies = [
        (str, "pass what a preset returns, such as presets.mel_icon()"),
        (ModuleType, "pass what one of its functions returns, such as presets.mel_icon()"),
        (Schedule, "pass Recipe(architecture, schedule.stages, training)"),
        (Mapping, "pass Recipe.from_json of it"),
    ]
    check_instance("recipe", recipe, Recipe, remedies)


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
