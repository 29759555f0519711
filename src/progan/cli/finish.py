"""The training itself, and what is shown when it ends in one way or another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from progan.cli.output import show, shown, warn
from progan.runtime.signals import exit_status

if TYPE_CHECKING:
    import torch

    from progan import GrownGenerator, Trainer
    from progan.cli.folder import Images

_SHEET = 64  # pictures of the last sheet
_LEAST_JUDGED = 16  # pixels
_JUDGED = 640  # samples


def fit_and_finish(trainer: Trainer, images: Images | torch.Tensor, run_dir: Path, *, again: str | None = None) -> int:
    """Train to the end, then draw a sheet, film and judge.

    Args:
        trainer: Trainer with a run directory.
        images: Pictures to train on.
        run_dir: Its run directory, as the user wrote it.
        again: What to do to go on with a run that was stopped; None = ``progan resume``.

    Returns:
        The exit status.
    """
    from progan import DivergenceError, Interrupted

    if again is None:
        again = f"progan resume {shown(run_dir)}"
    try:
        trainer.fit(images)
    except Interrupted as interrupted:
        show(f"\nStopped after {trainer.images_seen:,} real images, and saved. To go on: {again}")
        return exit_status(interrupted)
    except KeyboardInterrupt as stopped:
        show(f"\nStopped immediately. To go on from the last checkpoint: {again}")
        return exit_status(stopped)
    except DivergenceError as error:
        show(f"\n{error}", sys.stderr)
        return 1
    if trainer.rank == 0:
        try:
            _finish(trainer, images, run_dir)
        except KeyboardInterrupt as stopped:
            show(f"\nStopped. The training is finished and saved in {run_dir}.")
            return exit_status(stopped)
    return 0


def _finish(trainer: Trainer, images: Images | torch.Tensor, run_dir: Path) -> None:
    """Write a sheet and a film, print the measures, and say where everything is."""
    from progan import write_png
    from progan.reports import sample_sheet, time_lapse
    from progan.storage.files import make_folder

    sheet, film = run_dir / "films" / "samples.png", run_dir / "films" / "training.png"
    make_folder(sheet.parent)
    grown = trainer.grown()
    write_png(sheet, sample_sheet(grown, _SHEET, seed=trainer.seed, numbers=False))
    try:
        show(f"A film of the training: {time_lapse(run_dir, film)}")
    except (ImportError, OSError, ValueError) as error:
        warn(f"no film of the training was made: {error}")
    _judge(grown, images, trainer.seed)
    show("")
    show(f"sheet    {sheet}")
    show(f"report   {run_dir / 'report.html'}")
    show(f"more     progan generate {shown(run_dir)} --out icons")
    show(f"         progan walk {shown(run_dir)} walk.webp")
    if grown.generator.architecture.palette:
        show(f"larger   progan generate {shown(run_dir)} --out large_icons --enlarge 4")


def _judge(grown: GrownGenerator, images: Images | torch.Tensor, seed: int) -> None:
    """Print the measures of the samples, or why there are none."""
    from progan.metrics import evaluate

    height, width = grown.image_size
    if len(images) < 2 or min(height, width) < _LEAST_JUDGED:
        few = "There is only one picture" if len(images) < 2 else f"The samples have {width}x{height} pixels"
        show(f"{few}; judging needs 2 pictures and {_LEAST_JUDGED}x{_LEAST_JUDGED} pixels.")
        return
    try:
        evaluate(grown, images, n=_JUDGED, seed=seed)
    except ValueError as error:
        warn(f"the pictures were not judged: {error}")
