"""What a folder holds, as far as training must know, and the settings that follow from it."""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan.cli.command import UsageError
from progan.cli.options import FOLDERS_ONLY, check_folder, reading, reading_arguments
from progan.cli.output import in_options, shown

if TYPE_CHECKING:
    from progan.data import ImageFolder, Pack
    from progan.data.curation.flips import FlipVerdict
    from progan.data.curation.survey import Facts

    Images = ImageFolder | Pack

_GREY = {"1", "L", "LA", "I", "I;16", "I;16B", "F"}  # modes of Pillow's
_MOSTLY = 0.5  # share of transparent pictures from which transparency is learned
_SQUARE = 1.05  # ratio of sides up to which a picture counts as square
_ALIKE = 0.02  # by how much ratios of pictures of one shape may differ


@dataclass(frozen=True)
class Shape:
    """What pictures have in common.

    Attributes:
        short_side: Median of their shorter sides, in pixels.
        channels: 1, 3 or 4.
        base_size: (height, width) of level 0: (4, 4), or one of another ratio where all pictures have it.
    """

    short_side: int
    channels: int
    base_size: tuple[int, int]

    def size(self, side: int) -> tuple[int, int]:
        """Return (height, width) of the pictures at the level at which squares have this side."""
        height, width = self.base_size
        return height * side // 4, width * side // 4


def facts_of(path: Path, options: argparse.Namespace) -> list[Facts]:
    """Read a folder once, and return the properties of its pictures.

    Raises:
        UsageError: If it is not one, or nothing in it can be read.
    """
    from progan.data.curation.survey import survey

    check_folder(path)
    found = survey(path, **reading(options))
    check_some(path, found.facts, found.unreadable)
    return list(found.facts.values())


@dataclass(frozen=True)
class Found:
    """What was found in a folder to train on: what of `progan.data.check` a training needs.

    Attributes:
        facts: Properties of each picture that can be read.
        unreadable: Pictures that cannot be read, with the reason.
        n_dropped: Number of copies, near-duplicates and irregular pictures that ``progan curate`` would drop.
        remarks: What was left out and may belong to the data.
        flips: Whether left-right flips look safe; None unless ``--flips`` was passed.
    """

    facts: dict[Path, Facts]
    unreadable: dict[Path, str]
    n_dropped: int
    remarks: list[str]
    flips: FlipVerdict | None


def look_at(path: Path, options: argparse.Namespace) -> Found:
    """Read a folder once, and compare its pictures.

    Raises:
        UsageError: If it is not one, or nothing in it can be read.
    """
    from progan.data.curation.curate import compare
    from progan.data.curation.flips import flip_verdict
    from progan.data.curation.survey import survey

    check_folder(path)
    found = survey(path, **reading(options))
    check_some(path, found.facts, found.unreadable)
    n_dropped = len(found.facts) - len(compare(found).curation.kept)
    flips = flip_verdict(found.thumbnails) if options.flips else None
    return Found(found.facts, found.unreadable, n_dropped, found.listing.remarks(), flips)


def check_some(path: Path, facts: Mapping[Path, Facts], unreadable: Mapping[Path, str]) -> None:
    """Raise UsageError where no picture of a folder can be read."""
    if facts:
        return
    reasons = [f"{name}: {reason}" for name, reason in list(unreadable.items())[:3]]
    none = f"has {len(unreadable)} pictures, of which none can be read ({'; '.join(reasons)})"
    found = none if reasons else "has no picture"
    raise UsageError(f"{path} {found}; pass a folder of PNG, JPEG, WebP, GIF, BMP or TIFF files")


def shape_of(facts: Sequence[Facts]) -> Shape:
    """Return what pictures have in common.

    Example:
        >>> from progan.data.curation.survey import Facts
        >>> shape_of([Facts("PNG", "RGB", 300, 200, False, None, False, False)] * 3)
        Shape(short_side=200, channels=3, base_size=(4, 6))
    """
    channels = 3
    if sum(fact.transparent for fact in facts) >= _MOSTLY * len(facts):
        channels = 4
    elif all(fact.mode in _GREY for fact in facts):
        channels = 1
    short_side = int(statistics.median(min(fact.width, fact.height) for fact in facts))
    return Shape(short_side, channels, _base_size(facts))


