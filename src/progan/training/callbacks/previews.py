"""Sample grids and the progress strip."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import override

from progan.arguments import check_int
from progan.errors import warn
from progan.randomness import latents
from progan.render import enlarge, image_grid, read_png, to_uint8, write_png
from progan.storage.files import make_folder
from progan.training.callbacks.base import Callback, Run, check_every, crosses, ends_stage, run_dir_of
from progan.training.step import StepMetrics


class Previews(Callback):
    """Sample grids of the same latents through the whole run; with classes, each picture is of the next class in turn.

    ``samples/000060000.png`` is the grid at that count, ``samples/level_3.png`` the newest row of a level, and
    ``progress.png`` the progress strip, with one row per resolution.

    Args:
        every: Number of real images between two grids; the end of a stage gets a grid too.
        n: Number of latents in a grid; a square number looks best.
        row: Number of latents in a row of the strip.
        least_height: Height in pixels to which small images are enlarged.
    """

    def __init__(self, every: int, n: int = 16, row: int = 8, least_height: int = 128) -> None:
        check_every(every, self)
        for name, value in (("n", n), ("row", row), ("least_height", least_height)):
            check_int(name, value, 1)
        self.every = every
        self.least_height = least_height
        self.n = n
        self.row: int = min(row, n)

    @override
    def on_start(self, run: Run) -> None:
        run_dir_of(run, self)

    @override
    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        before = metrics.images_seen - metrics.growth.batch_size
        if ends_stage(run, metrics) or crosses(self.every, before, metrics.images_seen):
            try:
                self._draw(run)
            except OSError as error:  # a full disk, or a viewer that has the file open on Windows
                warn(f"no preview at {metrics.images_seen:,} images; training continues: {error}")

    def _draw(self, run: Run) -> None:
        run_dir = run_dir_of(run, self)
        folder = run_dir / "samples"
        make_folder(folder)
        grown = run.grown()
        architecture = grown.generator.architecture
        z = latents(range(self.n), architecture.latent_shape, run.seed, "preview")
        height = architecture.size(max(stage.level for stage in run.schedule.stages))[0]
        while height < self.least_height:  # in doublings, so that the rows of all levels have one size
            height *= 2
        classes = architecture.classes  # taken in turn
        labels = [torch.arange(self.n)[part] % classes if classes else None for part in _parts(self.n)]
        images = [grown.images(z[part], each) for part, each in zip(_parts(self.n), labels, strict=True)]
        pictures = enlarge(to_uint8(torch.cat(images)), height)
        write_png(folder / f"{run.images_seen:09d}.png", image_grid(pictures, round(self.n**0.5)))
        write_png(folder / f"level_{grown.level}.png", image_grid(pictures[: self.row], self.row))
        _, channels, height, width = pictures.shape
        shape = channels, height, self.row * width
        rows = [_row(folder / f"level_{level}.png", shape) for level in range(grown.level + 1)]
        write_png(run_dir / "progress.png", torch.cat([row for row in rows if row is not None], dim=1))


def _parts(n: int) -> list[slice]:
    """Return which latents are taken at once."""
    return [slice(begin, begin + 8) for begin in range(0, n, 8)]


def _row(path: Path, shape: tuple[int, int, int]) -> Tensor | None:
    """Return an earlier row, enlarged if the run has grown since; None if a person has changed the file."""
    try:
        row = enlarge(read_png(path)[None], shape[1])[0]
    except (OSError, ValueError):
        return None
    return row if row.shape == shape else None
