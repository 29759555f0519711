"""Settings of a command from a TOML file."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from progan.cli.command import UsageError
from progan.cli.options import user_path

_MOST_BYTES = 1_000_000


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``."""
    parser.add_argument(
        "--config",
        type=user_path,
        metavar="FILE",
        help='TOML file of options, such as hours = 2 or data = "icons"; those of the command line win',
    )


def read_config(path: Path) -> dict[str, Any]:
    """Read a TOML file of options.

    Raises:
        UsageError: If it is not one.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror or error}") from error
    if len(text) > _MOST_BYTES:
        raise UsageError(f"--config {path} has more than {_MOST_BYTES:,} bytes; it should hold a few options")
    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path} is not TOML: {error}") from error


def with_config(
    parser: argparse.ArgumentParser, command: str, config: Mapping[str, Any], arguments: Sequence[str], path: Path
) -> list[str]:
    """Return arguments in which the options of a file come first, so that later ones win.

    Args:
        parser: Parser of the whole command line.
        command: Name of the command.
        config: Contents of the file.
        arguments: Arguments of the command line.
        path: Path of the file, for messages.

    Raises:
        UsageError: If the file has something that is no option, or of the wrong kind.
    """
    known = _actions(parser, command)
    added: list[str] = []
    for key, value in config.items():
        name = key.replace("_", "-")
        action = known.get(name)
        if action is None or name in ("help", "config", "debug"):
            names = ", ".join(sorted(set(known) - {"help", "config", "debug"}))
            raise UsageError(f"--config {path}: {key} is no option of progan {command}; there are {names}")
        if not action.option_strings:
            continue  # a position, filled in by the parser's default
        option = f"--{name}"
        if action.nargs == 0:
            if not isinstance(value, bool):
                raise UsageError(f"--config {path}: {key} must be true or false, got {value!r}")
            added += [option] * value
        elif isinstance(value, bool | list | dict):
            raise UsageError(f"--config {path}: {key} must be one value, got {value!r}")
        else:
            added.append(f"{option}={value}")
    at = arguments.index(command) + 1
    return [*arguments[:at], *added, *arguments[at:]]


def _actions(parser: argparse.ArgumentParser, command: str) -> dict[str, argparse.Action]:
    """Return the options of a command by their names without dashes."""
    commands = next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    actions = commands.choices[command]._actions
    return {
        (max(action.option_strings, key=len).lstrip("-") if action.option_strings else action.dest): action
        for action in actions
    }
