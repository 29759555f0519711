"""Pictures of a report: read with care, encoded within their bytes, and not twice."""

from __future__ import annotations

import base64
import io
import os
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from report_runs import recipe_of

from progan.render import enlarge, png_bytes, read_png, write_png
from progan.reports import gallery, pictures
from progan.reports.pictures import chosen, encode, load_picture, previous_pictures, sheet_attributes, sheet_key


def noise(side: int, channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (channels, side, side), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def decoded(picture) -> torch.Tensor:
    image = pytest.importorskip("PIL.Image")
    data = base64.b64decode(picture.uri.partition(",")[2])
    pixels = torch.frombuffer(bytearray(image.open(io.BytesIO(data)).convert("RGB").tobytes()), dtype=torch.uint8)
    return pixels.reshape(*image.open(io.BytesIO(data)).size[::-1], 3).permute(2, 0, 1)


@pytest.fixture(params=["webp", "png"])
def kind(request, monkeypatch):
    """The kind of pictures that are made: with Pillow, and without."""
    if request.param == "png":
        monkeypatch.setattr(pictures, "_pillow", lambda: None)
    else:
        pytest.importorskip("PIL")
    return request.param


def test_repeated_pixels_are_kept_once_and_exactly(tmp_path, kind):
    write_png(tmp_path / "a.png", enlarge(noise(16)[None], 256)[0])
    picture = load_picture(tmp_path / "a.png", 10_000)
    assert (picture.width, picture.height, picture.is_sharp) == (16, 16, True)
    assert picture.uri.startswith(f"data:image/{kind};base64,")
    torch.testing.assert_close(decoded(picture), noise(16))


def test_pixels_that_repeat_one_way_only_are_kept(tmp_path):
    write_png(tmp_path / "a.png", noise(16).repeat_interleave(2, 1))
    picture = load_picture(tmp_path / "a.png", 10_000)
    assert (picture.width, picture.height) == (16, 32)


@pytest.mark.parametrize("side", [512, 300, 129, 128])
@pytest.mark.parametrize("most_bytes", [10_000, 60_000])
def test_large_pictures_fit(side, most_bytes, kind):
    picture = encode(noise(side), most_bytes)
    smallest = max(picture.width, picture.height) <= 64  # no smaller, whatever the bytes
    assert len(picture.uri) <= (3 * 64 * 64 * 2 if smallest else most_bytes)
    assert picture.is_sharp == (max(picture.width, picture.height) <= 128)
    assert decoded(picture).float().mean() == pytest.approx(127.5, abs=4)


def test_very_large_pictures_are_reduced_whatever_the_bytes(kind):
    assert encode(torch.zeros(1, 8, 1026, dtype=torch.uint8), 10**7).width == 513


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("side", [16, 200])
def test_grey_and_transparent_pictures(channels, side, kind):
    assert encode(noise(side, channels), 100_000).uri.startswith(f"data:image/{kind}")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"<svg onload=alert(1)>",
        png_bytes(noise(8))[:-20],
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 2**31 - 1, 2**31 - 1) + bytes(100),
    ],
)
def test_other_files_are_not_pictures(data, tmp_path):
    (tmp_path / "a.png").write_bytes(data)
    assert load_picture(tmp_path / "a.png", 10_000) is None
    assert load_picture(tmp_path / "missing.png", 10_000) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert load_picture(tmp_path / "a.png", 10_000) is None


def test_an_earlier_report_gives_its_pictures_back(tmp_path):
    write_png(tmp_path / "000000008.png", noise(16))
    key = sheet_key(tmp_path / "000000008.png", 10_000)
    picture = load_picture(tmp_path / "000000008.png", 10_000)
    script = f'<script class="sheet" data-label="a" {sheet_attributes(key, picture)}>{picture.uri}</script>'
    (tmp_path / "report.html").write_text(f"<p>{script}</p>")
    assert previous_pictures(tmp_path / "report.html") == {key: picture}
    assert previous_pictures(tmp_path / "missing.html") == {}
    assert sheet_key(tmp_path / "000000008.png", 20_000) != key
    os.utime(tmp_path / "000000008.png", (1, 1))
    assert sheet_key(tmp_path / "000000008.png", 10_000) != key
    for crafted in (picture.uri + '" onerror="alert(1)', "javascript:alert(1)", "data:text/html;base64,AAAA"):
        (tmp_path / "report.html").write_text(script.replace(picture.uri, crafted))
        assert previous_pictures(tmp_path / "report.html") == {}


def test_chosen_counts_stay_while_counts_are_added():
    counts = list(range(0, 20_000, 100))
    found = chosen(counts, {900, 5100}, 64)
    assert {0, 900, 5100, counts[-1]} <= set(found)
    assert 30 < len(found) <= 64
    more = chosen([*counts, *range(20_000, 20_500, 100)], {900, 5100}, 64)
    assert set(found) - set(more) == {counts[-1]}
    assert chosen(counts, counts, 10)[-1] == counts[-1]
    assert (chosen([], (), 5), chosen([3], (), 5), chosen([3, 4], (), 5)) == ([], [3], [3, 4])


def test_a_report_has_the_ends_of_stages_and_bytes_for_all_its_grids(monkeypatch):
    monkeypatch.setattr(gallery, "_MOST_SHEETS", 8)
    monkeypatch.setattr(gallery, "_MOST_SHEETS_PNG", 8)
    recipe = recipe_of((16, 8, 8, 8, 8), 4000)  # 4 px up to 4000 images, 8 px up to 12000, ..., 64 px up to 36000
    sheets = {count: Path(f"{count}.png") for count in range(300, 36_300, 300)}
    run = SimpleNamespace(schedule=recipe.schedule, architecture=recipe.architecture, sheets=sheets)
    found = gallery._allowed(run, 1_000_000)
    assert {300, 4200, 12_000, 20_100, 28_200, 36_000} <= found.keys()
    assert len(found) <= 8
    assert 700_000 < 32 * (found[300] + found[36_000]) <= 800_000, "32 small ones and 32 large ones would fit"


def test_png_bytes_are_the_file(tmp_path):
    write_png(tmp_path / "a.png", noise(9))
    assert (tmp_path / "a.png").read_bytes() == png_bytes(noise(9))
    torch.testing.assert_close(read_png(tmp_path / "a.png"), noise(9))


def test_a_picture_that_says_it_is_huge_is_not_decoded(tmp_path, monkeypatch):
    write_png(tmp_path / "a.png", noise(16))
    monkeypatch.setattr(pictures, "_MOST_PIXELS", 16 * 16)
    assert load_picture(tmp_path / "a.png", 10_000) is not None
    monkeypatch.setattr(pictures, "_MOST_PIXELS", 16 * 16 - 1)
    monkeypatch.setattr(pictures, "read_png", lambda path: pytest.fail("it was decoded"))
    assert load_picture(tmp_path / "a.png", 10_000) is None
