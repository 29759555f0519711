"""The report on a folder: all that is wrong with it, at once, and sheets to look at."""

from __future__ import annotations

import math
import random
import shutil
import subprocess
import sys
from pathlib import Path

import draw_icons
import numpy as np
import pytest
import torch
from conftest import MEMORY, SHARED
from PIL import Image, ImageFont
from test_curate import near_duplicate, odd_picture

from progan.data import check, curate
from progan.data.curation.contact_sheets import _labels, _rows
from progan.data.curation.flips import thumbnails
from progan.data.curation.likeness import SIZE, describe
from progan.data.curation.survey import survey
from progan.data.decoding.read import read_image
from progan.data.decoding.reading import Reading
from progan.render import read_png


@pytest.fixture(scope="module")
def messy(tmp_path_factory) -> Path:
    """60 icons, one group of 6 near-duplicates, 3 odd pictures, copies, other kinds, and some that are broken."""
    folder = tmp_path_factory.mktemp("messy")
    (folder / "sub").mkdir()
    for index in range(60):
        draw_icons.draw_icon(index, size=64).save(folder / f"icon_{index:02d}.png")
    for variant in range(6):
        near_duplicate(75, variant).save(folder / f"near_{variant}.png")
    for k in range(3):
        odd_picture(k).save(folder / f"odd_{k}.png")
    icon = draw_icons.draw_icon(3, size=64)
    icon.save(folder / "sub/copy.bmp")
    icon.convert("RGBA").save(folder / "sub/copy.webp", lossless=True)
    draw_icons.draw_icon(61, size=64).crop((0, 0, 64, 60)).save(folder / "wide.png")
    glass = draw_icons.draw_icon(62, size=64).convert("RGBA")
    glass.putalpha(Image.linear_gradient("L").resize((64, 64)))
    glass.save(folder / "glass.png")
    (folder / "broken.png").write_bytes((folder / "icon_00.png").read_bytes()[:300])
    (folder / "text.jpg").write_text("no picture")
    (folder / "camera.heic").write_bytes(b"")
    return folder


def test_all_that_is_wrong_is_in_the_report(messy, capsys):
    before = {path: path.stat().st_mtime_ns for path in messy.rglob("*")}
    report = check(messy)
    text = capsys.readouterr().out
    assert text == f"{report}\n"
    assert set(report.unreadable) == {Path("broken.png"), Path("text.jpg")}
    assert report.duplicates == [[Path("icon_03.png"), Path("sub/copy.bmp"), Path("sub/copy.webp")]]
    near = {Path(f"near_{variant}.png") for variant in range(6)}
    (group,) = [group for group in report.near_duplicates if near & set(group)]
    assert near <= set(group)
    # The one that fades to white is unlike the others too.
    assert set(report.irregular) == {*(Path(f"odd_{k}.png") for k in range(3)), Path("glass.png")}
    assert report.facts[Path("glass.png")][:5] == ("PNG", "RGBA", 64, 64, True)
    assert report.facts[Path("wide.png")][2:5] == (64, 60, False)
    assert report.facts[Path("sub/copy.webp")][:5] == ("WEBP", "RGB", 64, 64, False)
    for piece in (
        "files             75 read as pictures",
        "cannot be read    2; repair or remove them:\n",
        "text.jpg: a file of 10 bytes that is none of PNG,",
        "formats           PNG 71, BMP 1, WEBP 1",
        "modes             RGB 72, RGBA 1",
        "sizes             64x64 63, 128x128 9, 64x60 1",
        "transparent       1\n",
        "not square        1, at most 64x60;",
        "exact duplicates  1 groups, 3 pictures:\n                    3: icon_03.png, sub/copy.bmp, sub/copy.webp",
        "irregular         4: ",
        f"left              {len(report.curation.kept)} for training",
        "left out          files of kinds that are not read were left out: 1 HEIC, such as camera.heic",
    ):
        assert piece in text, piece
    assert {path: path.stat().st_mtime_ns for path in messy.rglob("*")} == before


