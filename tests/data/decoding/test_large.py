"""Pictures of more pixels than the limit: JPEGs are read reduced, others where max_pixels allows, in bounded memory."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from progan import ImageFolder
from progan.data import check, curate, pack, read_image
from progan.data.curation.survey import survey
from progan.data.decoding import decode
from progan.data.decoding.decode import _Budget
from progan.data.decoding.limits import MAX_PIXELS
from progan.data.decoding.reading import Reading

SIZE = (331, 250)
LIMIT = 30_000  # of the 82,750 pixels


def photograph(size=SIZE, mode="RGB") -> Image.Image:
    """Soft shapes and edges, of no symmetry."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    picture.paste((250, 240, 20), (size[0] // 10, size[1] // 8, size[0] // 3, size[1] // 2))
    return picture.convert(mode)


KINDS = {
    "baseline": ("RGB", {"format": "JPEG"}),
    "full colour": ("RGB", {"format": "JPEG", "subsampling": 0}),
    "progressive": ("RGB", {"format": "JPEG", "progressive": True}),
    "grey": ("L", {"format": "JPEG"}),
    "CMYK": ("CMYK", {"format": "JPEG"}),
    "several pictures": ("RGB", {"format": "MPO", "save_all": True}),
}


def saved(path: Path, kind: str, orientation: int = 1) -> Path:
    mode, options = KINDS[kind]
    exif = Image.Exif()
    exif[0x0112] = orientation
    more = {"append_images": [Image.new("RGB", SIZE)]} if kind == "several pictures" else {}
    photograph(mode=mode).save(path, quality=95, exif=exif, **options, **more)
    return path


def reading(size=24, max_pixels=LIMIT, **settings) -> Reading:
    return Reading(size, max_pixels=max_pixels, **settings)


def assert_close(image: torch.Tensor, expected: torch.Tensor) -> None:
    """Alike but for the resampling of edges; to take a cut block for a whole one makes up to 7, and 30."""
    difference = (image.double() - expected.double()).abs()
    assert difference.mean() < 1.5, difference.mean()
    assert difference.max() < 10, difference.max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("squaring", ["crop", "pad", "edge"])
