"""Import of a checkpoint of another program: its networks, or a file of them that a run can start from."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from progan.errors import CheckpointError
from progan.importers import image_generator_2, pro_gan_pth, pytorch_gan_zoo
from progan.importers.foreign_file import read_foreign
from progan.importers.layers import ForeignState, Program, check_apart, filled
from progan.networks.architecture import Architecture
from progan.networks.discriminator import ProgressiveDiscriminator
from progan.networks.generator import ProgressiveGenerator
from progan.runs.checkpoint import SUFFIX, write_tensors
from progan.sampling import GrownGenerator
from progan.storage.paths import user_path

_PROGRAMS = {
    program.name: program for program in (image_generator_2.PROGRAM, pro_gan_pth.PROGRAM, pytorch_gan_zoo.PROGRAM)
}
_WHAT = {"generator": "generator", "ema": "averaged generator", "discriminator": "discriminator"}


@dataclass(frozen=True)
class Imported:
    """The networks of another program's checkpoint, as progan's.

    Attributes:
        program: Program that wrote the checkpoint.
        grown: Generator to sample from, at its level: the average if the file has one, else the generator itself.
        generator: Generator itself, if the file has an average beside it; else None.
        discriminator: Discriminator, if the file has one; else None.
    """

    program: str
    grown: GrownGenerator
    generator: ProgressiveGenerator | None
    discriminator: ProgressiveDiscriminator | None

    @property
    def architecture(self) -> Architecture:
        """Architecture of the networks."""
        return self.grown.generator.architecture

    def save(self, path: str | PathLike[str]) -> None:
        """Write the networks to a file that ``Trainer(start=...)`` accepts; an existing one is replaced.

        Args:
            path: Path of the file, which must end in ``.safetensors``.

        Raises:
            ValueError: If it does not.
            OSError: If it cannot be written.
        """
        target = user_path(path)
        if target.suffix != SUFFIX:
            raise ValueError(f"path must end in {SUFFIX}, got {target}")
        networks = {"ema": self.grown.generator, "generator": self.generator, "discriminator": self.discriminator}
        write_tensors(
            target,
            {
                f"{role}/{name}": tensor
                for role, network in networks.items()
                if network is not None
                for name, tensor in network.state_dict().items()
            },
        )


def load(
    path: str | PathLike[str],
    *,
    program: str | None = None,
    discriminator: str | PathLike[str] | None = None,
    level: int | None = None,
) -> Imported:
    """Import a checkpoint of another program; images and scores are those of that program, up to rounding.

    Files are untrusted: nothing in them is run, and what no checkpoint needs is refused. torch 2.10 or later is needed.

    Args:
        path: File of the generator: image_generator_2's ``generator_trained_model_cpu.pth``, pro-gan-pth's ``.bin``, or
            pytorch_GAN_zoo's ``.pt`` or ``.pth``.
        program: Program that wrote it: ``image_generator_2``, ``pro_gan_pth`` or ``pytorch_gan_zoo``; None = recognised
            by the names in the file.
        discriminator: File of the discriminator, where the program writes one of its own.
        level: Level to which the networks have grown; None = the highest in the file. pro-gan-pth and image_generator_2
            write all levels from the start.

    Raises:
        CheckpointError: If a file is damaged, crafted, or not of one of these programs.
        RuntimeError: If torch is older than 2.10.
        ValueError: If the program is unknown, or the networks do not have the level.
        OSError: If a file cannot be opened.
    """
    if program is not None and program not in _PROGRAMS:
        raise ValueError(f"program must be one of {', '.join(_PROGRAMS)}, got {program!r}")
    where = user_path(path)
    found, states = _states(where, program)
    if discriminator is not None:
        other = user_path(discriminator, "discriminator")
        _, others = _states(other, found.name)
        if "discriminator" not in others:
            raise CheckpointError(f"{other} holds no discriminator of {found.name}")
        states["discriminator"] = others["discriminator"]
    main = states.get("generator") or states.get("ema")
    if main is None:
        raise CheckpointError(
            f"{where} holds a discriminator only; pass the generator's file as path, and this one as discriminator="
        )
    try:
        architecture = found.architecture(main, states.get("discriminator"))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{where}: its layers make no networks of progan's: {error}") from error

    def generator(role: str) -> ProgressiveGenerator | None:
        if (state := states.get(role)) is None:
            return None
        return filled(ProgressiveGenerator, architecture, state, found.generator(state, architecture))

    plain, average, critic = generator("generator"), generator("ema"), None
    if (state := states.get("discriminator")) is not None:
        critic = filled(ProgressiveDiscriminator, architecture, state, found.discriminator(state, architecture))
    check_apart(states.values())
    shown = average or plain
    assert shown is not None
    grown = GrownGenerator(shown.requires_grad_(False), architecture.top_level if level is None else level)
    return Imported(found.name, grown, plain if average is not None else None, critic)


def _states(path: Path, name: str | None) -> tuple[Program, dict[str, ForeignState]]:
    """Return the program that wrote a file, and the networks in it by role."""
    contents: Any = read_foreign(path)
    for program in _PROGRAMS.values() if name is None else (_PROGRAMS[name],):
        if parts := program.parts(contents) if isinstance(contents, dict) else {}:
            return program, {
                role: ForeignState(state, _WHAT[role], path, conf) for role, (state, conf) in parts.items()
            }
    known = name or ", ".join(_PROGRAMS)
    raise CheckpointError(f"{path} is not a checkpoint of {known}; its names are others")
