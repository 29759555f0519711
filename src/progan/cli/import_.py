"""``progan import``: turn a checkpoint of another program into progan's."""

from __future__ import annotations

import argparse

from progan.cli.command import UsageError
from progan.cli.options import at_least_0, user_path
from progan.cli.output import show, shown

HELP = "Turn a checkpoint of another program into a file that a run can start from, and a sheet of its pictures."
EXAMPLE = "progan import generator_trained_model_cpu.pth imported.safetensors"
PROGRAMS = ("image_generator_2", "pro_gan_pth", "pytorch_gan_zoo")
_SHEET = 64


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "file", type=user_path, metavar="FILE", help="checkpoint with the generator; nothing in it is run"
    )
    parser.add_argument(
        "out", type=user_path, metavar="OUT", help=".safetensors file to write; the sheet lies beside it"
    )
    parser.add_argument("--program", choices=PROGRAMS, help="program that wrote it (default: recognised)")
    parser.add_argument("--discriminator", type=user_path, metavar="FILE", help="file of the discriminator, if apart")
    parser.add_argument(
        "--level", type=at_least_0, metavar="N", help="level reached (default: the highest in the file)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing OUT")


def run(options: argparse.Namespace) -> int:
    """Import, and write the file and the sheet."""
    from progan import write_png
    from progan.importers import load
    from progan.reports import sample_sheet

    sheet = options.out.with_suffix(".png")
    for path in (options.out, sheet):
        if path.exists() and not options.overwrite:
            raise UsageError(f"{path} exists; pass --overwrite or another OUT")
    if not options.file.is_file():
        raise UsageError(f"{options.file} is no file; pass a checkpoint of {', '.join(PROGRAMS)}")
    imported = load(options.file, program=options.program, discriminator=options.discriminator, level=options.level)
    imported.save(options.out)
    write_png(sheet, sample_sheet(imported.grown, _SHEET, numbers=False))
    height, width = imported.architecture.size(imported.grown.level)
    parts = "generator" if imported.discriminator is None else "generator and discriminator"
    show(f"{parts} of {imported.program}, {width}x{height}, are in {options.out}; 64 pictures in {sheet}.")
    if imported.discriminator is None:
        show("To train on, a discriminator is needed too: --discriminator FILE.")
    show(f"In Python: Trainer.from_recipe(recipe, start={str(options.out)!r}); see docs/import.md.")
    show(f"progan inspect {shown(options.out)}")
    return 0
