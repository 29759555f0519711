"""What is wrong with a folder of pictures, and what is left of it for training: a report, and sheets to look at."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from progan.data.curation.curate import Curation, check_limits, compare
from progan.data.curation.flips import FlipVerdict, flip_verdict
from progan.data.curation.likeness import SIMILAR
from progan.data.curation.oddness import IRREGULAR
from progan.data.curation.survey import Facts, survey
from progan.data.decoding.decode import Unreadable, decoding
from progan.data.decoding.limits import MAX_PIXELS
from progan.data.decoding.reading import Reading
from progan.data.folder import read_images
from progan.data.listing import in_order
from progan.render import write_png
from progan.storage.files import make_folder, remove
from progan.storage.names import shown
from progan.storage.paths import user_path

if TYPE_CHECKING:
    from PIL import Image

_CELL, _ROWS, _COLUMNS = 96, 30, 11  # of a contact sheet; the first in pixels
_LINES = 2  # below a picture
_SHEET = re.compile(r"(near_duplicates|irregular)_[1-9]\d*\.png")
_LISTED = 20  # groups and outliers that the text names
_KEPT, _DROPPED = (0, 140, 60), (200, 30, 30)


@dataclass(frozen=True)
class Report:
    """Hold what `check` found. Names are relative to the folder, in sorted order.

    Attributes:
        folder: that was checked.
        facts: what each picture that can be read is: format, mode, width, height, transparent.
        unreadable: the others, with the reason.
        duplicates: groups of pictures with the same pixels.
        near_duplicates: groups of pictures that differ in one part, linked from one to the next, the largest first.
        scores: how irregular each picture is; copies are not scored.
        irregular: the pictures whose score is too high, the oddest first.
        flips: whether left-right flips look safe.
        curation: what `curate` keeps and drops, and why.
        remarks: What was left out and may belong to the data: other kinds, hidden files, links to folders.
        max_pixels: Largest number of pixels that were decoded at once.
        bit_depth: Number of bits that pictures of 16 bits per channel were taken to use; None = all.
    """

    folder: Path
    facts: dict[Path, Facts]
    unreadable: dict[Path, str]
    duplicates: list[list[Path]]
    near_duplicates: list[list[Path]]
    scores: dict[Path, float]
    irregular: list[Path]
    flips: FlipVerdict
    curation: Curation
    remarks: list[str]
    max_pixels: int = MAX_PIXELS
    bit_depth: int | None = None

    def summary(self) -> str:
        """Return the report in a few lines: the counts."""
        return _table(
            [
                (
                    "files",
                    f"{len(self.facts) + len(self.unreadable):,}, of which {len(self.unreadable):,} cannot be read",
                ),
                ("alike", f"{_grouped(self.duplicates, 'exact')}; {_grouped(self.near_duplicates, 'near')}"),
                ("irregular", f"{len(self.irregular):,}"),
                ("flips", str(self.flips)),
                ("left", f"{len(self.curation.kept):,} for training, by progan.data.curate"),
            ]
        )

    @override
    def __str__(self) -> str:
        facts = list(self.facts.values())
        rows = [
            ("files", f"{len(facts) + len(self.unreadable):,} read as pictures"),
            ("cannot be read", _lines(f"{shown(name)}: {reason}" for name, reason in self.unreadable.items())),
        ]
        if facts:
            rows += [
                ("formats", _counts(fact.format for fact in facts)),
                ("modes", _counts(fact.mode for fact in facts)),
                ("sizes", _sizes(facts)),
                ("transparent", f"{sum(fact.transparent for fact in facts):,}"),
                ("not square", _not_square(facts)),
                *((("16 bits", _depths(facts, self.bit_depth)),) if any(fact.depth for fact in facts) else ()),
                ("dark", _first([shown(name) for name, fact in self.facts.items() if fact.dark])),
                (
                    "one colour",
                    _first([shown(name) for name, fact in self.facts.items() if fact.constant and not fact.dark]),
                ),
            ]
        rows += [
            ("exact duplicates", _groups(self.duplicates)),
            ("near-duplicates", _groups(self.near_duplicates)),
            ("irregular", _first([f"{shown(name)} ({self.scores[name]:.1f})" for name in self.irregular])),
            ("flips", str(self.flips)),
            ("left", f"{len(self.curation.kept):,} for training, by progan.data.curate"),
            *(("left out", remark) for remark in self.remarks),
        ]
        return f"{shown(self.folder)}\n{_table(rows)}"

    def save_sheets(self, folder: str | PathLike[str]) -> list[Path]:
        """Draw contact sheets: the groups of near-duplicates, and the irregular pictures with those next to them.

        A green frame means kept, a red one dropped.

        Args:
            folder: where near_duplicates_1.png, ..., irregular_1.png, ... go; made where it is missing. Those of an
                earlier check are replaced, or removed where there are fewer now.

        Returns:
            The files.

        Raises:
            NotADirectoryError: if it is a file.
            ValueError: if it lies in the folder that was checked.
        """
        sheets = _sheets_folder(folder, self.folder)
        ranked = sorted(self.scores, key=lambda name: -self.scores[name])
        outliers = ranked[: max(len(self.irregular) + _COLUMNS, 2 * _COLUMNS)] if self.irregular else []
        make_folder(sheets)
        written = []
        for kind, groups in (("near_duplicates", self.near_duplicates), ("irregular", [outliers])):
            all_rows = _rows(groups)
            for number, at in enumerate(range(0, len(all_rows), _ROWS), 1):
                path = sheets / f"{kind}_{number}.png"
                write_png(path, self._sheet(all_rows[at : at + _ROWS], scored=kind == "irregular"))
                written.append(path)
        for path in sheets.iterdir():
            if _SHEET.fullmatch(path.name) and path.is_file() and path not in written:
                remove(path)
        return written

    def _sheet(self, rows: Sequence[Sequence[Path | None]], *, scored: bool) -> Tensor:
        from PIL import Image, ImageDraw

        places = {name: (x, y) for y, row in enumerate(rows) for x, name in enumerate(row) if name is not None}
        names = [name.as_posix() for name in places]
        labels = _labels(names, [f"{self.scores[name]:.1f} " if scored else "" for name in places])
        pitch = _CELL + 8
        line_height = pitch + 1 + 11 * max(map(len, labels))
        sheet = Image.new("RGB", (_COLUMNS * pitch, len(rows) * line_height), "white")
        draw = ImageDraw.Draw(sheet)
        reading = Reading(_CELL, squaring="pad", max_pixels=self.max_pixels, bit_depth=self.bit_depth)
        with decoding():
            pictures = list(read_images(self.folder, names, reading))
        kept = set(self.curation.kept)
        for (name, (x, y)), picture, label in zip(places.items(), pictures, labels, strict=True):
            left, top = x * pitch + 4, y * line_height + 4
            frame = (left - 2, top - 2, left + _CELL + 1, top + _CELL + 1)
            draw.rectangle(frame, outline=_KEPT if name in kept else _DROPPED, width=2)
            if not isinstance(picture, Unreadable):  # it has gone since
                sheet.paste(_as_picture(picture.pixels), (left, top))
            draw.text((left, top + _CELL + 2), "\n".join(label), fill="black", spacing=1)
        return torch.from_numpy(np.array(sheet)).permute(2, 0, 1)


def check(
    folder: str | PathLike[str],
    max_similar: int = 4,
    *,
    similar: float = SIMILAR,
    irregular: float = IRREGULAR,
    hidden: bool = False,
    sheets: str | PathLike[str] | None = None,
    max_pixels: int = MAX_PIXELS,
    bit_depth: int | None = None,
    printed: bool = True,
) -> Report:
    """Find all that is wrong with a folder of pictures, at once, and print it.

    Args:
        folder: with sub-folders.
        max_similar: as for `curate`; so the two that follow.
        similar: share of equal cells from which two pictures are near-duplicates, in (0, 1].
        irregular: score from which a picture is irregular.
        hidden: Whether to read hidden and system files and folders too, as for `progan.ImageFolder`.
        sheets: folder for contact sheets, see `Report.save_sheets`; None = none are drawn.
        max_pixels: Largest number of pixels that are decoded at once, as in `progan.data.Reading`.
        bit_depth: Number of bits that pictures of 16 bits per channel use, as in `progan.data.Reading`; None = all.
            The report suggests one where they seem to use fewer.
        printed: whether to print the report, and how long it will take where it takes long.

    Returns:
        The report. Nothing in the folder is changed.

    Raises:
        ImportError: if Pillow is missing.
        NotADirectoryError: if the folder is none, or that for the sheets is a file.
        ValueError: if a number is out of its range, or the sheets would lie in the folder.
    """
    check_limits(max_similar, similar, irregular)
    if sheets is not None:
        _sheets_folder(sheets, user_path(folder, "folder"))
    found = survey(folder, hidden=hidden, max_pixels=max_pixels, bit_depth=bit_depth, progress=printed)
    curation, near_duplicates, scores = compare(found, max_similar, similar, irregular, progress=printed)
    report = Report(
        found.folder,
        found.facts,
        found.unreadable,
        _copies(found.copies),
        near_duplicates,
        scores,
        sorted((name for name in scores if scores[name] >= irregular), key=lambda name: -scores[name]),
        flip_verdict(found.thumbnails),
        curation,
        found.listing.remarks(),
        max_pixels,
        bit_depth,
    )
    if printed:
        encoding = sys.stdout.encoding or "utf-8"
        print(str(report).encode(encoding, "backslashreplace").decode(encoding))
    if sheets is not None:
        written = report.save_sheets(sheets)
        if printed and written:
            print("Look at " + ", ".join(map(str, written)) + ".")
    return report


def _sheets_folder(path: str | PathLike[str], folder: Path) -> Path:
    """Return where the sheets on a folder go; refuse a place among its pictures, and a file."""
    sheets = user_path(path, "folder")
    if sheets.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{sheets} lies in {folder}, so the sheets would be read as pictures; pass another folder")
    there = next(part for part in (sheets.absolute(), *sheets.absolute().parents) if os.path.lexists(part))
    if not there.is_dir():
        raise NotADirectoryError(f"sheets need a folder, and {there} is a file; pass another path")
    return sheets


def _labels(names: Sequence[str], scores: Sequence[str]) -> list[list[str]]:
    """Return the lines below each picture: its score and its name, in which the part stays that others do not have."""
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
    """Return how many letters each text begins with as another one does."""
    order = sorted(range(len(texts)), key=texts.__getitem__)
    shared = [0] * len(texts)
    for one, other in pairwise(order):
        pairs = zip(texts[one], texts[other], strict=False)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        shared[one], shared[other] = max(shared[one], common), max(shared[other], common)
    return shared


def _shortened(text: str, place: int, letters: int) -> str:
    """Return so many letters of a text: its beginning, and what stands around a place in it."""
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


def _copies(copies: dict[Path, Path]) -> list[list[Path]]:
    """Return groups of pictures with the same pixels, from every copy's first."""
    groups: dict[Path, list[Path]] = {}
    for name, first in copies.items():
        groups.setdefault(first, [first]).append(name)
    return list(in_order(groups).values())


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


