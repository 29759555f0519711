"""``progan generate``: draw new pictures."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from progan.cli.command import UsageError
from progan.cli.generator import add_enlarging, add_sampling, load
from progan.cli.options import add_source, check_new_folder, number_of_pictures, user_path, whole_numbers
from progan.cli.output import show

if TYPE_CHECKING:
    import torch

    from progan import GrownGenerator

HELP = "Draw new pictures with the generator of a run: PNG files, and a sheet of them."
EXAMPLE = "progan generate runs/my_icons --n 64 --out icons"
_AT_ONCE = 64
_ON_SHEET, _SHEET_PIXELS = 400, 2**24  # pictures of a sheet at most, and all their pixels
_LEAST_HEIGHT = 96  # pixels of a picture in the sheet


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_source(parser)
    parser.add_argument("--out", type=user_path, required=True, metavar="DIR", help="new or empty folder for the files")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--n", type=number_of_pictures, metavar="N", help="number of pictures, from the first on (default: 64)"
    )
    which.add_argument("--only", type=whole_numbers, metavar="K", help="these pictures, such as 3,17,40-47")
    which.add_argument(
        "--between", type=int, nargs=2, metavar="K", help="9 pictures on the way from one picture to another"
    )
    add_sampling(parser)
    add_enlarging(parser)


def run(options: argparse.Namespace) -> int:
    """Draw, and write the files."""
    check_new_folder(options.out)
    grown = load(options, enlarged=options.enlarge)
    if options.between is None:
        said = write_samples(options.out, grown, options.only or range(options.n or 64), options.seed)
    else:
        said = write_way(options.out, grown, options.between, 9, options.seed)
    show(said)
    return 0


def write_samples(out: Path, grown: GrownGenerator, indices: Sequence[int], seed: int) -> str:
    """Draw the pictures of a seed that have some numbers, write them into a folder, and return what was written."""
    parts = (indices[part] for part in _parts(grown, len(indices)))
    pictures = ((part, grown.images(grown.latents(part, seed=seed), grown.labels(part, seed=seed))) for part in parts)
    return write_pictures(out, pictures, max(indices))


def write_way(out: Path, grown: GrownGenerator, between: Sequence[int], n: int, seed: int) -> str:
    """Draw n pictures on the way between two of a seed, write them into a folder, and return what was written."""
    if min(between) < 0:
        raise UsageError(f"--between takes two numbers from 0 on, got {between[0]} {between[1]}")
    grown.check_one_class("pictures on the way from one to another")
    ends = grown.latents(between, seed=seed)
    z = grown.latents_between(ends[0], ends[1], n)
    pictures = ((range(n)[part], grown.images(z[part])) for part in _parts(grown, n))
    return write_pictures(out, pictures, n - 1, one_row=True)


def _parts(grown: GrownGenerator, n: int) -> list[slice]:
    """Return n pictures in parts that are drawn at once."""
    from progan.sampling import drawn_at_once

    size = drawn_at_once(grown, _AT_ONCE)
    return [slice(begin, begin + size) for begin in range(0, n, size)]


def write_pictures(
    out: Path, pictures: Iterable[tuple[Sequence[int], torch.Tensor]], last: int, *, one_row: bool = False
) -> str:
    """Write pictures into a folder, each, and the first ones on a sheet; a new folder is there once all of them are.

    Args:
        out: Folder, which is made if it is missing.
        pictures: Numbers that files are named after, with their pictures, (B, C, H, W), in [0, 1]; as often as one
            likes.
        last: The largest number.
        one_row: Whether the sheet has one row.

    Returns:
        What was written, in a sentence.
    """
    import torch

    from progan import enlarge, image_grid, to_uint8, write_png
    from progan.storage.files import folder_beside, make_folder

    make_folder(out.parent)
    digits = max(4, len(str(last)))
    count, shown = 0, []
    with contextlib.nullcontext(out) if out.exists() else folder_beside(out) as folder:
        for indices, images in pictures:
            converted = to_uint8(images)
            for index, picture in zip(indices, converted, strict=True):
                write_png(folder / f"{index:0{digits}d}.png", picture)
            most = max(1, min(_ON_SHEET, _SHEET_PIXELS // converted[0, 0].numel()))
            shown += [*converted[: max(0, most - count)]]
            count += len(converted)
        sheet = torch.stack(shown)
        columns = len(sheet) if one_row else max(1, round(len(sheet) ** 0.5))
        write_png(folder / "sheet.png", image_grid(enlarge(sheet, _LEAST_HEIGHT), columns, gap=2))
    on_sheet = f"sheet.png, of the first {len(sheet)}," if count > len(sheet) else "sheet.png"
    return f"{count} pictures of {sheet.shape[3]}x{sheet.shape[2]} and {on_sheet} are in {out}."
