"""What is wrong with a folder of pictures, and what is left of it for training: a report, and sheets to look at."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from typing_extensions import override

from progan.data.curation import report_text as text
from progan.data.curation.contact_sheets import save_contact_sheets, sheets_folder
from progan.data.curation.curate import Curation, check_limits, compare
from progan.data.curation.flat_colours import ColourVerdict, verdict_on
from progan.data.curation.flips import FlipVerdict, flip_verdict
from progan.data.curation.likeness import SIMILAR
from progan.data.curation.oddness import IRREGULAR
from progan.data.curation.survey import Facts, survey
from progan.data.decoding.limits import MAX_PIXELS
from progan.data.listing import in_order
from progan.storage.names import shown
from progan.storage.paths import user_path


@dataclass(frozen=True)
class Report:
    """The result of `check`. Names are relative to the folder, in sorted order.

    Attributes:
        folder: Folder that was checked.
        facts: Format, mode, size and transparency of each picture that can be read.
        unreadable: Pictures that cannot be read, with the reason.
        duplicates: Groups of pictures with the same pixels.
        near_duplicates: Groups of pictures that differ in one part, linked from one to the next, the largest first.
        scores: Irregularity of each picture; copies are not scored.
        irregular: Pictures whose score is too high, the oddest first.
        flips: Whether left-right flips look safe.
        colours: Whether the pictures are of flat colours, as `progan.presets.few_images` asks.
        curation: What `curate` keeps and drops, and why.
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
    colours: ColourVerdict
    curation: Curation
    remarks: list[str]
    max_pixels: int = MAX_PIXELS
    bit_depth: int | None = None

    def summary(self) -> str:
        """Return the report in a few lines: the counts, and whatever is read wrong, shows nothing or is left out."""
        n_files, n_unreadable = len(self.facts) + len(self.unreadable), len(self.unreadable)
        rows = [("files", f"{n_files:,}, of which {n_unreadable:,} cannot be read")]
        if suggestion := text.suggested_depth(self.facts.values(), self.bit_depth):
            rows.append(("16 bits", suggestion))
        dark, constant = self._shows_nothing()
        if dark:
            rows.append(("dark", text.counted_with_example(dark, "in which nothing can be seen")))
        if constant:
            rows.append(("one colour", text.counted_with_example(constant, "of one colour")))
        alike = f"{text.group_counts(self.duplicates, 'exact')}; {text.group_counts(self.near_duplicates, 'near')}"
        rows += [
            ("alike", alike),
            ("irregular", f"{len(self.irregular):,}"),
            ("flips", str(self.flips)),
            ("colours", str(self.colours)),
            ("left", f"{len(self.curation.kept):,} for training, by progan.data.curate"),
            *(("left out", remark) for remark in self.remarks),
        ]
        return text.table(rows)

    def _shows_nothing(self) -> tuple[list[str], list[str]]:
        """Return the names of the dark pictures, and of the others that have one colour."""
        dark = [shown(name) for name, fact in self.facts.items() if fact.dark]
        return dark, [shown(name) for name, fact in self.facts.items() if fact.constant and not fact.dark]

    @override
    def __str__(self) -> str:
        facts = list(self.facts.values())
        unreadable = [f"{shown(name)}: {reason}" for name, reason in self.unreadable.items()]
        dark, constant = self._shows_nothing()
        rows = [
            ("files", f"{len(facts) + len(self.unreadable):,} read as pictures"),
            ("cannot be read", text.listed_with_reasons(unreadable)),
        ]
        if facts:
            rows += [
                ("formats", text.counts(fact.format for fact in facts)),
                ("modes", text.counts(fact.mode for fact in facts)),
                ("sizes", text.sizes(facts)),
                ("transparent", f"{sum(fact.transparent for fact in facts):,}"),
                ("not square", text.not_square(facts)),
                *((("16 bits", text.depths(facts, self.bit_depth)),) if any(fact.depth for fact in facts) else ()),
                ("dark", text.first_of(dark)),
                ("one colour", text.first_of(constant)),
            ]
        rows += [
            ("exact duplicates", text.listed_groups(self.duplicates)),
            ("near-duplicates", text.listed_groups(self.near_duplicates)),
            ("irregular", text.first_of([f"{shown(name)} ({self.scores[name]:.1f})" for name in self.irregular])),
            ("flips", str(self.flips)),
            ("colours", str(self.colours)),
            ("left", f"{len(self.curation.kept):,} for training, by progan.data.curate"),
            *(("left out", remark) for remark in self.remarks),
        ]
        return f"{shown(self.folder)}\n{text.table(rows)}"

    def save_sheets(self, folder: str | PathLike[str]) -> list[Path]:
        """Draw contact sheets: the groups of near-duplicates, and the irregular pictures with those next to them.

        A green frame means kept, a red one dropped.

        Args:
            folder: Folder for near_duplicates_1.png, ..., irregular_1.png, ...; created if it is missing. The sheets
                of an earlier check are replaced, or removed if there are fewer now.

        Returns:
            Paths of the files.

        Raises:
            NotADirectoryError: If it is a file.
            ValueError: If it is inside the folder that was checked.
        """
        return save_contact_sheets(self, folder)


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
    """Find everything that is wrong with a folder of pictures, and print it.

    Args:
        folder: Folder of pictures, with its sub-folders.
        max_similar: Number of near-duplicates to keep of each picture, itself included, as for `curate`.
        similar: Share of equal cells from which two pictures are near-duplicates, in (0, 1].
        irregular: Score from which a picture is irregular.
        hidden: Whether to read hidden and system files and folders too, as for `progan.ImageFolder`.
        sheets: Folder for contact sheets, see `Report.save_sheets`; None = no sheets.
        max_pixels: Largest number of pixels that are decoded at once, as in `progan.data.Reading`.
        bit_depth: Number of bits that pictures of 16 bits per channel use, as in `progan.data.Reading`; None = all.
            The report suggests one where they seem to use fewer.
        printed: Whether to print the report, and the progress if it takes long.

    Returns:
        The report. The folder is not changed.

    Raises:
        ImportError: If Pillow is missing.
        NotADirectoryError: If the folder is not a directory, or the one for the sheets is a file.
        ValueError: If a number is out of its range, or the sheets would lie in the folder.
    """
    check_limits(max_similar, similar, irregular)
    if sheets is not None:
        sheets_folder(sheets, user_path(folder, "folder"))
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
        verdict_on(found.flat_shares),
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


def _copies(copies: dict[Path, Path]) -> list[list[Path]]:
    """Return groups of pictures with the same pixels, from the first picture of each copy."""
    groups: dict[Path, list[Path]] = {}
    for name, first in copies.items():
        groups.setdefault(first, [first]).append(name)
    return list(in_order(groups).values())
