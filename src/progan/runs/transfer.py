"""Transfer of weights from another run or a file into networks, with a report of what does not fit.

Weights are transferred part by part, such as one level's block or one RGB layer, if all tensors of a part match in name
and shape. Files are read like any checkpoint, and tensors that do not fit are not read into memory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from progan.errors import CheckpointError
from progan.networks.architecture import Architecture
from progan.networks.discriminator import ProgressiveDiscriminator
from progan.networks.generator import ProgressiveGenerator
from progan.runs import checkpoint
from progan.runs.blocks import same_block
from progan.runs.record import RunRecord
from progan.runs.start import ROLES, Start, digest_of, folders, source_at
from progan.schedule import Schedule
from progan.storage.tensor_file import Entry

# Settings of an architecture that do not change an image, and those that shapes reveal.
_HARMLESS = {"minibatch_std_group", "minibatch_std_unbiased", "minibatch_std_consecutive"}
_IN_SHAPES = {"channels", "latent_shape", "base_size", "image_channels", "head_channels", "widen_first"}
_IN_SHAPES |= {"classes", "class_embedding", "palette"}
_SHOWN = 4  # of several reasons in one message
_EMBEDDING = "blocks.0.embedding"
_EMA_MODULE = "module."  # what the names in an EmaGenerator's state_dict begin with


class Source(NamedTuple):
    """A checkpoint or a file to start from; none of its tensors has been read yet.

    Attributes:
        path: Path as it was given.
        tensors: File of tensors.
        sha256: SHA-256 of that file.
        prefixes: Prefix of the names of a role's tensors in the file, by role.
        entries: Tensors in the file, by name.
        images_seen: Real images that it was trained on; None = unknown.
        level: Level to which it had grown; None = unknown.
        architecture: Architecture of its networks; None = unknown.
        blocks: Qualified names of its custom blocks, by role; None = unknown.
        classes: Names of its classes; None = it has none, or they are unknown.
    """

    path: str
    tensors: Path
    sha256: str
    prefixes: dict[str, str]
    entries: dict[str, Entry]
    images_seen: int | None = None
    level: int | None = None
    architecture: Architecture | None = None
    blocks: dict[str, str | None] | None = None
    classes: tuple[str, ...] | None = None


def find_source(given: str | PathLike[str], recorded: Start | None = None) -> Source:
    """Find the source of a start, and check everything but the values of its tensors.

    Args:
        given: Run directory (its newest sound checkpoint), folder of a checkpoint, or ``.safetensors`` file.
        recorded: Record that the source must match, if any.

    Raises:
        CheckpointError: If it is none of these, or damaged, or does not match the record.
    """
    path = source_at(given)
    if path.is_dir():
        if recorded is not None:
            same = [folder for folder in folders(path) if digest_of(folder) == recorded.sha256]
            path = same[0] if same else path
        source = _of_checkpoint(os.fspath(given), RunRecord.from_checkpoint(path))
    elif path.suffix == checkpoint.SUFFIX and path.exists():
        source = _of_file(os.fspath(given), path)
    else:
        there = "got another file" if path.exists() else "nothing is there"
        raise CheckpointError(
            f"cannot start from {path}: {there}; pass a run directory, the folder of a checkpoint or a "
            f"{checkpoint.SUFFIX} file"
        )
    if recorded is not None and source.sha256 != recorded.sha256:
        raise CheckpointError(
            f"{path} no longer holds what the run started from (SHA-256 {recorded.sha256[:12]}), and the run has no "
            "checkpoint of its own yet; pass overwrite=True to start it anew from what is there now"
        )
    return source


def _of_checkpoint(given: str, record: RunRecord) -> Source:
    return Source(
        given,
        record.path / checkpoint.TENSORS,
        record.sha256,
        {role: f"{role}/" for role in ROLES},
        checkpoint.read_entries(record.path),
        record.images_seen,
        record.schedule.reached(record.images_seen)[0],
        record.architecture,
        record.blocks,
        None if record.classes is None else record.classes.names,
    )


def _of_file(given: str, path: Path) -> Source:
    """Read what a file holds: tensors under ``generator/``, ``ema/``, ``discriminator/``, or one generator's."""
    digest, entries = checkpoint.sha256_of(path), checkpoint.read_entries(path)
    there = [role for role in ROLES if any(name.startswith(f"{role}/") for name in entries)]
    averaged = bool(entries) and all(
        name.startswith(_EMA_MODULE) for name in entries
    )  # the state_dict of an EmaGenerator
    prefixes = {role: f"{role}/" for role in there} or {"generator": _EMA_MODULE if averaged else ""}
    if "ema" in there and "generator" not in there:
        prefixes["generator"] = "ema/"
    return Source(given, path, digest, prefixes, entries)


