"""What the commands print: texts that name options, and JSON."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

# Keywords of Python's functions in messages, and the options that stand for them.
_FLAGS = {
    'on_unreadable="skip"': "--skip-unreadable",
    "hidden=True": "--hidden",
    "overwrite=True": "--overwrite",
    "best=True": "--best",
    "single_file=True": "--single-file",
    "data_may_change=True": "--data-may-change",
    'labels="folders"': "--labels",
    "progan.data.curate": "progan curate",
    "channels= of progan.ImageFolder": "--channels",
    "Make a new trainer, which resumes": "Run the command again, which resumes",
    "make a new trainer on every rank to resume": "run the command again on every rank to resume",
}
# Names that are no English words are keywords also without a value; a name of a file may hold them.
_NAMES = re.compile(
    r"(?<![\w./-])(max_pixels|bit_depth|run_dir|held_out|total_images|micro_batch|max_mb|data_may_change|psi)(?![\w./=(-])"
)
_VALUES = re.compile(
    r"(?<![\w-])(device|max_mb|max_pixels|bit_depth|run_dir|held_out|precision|resolution|total_images|micro_batch|seed|start|hours|recover|runtime)"
    r"=(?:(['\"])(\w+)\2|(\w+))?"
)


def in_options(text: str) -> str:
    """Return a message of progan's in which keywords are named by the options that stand for them.

    Example:
        >>> in_options('pass on_unreadable="skip", max_pixels=26_000_000 or hidden=True; leave bit_depth out')
        'pass --skip-unreadable, --max-pixels 26_000_000 or --hidden; leave --bit-depth out'
    """
    for keyword, option in _FLAGS.items():
        text = text.replace(keyword, option)
    return _NAMES.sub(lambda found: _flag(found[1]), _VALUES.sub(_option, text))


def _flag(name: str) -> str:
    return "--" + {"total_images": "images", "psi": "truncation"}.get(name, name).replace("_", "-")


def _option(found: re.Match[str]) -> str:
    option = _flag(found[1])
    value = found[3] or found[4]
    return f"{option} {value}" if value else option


def shown(path: Path) -> str:
    """Return a path as a shell takes it.

    Example:
        >>> shown(Path("my icons"))
        "'my icons'"
    """
    return shlex.quote(str(path))


def show(text: str, file: TextIO | None = None) -> None:
    r"""Print a text that may hold anything from a file; what a terminal would obey, or cannot show, is escaped.

    Example:
        >>> show("icons \x1b[2J")
        icons \x1b[2J
    """
    stream = sys.stdout if file is None else file
    encoding = stream.encoding or "utf-8"
    text = "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def on_one_line(text: str) -> str:
    r"""Return a text from a file without line breaks, so that it cannot look like a line of the program.

    Example:
        >>> on_one_line("CC0-1.0\n  classes 9")
        'CC0-1.0   classes 9'
    """
    return " ".join(text.splitlines())


def show_json(values: Any) -> None:
    """Print values as JSON."""
    print(json.dumps(values, indent=1, default=str), flush=True)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as one line, without the line of the program that it comes from."""
    del category, filename, lineno, line
    show(f"warning: {in_options(str(message))}", file or sys.stderr)


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print each warning within this context by `show_warning`."""
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        yield


def is_first_process() -> bool:
    """Return whether this is the first of the processes that torchrun started, or alone; without loading torch."""
    return not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys() or os.environ["RANK"] == "0"


def printed_once() -> contextlib.AbstractContextManager[object]:
    """Return a context in which only the first process prints."""
    return contextlib.nullcontext() if is_first_process() else contextlib.redirect_stdout(io.StringIO())


def warn(text: str) -> None:
    """Warn of something that a command has noticed."""
    warnings.warn(text, stacklevel=2)