def _table(rows: Sequence[tuple[str, str]]) -> str:
    """Lay out rows of a name and a text, which may have several lines; long ones are wrapped."""
    width = max(len(name) for name, _ in rows) + 4
    laid_out = []
    for name, text in rows:
        lines = [
            part
            for line in text.splitlines()
            for part in textwrap.wrap(line, 100, break_long_words=False, break_on_hyphens=False)
        ]
        laid_out.append(f"  {name:<{width - 2}}" + ("\n" + " " * width).join(lines))
    return "\n".join(laid_out)


def _counts(words: Iterable[str]) -> str:
    return ", ".join(f"{word} {count:,}" for word, count in Counter(words).most_common())


def _lines(items: Iterable[str]) -> str:
    every = list(items)
    return "\n".join([f"{len(every):,}; mend or remove them:", *every]) if every else "0"


def _first(items: Sequence[str]) -> str:
    if not items:
        return "0"
    more = [f"and {len(items) - _LISTED:,} more"] if len(items) > _LISTED else []
    return f"{len(items):,}: " + ", ".join([*items[:_LISTED], *more])


def _grouped(groups: Sequence[Sequence[Path]], kind: str) -> str:
    return f"{len(groups):,} groups of {kind} duplicates ({sum(map(len, groups)):,} pictures)"