def _base_size(facts: Sequence[Facts]) -> tuple[int, int]:
    """Return (height, width) of level 0 for pictures of one ratio of small numbers; squares for all others."""
    ratios = [fact.width / fact.height for fact in facts]
    middle = statistics.median(ratios)
    if 1 / _SQUARE <= middle <= _SQUARE or any(abs(ratio / middle - 1) > _ALIKE for ratio in ratios):
        return 4, 4
    for height, width in ((4, 5), (4, 6), (4, 8), (5, 4), (6, 4), (8, 4), (3, 4), (4, 3), (4, 7), (7, 4)):
        if abs(width / height / middle - 1) <= _ALIKE:
            return (height, width) if min(height, width) >= 4 else (2 * height, 2 * width)
    return 4, 4


def in_two_lines(path: Path, found: Found, options: argparse.Namespace) -> list[str]:
    """Return what was found in a folder: how many pictures of which kind, and what deserves a look."""
    facts = list(found.facts.values())
    formats = ", ".join(kind for kind, _ in Counter(fact.format for fact in facts).most_common(3))
    sides = sorted({(fact.width, fact.height) for fact in facts})
    size = "{}x{}".format(*sides[0]) if len(sides) == 1 else "{}x{} to {}x{}".format(*sides[0], *sides[-1])
    first = f"found    {len(facts):,} pictures in {path} ({formats}, {size})"
    notes = []
    if found.unreadable:
        notes.append(f"{len(found.unreadable):,} cannot be read")
    if n := found.n_dropped:
        kinds = "is a copy, near-duplicate or irregular" if n == 1 else "are copies, near-duplicates or irregular"
        notes.append(f"{n:,} {kinds}")
    notes += found.remarks[:1]
    if not notes:
        return [first, "         nothing that deserves a look: no copies, nothing irregular"]
    see = f"progan curate {shown(path)}{reading_arguments(options)} --out {shown(Path(path.name + '_report'))}"
    return [first, f"         {'; '.join(map(in_options, notes))}: {see} shows them"]


def choice_keywords(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return which pictures of a folder are read, and how, as keywords of ``ImageFolder`` and ``pack``."""
    from progan.data import Curation

    return {
        "only": None if options.only is None else Curation.load(options.only, path, hidden=options.hidden).kept,
        "on_unreadable": "skip" if options.skip_unreadable else "raise",
        **reading(options),
    }


def folder_keywords(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return what was passed about the pictures of a folder as keywords of ``ImageFolder`` and ``pack``."""
    return {"labels": "folders" if options.labels else None, **choice_keywords(path, options)}


def open_pictures(path: Path, options: argparse.Namespace, size: tuple[int, int], channels: int) -> Images:
    """Read a folder, or open a pack, whose pictures have a size and channels of their own.

    Raises:
        ValueError: If pictures cannot be read, or a file is no pack.
    """
    from progan.data import ImageFolder

    if (packed := open_pack(path, options)) is not None:
        return packed
    return ImageFolder(path, size, channels, **folder_keywords(path, options))


def open_pack(path: Path, options: argparse.Namespace) -> Pack | None:
    """Open a file as a pack; None for a folder.

    Raises:
        UsageError: If the file is no pack, or damaged; or options are about the files of a folder.
    """
    if not path.is_file():
        return None
    given = {name for name in FOLDERS_ONLY if getattr(options, name) not in (None, False)}
    if given:
        named = "--" + min(given).replace("_", "-")
        raise UsageError(f"{named} is about the files of a folder, and {path} is a pack; pass it to progan pack")
    from progan.data import Pack

    try:
        packed = Pack(path)
    except ValueError as error:
        raise UsageError(f"{path} is a file, and no pack: {error}; pass a folder, or what progan pack wrote") from error
    if options.labels and not packed.classes:
        raise UsageError(f"{path} was packed without classes; pack the folder again with --labels, or leave it out")
    return packed