def test_what_is_left_is_what_curate_keeps(messy):
    report = check(messy, printed=False)
    with pytest.warns(UserWarning, match="files of kinds that are not read") as caught:
        assert report.curation == curate(messy)
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)]
    with pytest.warns(UserWarning, match="files of kinds that are not read"):
        fewer = curate(messy, 1, irregular=1e9)
    assert check(messy, 1, irregular=1e9, printed=False).curation == fewer
    dropped = report.curation.dropped
    assert dropped[Path("sub/copy.bmp")] == "the same pixels as icon_03.png"
    assert len(report.curation.kept) + len(dropped) == len(report.facts) + len(report.unreadable)
    rows = [line.split()[0] for line in report.summary().splitlines() if line[2] != " "]
    assert rows == ["files", "alike", "irregular", "flips", "colours", "left", "left"]
    assert "75, of which 2 cannot be read" in report.summary()


def test_contact_sheets(messy, tmp_path, capsys):
    report = check(messy, sheets=tmp_path / "sheets")
    names = sorted(path.name for path in (tmp_path / "sheets").iterdir())
    assert names == ["irregular_1.png", "near_duplicates_1.png"]
    assert "irregular_1.png" in capsys.readouterr().out.splitlines()[-1]
    sheet = read_png(tmp_path / "sheets/near_duplicates_1.png").permute(1, 2, 0).numpy()
    largest = report.near_duplicates[0]
    kept = set(report.curation.kept)
    for place, name in enumerate(largest):
        left = place * 104 + 4
        frame, picture = sheet[2, left + 40], sheet[4:100, left : left + 96]
        assert frame.tolist() == ([0, 140, 60] if name in kept else [200, 30, 30])
        expected = read_image(messy / name, Reading(96, squaring="pad")).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(picture, expected)
    assert {name in kept for name in largest} == {True, False}


def test_sheets_are_not_put_among_the_pictures(messy):
    for inside in (messy / "sheets", messy):
        with pytest.raises(ValueError, match=r"lies in .*, so the sheets would be read as pictures; pass another"):
            check(messy, sheets=inside, printed=False)
    assert not (messy / "sheets").exists()


