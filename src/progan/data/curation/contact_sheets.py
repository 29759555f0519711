"""Contact sheets of a folder that was checked: near-duplicates and irregular pictures, to look at."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise, takewhile
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from progan.data.curation.curate import Curation
from progan.data.decoding.decode import Unreadable, decoding
from progan.data.decoding.reading import Reading
from progan.data.folder import read_images
from progan.render import write_png
from progan.storage.files import make_folder, remove
from progan.storage.names import shown
from progan.storage.paths import user_path

if TYPE_CHECKING:
    from PIL import Image

_CELL, _ROWS, _COLUMNS = 96, 30, 11  # of a contact sheet; the first in pixels
_LINES = 2  # below a picture
_SHEET = re.compile(r"(near_duplicates|irregular)_[1-9]\d*\.png")
_KEPT, _DROPPED = (0, 140, 60), (200, 30, 30)


class Checked(Protocol):
    """What the sheets show of a report."""

    @property
    def folder(self) -> Path: ...  # noqa: D102
    @property
    def near_duplicates(self) -> list[list[Path]]: ...  # noqa: D102
    @property
    def scores(self) -> dict[Path, float]: ...  # noqa: D102
    @property
    def irregular(self) -> list[Path]: ...  # noqa: D102
    @property
    def curation(self) -> Curation: ...  # noqa: D102
    @property
    def max_pixels(self) -> int: ...  # noqa: D102
    @property
    def bit_depth(self) -> int | None: ...  # noqa: D102


def save_contact_sheets(report: Checked, folder: str | PathLike[str]) -> list[Path]:
    """Draw the sheets into a folder, replace those of an earlier check, and return the files."""
    sheets = sheets_folder(folder, report.folder)
    ranked = sorted(report.scores, key=lambda name: -report.scores[name])
    outliers = ranked[: max(len(report.irregular) + _COLUMNS, 2 * _COLUMNS)] if report.irregular else []
    make_folder(sheets)
    written = []
    for kind, groups in (("near_duplicates", report.near_duplicates), ("irregular", [outliers])):
        all_rows = _rows(groups)
        for number, at in enumerate(range(0, len(all_rows), _ROWS), 1):
            path = sheets / f"{kind}_{number}.png"
            write_png(path, _sheet(report, all_rows[at : at + _ROWS], scored=kind == "irregular"))
            written.append(path)
    for path in sheets.iterdir():
        if _SHEET.fullmatch(path.name) and path.is_file() and path not in written:
            remove(path)
    return written


def _sheet(report: Checked, rows: Sequence[Sequence[Path | None]], *, scored: bool) -> Tensor:
    from PIL import Image, ImageDraw

    places = {name: (x, y) for y, row in enumerate(rows) for x, name in enumerate(row) if name is not None}
    names = [name.as_posix() for name in places]
    labels = _labels(names, [f"{report.scores[name]:.1f} " if scored else "" for name in places])
    pitch = _CELL + 8
    line_height = pitch + 1 + 11 * max(map(len, labels))
    sheet = Image.new("RGB", (_COLUMNS * pitch, len(rows) * line_height), "white")
    draw = ImageDraw.Draw(sheet)
    reading = Reading(_CELL, squaring="pad", max_pixels=report.max_pixels, bit_depth=report.bit_depth)
    with decoding():
        pictures = list(read_images(report.folder, names, reading))
    kept = set(report.curation.kept)
    for (name, (x, y)), picture, label in zip(places.items(), pictures, labels, strict=True):
        left, top = x * pitch + 4, y * line_height + 4
        frame = (left - 2, top - 2, left + _CELL + 1, top + _CELL + 1)
        draw.rectangle(frame, outline=_KEPT if name in kept else _DROPPED, width=2)
        if not isinstance(picture, Unreadable):  # it has gone since
            sheet.paste(_as_picture(picture.pixels), (left, top))
        draw.text((left, top + _CELL + 2), "\n".join(label), fill="black", spacing=1)
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1)


def sheets_folder(path: str | PathLike[str], folder: Path) -> Path:
    """Return the folder for the sheets; raise an error if it is among the pictures, or a file."""
    sheets = user_path(path, "folder")
    if sheets.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{sheets} lies in {folder}, so the sheets would be read as pictures; pass another folder")
    there = next(part for part in (sheets.absolute(), *sheets.absolute().parents) if os.path.lexists(part))
    if not there.is_dir():
        raise NotADirectoryError(f"sheets need a folder, and {there} is a file; pass another path")
    return sheets


def _labels(names: Sequence[str], scores: Sequence[str]) -> list[list[str]]:
    """Return the lines below each picture: its score, and its name, shortened to the part that differs from others."""
    from PIL import ImageFont

    font = ImageFont.load_default()  # has the letters of ASCII
    texts = [shown(name).encode("ascii", "backslashreplace").decode() for name in names]
    widths = {letter: font.getlength(letter) for letter in set("".join([*texts, *scores, "..."]))}
    labels = []
    for text, score, shared in zip(texts, scores, _shared(texts), strict=True):
        lines = _broken(score + text, widths)
        letters = len(text)
        while len(lines) > _LINES:
            letters -= 1
            lines = _broken(score + _shortened(text, shared, letters), widths)
        labels.append(lines)
    return labels


def _shared(texts: Sequence[str]) -> list[int]:
    """Return the length of the longest prefix that each text shares with another one."""
    order = sorted(range(len(texts)), key=texts.__getitem__)
    shared = [0] * len(texts)
    for one, other in pairwise(order):
        pairs = zip(texts[one], texts[other], strict=False)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        shared[one], shared[other] = max(shared[one], common), max(shared[other], common)
    return shared


def _shortened(text: str, place: int, letters: int) -> str:
    """Return a text shortened to a number of letters: its beginning, and the part around a position."""
    start = letters // 4
    middle = max(start, min(place - 4, len(text) - (letters - start)))
    end = middle + letters - start
    return text[:start] + "..." + text[middle:end] + "..." * (end < len(text))


def _broken(text: str, widths: Mapping[str, float]) -> list[str]:
    """Break a text into lines of a picture's width."""
    lines, width = [""], 0.0
    for letter in text:
        width += widths[letter]
        if width > _CELL:
            lines.append("")
            width = widths[letter]
        lines[-1] += letter
    return lines


def _rows(groups: Sequence[Sequence[Path]]) -> list[list[Path | None]]:
    """Lay groups out in rows; small ones stand side by side, with a gap."""
    rows: list[list[Path | None]] = []
    for group in groups:
        if rows and len(rows[-1]) + 1 + len(group) <= _COLUMNS:
            rows[-1] += [None, *group]
        else:
            rows += [list(group[at : at + _COLUMNS]) for at in range(0, len(group), _COLUMNS)]
    return rows


def _as_picture(image: Tensor) -> Image.Image:
    from PIL import Image

    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