def _groups(groups: Sequence[Sequence[Path]]) -> str:
    if not groups:
        return "0"
    lines = [f"{len(group)}: " + ", ".join(map(shown, group[:6])) + ", ..." * (len(group) > 6) for group in groups]
    more = [f"and {len(lines) - _LISTED:,} more groups"] if len(lines) > _LISTED else []
    return "\n".join([f"{len(groups):,} groups, {sum(map(len, groups)):,} pictures:", *lines[:_LISTED], *more])


def _depths(facts: Sequence[Facts], bit_depth: int | None) -> str:
    """Describe what pictures of 16 bits use of them, and suggest a bit depth where they seem to use fewer."""
    depths = [fact.depth for fact in facts if fact.depth]
    low, high = min(depth.values[0] for depth in depths), max(depth.values[1] for depth in depths)
    text = f"{len(depths):,} pictures, of values {low:,} to {high:,}"
    if bit_depth is not None:
        return f"{text}; read with bit_depth={bit_depth}"
    scaled = Counter(depth.bits for depth in depths if depth.bits < 16)
    known = "".join(f"; {count:,} of them say that they use {bits} bits" for bits, count in sorted(scaled.items()))
    unknown = [depth for depth in depths if depth.bits == 16]
    highest = max((depth.values[1] for depth in unknown), default=65_535)
    bits = next((bits for bits in (8, 10, 12, 14) if highest >> bits == 0), None)
    if bits is None or highest == 0:
        return text + known
    return (
        f"{text}{known}\nvalues up to {highest:,} in {len(unknown):,} 16-bit pictures: they look like {bits} bits, and "
        f"are read too dark; pass bit_depth={bits} to check, curate, ImageFolder and pack"
    )


def _sizes(facts: Sequence[Facts]) -> str:
    sizes = Counter((fact.width, fact.height) for fact in facts)
    common = ", ".join(f"{width}x{height} {count:,}" for (width, height), count in sizes.most_common(3))
    if len(sizes) <= 3:
        return common
    shorter = sorted(min(fact.width, fact.height) for fact in facts)
    return (
        f"{len(sizes):,} of them, such as {common}; the shorter side is {shorter[0]} to {shorter[-1]} px, "
        f"half are below {shorter[len(shorter) // 2]} px"
    )


def _not_square(facts: Sequence[Facts]) -> str:
    oblong = [fact for fact in facts if fact.width != fact.height]
    if not oblong:
        return "0"
    extreme = max(oblong, key=lambda fact: max(fact.width, fact.height) / min(fact.width, fact.height))
    return (
        f"{len(oblong):,}, at most {extreme.width}x{extreme.height}; their centre is cut out, "
        "unless squaring= says otherwise"
    )