def test_a_file_is_no_place_for_sheets(messy, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(sys.modules["progan.data.curation.check"], "survey", None)  # refused before the work begins
    for sheets in (tmp_path / "file", tmp_path / "file/sheets"):
        with pytest.raises(NotADirectoryError, match=r"^sheets need a folder, and .*/file is a file; pass another"):
            check(messy, sheets=sheets, printed=False)
    assert (tmp_path / "file").read_text() == "mine"


def test_sheets_of_an_earlier_check_go_and_nothing_else(messy, tmp_path):
    sheets = tmp_path / "sheets"
    others = ["irregular.png", "irregular_02.png", "irregular_2.jpg", "my_irregular_2.png", "near_duplicates_2.png.bak"]
    stale = ["irregular_2.png", "near_duplicates_2.png", "near_duplicates_13.png"]
    sheets.mkdir()
    for name in (*others, *stale):
        (sheets / name).write_text("")
    (sheets / "irregular_3.png").mkdir()
    check(messy, sheets=sheets, printed=False)
    drawn = ["irregular_1.png", "near_duplicates_1.png"]
    assert sorted(path.name for path in sheets.iterdir()) == sorted([*others, *drawn, "irregular_3.png"])
    check(messy, irregular=math.inf, sheets=sheets, printed=False)
    assert sorted(path.name for path in sheets.iterdir()) == sorted([*others, drawn[1], "irregular_3.png"])


def test_labels_hold_what_tells_names_apart():
    few = ["a/b.png", "c/b.png", "c/b.jpg"]
    assert _labels(few, [""] * 3) == [[name] for name in few]
    assert _labels(["ü\n.png"], ["1.5 "]) == [[r"1.5 \xfc\n.png"]]
    long = [
        *(f"heroes/the_portrait_of_a_person_final_version_{k:04}_retouched_by_hand_and_cropped.png" for k in range(30)),
        *(f"villains/the_portrait_of_a_person_final_version_{k:04}_retouched_by_hand.png" for k in range(30)),
    ]
    labels = _labels(long, ["12.3 "] * 60)
    assert max(map(len, labels)) == 2
    texts = ["".join(lines) for lines in labels]
    assert len(set(texts)) == 60
    for k, text in enumerate(texts):
        assert text.startswith(f"12.3 {long[k][:4]}")
        assert f"{k % 30:04}_" in text


def test_a_label_is_as_wide_as_its_picture():
    font = ImageFont.load_default()
    for lines in _labels(["W" * 200, "i" * 200 + "W", "日本" * 30 + ".png"], ["", "", "10.0 "]):
        assert len(lines) == 2
        assert max(map(font.getlength, lines)) <= 96


def test_groups_on_a_sheet_stand_side_by_side_where_they_fit():
    groups = [[Path(f"{size}_{k}") for k in range(size)] for size in (13, 4, 4, 2)]
    assert [[name and name.name[0] for name in row] for row in _rows(groups)] == [
        ["1"] * 11,
        ["1", "1", None, "4", "4", "4", "4"],
        ["4", "4", "4", "4", None, "2", "2"],
    ]


def test_a_folder_of_nothing_and_of_one(tmp_path):
    report = check(tmp_path, printed=False)
    assert report.curation.kept == []
    assert "files             0 read as pictures" in str(report)
    Image.new("L", (7, 9), 3).save(tmp_path / "one.png")
    report = check(tmp_path, printed=False)
    assert report.curation.kept == [Path("one.png")]
    assert report.save_sheets(tmp_path.with_name("sheets")) == []
    with pytest.raises(NotADirectoryError, match="is not a directory; pass a folder of pictures"):
        check(tmp_path / "one.png")
    with pytest.raises(ValueError, match="max_similar must be"):
        check(tmp_path, 0)


def test_names_of_any_bytes_are_shown(tmp_path, capsys):
    name = b"a\xff\n\x1b[31m.png".decode(errors="surrogateescape")
    try:
        (tmp_path / name).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes no such names")
    check(tmp_path)
    printed = capsys.readouterr().out
    assert r"a\udcff\n\x1b[31m.png: an empty file" in printed


def test_the_same_pixels_in_other_files_are_exact_duplicates(tmp_path):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (8, 6, 3), np.uint8))
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "b.bmp")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "c.png", exif=exif)
    picture.resize((12, 16), Image.Resampling.NEAREST).save(tmp_path / "larger.png")
    other = picture.copy()
    other.putpixel((5, 7), (0, 0, 0))
    other.save(tmp_path / "other.png")
    assert survey(tmp_path).copies == {Path("b.bmp"): Path("a.png"), Path("c.png"): Path("a.png")}


@pytest.mark.skipif(not SHARED.exists(), reason="the portraits are not here (../shared)")
def test_flips_of_the_messy_portraits_are_unsafe():
    assert check(SHARED / "data/portraits_raw", printed=False).flips.safe is False


def test_the_report_of_a_large_set_names_some_and_counts_all(tmp_path):
    rng = random.Random(0)
    for index in range(50):
        shade = tuple(rng.randrange(256) for _ in range(3))
        for copy in range(2):
            Image.new("RGB", (index + 1, 9), shade).save(tmp_path / f"{index:02d}_{copy}.png")
    text = str(check(tmp_path, printed=False))
    assert "exact duplicates  50 groups, 100 pictures:\n" in text
    assert "and 30 more groups" in text
    assert max(map(len, text.splitlines())) <= 122
    assert "50 of them, such as" in text


