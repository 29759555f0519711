"""What the command line records in config.json, and finds there again."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from progan.cli.command import UsageError

COMMAND = "command"  # in the run's notes
# Options that say which pictures are read and how, which a resumed run needs again.
READING = ("data", "only", "hidden", "max_pixels", "bit_depth", "skip_unreadable", "labels", "channels")


def notes_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return what to record of a command: its options, and those that came from a file."""
    skipped = {"command", "debug", "dry_run", "config_read", "overwrite", "json"}
    given = {name: value for name, value in vars(options).items() if name not in skipped and value not in (None, False)}
    paths = {name: str(value.absolute()) for name, value in given.items() if isinstance(value, Path)}
    return {COMMAND: {"options": given | paths, "config": options.config_read}}


def recorded_options(run_dir: Path) -> Mapping[str, Any]:
    """Return the options of the command that began a run; empty if it was not begun by one."""
    from progan.runs.checkpoint import is_checkpoint
    from progan.runs.record import RunRecord

    folder = run_dir.resolve().parent.parent if is_checkpoint(run_dir) else run_dir
    notes = RunRecord.from_config(folder).contents.get("notes")
    command = notes.get(COMMAND) if isinstance(notes, dict) else None
    options = command.get("options") if isinstance(command, dict) else None
    return options if isinstance(options, dict) else {}


def adopt_reading(run_dir: Path, options: argparse.Namespace) -> None:
    """Read the pictures as the command that began the run did, but for what was passed now."""
    recorded = recorded_options(run_dir)
    for name in READING:
        value = recorded.get(name)
        if getattr(options, name, None) in (None, False) and value is not None:
            setattr(options, name, Path(value) if name in ("data", "only") else value)


def data_of_run(run_dir: Path, options: argparse.Namespace) -> Path:
    """Return where the pictures of a run lie, and read them as it did.

    Raises:
        UsageError: If that is not known, or nothing is there any more.
    """
    if not run_dir.is_file():  # a generator in one file records none
        adopt_reading(run_dir, options)
    data: Path | None = options.data
    if data is None:
        raise UsageError(f"{run_dir} does not say which pictures it was trained on; pass --data")
    if not data.exists():
        raise UsageError(f"the pictures of {run_dir} are no longer at {data}; pass --data with where they are now")
    return data
