"""Pictures: what is written is what a PNG reader reads."""

from __future__ import annotations

import pytest
import torch

from progan import enlarge, image_grid, to_uint8, write_png
from progan.render import read_png


def pixels(channels: int) -> torch.Tensor:
    return torch.randint(0, 256, (channels, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(channels))


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_png_round_trip_and_as_pillow_reads_it(channels, mode, tmp_path):
    import numpy as np
    from PIL import Image

    image = pixels(channels)
    write_png(tmp_path / "a.png", image)
    assert torch.equal(read_png(tmp_path / "a.png"), image)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == mode
        read = torch.from_numpy(np.array(picture).reshape(5, 7, channels)).permute(2, 0, 1)
    assert torch.equal(read, image)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_what_is_no_picture_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"takes uint8, got torch.float32; use progan.to_uint8"):
        write_png(tmp_path / "a.png", torch.zeros(3, 4, 4))
    for shape in ((2, 4, 4), (4, 4), (3, 0, 4)):
        with pytest.raises(ValueError, match="a PNG takes an image"):
            write_png(tmp_path / "a.png", torch.zeros(shape, dtype=torch.uint8))
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_png(tmp_path / "a.png", pixels(3))
    before = (tmp_path / "a.png").read_bytes()
    (tmp_path / ".a.png.partial").mkdir()  # where the new one would be written
    with pytest.raises(OSError):  # noqa: PT011 (the text is the system's)
        write_png(tmp_path / "a.png", pixels(1))
    assert (tmp_path / "a.png").read_bytes() == before


@pytest.mark.parametrize(
    "damage", [lambda d: b"", lambda d: d[:-5], lambda d: d[:50] + b"xx" + d[52:], lambda d: d[8:]]
)
def test_a_damaged_png_is_refused(damage, tmp_path):
    path = tmp_path / "a.png"
    write_png(path, pixels(3))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="is not a PNG that progan wrote, or damaged"):
        read_png(path)


def test_another_kind_of_png_is_refused(tmp_path):
    from PIL import Image

    Image.linear_gradient("L").save(tmp_path / "filtered.png")  # rows with filters
    Image.new("P", (4, 4)).save(tmp_path / "palette.png")
    for name in ("filtered.png", "palette.png"):
        with pytest.raises(ValueError, match="is not a PNG that progan wrote"):
            read_png(tmp_path / name)


def test_grid_lays_out_by_rows_and_fills_with_white():
    images = torch.arange(5, dtype=torch.uint8).reshape(5, 1, 1, 1).expand(5, 3, 2, 2)
    grid = image_grid(images, 3, gap=1)
    assert grid.shape == (3, 5, 8)
    assert grid[0, 0].tolist() == [0, 0, 255, 1, 1, 255, 2, 2]
    assert grid[0, 3].tolist() == [3, 3, 255, 4, 4, 255, 255, 255]
    with pytest.raises(ValueError, match="a grid needs images"):
        image_grid(images[:0], 3)


def test_to_uint8_rounds_and_clamps():
    assert to_uint8(torch.tensor([-1.0, 0.0, 0.499 / 255, 0.501 / 255, 1.0, 2.0])).tolist() == [0, 0, 0, 1, 255, 255]


def test_enlarge_repeats_whole_pixels_and_never_shrinks():
    images = pixels(3)[None]
    assert enlarge(images, 12).shape == (1, 3, 10, 14)
    assert torch.equal(enlarge(images, 12)[..., ::2, ::2], images)
    assert enlarge(images, 3).shape == images.shape
