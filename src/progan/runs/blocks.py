"""Blocks of a user's own: how a run records them, and whether those given are those recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from progan.errors import CheckpointError
from progan.parts import same_class

_LONGEST_NAME = 200  # characters


def recorded_blocks(contents: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the recorded blocks of both networks, None where they are the built-in ones.

    Args:
        contents: Contents of a config.json or a manifest.

    Raises:
        ValueError: If they are not recorded.
    """
    blocks = contents.get("blocks")
    if (
        not isinstance(blocks, dict)
        or set(blocks) != {"generator", "discriminator"}
        or not all(name is None or (isinstance(name, str) and len(name) <= _LONGEST_NAME) for name in blocks.values())
    ):
        raise ValueError(f"blocks must have a name or null for generator and discriminator, got {blocks!r}")
    return blocks


def check_block(given: str | None, recorded: str | None, path: Path, keyword: str) -> None:
    """Raise CheckpointError where a network is not built from the block that a file records.

    Args:
        given: Qualified name of the block that was passed; None = the built-in one.
        recorded: Qualified name in the file; None = the built-in one.
        path: Path of the run or checkpoint.
        keyword: Name of the argument that takes the block.
    """
    if not same_block(given, recorded):
        raise CheckpointError(
            f"{path} was made with {recorded or 'the built-in block'}, got {given or 'the built-in block'}; "
            + (f"pass {keyword}={recorded.rsplit('.', 1)[-1]}" if recorded else f"leave {keyword} out")
        )


def same_block(one: str | None, other: str | None) -> bool:
    """Return whether two qualified names, None for the built-in block, can be of one block."""
    return one == other if one is None or other is None else same_class(one, other)
