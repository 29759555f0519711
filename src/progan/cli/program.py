"""The program: its parser, the call of a command, and how errors are shown."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from progan._version import __version__
from progan.cli import (
    check,
    completion,
    convert,
    curate,
    evaluate,
    export,
    generate,
    import_,
    inspect,
    pack,
    plan,
    pull,
    push,
    report,
    resume,
    status,
    train,
    walk,
)
from progan.cli.command import Command, UsageError
from progan.cli.config import add_negations, read_config, with_config
from progan.cli.options import user_path
from progan.cli.output import in_options, printed_once, show, warnings_as_lines
from progan.runtime.signals import Terminated, exit_status, terminable

COMMANDS: dict[str, Command] = {
    "train": train,
    "resume": resume,
    "status": status,
    "plan": plan,
    "check": check,
    "curate": curate,
    "pack": pack,
    "generate": generate,
    "walk": walk,
    "evaluate": evaluate,
    "report": report,
    "export": export,
    "push": push,
    "pull": pull,
    "inspect": inspect,
    "import": import_,
    "convert": convert,
    "completion": completion,
}
_DESCRIPTION = "Train a progressive GAN on a folder of pictures, and use what it has learned."
_REMEDIES = {
    errno.ENOSPC: "free some space, then run the command again",
    getattr(errno, "EDQUOT", -1): "free some space, then run the command again",
    errno.EACCES: "change its permissions, or pass another path",
    errno.EROFS: "pass a path on another disk",
}
_PIPE = 13  # number of the signal of a reader that has gone, such as head


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Arguments; None = those of the process.

    Returns:
        The exit status: 0; 2 for wrong use; 1 for a failure; 128 + n after signal n.
    """
    if sys.stdout is None:  # a program that was started without one
        sys.stdout = io.StringIO()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser()
    try:
        options = parse(parser, arguments)
    except UsageError as error:
        return _complain(f"progan: {error}", 2)
    except SystemExit as exit_:  # argparse has said why
        return exit_.code if isinstance(exit_.code, int) else 1
    with warnings_as_lines(), printed_once():
        warnings.simplefilter("default")
        return _run(COMMANDS[options.command], options)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="progan",
        description=_DESCRIPTION,
        epilog="progan COMMAND --help describes a command, with an example. Begin with: progan train my_icons/",
    )
    parser.add_argument("--version", action="version", version=f"progan {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        one = commands.add_parser(
            name,
            help=command.HELP[0].lower() + command.HELP[1:].rstrip("."),
            description=command.HELP,
            epilog=f"example:\n  {command.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,  # an example is never broken into lines
        )
        command.add_options(one)
        add_negations(one)
        one.add_argument("--debug", action="store_true", help="show where an error was raised")
    return parser


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse arguments, and the file of ``--config`` before them, which they win over.

    Raises:
        UsageError: If that file cannot be used.
        SystemExit: If the arguments are wrong or ask for help, after a message.
    """
    options = parser.parse_args(arguments)
    options.config_read = None
    if (path := getattr(options, "config", None)) is None:
        return options
    config = read_config(path)
    both = parser.parse_args(with_config(parser, options, config, arguments, path))
    both.config_read = config
    if getattr(both, "data", "") is None and isinstance(config.get("data"), str):
        both.data = user_path(config["data"])  # which is an option of the file, and a position here
    return both


def _run(command: Command, options: argparse.Namespace) -> int:
    """Run a command, and turn errors into one line each."""
    prefix = f"progan {options.command}"
    try:
        with terminable():
            status = command.run(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as stopped:
        ended = "terminated" if isinstance(stopped, Terminated) else "interrupted"
        return _complain(f"{prefix}: {ended}", exit_status(stopped))
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):  # what is left would be written at the end of the process
            os.dup2(os.pipe()[1], sys.stdout.fileno())
        return 128 + _PIPE
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        return _complain(f"{prefix}: {_described(error)}", _status(error))


def _described(error: Exception) -> str:
    """Return one line for an error."""
    text = in_options(str(error)).strip() or type(error).__name__
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        remedy = _REMEDIES.get(error.errno or 0)
        text = f"{error.filename}: {error.strerror}" + (f"; {remedy}" if remedy else "")
    elif _status(error) == 1 and not isinstance(error, _known_failures()):
        text = f"{type(error).__name__}: {text}; --debug shows where"
    notes = "".join(f"; {in_options(note)}" for note in getattr(error, "__notes__", ()))
    return (" ".join(text.split("\n")) if text.count("\n") == 1 else text) + notes


def _status(error: Exception) -> int:
    """Return the exit status for an error: 2 where other options would help, else 1."""
    from progan.errors import CheckpointError

    wrong_use = (UsageError, ValueError, ImportError, CheckpointError)
    wrong_path = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
    return 2 if isinstance(error, (*wrong_use, *wrong_path)) else 1


def _known_failures() -> tuple[Any, ...]:
    """Return the kinds of errors that say by themselves what has happened."""
    from progan.errors import DivergenceError, RankError

    return DivergenceError, RankError, OSError


def _complain(text: str, status: int) -> int:
    """Print a message for an error and return the exit status."""
    show(text, sys.stderr)
    return status
