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
_NOT_SET = ("help", "config", "debug")  # options that a file cannot set


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``."""
    parser.add_argument(
        "--config",
        type=user_path,
        metavar="FILE",
        help='TOML file of options, such as hours = 2 or data = "icons"; those of the command line win, such as '
        "--no-flips over flips = true",
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


def add_negations(parser: argparse.ArgumentParser) -> None:
    """Add ``--no-NAME`` for each option without a value that a file of options may set; help does not list them."""
    known = _options(parser)
    if "config" not in known:
        return
    for name, action in known.items():
        if action.nargs == 0 and name not in _NOT_SET:
            parser.add_argument(f"--no-{name}", dest=action.dest, action="store_false", help=argparse.SUPPRESS)


def with_config(
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    config: Mapping[str, Any],
    arguments: Sequence[str],
    path: Path,
) -> list[str]:
    """Return arguments in which the options of a file come first, so that later ones win.

    Args:
        parser: Parser of the whole command line.
        options: What it parsed.
        config: Contents of the file.
        arguments: Arguments of the command line.
        path: Path of the file, for messages.

    Raises:
        UsageError: If the file has something that is no option, or of the wrong kind.
    """
    command = options.command
    one = _parser_of(parser, command)
    known = {name: action for name, action in _options(one).items() if name not in _NOT_SET}
    added: list[str] = []
    for key, value in config.items():
        name = key.replace("_", "-")
        action = known.get(name)
        if action is None:
            raise UsageError(
                f"--config {path}: {key} is no option of progan {command}; there are {', '.join(sorted(known))}"
            )
        if not action.option_strings:
            _check_position(key, value, path)
            continue  # filled in by the parser's default
        if _is_replaced(one, action, options):
            continue
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


def _check_position(key: str, value: Any, path: Path) -> None:
    """Raise UsageError if a value of a file cannot be a path."""
    if not isinstance(value, str):
        raise UsageError(f"--config {path}: {key} must be a path in quotes, got {value!r}")
    try:
        user_path(value)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"--config {path}: {key} {error}") from None


def _is_replaced(parser: argparse.ArgumentParser, action: argparse.Action, options: argparse.Namespace) -> bool:
    """Whether the command line has an option that excludes this one, such as ``--images`` the file's hours."""
    return any(
        getattr(options, other.dest) != other.default
        for group in parser._mutually_exclusive_groups
        if action in group._group_actions
        for other in group._group_actions
        if other is not action
    )


def _parser_of(parser: argparse.ArgumentParser, command: str) -> argparse.ArgumentParser:
    """Return the parser of a command."""
    commands = next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    found: argparse.ArgumentParser = commands.choices[command]
    return found


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return the options of a command by their names without dashes."""
    return {
        (max(action.option_strings, key=len).lstrip("-") if action.option_strings else action.dest): action
        for action in parser._actions
        if action.help != argparse.SUPPRESS
    }
