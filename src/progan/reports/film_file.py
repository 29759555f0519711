"""A film in a file: frames in, one at a time; an animated picture or an MP4 out, whole under its name or not there."""

from __future__ import annotations

import contextlib
import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from torch import Tensor

from progan.arguments import check_weight
from progan.render import MOST_PIXELS, check_image
from progan.reports.containers import CONTAINERS, Container, over_white, require_pillow
from progan.storage.files import write_file, written_beside
from progan.storage.paths import user_path

_MOST_PER_SECOND = 50.0  # frames; browsers slow down a GIF with more
_MP4 = ".mp4"


@dataclass(frozen=True)
class Film:
    """A film that was written.

    Attributes:
        path: The file.
        frames: Number of frames.
        height: Height of a frame in pixels.
        width: Width of a frame in pixels.
        duration_s: Duration of one round in seconds.
        size: Size of the file in bytes.
    """

    path: Path
    frames: int
    height: int
    width: int
    duration_s: float
    size: int

    def __str__(self) -> str:
        """Return one line on it."""
        return (
            f"{self.path}: {self.frames} frames of {self.width}x{self.height}, {self.duration_s:.1f} s, "
            f"{self.size / 1e6:.1f} MB"
        )


def write_film(
    path: str | PathLike[str], frames: Iterable[Tensor], *, frames_per_second: float = 20.0, hold_s: float = 0.0
) -> Film:
    """Write frames as a film that repeats without end.

    The file's suffix determines the format: ``.gif``, ``.webp`` (both need Pillow, ``pip install "progan[images]"``),
    ``.png`` or ``.apng`` (an animated PNG, lossless, which needs nothing), and ``.mp4`` (needs an ``ffmpeg`` program on
    the PATH). Only one frame is held in memory. GIF and MP4 have no partial transparency: RGBA is shown over white.

    Args:
        path: Path of the file; its directory must exist.
        frames: Images of one shape, (C, H, W), uint8, with 1 (grey), 3 (RGB) or 4 (RGBA) channels.
        frames_per_second: Frames per second, at most 50.
        hold_s: Seconds for which the last frame stays longer than the others.

    Returns:
        What was written, with its size.

    Raises:
        FileNotFoundError: If the directory does not exist, or the film is an MP4 and there is no ffmpeg.
        ImportError: If the format needs Pillow, which is missing.
        OSError: If the file cannot be written, or ffmpeg fails. What was there before stays.
        TypeError: If a frame is not a uint8 tensor.
        ValueError: If the suffix is another, the frames differ in shape or are too large, or there are none.

    Example:
        >>> import tempfile, torch
        >>> frames = [torch.full((3, 16, 24), shade, dtype=torch.uint8) for shade in range(0, 250, 10)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     film = write_film(Path(folder) / "grey.png", frames, frames_per_second=10)
        >>> film.frames, film.height, film.width, film.duration_s
        (25, 16, 24, 2.5)
    """
    target = check_film(path)
    check_rate(frames_per_second)
    check_weight("hold_s", hold_s)
    if target.suffix.lower() == _MP4:
        reel = _Reel(frames, 16_384, has_alpha=False)
        _write_mp4(target, reel, frames_per_second, round(hold_s * frames_per_second))
        duration_s = (reel.count + round(hold_s * frames_per_second)) / frames_per_second
    else:
        container = CONTAINERS[target.suffix.lower()]()
        reel = _Reel(frames, container.most_side, has_alpha=container.has_alpha)
        _write_animation(target, container, reel, frames_per_second, hold_s)
        duration_s = reel.count / frames_per_second + hold_s
    _, height, width = reel.first.shape
    return Film(target, reel.count, height, width, duration_s, target.stat().st_size)


def check_film(path: str | PathLike[str]) -> Path:
    """Return the path of a film that can be written here.

    Raises:
        FileNotFoundError: If its directory does not exist, or it is an MP4 and there is no ffmpeg.
        ImportError: If the format needs Pillow, which is missing.
        ValueError: If the suffix is of no format of films.
    """
    target = user_path(path)
    suffix = target.suffix.lower()
    if suffix not in (*CONTAINERS, _MP4):
        raise ValueError(f"a film's name must end in {', '.join(CONTAINERS)} or {_MP4}, got {target.name!r}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent} is not a directory; create it, or pass another path for the film")
    if suffix == _MP4:
        _ffmpeg()
    elif suffix in (".gif", ".webp"):
        require_pillow(suffix)
    return target


def check_rate(frames_per_second: float) -> None:
    """Raise TypeError or ValueError where a film cannot have so many frames per second."""
    check_weight("frames_per_second", frames_per_second, above_0=True)
    if frames_per_second > _MOST_PER_SECOND:
        raise ValueError(f"frames_per_second must be at most {_MOST_PER_SECOND:g}, got {frames_per_second}")