def test_a_reduced_jpeg_is_like_the_whole_one(kind, squaring, tmp_path):
    path = saved(tmp_path / "a.jpg", kind)
    for size, channels in ((24, 3), ((20, 30), 1), (7, 4)):
        image = read_image(path, reading(size, channels=channels, squaring=squaring))
        assert_close(image, read_image(path, Reading(size, channels, squaring)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned(orientation, tmp_path):
    """Its sides are no multiples of 8, so the last row and column as stored are cut; turned, they may be the first."""
    path = saved(tmp_path / "a.jpg", "full colour", orientation)
    for squaring in ("crop", "pad"):
        image = read_image(path, reading(squaring=squaring))
        assert_close(image, read_image(path, Reading(24, squaring=squaring)))
    with decode.decoding(), decode.decoded(path, reading()) as result:
        assert result.is_reduced
        assert result.size == (SIZE if orientation < 5 else SIZE[::-1])


def test_blocks_become_their_means(tmp_path):
    """Pixels of the eighth are the means of 8x8 blocks: the discrete cosine transform's first coefficient."""
    noise = np.random.default_rng(1).integers(0, 256, (128, 160), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg", quality=100)
    with decode.decoding(), decode.decoded(tmp_path / "a.jpg", reading(5, 20_000)) as result:
        reduced = np.asarray(result.picture).astype(float)
    stored = np.asarray(Image.open(tmp_path / "a.jpg")).astype(float)
    assert abs(reduced - stored.reshape(16, 8, 20, 8).mean((1, 3))).max() <= 1.5


def test_what_is_within_the_limit_keeps_its_bits(tmp_path):
    path = saved(tmp_path / "a.jpg", "baseline")
    whole = read_image(path, Reading(24))
    assert torch.equal(read_image(path, reading(max_pixels=SIZE[0] * SIZE[1])), whole)
    assert not torch.equal(read_image(path, reading(max_pixels=SIZE[0] * SIZE[1] - 1)), whole)
    with decode.decoding(), decode.decoded(path, Reading(24)) as result:
        assert not result.is_reduced


def test_three_times_the_size_is_left_and_twice_where_that_is_too_large(tmp_path):
    path = saved(tmp_path / "a.jpg", "baseline")
    for size, limit, width in ((10, LIMIT, 42), (20, LIMIT, 83), (20, 6_000, 83), (40, LIMIT, 166), (31, 6_000, 83)):
        with decode.decoding(), decode.decoded(path, reading(size, limit)) as result:
            assert result.picture.width == width, (size, limit)


@pytest.mark.parametrize(
    ("size", "limit", "kind", "text"),
    [
        (
            *(80, LIMIT, "baseline"),
            "331x250 pixels, more than the 30,000 that are read; a JPEG is read reduced to no less than twice the size "
            "asked for; ask for a smaller size, reduce it, or pass max_pixels=1_000_000, which takes up to 16 MB of",
        ),
        (
            *(24, 10_000, "progressive"),
            "331x250 pixels, more than the 10,000 that are read; a progressive JPEG is decoded whole; save it as a "
            "baseline JPEG, or pass max_pixels=1_000_000",
        ),
    ],
)
def test_jpegs_that_stay_too_large_are_refused(size, limit, kind, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        read_image(saved(tmp_path / "a.jpg", kind), reading(size, limit))


def test_every_other_kind_is_read_where_max_pixels_allows(tmp_path):
    others = {"a.png": {}, "a.tif": {"compression": "tiff_lzw"}, "a.webp": {"lossless": True}, "a.bmp": {}, "a.gif": {}}
    for name, options in others.items():
        photograph().save(tmp_path / name, **options)
        with pytest.raises(ValueError, match=r"331x250 pixels, .* save it as a JPEG, which is read reduced, or"):
            read_image(tmp_path / name, reading())
        image = read_image(tmp_path / name, reading(max_pixels=82_750))
        assert torch.equal(image, read_image(tmp_path / name, Reading(24)))


def test_the_limit_is_raised_too(tmp_path, monkeypatch):
    """As with the limit itself, in small: nothing is 25 million."""
    monkeypatch.setattr(decode, "_BUDGET", _Budget(1000))
    monkeypatch.setattr(decode, "_PILLOWS_LIMIT", 2000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    for name in ("a.png", "b.png"):
        photograph().save(tmp_path / name)
    assert len(ImageFolder(tmp_path, 8)) == 2
    assert Image.MAX_IMAGE_PIXELS == 2000
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)  # of the program around
    with pytest.raises(ValueError, match="decompression bomb"):
        read_image(tmp_path / "a.png", Reading(8))


def test_every_door_takes_max_pixels(tmp_path):
    (tmp_path / "in").mkdir()
    folder = tmp_path / "in"
    photograph((800, 600)).save(folder / "a.png")
    photograph((800, 600)).save(folder / "b.jpg")
    for door in (
        lambda **settings: ImageFolder(folder, 16, **settings),
        lambda **settings: pack(folder, tmp_path / "a.pack", 16, progress=False, **settings),
    ):
        with pytest.raises(ValueError, match=r"1 of 2 files in .* cannot be read; .*\n  a.png: 800x600 pixels, more"):
            door(max_pixels=400_000)
        assert door(max_pixels=480_000).paths == ["a.png", "b.jpg"]
    assert list(curate(folder, max_pixels=400_000).dropped) == [Path("a.png")]
    assert curate(folder).dropped == {}
    report = check(folder, max_pixels=400_000, printed=False)
    assert report.max_pixels == 400_000
    assert list(report.unreadable) == [Path("a.png")]
    assert report.facts[Path("b.jpg")][2:4] == (800, 600)
    assert check(folder, printed=False).unreadable == {}


def test_sheets_are_read_as_the_check_was(tmp_path):
    """They show pictures at 96 pixels, which take less."""
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.jpg"):
        picture = photograph((1600, 1200))
        picture.paste((0, 0, ord(name[0])), (0, 0, 99, 99))
        picture.save(tmp_path / "in" / name)
    report = check(tmp_path / "in", max_pixels=500_000, printed=False)
    assert report.near_duplicates == [[Path("a.jpg"), Path("b.jpg")]]
    (sheet,) = report.save_sheets(tmp_path / "sheets")
    corner = np.asarray(Image.open(sheet))[30:40, 40:50]
    assert corner.std() > 5, "the picture is there"


def test_reduced_pictures_that_differ_are_no_copies(tmp_path):
    """At an eighth they may have the same pixels."""
    picture = photograph((800, 600), "L")
    picture.save(tmp_path / "a.jpg", quality=100)
    picture.save(tmp_path / "b.jpg", quality=100)
    picture.putpixel((401, 301), (picture.getpixel((401, 301)) + 9) % 256)
    picture.save(tmp_path / "c.jpg", quality=100)
    found = survey(tmp_path, max_pixels=160_000)
    assert found.copies == {Path("b.jpg"): Path("a.jpg")}
    assert [fact[2:4] for fact in found.facts.values()] == [(800, 600)] * 3


def test_a_picture_beyond_the_budget_is_decoded_alone_and_in_its_turn():
    budget, inside, most, order = _Budget(100), [], [], []

    def take(name: str, pixels: int) -> None:
        with budget.taken(pixels):
            inside.append(pixels)
            order.append(name)
            most.append(list(inside))
            time.sleep(0.01)
            inside.remove(pixels)

    threads = []
    with budget.taken(60):
        for name, pixels in (("large", 1000), ("small", 10), ("another", 40), ("huge", 10**9), ("last", 1)):
            threads.append(threading.Thread(target=take, args=(name, pixels)))
            threads[-1].start()
            while len(budget._waiting) < len(threads):
                time.sleep(0.001)
        assert order == [], "those behind a large one wait for it"
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert order[0] == "large"
    assert set(order[1:3]) == {"small", "another"}
    assert order[3:] == ["huge", "last"]
    assert [held for held in most if max(held) > 100 and len(held) > 1] == []
    assert budget._left == 100


def test_a_jpeg_that_says_it_is_large_and_holds_nothing_is_cut_off(tmp_path):
    """Its decoder would fill it with grey."""
    data = saved(tmp_path / "a.jpg", "baseline").read_bytes()
    place = data.index(b"\xff\xc0") + 5
    (tmp_path / "a.jpg").write_bytes(data[:place] + b"\x4e\x20\x4e\x20" + data[place + 4 :])
    with pytest.raises(OSError, match="this JPEG is cut off; fetch or save it anew"):
        read_image(tmp_path / "a.jpg", Reading(8))


def test_settings_are_checked():
    assert Reading(8).max_pixels == MAX_PIXELS
    for wrong in (0, -1, 1e6, True, "1"):
        with pytest.raises(ValueError, match="max_pixels must be an int of at least 1, such as 50_000_000, got"):
            Reading(8, max_pixels=wrong)
