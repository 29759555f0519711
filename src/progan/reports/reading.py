"""The files of a run as plain data: read at any time, also while the run trains, and whatever is missing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from progan.errors import CheckpointError
from progan.networks.architecture import Architecture
from progan.recipe_json import networks_from_json
from progan.reports.rows import Judgement, Rows, count, parse_line, read_rows
from progan.runs.checkpoint import checkpoints
from progan.runs.directory import CONFIG, PICTURE_NAME, read_config
from progan.runs.judging import Judged, JudgingRecord
from progan.schedule import Schedule
from progan.storage.files import OWNER, is_owned
from progan.storage.untrusted import open_file

State = Literal["not begun", "training", "stopped", "broke off", "finished"]

_MOST_FILES = 100_000  # entries of samples/ that are looked at
_MOST_WARNINGS = 50  # that are shown, newest first
_WARNINGS_LIMIT = 4_000_000  # bytes
_LONGEST_TEXT = 1000  # characters


@dataclass(frozen=True)
class RunFiles:
    """What the files of a run directory say.

    Attributes:
        path: Run directory.
        read_at: When they were read.
        config: Contents of config.json.
        schedule: Schedule of the run.
        architecture: Architecture of its networks.
        images_seen: Real images shown, as far as rows and checkpoints tell.
        state: How the run stands.
        rows: Rows of metrics.jsonl.
        sheets: Sample grids by count of images.
        level_rows: Newest row of samples by level.
        checkpoints: Counts of images of the checkpoints.
        progress: Progress strip, if there is one.
        closest: Sheet of the closest training images, if there is one.
        best: Judgement of the best checkpoint, if one is recorded.
        warnings: (images_seen, text) of the newest warnings, newest first.
        n_warnings: Number of warnings.
        has_metrics: Whether there is a metrics.jsonl.
    """

    path: Path
    read_at: datetime
    config: dict[str, Any]
    schedule: Schedule
    architecture: Architecture
    images_seen: int
    state: State
    rows: Rows
    sheets: dict[int, Path]
    level_rows: dict[int, Path]
    checkpoints: tuple[int, ...]
    progress: Path | None = None
    closest: Path | None = None
    best: Judged | None = None
    warnings: tuple[tuple[int, str], ...] = ()
    n_warnings: int = 0
    has_metrics: bool = False

    @property
    def name(self) -> str:
        """Name of the run: that of its directory."""
        return self.path.resolve().name

    @property
    def judgement(self) -> Judgement | None:
        """The newest judgement, if there is one."""
        return self.rows.judgements[-1] if self.rows.judgements else None

    def size(self, level: int) -> str:
        """Return the resolution of a level, such as ``32x32``."""
        height, width = self.architecture.size(level)
        return f"{width}x{height}"

    def short_size(self, level: int) -> str:
        """Return the resolution of a level as one number where it is square, such as ``32``."""
        height, width = self.architecture.size(level)
        return f"{height}" if height == width else f"{width}x{height}"


def read_run(run_dir: Path, *, training: bool | None = None) -> RunFiles:
    """Read the files of a run directory.

    Args:
        run_dir: Run directory.
        training: Whether a trainer is at work in it; None = look.

    Raises:
        CheckpointError: If the directory holds no run.
    """
    config = read_config(run_dir)
    if config is None:
        raise CheckpointError(f"{run_dir} holds no progan run: it has no valid {CONFIG}")
    try:
        architecture, schedule = networks_from_json(config["recipe"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{run_dir / CONFIG} does not describe a run: {reason[:_LONGEST_TEXT]}") from error
    rows = read_rows(run_dir / "metrics.jsonl")
    saved = tuple(int(folder.name) for folder in checkpoints(run_dir))
    sheets, level_rows = _pictures(run_dir / "samples")
    shown = [*(row.images_seen for row in rows.losses[-1:]), *(row.images_seen for row in rows.judgements[-1:])]
    images_seen = max([*shown, *saved, *((*sheets, 0) if not shown and not saved else ())])
    is_held = is_owned(run_dir)
    warned, n_warnings = _warnings(run_dir / "warnings.jsonl")
    return RunFiles(
        path=run_dir,
        read_at=datetime.now().astimezone(),
        config=config,
        schedule=schedule,
        architecture=architecture,
        images_seen=images_seen,
        state=_state(
            images_seen,
            schedule.total_images,
            saved[-1] if saved else None,
            training=is_held if training is None else training,
            has_died=(run_dir / OWNER).exists() and not is_held,
        ),
        rows=rows,
        sheets=sheets,
        level_rows=level_rows,
        checkpoints=saved,
        progress=_file(run_dir / "progress.png"),
        closest=_file(run_dir / "samples" / "closest.png"),
        best=JudgingRecord.read(run_dir).best,
        warnings=warned,
        n_warnings=n_warnings,
        has_metrics=(run_dir / "metrics.jsonl").is_file(),
    )


def _state(images_seen: int, total: int, saved: int | None, *, training: bool, has_died: bool) -> State:
    """Return how a run stands.

    Args:
        images_seen: Real images shown.
        total: Real images of the schedule.
        saved: Count of the newest checkpoint; None = there is none.
        training: Whether a trainer is at work.
        has_died: Whether the last trainer left the file behind that shows it at work, which one that ends removes.

    Example:
        >>> _state(500, 800, 400, training=False, has_died=False)
        'broke off'
        >>> _state(500, 800, 504, training=False, has_died=False)
        'stopped'
        >>> _state(800, 800, 400, training=False, has_died=False)  # killed before its last save
        'broke off'
    """
    if images_seen >= total and (saved is None or saved >= total):
        return "finished"
    if training:
        return "training"
    if has_died or images_seen > (saved or 0):
        return "broke off"  # a run that is stopped saves first
    return "stopped" if images_seen else "not begun"


def _pictures(folder: Path) -> tuple[dict[int, Path], dict[int, Path]]:
    """Return the sample grids by count of images, and the rows by level."""
    sheets: dict[int, Path] = {}
    level_rows: dict[int, Path] = {}
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in islice(entries, _MOST_FILES) if PICTURE_NAME.fullmatch(entry.name))
    except OSError:
        return {}, {}
    for name in names:
        stem = name.removesuffix(".png")
        if stem.startswith("level_"):
            if len(stem) <= 8:
                level_rows[int(stem.removeprefix("level_"))] = folder / name
        elif stem.isdecimal() and (images_seen := count(int(stem[:20]))) is not None:
            sheets[images_seen] = folder / name
    return dict(sorted(sheets.items())), dict(sorted(level_rows.items()))


def _file(path: Path) -> Path | None:
    return path if path.is_file() else None


def _warnings(path: Path) -> tuple[tuple[tuple[int, str], ...], int]:
    """Return the newest warnings, newest first, and the number of all that were read."""
    try:
        with open_file(path) as file:
            file.seek(max(0, file.seek(0, 2) - _WARNINGS_LIMIT))
            rows = [parse_line(line) for line in file.read(_WARNINGS_LIMIT).split(b"\n")]
    except (OSError, ValueError):
        return (), 0
    found = [
        (images_seen, row["text"][:_LONGEST_TEXT])
        for row in rows
        if (images_seen := count(row.get("images_seen"))) is not None and isinstance(row.get("text"), str)
    ]
    return tuple(found[: -_MOST_WARNINGS - 1 : -1]), len(found)
