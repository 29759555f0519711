"""Trackers: TensorBoard, and any object with ``log(dict, step=...)``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from typing_extensions import override

from progan.arguments import wrong_type
from progan.errors import warn
from progan.render import read_png
from progan.storage.paths import user_path
from progan.training.callbacks.base import Callback, Run
from progan.training.step import StepMetrics


class LogTarget(Protocol):
    """An object that a `Tracker` logs to, as those of wandb and trackio are."""

    def log(self, data: dict[str, float], /, *, step: int) -> object:
        """Log numbers by name at a count of real images."""
        ...


class Tracker(Callback):
    """A tracker: losses and measures, handed to any object with ``log(dict, step=...)``.

    The step is the count of real images. Measures are named ``measures/feature_distance``, their floors
    ``floors/feature_distance``. An error of the object is a warning, and training continues.

    Args:
        target: Object to log to: a run of wandb (``wandb.init(...)``), the module ``trackio`` after its ``init``, or
            your own.

    Raises:
        TypeError: If the object has no method ``log``.
    """

    def __init__(self, target: LogTarget) -> None:
        if isinstance(target, type) or not callable(getattr(target, "log", None)):
            raise wrong_type("target", "an object with a method log(dict, step=...)", target)
        self.target = target
        self._warned = False

    @override
    def on_log(self, run: Run, row: Mapping[str, Any]) -> None:
        try:
            self.target.log(numbers_of(row), step=row["images_seen"])
        except Exception as error:
            if not self._warned:
                self._warned = True
                warn(
                    f"the tracker {type(self.target).__name__} failed and may lack rows; training continues: "
                    f"{type(error).__name__}: {error}"
                )


class TensorBoard(Callback):
    """A tracker that writes losses, measures and sample grids for TensorBoard. Needs the extra ``tensorboard``.

    Watch them with ``tensorboard --logdir runs/first/tensorboard``. The step is the count of real images. A run that
    resumes, or goes back, hides what it had written past its checkpoint.

    Args:
        log_dir: Directory to write to; None = ``tensorboard`` in the run directory.

    Raises:
        ImportError: If TensorBoard is missing.
    """

    def __init__(self, log_dir: str | PathLike[str] | None = None) -> None:
        self.log_dir: Path | None = None if log_dir is None else user_path(log_dir, "log_dir")
        self._writer: Any = None
        _summary_writer()

    @override
    def on_start(self, run: Run) -> None:
        if self.log_dir is None and run.run_dir is None:
            raise ValueError("TensorBoard needs a directory to write to; pass log_dir=, or give the trainer a run_dir")
        self._open(run)

    @override
    def on_return(self, run: Run) -> None:
        self.on_end(run)
        self._open(run)

    def _open(self, run: Run) -> None:
        log_dir = self.log_dir or Path(str(run.run_dir)) / "tensorboard"
        self._writer = _summary_writer()(str(log_dir), purge_step=run.images_seen + 1)

    @override
    def on_log(self, run: Run, row: Mapping[str, Any]) -> None:
        for name, value in numbers_of(row).items():
            self._write("add_scalar", name, value, row["images_seen"])
        if row.get("remarks"):
            self._write("add_text", "remarks", "  \n".join(row["remarks"]), row["images_seen"])

    @override
    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        if run.run_dir is None or self._writer is None:
            return
        path = run.run_dir / "samples" / f"{metrics.images_seen:09d}.png"
        if path.exists():  # drawn after this step
            try:
                image = read_png(path)
            except (OSError, ValueError) as error:
                warn(f"TensorBoard lacks the samples at {metrics.images_seen:,} images: {error}")
            else:
                self._write("add_image", "samples", image, metrics.images_seen)

    @override
    def on_end(self, run: Run) -> None:
        self._write("close")
        self._writer = None

    def _write(self, method: str, *arguments: object) -> None:
        """Call a method of the writer, if there still is one; it is given up, with a warning, when it fails."""
        if self._writer is None:
            return
        try:
            getattr(self._writer, method)(*arguments)
        except Exception as error:
            self._writer = None
            warn(
                "TensorBoard's files cannot be written, and lack what comes until the next start; training continues: "
                f"{type(error).__name__}: {error}"
            )


def numbers_of(row: Mapping[str, Any], before: str = "") -> dict[str, float]:
    """Return the numbers of a row by flat names; the floor of a measure is its value.

    Example:
        >>> numbers_of({"images_seen": 8, "alpha": None, "measures": {"swd": 9.5, "coverage": None}})
        {'measures/swd': 9.5}
    """
    found: dict[str, float] = {}
    for name, value in row.items():
        if before == "floors/" and isinstance(value, Mapping):
            value = value.get("value")
        if isinstance(value, Mapping):
            found |= numbers_of(value, f"{before}{name}/")
        elif _is_number(value) and name != "images_seen":
            found[before + name] = value
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError('TensorBoard is not installed; run: pip install "progan[tensorboard]"') from error
    return SummaryWriter