class _Fit(NamedTuple):
    """How a source fits a network.

    Attributes:
        taken: Name in the source, by name in the network.
        missing: Parts of the network that the source lacks.
        differing: Reason why a part of the source does not fit, by part.
    """

    taken: dict[str, str]
    missing: list[str]
    differing: dict[str, str]


def take(
    source: Source,
    generator: ProgressiveGenerator,
    discriminator: ProgressiveDiscriminator,
    ema: nn.Module,
    schedule: Schedule,
) -> tuple[Start, list[str]]:
    """Load the weights of a source into networks, as far as they fit. All are read before any weight is changed.

    Args:
        source: Source from `find_source`.
        generator: Generator on its device; the weights are converted to its data type.
        discriminator: Discriminator on its device.
        ema: Copy of the generator that holds its average; without an average in the source, it gets the generator's
            weights.
        schedule: Schedule of the new run.

    Returns:
        The record of the start, and notes for the user: what was not loaded, and what may be an oversight.

    Raises:
        CheckpointError: If nothing fits the generator, or a value is not finite.
    """
    networks: dict[str, nn.Module] = {
        "generator": generator,
        "discriminator": discriminator,
        "ema": ema,
    }
    blocks = dict.fromkeys(networks, generator.block_name) | {"discriminator": discriminator.block_name}
    fits = {role: _fit(networks[role], source, role, blocks[role]) for role in ROLES if role in source.prefixes}
    if "generator" not in fits or not fits["generator"].taken:
        reasons = list(fits["generator"].differing.values()) if "generator" in fits else []
        known = f"differing: {_several(reasons)}" if reasons else "it has none of the generator's tensors"
        raise CheckpointError(
            f"nothing in {source.tensors} fits the generator: {known}. A start must have tensors under the names of "
            "generator.state_dict(), by themselves or after 'generator/' or 'ema/'"
        )
    values = _read(source, networks, fits)
    taken = tuple(role for role in ROLES if role in fits and fits[role].taken)
    with torch.no_grad():
        for role in taken:
            if role == "ema":
                ema.load_state_dict(generator.state_dict())  # for parts where the average does not fit
            own = networks[role].state_dict()
            for name, value in values[role].items():
                own[name].copy_(value)
    if "ema" not in taken:
        ema.load_state_dict(generator.state_dict())
    record = Start(source.path, source.images_seen, source.level, source.sha256, taken)
    return record, _notes(source, fits, generator.architecture, schedule)


def _fit(network: nn.Module, source: Source, role: str, block_name: str | None) -> _Fit:
    """Compare the parts of a network with those of a source."""
    prefix = source.prefixes[role]
    theirs: dict[str, dict[str, Entry]] = {}
    for name, entry in source.entries.items():
        if name.startswith(prefix):
            theirs.setdefault(_part_of(name.removeprefix(prefix)), {})[name.removeprefix(prefix)] = entry
    ours: dict[str, dict[str, Tensor]] = {}
    for name, tensor in network.state_dict().items():
        ours.setdefault(_part_of(name), {})[name] = tensor
    theirs_name = (source.blocks or {}).get("generator" if role == "ema" else role)
    same = source.blocks is None or same_block(block_name, theirs_name)
    fit = _Fit({}, [], {})
    for part, tensors in ours.items():
        if part not in theirs:
            fit.missing.append(part)
        elif part.startswith("blocks.") and part not in ("blocks.0", _EMBEDDING) and not same:
            there, here = (name or "the built-in block" for name in (theirs_name, block_name))
            fit.differing[part] = f"{role} {part} is made of {there} there, of {here} here"
        elif (reason := _difference(theirs[part], tensors)) is not None:
            fit.differing[part] = f"{role} {reason}"
        else:
            fit.taken.update({name: f"{prefix}{name}" for name in tensors})
    return fit


def _part_of(name: str) -> str:
    """Return the part of a network that a tensor belongs to; the vectors of the classes are one.

    Example:
        >>> _part_of("blocks.2.first.layer.weight"), _part_of("to_rgb.0.bias"), _part_of("scale")
        ('blocks.2', 'to_rgb.0', 'scale')
    """
    if name.startswith(f"{_EMBEDDING}."):
        return _EMBEDDING
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if len(rest) > 1 and rest[0].isdecimal() else name


