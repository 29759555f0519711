"""Films: what is written is what readers of each format read; runs with damaged or missing grids."""

from __future__ import annotations

import itertools
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MEMORY, small_recipe
from PIL import Image
from running import program

from progan import GrownGenerator, TruncatedGenerator, enlarge, to_uint8, write_png
from progan.render import read_png
from progan.reports import Film, time_lapse, walk_film, write_film
from progan.reports.captions import captioned
from progan.reports.containers import over_white

SUFFIXES = [".gif", ".png", ".apng", ".webp"]


def frames(n: int = 5, channels: int = 3, size: tuple[int, int] = (12, 20)) -> list[torch.Tensor]:
    """Pictures of few colours, which a GIF keeps."""
    generator = torch.Generator().manual_seed(0)
    return [
        enlarge(torch.randint(0, 256, (1, channels, 3, 5), dtype=torch.uint8, generator=generator), size[0])[0]
        for _ in range(n)
    ]


def read(path: Path) -> tuple[list[torch.Tensor], list[int], int]:
    """The frames, (C, H, W), their durations in milliseconds, and the number of rounds, as Pillow reads them."""
    with Image.open(path) as picture:
        images, durations = [], []
        for index in range(picture.n_frames):
            picture.seek(index)
            picture.load()
            mode = {"L": "L", "RGB": "RGB", "RGBA": "RGBA", "P": "RGB"}[picture.mode]
            pixels = np.array(picture.convert(mode))
            images.append(torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1))
            durations.append(round(picture.info["duration"]))
        return images, durations, picture.info["loop"]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_film_is_what_pillow_reads(suffix, channels, tmp_path):
    pictures = frames(channels=channels)
    film = write_film(tmp_path / f"film{suffix}", iter(pictures), frames_per_second=10, hold_s=0.5)
    assert film == Film(film.path, 5, 12, 20, 1.0, film.path.stat().st_size)
    assert str(film) == f"{film.path}: 5 frames of 20x12, 1.0 s, 0.0 MB"
    images, durations, rounds = read(film.path)
    assert durations == [100, 100, 100, 100, 600]
    assert rounds == 0
    assert [path.name for path in tmp_path.iterdir()] == [f"film{suffix}"]
    for image, picture in zip(images, pictures, strict=True):
        if suffix == ".webp":  # lossy
            assert image.shape == (4 if channels == 4 else 3, 12, 20)
            shown = over_white(image).float().mean(dim=(1, 2))
            assert (shown - over_white(picture).float().mean(dim=(1, 2))).abs().max() < 6
        else:
            expected = over_white(picture) if suffix == ".gif" else picture
            assert torch.equal(image, expected.expand(len(image), -1, -1))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_frame_of_one_pixel(suffix, tmp_path):
    film = write_film(tmp_path / f"film{suffix}", [torch.full((3, 1, 1), 200, dtype=torch.uint8)])
    with Image.open(film.path) as picture:
        assert picture.size == (1, 1)
        assert np.abs(np.array(picture.convert("RGB")).astype(int) - 200).max() <= 2