def test_pictures_are_described_as_they_are_all_at_once(tmp_path):
    """Some at a time, into tensors that are there already, those of copies not among them."""
    rng = np.random.default_rng(0)
    for index in range(40):
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(tmp_path / f"{index:02}.png")
    for index in (3, 20, 39):
        shutil.copy(tmp_path / f"{index:02}.png", tmp_path / f"{index:02}_copy.png")
    found = survey(tmp_path)
    images = torch.stack([read_image(tmp_path / f"{index:02}.png", Reading(SIZE)) for index in range(40)])
    assert [name.name for name in found.distinct] == [f"{index:02}.png" for index in range(40)]
    for one, other in zip(found.descriptors, describe(images), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    torch.testing.assert_close(found.thumbnails, thumbnails(images), rtol=0, atol=0)


def test_dark_pictures_and_those_of_one_colour_are_named(tmp_path):
    """A photograph at night is neither: its lights are seen, also where they are few."""
    rng = np.random.default_rng(0)
    pictures = {
        "black": np.zeros((64, 64, 3)),
        "noise": rng.integers(0, 17, (64, 64, 3)),
        "hot pixel": np.where(np.arange(64 * 64 * 3).reshape(64, 64, 3) < 3, 255, 0),
        "white": np.full((64, 64, 3), 255),
        "nearly": np.full((64, 64, 3), (90, 20, 30)) + rng.integers(0, 2, (64, 64, 1)),
        "night": rng.integers(0, 9, (64, 64, 3)) + 60 * (np.hypot(*np.mgrid[-32:32, -32:32]) < 3)[..., None],
        "dusk": rng.integers(0, 60, (64, 64, 3)),
    }
    for name, values in pictures.items():
        picture = Image.fromarray(values.astype(np.uint8)).resize((128, 128), Image.Resampling.BOX)
        picture.save(tmp_path / f"{name}.png")
    Image.new("RGBA", (64, 64), (9, 200, 3, 0)).save(tmp_path / "invisible.png")
    text = " ".join(str(check(tmp_path, printed=False)).split())
    assert (
        "dark 3: black.png, hot pixel.png, noise.png one colour 3: invisible.png, nearly.png, white.png exact" in text
    )


def test_the_summary_has_a_line_for_what_is_wrong_and_none_for_what_is_not(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(tmp_path / "a.png")
    plain = check(tmp_path, printed=False).summary().split("\n")
    assert [line.split()[0] for line in plain] == ["files", "alike", "irregular", "flips", "colours", "left"]
    Image.fromarray(np.arange(1023, 942, -1, dtype=np.uint16).reshape(9, 9)).save(tmp_path / "deep.png")
    Image.new("L", (9, 9), 90).save(tmp_path / "grey.png")
    (tmp_path / "a.heic").write_bytes(b"")
    rows = " ".join(check(tmp_path, printed=False).summary().split())
    assert "16 bits values up to 1,023 in 1 16-bit pictures: they look like 10 bits" in rows
    assert "dark 1 in which nothing can be seen, such as deep.png one colour 1 of one colour, such as grey.png" in rows
    assert "left out files of kinds that are not read were left out: 1 HEIC, such as a.heic (convert" in rows


MEASURED = """
import sys
from progan.data import check
before = begin()
report = check(sys.argv[1], printed=False)
print(peak_above(before), len(report.scores))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")
def test_many_pictures_take_little_memory(tmp_path):
    """Of each some kilobytes are kept. What is computed of them is computed of a few at a time."""
    rng = np.random.default_rng(0)
    for index in range(800):
        picture = Image.fromarray(rng.integers(0, 256, (3, 3, 3), np.uint8))
        picture.save(tmp_path / f"{index}.bmp")
    command = [sys.executable, "-c", MEMORY + MEASURED, str(tmp_path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(printed[1]) == 800
    assert float(printed[0]) < 250, f"{printed[0]} MB above import"
