"""``progan completion``: what a shell needs to complete the commands and options."""

from __future__ import annotations

import argparse

from progan.cli.options import user_path
from progan.cli.output import show

HELP = "Print what a shell needs to complete commands and options."
EXAMPLE = "progan completion bash > ~/.local/share/bash-completion/completions/progan"
SHELLS = ("bash", "zsh", "fish")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=f"{', '.join(SHELLS[:-1])} or {SHELLS[-1]}")


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    from progan.cli.program import build_parser

    try:
        import shtab
    except ImportError as error:
        raise ImportError('completion needs shtab: pip install "progan[completion]"') from error
    parser = build_parser()
    for action in _actions(parser):
        if action.type is user_path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    show(shtab.complete(parser, options.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return all options of a parser and of its commands."""
    found: list[argparse.Action] = []
    for action in parser._actions:
        found.append(action)
        if isinstance(action, argparse._SubParsersAction):
            for name in action.choices:
                found += _actions(action.choices[name])
    return found