def test_a_gif_of_many_colours_is_near_and_times_do_not_drift(tmp_path):
    ramp = torch.linspace(0, 255, 64).round().to(torch.uint8)
    picture = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64), 255 - ramp.expand(64, 64)])
    film = write_film(tmp_path / "film.gif", [picture] * 7, frames_per_second=30)
    images, durations, _ = read(film.path)
    assert (images[0].int() - picture.int()).abs().float().mean() < 8
    assert durations == [30, 40, 30, 30, 40, 30, 30]  # of 233 milliseconds


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_frames_are_taken_one_at_a_time_and_an_error_keeps_the_old_file(suffix, tmp_path):
    path = tmp_path / f"film{suffix}"
    write_film(path, frames(2))
    before = path.read_bytes()

    def failing():
        yield from frames(3)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_film(path, failing())
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("name", "images", "keywords", "error", "text"),
    [
        ("film.avi", frames(), {}, ValueError, "must end in .gif, .png, .apng, .webp or .mp4, got 'film.avi'"),
        ("film", frames(), {}, ValueError, "must end in"),
        ("no/film.gif", frames(), {}, FileNotFoundError, "is not a directory; create it"),
        ("film.gif", [], {}, ValueError, "at least 1 frame, got none"),
        ("film.gif", [*frames(1), *frames(1, 1)], {}, ValueError, r"one shape, got \(3, 12, 20\) and \(1, 12, 20\)"),
        ("film.png", [torch.zeros(3, 4, 4)], {}, TypeError, "takes uint8, got torch.float32"),
        ("film.png", [np.zeros((3, 4, 4))], {}, TypeError, "must be a tensor"),
        ("film.webp", [torch.zeros(1, 1, 16_384, dtype=torch.uint8)], {}, ValueError, "at most 16,383 pixels a side"),
        ("film.png", [torch.zeros(1, dtype=torch.uint8).expand(1, 8193, 8192)], {}, ValueError, "67,108,864 in all"),
        ("film.gif", frames(), {"frames_per_second": 51}, ValueError, "at most 50, got 51"),
        ("film.gif", frames(), {"frames_per_second": 0}, ValueError, "above 0"),
        ("film.gif", frames(), {"hold_s": -1}, ValueError, "hold_s must be at least 0"),
    ],
)
def test_bad_arguments_are_refused(name, images, keywords, error, text, tmp_path):
    with pytest.raises(error, match=text):
        write_film(tmp_path / name, images, **keywords)
    assert not list(tmp_path.iterdir())


def test_without_pillow_only_png_is_written(tmp_path):
    printed = program(
        """
import sys, torch
sys.modules["PIL"] = None
from progan.reports import write_film
frames = [torch.zeros(3, 4, 4, dtype=torch.uint8)]
print(write_film(sys.argv[1] + "/film.png", frames).frames)
for suffix in (".gif", ".webp"):
    try:
        write_film(sys.argv[1] + "/film" + suffix, frames)
    except ImportError as error:
        print(error)
""",
        str(tmp_path),
    ).stdout.splitlines()
    assert printed[0] == "1"
    for line, suffix in zip(printed[1:], (".gif", ".webp"), strict=True):
        remedy = 'pass a name that ends in .png, or install it: pip install "progan[images]"'
        assert line == f"{suffix} films are written with Pillow; {remedy}"
    assert [path.name for path in tmp_path.iterdir()] == ["film.png"]


# MP4: by a stand-in for ffmpeg, which notes its arguments and keeps the raw frames.
STAND_IN = """#!{python}
import json, sys
data = sys.stdin.buffer.read()
if {fails}:
    sys.exit("no encoder")
with open(sys.argv[-1], "wb") as file:
    file.write(json.dumps(sys.argv[1:-1]).encode() + b"\\n" + data)
"""


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch):
    def install(*, fails: bool = False) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        path = folder / "ffmpeg"
        path.write_text(STAND_IN.format(python=sys.executable, fails=fails))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return install


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for ffmpeg is a script")
@pytest.mark.parametrize(("channels", "layout"), [(1, "gray"), (3, "rgb24"), (4, "rgb24")])
def test_an_mp4_is_made_by_ffmpeg(channels, layout, tmp_path, ffmpeg):
    ffmpeg()
    pictures = frames(channels=channels)
    film = write_film(tmp_path / "film.mp4", iter(pictures), frames_per_second=12.5, hold_s=0.16)
    assert (film.frames, film.height, film.width, film.duration_s) == (5, 12, 20, 0.56)
    arguments, _, data = film.path.read_bytes().partition(b"\n")
    assert f'"-pix_fmt", "{layout}", "-video_size", "20x12", "-framerate", "12.5"'.encode() in arguments
    shown = torch.stack([over_white(picture) for picture in [*pictures, *pictures[-1:] * 2]])
    assert data == shown.permute(0, 2, 3, 1).contiguous().numpy().tobytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "film.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for ffmpeg is a script")
def test_an_mp4_that_fails_leaves_what_was_there(tmp_path, ffmpeg):
    ffmpeg(fails=True)
    path = tmp_path / "film.mp4"
    path.write_bytes(b"old")
    with pytest.raises(
        OSError, match=r"ffmpeg could not write .*film.mp4: exit status 1, and the last that it said: no encoder"
    ):
        write_film(path, frames())
    with pytest.raises(ValueError, match="at least 1 frame"):
        write_film(path, [])
    assert path.read_bytes() == b"old"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bin", "film.mp4"]


