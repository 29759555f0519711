"""``progan generate``: draw new pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from progan.cli.command import UsageError
from progan.cli.generator import add_sampling, load
from progan.cli.options import add_source, at_least_1, check_new_folder, user_path, whole_numbers
from progan.cli.output import show

if TYPE_CHECKING:
    import torch

    from progan import GrownGenerator

HELP = "Draw new pictures with the generator of a run: PNG files, and a sheet of them."
EXAMPLE = "progan generate runs/my_icons --n 64 --out icons"
_AT_ONCE = 64
_LEAST_HEIGHT = 96  # pixels of a picture in the sheet


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_source(parser)
    parser.add_argument("--out", type=user_path, required=True, metavar="DIR", help="new or empty folder for the files")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--n", type=at_least_1, metavar="N", help="number of pictures, from the first on (default: 64)")
    which.add_argument("--only", type=whole_numbers, metavar="K", help="these pictures, such as 3,17,40-47")
    which.add_argument(
        "--between", type=int, nargs=2, metavar="K", help="9 pictures on the way from one picture to another"
    )
    add_sampling(parser)


def run(options: argparse.Namespace) -> int:
    """Draw, and write the files."""
    check_new_folder(options.out)
    grown = load(options)
    if options.between is None:
        indices = options.only or range(options.n or 64)
        z, labels = grown.latents(indices, seed=options.seed), grown.labels(indices, seed=options.seed)
    else:
        if min(options.between) < 0:
            raise UsageError(f"--between takes two numbers from 0 on, got {options.between[0]} {options.between[1]}")
        grown.check_one_class("pictures on the way from one to another")
        ends = grown.latents(options.between, seed=options.seed)
        z, labels, indices = grown.latents_between(ends[0], ends[1], 9), None, range(9)
    show(write_pictures(options.out, grown, z, labels, indices, one_row=options.between is not None))
    return 0


def write_pictures(
    out: Path,
    grown: GrownGenerator,
    z: torch.Tensor,
    labels: torch.Tensor | None,
    indices: Sequence[int],
    *,
    one_row: bool,
) -> str:
    """Draw pictures and write them into a folder, each and all on a sheet.

    Args:
        out: Folder, which is made.
        grown: What draws them.
        z: Latents, ``(N, *latent_shape)``.
        labels: Labels, (N,); None without classes.
        indices: The N numbers that the files are named after.
        one_row: Whether the sheet has one row.

    Returns:
        What was written, in a sentence.
    """
    import torch

    from progan import enlarge, image_grid, to_uint8, write_png
    from progan.storage.files import make_folder

    make_folder(out)
    digits = max(4, len(str(max(indices))))
    pictures = []
    for begin in range(0, len(z), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        images = to_uint8(grown.images(z[part], None if labels is None else labels[part]))
        for index, picture in zip(indices[part], images, strict=True):
            write_png(out / f"{index:0{digits}d}.png", picture)
        pictures.append(images)
    every = torch.cat(pictures)
    columns = len(every) if one_row else max(1, round(len(every) ** 0.5))
    write_png(out / "sheet.png", image_grid(enlarge(every, _LEAST_HEIGHT), columns, gap=2))
    return f"{len(every)} pictures of {every.shape[3]}x{every.shape[2]} and sheet.png are in {out}."
