"""Progress: a tqdm bar on a terminal, plain lines elsewhere or without tqdm."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")


def duration(seconds: float | None) -> str:
    """Format a duration.

    Example:
        >>> duration(42), duration(3 * 60 + 5), duration(7 * 3600 + 120), duration(None)
        ('42 s', '3 min 05 s', '7 h 02 min', '?')
    """
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def counted(items: Iterable[Item], total: int, doing: str, *, line_every_s: float = 10.0) -> Iterator[Item]:
    """Yield items, and show how many are done and how long the others will take; short tasks show no line.

    Args:
        items: Items to yield.
        total: Number of items.
        doing: Name of the task, such as ``reading pictures``.
        line_every_s: Seconds between two plain lines.
    """
    bar = open_bar(total, 0, "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}, left: {remaining}")
    began = time.perf_counter()
    next_line = began + line_every_s
    try:
        if bar is not None:
            bar.set_description_str(doing)
        for count, item in enumerate(items, 1):
            yield item
            now = time.perf_counter()
            if bar is not None:
                bar.update()
            elif now >= next_line:
                next_line = now + line_every_s
                left = duration((now - began) / count * (total - count))
                print(f"{doing}: {count:,}/{total:,}  left: {left}", file=sys.stderr, flush=True)
    finally:
        if bar is not None:
            bar.close()


def open_bar(total: int, initial: int, layout: str) -> Any:
    """Open a tqdm bar on a terminal; return None elsewhere, or without tqdm."""
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=total, initial=initial, bar_format=layout, dynamic_ncols=True)
