"""Texts from files, made safe to stand in a page: shortened, without what cannot be printed, escaped."""

from __future__ import annotations

import html

_LONGEST = 1000  # characters


def escaped(text: object, longest: int = _LONGEST) -> str:
    """Return a text as HTML, for an element's content or a quoted attribute.

    Args:
        text: Text of any origin; another value is written as Python's `str` does.
        longest: Characters that are kept.

    Example:
        >>> escaped('<img src=x onerror="alert(1)">')
        '&lt;img src=x onerror=&quot;alert(1)&quot;&gt;'
    """
    shown = str(text)
    if len(shown) > longest:
        shown = f"{shown[: longest - 3]}..."
    printable = (c if c.isprintable() else " " if c.isspace() else c.encode("unicode_escape").decode() for c in shown)
    return html.escape("".join(printable))
