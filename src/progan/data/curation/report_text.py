"""The text of a report on a folder: counts, lists and a table."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from progan.data.curation.survey import Facts
from progan.data.decoding.depth import Depth
from progan.storage.names import shown

_LISTED = 20  # groups and outliers that the text names


def table(rows: Sequence[tuple[str, str]]) -> str:
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


def counts(words: Iterable[str]) -> str:
    """Return the words and how often each occurs, the most frequent first."""
    return ", ".join(f"{word} {count:,}" for word, count in Counter(words).most_common())


def listed_with_reasons(items: Iterable[str]) -> str:
    """Return a number of unreadable files and one line for each."""
    every = list(items)
    return "\n".join([f"{len(every):,}; repair or remove them:", *every]) if every else "0"


def first_of(items: Sequence[str]) -> str:
    """Return a number of items and the first of them."""
    if not items:
        return "0"
    more = [f"and {len(items) - _LISTED:,} more"] if len(items) > _LISTED else []
    return f"{len(items):,}: " + ", ".join([*items[:_LISTED], *more])


def counted_with_example(items: Sequence[str], what: str) -> str:
    """Return a number of items, what they are, and the first of them."""
    return f"{len(items):,} {what}, such as {items[0]}"


def group_counts(groups: Sequence[Sequence[Path]], kind: str) -> str:
    """Return the numbers of groups and of pictures in them."""
    return f"{len(groups):,} groups of {kind} duplicates ({sum(map(len, groups)):,} pictures)"


def listed_groups(groups: Sequence[Sequence[Path]]) -> str:
    """Return the numbers of groups and of pictures, and one line for each of the first groups."""
    if not groups:
        return "0"
    lines = [f"{len(group)}: " + ", ".join(map(shown, group[:6])) + ", ..." * (len(group) > 6) for group in groups]
    more = [f"and {len(lines) - _LISTED:,} more groups"] if len(lines) > _LISTED else []
    return "\n".join([f"{len(groups):,} groups, {sum(map(len, groups)):,} pictures:", *lines[:_LISTED], *more])


def depths(facts: Sequence[Facts], bit_depth: int | None) -> str:
    """Describe what pictures of 16 bits use of them, and suggest a bit depth where they seem to use fewer."""
    depths = _depths(facts)
    low, high = min(depth.values[0] for depth in depths), max(depth.values[1] for depth in depths)
    text = f"{len(depths):,} pictures, of values {low:,} to {high:,}"
    if bit_depth is not None:
        return f"{text}; read with bit_depth={bit_depth}"
    scaled = Counter(depth.bits for depth in depths if depth.bits < 16)
    text += "".join(f"; {count:,} of them say that they use {bits} bits" for bits, count in sorted(scaled.items()))
    suggestion = suggested_depth(facts, bit_depth)
    return text if suggestion is None else f"{text}\n{suggestion}"


def suggested_depth(facts: Iterable[Facts], bit_depth: int | None) -> str | None:
    """Suggest a bit depth where pictures of 16 bits seem to use fewer; None where they do not, or one is given."""
    unknown = [depth for depth in _depths(facts) if depth.bits == 16]
    if bit_depth is not None or not unknown:
        return None
    highest = max(depth.values[1] for depth in unknown)
    bits = next((bits for bits in (8, 10, 12, 14) if highest >> bits == 0), None)
    if bits is None or highest == 0:
        return None
    return (
        f"values up to {highest:,} in {len(unknown):,} 16-bit pictures: they look like {bits} bits, and are read too "
        f"dark; pass bit_depth={bits} wherever they are read"
    )


def _depths(facts: Iterable[Facts]) -> list[Depth]:
    return [fact.depth for fact in facts if fact.depth]


def sizes(facts: Sequence[Facts]) -> str:
    """Return the most frequent sizes, and the range of the shorter sides."""
    found = Counter((fact.width, fact.height) for fact in facts)
    common = ", ".join(f"{width}x{height} {count:,}" for (width, height), count in found.most_common(3))
    if len(found) <= 3:
        return common
    shorter = sorted(min(fact.width, fact.height) for fact in facts)
    return (
        f"{len(found):,} of them, such as {common}; the shorter side is {shorter[0]} to {shorter[-1]} px, "
        f"half are below {shorter[len(shorter) // 2]} px"
    )


def not_square(facts: Sequence[Facts]) -> str:
    """Return the number of pictures that are not square, and the most elongated one."""
    oblong = [fact for fact in facts if fact.width != fact.height]
    if not oblong:
        return "0"
    extreme = max(oblong, key=lambda fact: max(fact.width, fact.height) / min(fact.width, fact.height))
    return (
        f"{len(oblong):,}, at most {extreme.width}x{extreme.height}; their centre is cut out, "
        "unless squaring= says otherwise"
    )
