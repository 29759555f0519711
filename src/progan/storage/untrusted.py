"""Files from untrusted sources: only regular files are opened, and the length of JSON bounds the cost of reading it."""

from __future__ import annotations

import json
from io import BufferedReader
from pathlib import Path
from typing import Any

_DEEPEST = 20  # objects and lists in one another; a manifest has 5, and what is deeper breaks whoever walks it


def open_file(path: Path) -> BufferedReader:
    """Open a file to read.

    Raises:
        OSError: If it cannot be opened.
        ValueError: If it is not a regular file: a named pipe or a device may have no end.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file")
    return path.open("rb")


def read_json(path: Path, limit: int) -> tuple[Any, bytes]:
    """Return the contents of a JSON file, and its bytes.

    Args:
        path: JSON file.
        limit: Maximum number of bytes. Parsed JSON takes up to 30 times its length in memory.

    Raises:
        OSError: If the file cannot be opened.
        ValueError: If it is not a regular file, is longer, or `parse_json` refuses it.
    """
    with open_file(path) as file:
        text = file.read(limit + 1)
    if len(text) > limit:
        raise ValueError(f"it has more than the {limit:,} bytes that are read")
    return parse_json(text), text


def parse_json(text: bytes) -> Any:
    """Return the contents of a JSON text.

    Raises:
        ValueError: If it is not valid JSON, or has NaN or Infinity, a name twice in an object, or lists and objects
            nested more than 20 deep.
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
    """Return the values in an object or a list; none for a number or a text."""
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    contents = dict(pairs)
    if len(contents) < len(pairs):
        raise ValueError("a name occurs twice in one object")
    return contents


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not valid JSON")


def _too_deep() -> ValueError:
    return ValueError(f"its lists and objects are more than {_DEEPEST} deep")
