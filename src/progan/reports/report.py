"""The report of a run, written into its directory."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from progan.arguments import check_flag, check_number
from progan.reports.gallery import read_gallery
from progan.reports.page import page
from progan.reports.reading import read_run
from progan.runs.directory import REPORT
from progan.storage.files import owned, write_file
from progan.storage.paths import user_path

_LOCK = ".report.partial"  # removed like an unfinished file where a process is killed
_LEAST_MB = 2
_TRIES = 3  # a trainer that saves removes unfinished files, also those of another process


def write_report(run_dir: str | PathLike[str], *, max_mb: float = 15, training: bool | None = None) -> Path:
    """Write ``report.html`` into a run directory: one page that shows how the run stands.

    The page is made from the files of the run, at any time, also while it trains and after it broke off, and says what
    is missing. It needs no network. Grids that an earlier report holds are taken from there.

    Args:
        run_dir: Run directory.
        max_mb: Largest size of the page, in megabytes; grids are left out where they would not fit.
        training: Whether a trainer is at work in the directory; None = look.

    Returns:
        Path of the page.

    Raises:
        CheckpointError: If the directory holds no run.
        ValueError: If max_mb is less than 2.
        OSError: If the page cannot be written, or another process is writing it; an earlier one stays as it is.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import torch
        >>> from progan import Trainer, presets
        >>> folder, recipe = TemporaryDirectory(), presets.mel_icon(8, channels=(16, 8))
        >>> trainer = Trainer.from_recipe(recipe, run_dir=folder.name, progress=False)
        >>> trainer.fit(torch.rand(20, 3, 8, 8), until=16)
        >>> write_report(folder.name).name
        'report.html'
        >>> folder.cleanup()
    """
    path = user_path(run_dir, "run_dir")
    check_number("max_mb", max_mb)
    if not max_mb >= _LEAST_MB:
        raise ValueError(f"max_mb must be at least {_LEAST_MB}, got {max_mb!r}")
    if training is not None:
        check_flag("training", training)
    run = read_run(path, training=training)
    target = path / REPORT
    max_bytes = int(min(max_mb, 1000) * 1e6)
    with owned(path, _LOCK, target):
        contents = page(run, read_gallery(run, target, max_bytes), max_bytes)
        for attempt in range(_TRIES):
            try:
                write_file(target, contents)
                break
            except FileNotFoundError:
                if attempt == _TRIES - 1:
                    raise
    return target