class _Reel:
    """The frames of a film, each checked as it comes.

    Attributes:
        count: Number of frames so far.
        first: The first frame.
    """

    first: Tensor

    def __init__(self, frames: Iterable[Tensor], most_side: int, *, has_alpha: bool) -> None:
        self.count = 0
        self._frames = frames
        self._most_side = most_side
        self._has_alpha = has_alpha

    def __iter__(self) -> Iterator[Tensor]:
        for frame in self._frames:
            check_image(frame)
            _, height, width = frame.shape
            if max(height, width) > self._most_side or height * width > MOST_PIXELS:
                raise ValueError(
                    f"frames of this format have at most {self._most_side:,} pixels a side and {MOST_PIXELS:,} in all, "
                    f"got {width}x{height}"
                )
            frame = frame if self._has_alpha else over_white(frame)
            if self.count == 0:
                self.first = frame
            elif frame.shape != self.first.shape:
                raise ValueError(
                    f"frames must have one shape, got {tuple(self.first.shape)} and {tuple(frame.shape)} (C, H, W)"
                )
            self.count += 1
            yield frame
        if self.count == 0:
            raise ValueError("a film needs at least 1 frame, got none")


def _write_animation(path: Path, container: Container, reel: _Reel, frames_per_second: float, hold_s: float) -> None:
    """Write an animated picture; the bytes before the frames are final once these are counted."""
    size = 0

    def pieces() -> Iterator[bytes]:
        nonlocal size
        for piece in _pieces(container, reel, frames_per_second, hold_s):
            size += len(piece)
            yield piece

    write_file(path, pieces(), beginning=lambda: container.beginning(reel.first, reel.count, size))


def _pieces(container: Container, reel: _Reel, frames_per_second: float, hold_s: float) -> Iterator[bytes]:
    def frame(index: int, image: Tensor, hold_s: float = 0.0) -> bytes:
        # In steps that hundredths of a second can express, and whose sum does not drift.
        begin, end = (round(at / frames_per_second * 100) * 10 for at in (index, index + 1))
        return container.frame(image, index, end - begin + round(hold_s * 100) * 10)

    held: Tensor | None = None
    for index, image in enumerate(reel):
        if held is None:
            yield container.beginning(image, 0, 0)
        else:
            yield frame(index - 1, held)
        held = image
    assert held is not None
    yield frame(reel.count - 1, held, hold_s)
    yield container.end()


def _write_mp4(path: Path, reel: _Reel, frames_per_second: float, repeats: int) -> None:
    """Pipe frames to ffmpeg, the last one as often again as said."""
    frames = iter(reel)
    image = next(frames)
    channels, height, width = image.shape
    with written_beside(path) as beside, tempfile.TemporaryFile() as errors:
        command = [
            *(
                _ffmpeg(),
                "-loglevel",
                "error",
                "-y",
                "-f",
                "rawvideo",
                "-pix_fmt",
                "gray" if channels == 1 else "rgb24",
            ),
            *("-video_size", f"{width}x{height}", "-framerate", f"{frames_per_second:g}", "-i", "pipe:0"),
            # Most players take even sides and half of the colours' resolution only.
            *("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2:color=white", "-pix_fmt", "yuv420p"),
            *("-movflags", "+faststart", "-f", "mp4", str(beside.absolute())),
        ]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors) as program:
            assert program.stdin is not None
            try:
                program.stdin.write(_raw(image))
                for image in frames:
                    program.stdin.write(_raw(image))
                for _ in range(repeats):
                    program.stdin.write(_raw(image))
                program.stdin.close()
            except BrokenPipeError:  # it has ended, and says why
                with contextlib.suppress(BrokenPipeError):
                    program.stdin.close()
            except BaseException:
                program.kill()
                raise
            status = program.wait()
        if status != 0 or not beside.is_file():
            errors.seek(0)
            lines = errors.read(100_000).decode(errors="replace").split("\n")
            said = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
            raise OSError(f"ffmpeg could not write {path}: exit status {status}, and the last that it said: {said}")


def _raw(image: Tensor) -> memoryview:
    return image.permute(1, 2, 0).contiguous().cpu().numpy().data.cast("B")


def _ffmpeg() -> str:
    """Return the path of ffmpeg.

    Raises:
        FileNotFoundError: If there is none.
    """
    found = shutil.which("ffmpeg")
    if found is None:
        raise FileNotFoundError(
            "MP4 films are written by the program ffmpeg, and there is none on the PATH; install it "
            "(https://ffmpeg.org), or pass a name ending in .gif, .webp or .png"
        )
    return found


def frame_count(duration_s: float, frames_per_second: float) -> int:
    """Return the number of frames of a film, at least 1.

    Example:
        >>> frame_count(2.0, 12.5)
        25
    """
    return max(1, math.floor(duration_s * frames_per_second + 0.5))
