"""File names: how they are shown, sorted and compared.

The same name may be stored in more than one way. "Zoë" is three characters on Linux and Windows (NFC), and often four
after a copy to or from a Mac (NFD: an e followed by a combining diaeresis). Names are therefore sorted and compared in
NFC, and files are opened by the name that the folder gave.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable
from os import PathLike
from pathlib import Path

UNREADABLE = "unreadable"  # where contents are listed by name: in place of the hash of a file that was skipped


def shown(name: str | PathLike[str]) -> str:
    """Return a file's name in printable characters, whatever bytes it contains."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in Path(name).as_posix())


def normalised(name: str) -> str:
    """Return a name in NFC; half characters, which stand for bytes that are not text, stay as they are."""
    return unicodedata.normalize("NFC", name)


def sort_key(name: str) -> tuple[str, str]:
    """Return the sort key of a name, for the same order on every system; the stored name breaks ties."""
    return normalised(name), name


def matched(names: Iterable[str], candidates: Collection[str]) -> dict[str, str]:
    """Find names in another list, in which they may be normalised differently.

    Args:
        names: Names to find.
        candidates: Names to search.

    Returns:
        The candidate of each name that has one: the same name, or else the only one that is left and equal in NFC. No
        two names share a candidate.
    """
    there = set(candidates)
    wanted = list(dict.fromkeys(names))
    found = {name: name for name in wanted if name in there}
    rest = [name for name in wanted if name not in found]
    if not rest:
        return found
    theirs, mine = _by_normalised(there - found.keys()), _by_normalised(rest)
    for key, same in mine.items():
        if len(same) == len(theirs.get(key, [])) == 1:
            found[same[0]] = theirs[key][0]
    return found


def _by_normalised(names: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(normalised(name), []).append(name)
    return groups