def test_without_ffmpeg_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"none on the PATH; install it .*, or pass a name ending in .gif"):
        write_film(tmp_path / "film.mp4", frames())


def test_ffmpeg_itself_where_there_is_one(tmp_path):
    try:
        subprocess.run(["ffmpeg", "-version"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no ffmpeg on the PATH")
    film = write_film(tmp_path / "film.mp4", frames(9, size=(27, 45)), frames_per_second=3)
    assert film.path.read_bytes()[4:8] == b"ftyp"
    made = subprocess.run(["ffmpeg", "-i", str(film.path)], check=False, capture_output=True, text=True).stderr
    assert "46x28" in made  # even sides
    assert "00:00:03.00" in made


def run_of(tmp_path: Path, counts: list[int], size: int = 16) -> Path:
    """A run directory with grids, each of one colour that its count determines."""
    folder = tmp_path / "run/samples"
    folder.mkdir(parents=True)
    for count in counts:
        write_png(folder / f"{count:09d}.png", torch.full((3, size, size), count % 251, dtype=torch.uint8))
    write_png(folder / "level_0.png", torch.zeros(3, 4, 8, dtype=torch.uint8))
    return tmp_path / "run"


def shown_counts(path: Path) -> list[int]:
    return [int(image[0, 0, 0]) for image in read(path)[0]]


def test_a_time_lapse_shows_the_grids_in_order(tmp_path):
    run = run_of(tmp_path, [8, 24, 100, 9])
    (run / "samples/notes.txt").write_text("mine")
    film = time_lapse(run, tmp_path / "film.png", frames_per_second=5, hold_s=1, captions=False)
    assert (film.frames, film.height, film.width, film.duration_s) == (4, 16, 16, 1.8)
    assert shown_counts(film.path) == [8, 9, 24, 100]
    captions = time_lapse(run, tmp_path / "film.gif")
    assert (captions.height, captions.width) == (16 + 11, 16)
    assert captions.frames == 4
    for count, shade in ((1_000_000_001, 7), (200_000_000, 5)):  # as texts, they would be in the other order
        write_png(run / f"samples/{count:09d}.png", torch.full((3, 16, 16), shade, dtype=torch.uint8))
    assert shown_counts(time_lapse(run, tmp_path / "film.png", captions=False).path) == [8, 9, 24, 100, 5, 7]


def test_of_two_sizes_as_frequent_the_newest_is_shown(tmp_path):
    run = run_of(tmp_path, [8, 16], size=16)
    for count in (24, 32):
        write_png(run / f"samples/{count:09d}.png", torch.full((3, 512, 8), count, dtype=torch.uint8))
    with pytest.warns(UserWarning, match="leaves out 2 grids"):
        film = time_lapse(run, tmp_path / "film.png")
    assert (film.frames, film.height) == (2, 512 + 22), "and large grids have larger captions"


def test_the_pace_of_a_time_lapse(tmp_path):
    run = run_of(tmp_path, list(range(1, 101)))
    film = time_lapse(run, tmp_path / "film.png", captions=False, hold_s=0)
    assert film.frames == 100
    assert film.duration_s == pytest.approx(12)
    film = time_lapse(run, tmp_path / "film.png", captions=False, hold_s=0, duration_s=2)
    assert film.frames == 50
    assert film.duration_s == pytest.approx(2)
    counts = shown_counts(film.path)
    assert counts[0] == 1
    assert counts[-1] == 100
    assert {after - before for before, after in itertools.pairwise(counts)} == {2, 3}
    assert time_lapse(run, tmp_path / "film.png", captions=False, hold_s=0, frames_per_second=50).frames == 100
    assert time_lapse(run, tmp_path / "film.png", captions=False, duration_s=0.01).frames == 1


def test_the_colour_of_invisible_pixels_does_not_bleed_into_reduced_grids(tmp_path):
    folder = tmp_path / "run/samples"
    folder.mkdir(parents=True)
    grid = torch.zeros(4, 8, 8, dtype=torch.uint8)
    grid[0], grid[1, :, ::2], grid[3, :, 1::2] = 200, 255, 255  # green is in the invisible columns only
    write_png(folder / "000000008.png", grid)
    (image,), _, _ = read(time_lapse(tmp_path / "run", tmp_path / "film.png", height=4, captions=False).path)
    assert image[:, 0, 0].tolist() == [200, 0, 0, 128]


@pytest.mark.parametrize("height", [32, 20, 16, 5])
def test_large_grids_are_averaged_down(height, tmp_path):
    folder = tmp_path / "run/samples"
    folder.mkdir(parents=True)
    grid = torch.randint(0, 256, (3, 32, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    write_png(folder / "000000008.png", grid)
    film = time_lapse(tmp_path / "run", tmp_path / "film.png", height=height, captions=False)
    factor = {32: 1, 20: 2, 16: 2, 5: 8}[height]
    assert (film.height, film.width) == (32 // factor, 16 // factor)
    blocks = grid.double().reshape(3, 32 // factor, factor, 16 // factor, factor).mean(dim=(2, 4))
    assert (read(film.path)[0][0].double() - blocks).abs().max() <= 0.5 + 1e-4


def test_damaged_and_replaced_grids_are_left_out_with_a_warning(tmp_path):
    run = run_of(tmp_path, [8, 16, 24, 32, 40, 48, 56, 64, 72])
    samples = run / "samples"
    (samples / "000000016.png").write_bytes((samples / "000000016.png").read_bytes()[:-20])
    (samples / "000000024.png").write_bytes(b"")
    Image.new("RGB", (16, 16)).save(samples / "000000032.png")  # by another program
    write_png(samples / "000000040.png", torch.zeros(3, 8, 8, dtype=torch.uint8))  # of another size
    header = (samples / "000000008.png").read_bytes()[:16] + (60_000).to_bytes(4, "big") * 2
    (samples / "000000048.png").write_bytes(header + bytes(20))
    if hasattr(os, "mkfifo"):
        (samples / "000000056.png").unlink()
        os.mkfifo(samples / "000000056.png")
    else:
        (samples / "000000056.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"leaves out 6 grids: .*000000024.png is not a PNG .*; and 3 more"):
        film = time_lapse(run, tmp_path / "film.png", captions=False)
    assert shown_counts(film.path) == [8, 64, 72]
    for path in samples.glob("0*.png"):
        path.unlink()
    with pytest.raises(ValueError, match=r"has no grids of samples, such as 000060000.png; train with preview_every"):
        time_lapse(run, tmp_path / "film.png")


def test_a_file_that_claims_or_takes_much_costs_little(tmp_path):
    """A grid of 8192x8192 that only its header has, and one with two gigabytes behind a small picture."""
    run = run_of(tmp_path, [8, 16, 24])
    samples = run / "samples"
    with (samples / "000000016.png").open("r+b") as file:
        file.truncate(2 << 30)
    before = (samples / "000000024.png").read_bytes()
    (samples / "000000032.png").write_bytes(before[:16] + (8192).to_bytes(4, "big") * 2 + before[24:])
    printed = program(
        MEMORY
        + """
import sys, warnings
from progan.reports import time_lapse
warnings.simplefilter("ignore")
time_lapse(sys.argv[1], sys.argv[2] + "/first.png")
before = begin()
print(time_lapse(sys.argv[1], sys.argv[2] + "/film.png").frames, peak_above(before))
""",
        *(str(run), str(tmp_path)),
    ).stdout.split()
    assert printed[0] == "2"
    assert float(printed[1]) < 50


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path):
    """Of 512x512: 100 frames are 79 MB."""
    printed = program(
        MEMORY
        + """
import sys, torch
from progan.reports import write_film
picture = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8).repeat_interleave(8, 1).repeat_interleave(8, 2)
frames = lambda n: (picture.roll(index, 2) for index in range(n))
for suffix in (".gif", ".webp", ".png"):
    write_film(sys.argv[1] + "/film" + suffix, frames(4))
    before = begin()
    write_film(sys.argv[1] + "/film" + suffix, frames(100))
    print(peak_above(before))
""",
        str(tmp_path),
    ).stdout.split()
    assert all(float(each) < 30 for each in printed), printed


@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        ({"duration_s": 1, "frames_per_second": 5}, ValueError, "duration_s or frames_per_second, not both"),
        ({"duration_s": 0}, ValueError, "duration_s must be above 0"),
        ({"frames_per_second": 60}, ValueError, "at most 50"),
        ({"height": 0}, ValueError, "height must be at least 1"),
        ({"captions": "no"}, TypeError, "captions must be True or False"),
        ({"path": "run/samples/000000008.png"}, ValueError, "is where the run writes its grids"),
        ({"run_dir": "nowhere"}, FileNotFoundError, "nowhere is not a directory; pass the run_dir of a training"),
        ({"run_dir": "."}, ValueError, "has no grids of samples"),
    ],
)
def test_a_time_lapse_that_cannot_be_made_is_refused(keywords, error, text, tmp_path, monkeypatch):
    run_of(tmp_path, [8])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=text):
        time_lapse(**{"run_dir": "run", "path": "film.png", **keywords})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    assert len(list((tmp_path / "run/samples").iterdir())) == 2


def built(level: int = 2, **architecture) -> GrownGenerator:
    recipe = small_recipe()
    from dataclasses import replace

    recipe = replace(recipe, architecture=replace(recipe.architecture, **architecture))
    return GrownGenerator(recipe.build(seed=1)[0], level)


@pytest.mark.parametrize(
    "architecture", [{}, {"image_channels": 1}, {"image_channels": 4}, {"base_size": (6, 4), "latent_shape": (5, 6, 4)}]
)
def test_a_walk_film_shows_the_images_of_a_walk(architecture, tmp_path):
    grown = built(**architecture)
    film = walk_film(grown, tmp_path / "film.png", through=3, seed=2, duration_s=2, frames_per_second=10, height=50)
    assert film.frames == 20
    expected = enlarge(to_uint8(grown.images(grown.walk(20, through=3, seed=2))), 50)
    assert (film.height, film.width) == expected.shape[2:]
    images = torch.stack(read(film.path)[0])
    assert (images.int() - expected.int()).abs().max() <= 1
    # The jump from the last frame to the first is like the others.
    jumps = (expected.float() - expected.float().roll(-1, 0)).square().mean(dim=(1, 2, 3)).sqrt()
    assert jumps[-1] < 2 * jumps[:-1].max()


def test_a_walk_film_of_found_latents_and_of_a_truncated_generator(tmp_path):
    grown = built()
    z = grown.latents([5, 1, 3])
    film = walk_film(TruncatedGenerator(grown, 0, n=8), tmp_path / "film.png", through=z, duration_s=1)
    images = torch.stack(read(film.path)[0]).int()
    assert (images - images[:1]).abs().max() <= 1
    with pytest.raises(TypeError, match=r"pass GrownGenerator\(generator, level\)"):
        walk_film(grown.generator, tmp_path / "film.png")
    with pytest.raises(ValueError, match="at least 2 key points"):
        walk_film(grown, tmp_path / "film.png", through=[1])


def test_captions():
    image = torch.zeros(4, 16, 100, dtype=torch.uint8)
    shown = captioned(image, "0,1 images", scale=1)
    assert shown.shape == (4, 27, 100)
    assert torch.equal(shown[:, :16], image)
    strip = shown[0, 16:]
    assert (shown[3, 16:] == 255).all()
    assert set(strip.unique().tolist()) == {0, 255}
    assert (strip[:2] == 255).all()
    drawn = ["".join("#" if value == 0 else "." for value in row) for row in strip[2:9, 2:7].tolist()]
    assert drawn == [".###.", "#...#", "#..##", "#.#.#", "##..#", "#...#", ".###."]
    assert captioned(image[:1, :, :9], "123,456 images", scale=2).shape == (1, 38, 9)  # cut off
    assert captioned(image, "1", scale=3).shape == (4, 49, 100)


def test_over_white():
    image = torch.tensor([0, 100, 255, 128], dtype=torch.uint8)[:, None, None]
    assert over_white(image).flatten().tolist() == [127, 177, 255]
    assert torch.equal(over_white(image[:3]), image[:3])


def test_a_real_run_makes_a_time_lapse(images, tmp_path):
    from running import make

    make(small_recipe(), tmp_path / "run").fit(images, until=48)
    film = time_lapse(tmp_path / "run", tmp_path / "film.gif")
    counts = sorted(path.name for path in (tmp_path / "run/samples").glob("0*.png"))
    assert film.frames == len(counts) >= 3
    grid = read_png(tmp_path / "run/samples" / counts[-1])
    assert (read(film.path)[0][-1][:, : grid.shape[1]].int() - grid.int()).abs().float().mean() < 6
