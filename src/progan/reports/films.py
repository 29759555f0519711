"""Films: the same latents through a whole training, and a walk through the latents of a trained generator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from progan.arguments import check_flag, check_instance, check_int, check_weight
from progan.errors import warn
from progan.latents import walk_weights
from progan.networks.generator import ProgressiveGenerator
from progan.ops.resampling import downsample
from progan.render import enlarge, png_shape, read_png, to_uint8
from progan.reports.captions import captioned
from progan.reports.film_file import Film, check_film, check_rate, frame_count, write_film
from progan.runs.directory import PICTURE_NAME
from progan.runtime.progress import counted
from progan.sampling import GrownGenerator, drawn_at_once, key_points, walked
from progan.storage.paths import user_path

_SLOWEST, _FASTEST = 8.0, 25.0  # frames per second of a time-lapse, unless others are asked for
_LONGEST_S = 12.0
_BATCH = 16


def time_lapse(
    run_dir: str | PathLike[str],
    path: str | PathLike[str],
    *,
    duration_s: float | None = None,
    frames_per_second: float | None = None,
    hold_s: float = 1.5,
    height: int = 512,
    captions: bool = True,
) -> Film:
    """Film the training of a run: the sample grids of the same latents, one after another.

    The frames are the grids that `progan.Previews` writes, ``samples/000060000.png``. Grids that are damaged, that
    another program wrote, or that have another size than most are left out with a warning. Only one is held in memory.

    Args:
        run_dir: Run directory, finished or not.
        path: Path of the film; its suffix determines the format (see `write_film`).
        duration_s: Duration in seconds, without hold_s. At most 25 frames per second are shown: of more grids, those at
            regular distances.
        frames_per_second: Frames per second, instead of duration_s; every grid is shown. Without both: 8 frames per
            second, or so many that it takes 12 seconds.
        hold_s: Seconds for which the last grid stays longer.
        height: Largest height of the pictures in pixels; larger grids are averaged down by a whole factor.
        captions: Whether to write the count of real images below each grid.

    Returns:
        What was written, with its size.

    Raises:
        FileNotFoundError: If there is no such run directory or no directory for the film, or it is an MP4 and there is
            no ffmpeg.
        ImportError: If the format needs Pillow, which is missing.
        OSError: If the film cannot be written.
        TypeError: If an argument has the wrong type.
        ValueError: If there is no sound grid, the suffix is of no format, both duration_s and frames_per_second are
            given, or one of them is out of range.
    """
    run, target = user_path(run_dir, "run_dir"), check_film(path)
    if duration_s is not None:
        check_weight("duration_s", duration_s, above_0=True)
        if frames_per_second is not None:
            raise ValueError("time_lapse takes duration_s or frames_per_second, not both")
    if frames_per_second is not None:
        check_rate(frames_per_second)
    check_int("height", height, 1)
    check_flag("captions", captions)
    folder = run / "samples"
    if target.parent.resolve() == folder.resolve():
        raise ValueError(f"{folder} is where the run writes its grids; pass a path elsewhere for the film")
    left_out: list[str] = []
    grids = _grids(run, folder, left_out)
    if frames_per_second is None:
        rate = len(grids) / duration_s if duration_s is not None else max(_SLOWEST, len(grids) / _LONGEST_S)
        if rate > _FASTEST:
            grids = _spread(grids, frame_count(len(grids) / rate, _FASTEST))
            rate = _FASTEST
        frames_per_second = rate
    frames = counted(_frames(grids, height, captions, left_out), len(grids), "writing the film")
    film = write_film(target, frames, frames_per_second=frames_per_second, hold_s=hold_s)
    if left_out:
        more = f"; and {len(left_out) - 3} more" if len(left_out) > 3 else ""
        warn(f"the time-lapse of {run} leaves out {len(left_out)} grids: {'; '.join(left_out[:3])}{more}")
    return film


def walk_film(
    grown: GrownGenerator,
    path: str | PathLike[str],
    *,
    through: int | Iterable[int] | Tensor = 7,
    seed: int = 0,
    duration_s: float = 10.0,
    frames_per_second: float = 20.0,
    height: int = 256,
) -> Film:
    """Film a closed walk through the latents of a generator: its first frame follows its last without a jump.

    Args:
        grown: Trained generator; with classes, that of one class (`progan.GrownGenerator.of_class`).
        path: Path of the film; its suffix determines the format (see `write_film`).
        through: Key points of the walk, as for `progan.GrownGenerator.walk`: how many samples, indices of samples, or
            latents.
        seed: Random seed of the samples.
        duration_s: Duration of one round in seconds.
        frames_per_second: Frames per second, at most 50.
        height: Height in pixels to which smaller images are enlarged, by a whole factor.

    Returns:
        What was written, with its size.

    Raises:
        FileNotFoundError: If there is no directory for the film, or it is an MP4 and there is no ffmpeg.
        ImportError: If the format needs Pillow, which is missing.
        OSError: If the film cannot be written.
        TypeError: If an argument has the wrong type.
        ValueError: If the key points are too few or all alike, the suffix is of no format, or a number is out of range.
    """
    check_instance("grown", grown, GrownGenerator, [(ProgressiveGenerator, "pass GrownGenerator(generator, level)")])
    grown.check_one_class("the pictures of a walk")
    target = check_film(path)
    check_weight("duration_s", duration_s, above_0=True)
    check_rate(frames_per_second)
    check_int("height", height, 1)
    keys = key_points(grown, through, seed)
    n = frame_count(duration_s, frames_per_second)
    weights = walk_weights(keys, n)

    def frames() -> Iterator[Tensor]:
        for part in torch.split(weights, drawn_at_once(grown, _BATCH)):
            yield from enlarge(to_uint8(grown.images(walked(keys, part))), height)

    return write_film(target, counted(frames(), n, "writing the film"), frames_per_second=frames_per_second)


def _grids(run: Path, folder: Path, left_out: list[str]) -> list[Path]:
    """Return the grids of a run that have the size of most, in the order of their counts.

    Args:
        run: Run directory.
        folder: Its folder of samples.
        left_out: Takes a description of each of the others.
    """
    if not run.is_dir():
        raise FileNotFoundError(f"{run} is not a directory; pass the run_dir of a training")
    found = [path for path in folder.glob("*.png") if PICTURE_NAME.fullmatch(path.name) and path.stem.isdecimal()]
    shapes: dict[Path, tuple[int, int, int]] = {}
    for path in sorted(found, key=lambda path: int(path.stem)):
        try:
            shapes[path] = png_shape(path)
        except (OSError, ValueError) as error:
            left_out.append(str(error))
    if not shapes:
        why = f"; {len(left_out)} were left out: {left_out[0]}" if left_out else ""
        raise ValueError(f"{folder} has no grids of samples, such as 000060000.png; train with preview_every=...{why}")
    usual = Counter(reversed(shapes.values())).most_common(1)[0][0]  # of equally many, the newest
    for path, (_, height, width) in shapes.items():
        if shapes[path] != usual:
            left_out.append(f"{path} is {width}x{height}, most are {usual[2]}x{usual[1]}")
    return [path for path, shape in shapes.items() if shape == usual]


def _frames(grids: Sequence[Path], height: int, captions: bool, left_out: list[str]) -> Iterator[Tensor]:
    """Yield the frames of grids, and describe those that are damaged in left_out."""
    for path in grids:
        try:
            grid = read_png(path)
        except (OSError, ValueError) as error:
            left_out.append(str(error))
            continue
        grid = _reduced(grid, height)
        text = f"{int(path.stem):,} images"
        yield captioned(grid, text, scale=max(1, grid.shape[1] // 256)) if captions else grid


def _reduced(image: Tensor, height: int) -> Tensor:
    """Average pixels by the least whole factor that makes an image at most so high, where there is one."""
    _, rows, columns = image.shape
    for factor in range(-(-rows // height), min(rows, columns) + 1):
        if rows % factor == 0 and columns % factor == 0:
            return _averaged(image, factor) if factor > 1 else image
    return image


def _averaged(image: Tensor, factor: int) -> Tensor:
    """Average factor x factor pixels of an image, (C, H, W) uint8, the colours of RGBA weighted by their opacity."""
    x = image[None] / 255
    if x.shape[1] != 4:
        return to_uint8(downsample(x, factor)[0])
    opacity = downsample(x[:, 3:], factor)
    colours = downsample(x[:, :3] * x[:, 3:], factor) / opacity.clamp_min(1 / 255)
    return to_uint8(torch.cat([colours, opacity], dim=1)[0])


def _spread(grids: Sequence[Path], n: int) -> list[Path]:
    """Return n of the grids at regular distances, the first and the last among them."""
    last = len(grids) - 1
    return [grids[round(index * last / max(n - 1, 1))] for index in range(n - 1)] + [grids[last]]
