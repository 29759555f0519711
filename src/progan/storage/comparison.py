"""Comparison of settings: the names of nested values, and what differs between several holders of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_SHOWN = 8  # names in one message
_LENGTH = 200  # characters of a value or a name


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested dicts by dotted names, such as ``recipe.stages[0].images``.

    Args:
        value: JSON-able. A list without a dict in it is a leaf.
        name: Name of the value itself.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        for index, inner in enumerate(value):
            yield from flat(inner, f"{name}[{index}]")
    else:
        yield name, value


def shortened(text: str) -> str:
    """Return a text without its middle if it is too long for a message."""
    half = _LENGTH // 2
    return text if len(text) <= _LENGTH else f"{text[:half]}...{text[-half:]}"


def named(ranks: Sequence[int]) -> str:
    """Return ranks in words: ``rank 1``, ``ranks 0, 2``."""
    more = f" and {len(ranks) - _SHOWN} more" if len(ranks) > _SHOWN else ""
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks[:_SHOWN]))}{more}"


def disagreements(values: Sequence[Any]) -> str:
    """Describe what differs between the ranks' values; empty if nothing does.

    Args:
        values: Nested dicts of JSON-able values, one per rank.

    Example:
        >>> disagreements([{"seed": 0, "run": {"keep": 3}}, {"seed": 5, "run": {"keep": 3}}, {"seed": 0, "run": {}}])
        'seed: ranks 0, 2 have 0, rank 1 has 5; run.keep: ranks 0, 1 have 3, rank 2 has nothing'
    """
    leaves = [{name: repr(leaf) for name, leaf in flat(value)} for value in values]
    names = list(dict.fromkeys(name for own in leaves for name in own))
    found = []
    for name in names:
        holders: dict[str, list[int]] = {}
        for rank, own in enumerate(leaves):
            holders.setdefault(own.get(name, "nothing"), []).append(rank)
        if len(holders) > 1:
            has = [
                f"{named(ranks)} {'have' if len(ranks) > 1 else 'has'} {shortened(leaf)}"
                for leaf, ranks in holders.items()
            ]
            found.append(f"{shortened(name)}: {', '.join(has)}")
    return "; ".join(found[:_SHOWN]) + (f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
