"""Images in: folders, order, levels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from progan import ImageFolder, downsample, match_level, upsample
from progan.data.feed import Order, open_feed


def save(path, colour, size=(8, 8), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)


def colour_of(image: torch.Tensor) -> list[int]:
    assert (image == image[:, :1, :1]).all()
    return image[:, 0, 0].tolist()


def test_files_in_sorted_order_of_relative_path_sub_folders_included(tmp_path):
    for index, name in enumerate(("b.png", "a/z.JPG", "c/d/e.jpeg", "a.PNG")):
        save(tmp_path / name, (index * 60,) * 3, format="PNG" if "n" in name.lower() else "JPEG")
    (tmp_path / "notes.txt").write_text("not a picture")
    folder = ImageFolder(tmp_path, 8)
    assert folder.paths == ["a.PNG", "a/z.JPG", "b.png", "c/d/e.jpeg"]
    assert [colour_of(image)[0] for image in folder] == [180, 60, 0, 120]
    assert (len(folder), folder.images.shape, folder.images.dtype) == (4, (4, 3, 8, 8), torch.uint8)


@pytest.mark.parametrize(
    ("mode", "colour", "channels", "expected"),
    [
        ("L", 90, 3, [90, 90, 90]),
        ("L", 90, 1, [90]),
        ("1", 1, 3, [255, 255, 255]),
        ("RGB", (10, 20, 30), 3, [10, 20, 30]),
        ("RGB", (10, 20, 30), 4, [10, 20, 30, 255]),
        ("RGB", (255, 0, 0), 1, [76]),
        ("RGBA", (200, 100, 0, 0), 3, [0, 128, 255]),
        ("RGBA", (200, 100, 0, 255), 3, [200, 100, 0]),
        ("RGBA", (200, 100, 0, 128), 3, [100, 114, 127]),
        ("RGBA", (200, 100, 0, 128), 4, [200, 100, 0, 128]),
        ("LA", (50, 255), 3, [50, 50, 50]),
        ("LA", (50, 0), 3, [0, 128, 255]),
        ("P", 0, 3, [0, 0, 0]),
    ],
)
def test_kinds_of_png(mode, colour, channels, expected, tmp_path):
    save(tmp_path / "a.png", colour, mode=mode)
    assert colour_of(ImageFolder(tmp_path, 8, channels, background=(0, 128, 255)).images[0]) == expected


def test_transparency_in_a_palette(tmp_path):
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([0, 0, 0, 200, 10, 10])
    picture.save(tmp_path / "a.png", transparency=1)
    assert colour_of(ImageFolder(tmp_path, 8, background=(0, 255, 0)).images[0]) == [0, 255, 0]


def test_grey_and_cmyk_jpeg(tmp_path):
    save(tmp_path / "a.jpg", 90, mode="L")
    save(tmp_path / "b.jpg", (0, 0, 0, 0), mode="CMYK")
    assert [colour_of(image) for image in ImageFolder(tmp_path, 8)] == [[90] * 3, [255] * 3]


def halves() -> Image.Image:
    """Three stripes, 24x8: red, green, blue."""
    pixels = np.zeros((8, 24, 3), np.uint8)
    for index in range(3):
        pixels[:, index * 8 : index * 8 + 8, index] = 255
    return Image.fromarray(pixels)


def test_squaring_crops_the_centre_or_pads_and_never_squashes(tmp_path):
    halves().save(tmp_path / "a.png")
    assert colour_of(ImageFolder(tmp_path, 8).images[0]) == [0, 255, 0]
    padded = ImageFolder(tmp_path, 24, squaring="pad", background=(9, 8, 7)).images[0]
    assert colour_of(padded[:, :8]) == colour_of(padded[:, 16:]) == [9, 8, 7]
    assert torch.equal(padded[:, 8:16], torch.from_numpy(np.array(halves())).permute(2, 0, 1))
    assert ImageFolder(tmp_path, (8, 24)).images.shape == (1, 3, 8, 24)
    assert torch.equal(ImageFolder(tmp_path, (8, 24)).images[0], padded[:, 8:16])
    assert ImageFolder(tmp_path, 24, 4, squaring="pad").images[0, 3].float().mean() == 255


def test_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the stored left is shown on top
    halves().save(tmp_path / "a.png", exif=exif)
    image = ImageFolder(tmp_path, (24, 8)).images[0]
    assert [colour_of(part) for part in image.split(8, dim=1)] == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


def test_all_files_that_cannot_be_read_are_listed_at_once(tmp_path):
    save(tmp_path / "good.png", (1, 2, 3))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:40])
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"4 of 5 files .* cannot be read; mend or remove them") as error:
        ImageFolder(tmp_path, 8)
    for name in ("text.png: ", "empty.jpg: ", "cut.png: ", "deep.png: more than 8 bits per channel"):
        assert name in str(error.value)
    assert "good.png: " not in str(error.value)


def test_a_decompression_bomb_is_among_those_that_cannot_be_read(tmp_path, monkeypatch):
    save(tmp_path / "bomb.png", 0, size=(300, 300), mode="1")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"bomb.png: Image size"):
        ImageFolder(tmp_path, 8)


def test_folders_without_pictures_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no PNG or JPEG file \(it holds nothing\)"):
        ImageFolder(tmp_path, 8)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match="it holds 1 other files"):
        ImageFolder(tmp_path, 8)
    with pytest.raises(NotADirectoryError, match="is no folder"):
        ImageFolder(tmp_path / "notes.txt", 8)


def test_other_pictures_are_warned_of(tmp_path):
    save(tmp_path / "a.png", (1, 2, 3))
    save(tmp_path / "b.gif", (1, 2, 3))
    with pytest.warns(UserWarning, match=r"1 pictures that are neither PNG nor JPEG were passed over, such as b.gif"):
        ImageFolder(tmp_path, 8)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (((0, 8),), "size must be"),
        ((8, 2), "channels must be 1"),
        ((8, 3, "squash"), "squaring must be 'crop' or 'pad'"),
    ],
)
def test_settings_are_checked_first(arguments, text, tmp_path):
    size, *rest = arguments
    keywords = {"squaring": rest[1]} if len(rest) > 1 else {}
    with pytest.raises(ValueError, match=text):
        ImageFolder(tmp_path / "nowhere", size, *rest[:1], **keywords)


def test_fingerprint_is_of_names_and_pixels(tmp_path):
    save(tmp_path / "a/x.png", (1, 2, 3))
    save(tmp_path / "b/x.png", (1, 2, 3))
    save(tmp_path / "c/y.png", (1, 2, 3))
    save(tmp_path / "d/x.png", (1, 2, 4))
    prints = [ImageFolder(tmp_path / name, 8).fingerprint for name in "abcd"]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 30), seed=st.integers(0, 5), count=st.integers(1, 100))
def test_at_every_moment_uses_differ_by_at_most_one(n, seed, count):
    order = Order(n, seed)
    uses = Counter(order[k] for k in range(count))
    assert max(uses.values()) - min(uses[index] for index in range(n)) <= 1
    assert [order[k] for k in (0, count // 2)] == [Order(n, seed)[k] for k in (0, count // 2)]


def test_epochs_and_seeds_have_orders_of_their_own():
    epochs = [[Order(20, seed)[k] for k in range(start, start + 20)] for seed in (0, 1) for start in (0, 20)]
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_batches_are_full_follow_the_schedule_and_start_anywhere():
    data = torch.arange(10, dtype=torch.uint8).reshape(10, 1, 1, 1).expand(10, 1, 4, 4)
    feed = open_feed(data, image_channels=1, base_size=(4, 4), level=0, seed=2, workers=0)
    batch_at = {0: 4, 4: 4, 8: 6, 14: 6}.__getitem__
    batches = [batch[:, 0, 0, 0].tolist() for batch in feed.batches(0, 20, batch_at)]
    assert [len(batch) for batch in batches] == [4, 4, 6, 6]
    assert [batch[:, 0, 0, 0].tolist() for batch in feed.batches(8, 20, batch_at)] == batches[2:]
    assert sorted(index for batch in batches for index in batch) == sorted(list(range(10)) * 2)


def test_match_level():
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(match_level(images, 3), images)
    torch.testing.assert_close(match_level(images, 1), images.reshape(2, 3, 8, 4, 8, 4).mean(dim=(3, 5)))
    blended = match_level(images, 3, 0.25, blend=True)
    torch.testing.assert_close(blended, 0.75 * upsample(downsample(images)) + 0.25 * images)
    assert torch.equal(match_level(images, 3, 0.25), images)
    assert match_level(torch.rand(1, 3, 24, 16), 1, base_size=(6, 4)).shape == (1, 3, 12, 8)
    for bad in (torch.rand(1, 3, 8, 8), torch.rand(1, 3, 48, 48), torch.rand(1, 3, 32, 16)):
        with pytest.raises(ValueError, match=r"level 2 is 16x16; images must be that or a power of two larger, got"):
            match_level(bad, 2)
    with pytest.raises(TypeError, match="divide uint8 images by 255"):
        match_level(images.to(torch.uint8), 1)
