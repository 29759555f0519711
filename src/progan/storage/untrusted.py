"""Files that anyone may have written: opened where they are files, their JSON read at a cost that its length bounds."""

from __future__ import annotations

import json
from io import BufferedReader
from pathlib import Path
from typing import Any

_DEEPEST = 20  # objects and lists in one another; a manifest has 5, and what is deeper breaks whoever walks it


def open_file(path: Path) -> BufferedReader:
    """Open a file to read.

    Raises:
        OSError: if it cannot be opened.
        ValueError: if it is no regular file: a named pipe or a device may have no end.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file")
    return path.open("rb")


def read_json(path: Path, limit: int) -> tuple[Any, bytes]:
    """Return what a file of JSON holds, and its bytes.

    Args:
        path: of the file.
        limit: bytes. Parsed, JSON takes up to 30 times its length in memory.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it is no regular file, longer, or `parse_json` refuses it.
    """
    with open_file(path) as file:
        text = file.read(limit + 1)
    if len(text) > limit:
        raise ValueError(f"it has more than the {limit:,} bytes that are read")
    return parse_json(text), text


def parse_json(text: bytes) -> Any:
    """Return what JSON holds.

    Raises:
        ValueError: if it is none, or has NaN or Infinity, one name twice in an object, or lists and objects more than
            20 deep.
    """
    try:
        contents = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise _too_deep() from None
    layer = [contents]
    for _ in range(_DEEPEST + 1):
        layer = [inner for outer in layer for inner in _within(outer)]
        if not layer:
            return contents
    raise _too_deep()


def _within(value: Any) -> list[Any]:
    """Return what an object or a list holds; nothing is in a number or a text."""
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    contents = dict(pairs)
    if len(contents) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return contents


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _too_deep() -> ValueError:
    return ValueError(f"its lists and objects are more than {_DEEPEST} deep")
