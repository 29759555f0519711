"""``progan convert``: what no other command turns into something else."""

from __future__ import annotations

import argparse
from pathlib import Path

from progan.cli.command import UsageError
from progan.cli.export import KINDS
from progan.cli.import_ import PROGRAMS
from progan.cli.options import at_least_0, check_new_folder, user_path
from progan.cli.output import show, shown

HELP = "Turn a pack into a folder of PNG files, or a checkpoint of another program into an exported generator."
EXAMPLE = "progan convert photos.pack photos/"
_GENERATOR = ".safetensors"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("file", type=user_path, metavar="FILE", help="pack, or checkpoint of another program")
    parser.add_argument(
        "out", type=user_path, metavar="OUT", help="new folder for the pictures, or .safetensors file of the generator"
    )
    parser.add_argument("--program", choices=PROGRAMS, help="program that wrote the checkpoint (default: recognised)")
    parser.add_argument(
        "--level", type=at_least_0, metavar="N", help="level reached in it (default: the highest in the file)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def run(options: argparse.Namespace) -> int:
    """Convert, or name the command that does."""
    file, out = options.file, options.out
    if not file.exists():
        raise UsageError(f"there is no {file}; pass a pack, or a checkpoint of {', '.join(PROGRAMS)}")
    kind = _kind(file)
    if (command := _other_command(kind, file)) is not None:
        raise UsageError(command)
    if kind == "pack" or out.suffix not in KINDS:
        return _unpack(file, out)
    if out.suffix != _GENERATOR:
        raise UsageError(
            f"the generator of a checkpoint becomes a {_GENERATOR} file, got OUT {out}; convert to one, then progan "
            "export turns it into other kinds"
        )
    if out.exists() and not options.overwrite:
        raise UsageError(f"{out} exists; pass --overwrite or another OUT")
    return _write_generator(options)


def _kind(path: Path) -> str | None:
    """Return what a path is, as progan inspect names it; None = nothing of progan's."""
    from progan.cli.inspect import describe_file, describe_folder

    if path.is_dir():
        try:
            return str(describe_folder(path)["kind"])
        except UsageError:
            return "folder"
    try:
        return str(describe_file(path)["kind"])
    except UsageError:
        return None


def _other_command(kind: str | None, path: Path) -> str | None:
    """Return a message that names the command for what this one does not convert; None where it does."""
    at = shown(path)
    return {
        "run": f"{path} is a run: progan export {at} OUT writes its generator",
        "checkpoint": f"{path} is a checkpoint of progan: progan export {at} OUT writes its generator",
        "generator": f"{path} is an exported generator: progan export {at} OUT --precision fp16 writes it again in "
        "half the size, and with OUT.onnx or OUT.pt2 as a program",
        "folder": f"{path} is a folder: progan pack {at} OUT --resolution PX packs the pictures in it",
        "file of tensors": f"{path} holds tensors without the architecture that they are of; pass the checkpoint of "
        "the other program, or a run to progan export",
    }.get(kind or "")


def _unpack(file: Path, out: Path) -> int:
    from progan.data import Pack, unpack

    if out.suffix in KINDS:
        raise UsageError(f"a pack becomes a folder of PNG files, got OUT {out}; pass the name of a new folder")
    check_new_folder(out, "OUT")
    try:
        n, channels, height, width = Pack(file).images.shape
    except ValueError as error:
        raise UsageError(f"{error}; for a checkpoint of another program, pass a {_GENERATOR} file as OUT") from error
    unpack(file, out)
    show(f"{n:,} pictures of {width}x{height} with {channels} channels are in {out}.")
    return 0


def _write_generator(options: argparse.Namespace) -> int:
    from progan.export import save_generator
    from progan.importers import load

    imported = load(options.file, program=options.program, level=options.level)
    note = f"Converted from a checkpoint of {imported.program}."
    out = save_generator(imported.grown, options.out, note=note)
    height, width = imported.architecture.size(imported.grown.level)
    show(
        f"{out}: a generator of {width}x{height} pictures, from {imported.program}, {out.stat().st_size / 1e6:.1f} MB."
    )
    show(f"progan generate {shown(out)} --out icons")
    return 0