def _difference(theirs: Mapping[str, Entry], ours: Mapping[str, Tensor]) -> str | None:
    """Describe how the tensors of a part differ from those of the network; None if they fit."""
    for name in {**ours, **theirs}:
        if name not in ours:
            return f"{name[:200]} is not here"
        if name not in theirs:
            return f"{name} is not there"
        shape, dtype = theirs[name].shape, theirs[name].dtype
        if shape != tuple(ours[name].shape):
            return f"{name} is {shape} there, {tuple(ours[name].shape)} here"
        if dtype != ours[name].dtype and not (dtype.is_floating_point and ours[name].is_floating_point()):
            return f"{name} is of {dtype} there, of {ours[name].dtype} here"
    return None


def _read(source: Source, networks: Mapping[str, nn.Module], fits: Mapping[str, _Fit]) -> dict[str, dict[str, Tensor]]:
    """Read the tensors that fit, in the networks' data types, on the CPU.

    Raises:
        CheckpointError: If a value is not finite.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for role, fit in fits.items():
        own = networks[role].state_dict()
        there = checkpoint.read_named(source.tensors, set(fit.taken.values()))
        found[role] = {name: there[theirs].to(own[name].dtype) for name, theirs in fit.taken.items()}
        for name, value in found[role].items():
            if not torch.isfinite(value).all():
                raise CheckpointError(
                    f"{source.tensors}: {fit.taken[name]} has values that are not finite in {value.dtype}; start from "
                    "an earlier checkpoint"
                )
    return found


def _notes(source: Source, fits: Mapping[str, _Fit], architecture: Architecture, schedule: Schedule) -> list[str]:
    """Describe what was not loaded, and what may be an oversight."""
    notes = []
    parts = [(role, part) for role in ("generator", "discriminator") if role in fits for part in fits[role].missing]
    new = {stage.level for stage in schedule.stages if stage.fade_images}  # which begin unseen
    levels = sorted({int(part.split(".")[1]) for _, part in parts if part.split(".")[-1].isdecimal()} - new)
    sizes = [f"level {level} ({'x'.join(map(str, architecture.size(level)))})" for level in levels]
    others = [f"{role} {part}" for role, part in parts if not part.split(".")[-1].isdecimal()]
    if missing := [*sizes, *others]:
        notes.append(f"it has no {', '.join(missing)}; initial weights stay there")
    known = fits["generator"].differing
    reasons = [
        reason
        for role, fit in fits.items()
        for part, reason in fit.differing.items()
        if not (role == "ema" and part in known)
    ]
    if reasons:
        notes.append(f"these parts do not fit, and keep their initial weights: {_several(reasons)}")
    if "discriminator" not in fits:
        notes.append("it has no discriminator; initial weights stay there")
    if source.architecture is not None:
        there, here = vars(source.architecture), vars(architecture)
        names = [name for name in here if name not in _HARMLESS | _IN_SHAPES and there[name] != here[name]]
        if names:
            differing = [f"{name} {there[name]!r} -> {here[name]!r}" for name in names]
            notes.append(f"its weights make other images in this architecture, which differs in {_several(differing)}")
    first, top = schedule.stages[0].level, architecture.top_level
    if source.level is not None and source.level > top:
        notes.append(
            f"it had grown to level {source.level}, and this architecture ends at level {top}; the levels above are "
            "not used"
        )
    elif source.level is not None and first not in (source.level, source.level + 1):
        notes.append(
            f"it had grown to level {source.level}, and this schedule begins at level {first}; to go on from there, "
            f"pass stages that begin at that level or the next, such as those of recipe.starting_at({source.level})"
        )
    elif source.level is not None and first == source.level + 1 and not schedule.stages[0].fade_images:
        notes.append(
            f"it had grown to level {source.level}, and level {first} begins without a fade, with images of initial "
            f"weights; pass recipe.starting_at({first}, fade=True)"
        )
    elif first == source.level and schedule.stages[0].fade_images:
        notes.append(
            f"it had grown to level {first}, and this schedule fades that level in again; pass "
            f"recipe.starting_at({first})"
        )
    return notes


def _several(texts: list[str]) -> str:
    """Join the first few of several texts."""
    return "; ".join(texts[:_SHOWN]) + (f"; and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else "")
