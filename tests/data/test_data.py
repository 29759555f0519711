"""Images in: folders, order, levels."""

from __future__ import annotations

import json
import os
import random
import struct
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import draw_icons
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from progan import HorizontalFlip, ImageFolder, Trainer, downsample, match_level, presets, upsample
from progan.data import tensor_feed
from progan.data.feed import Conversion
from progan.data.open_feed import open_feed
from progan.data.order import Order, OrderOnDevice
from progan.data.tensor_feed import fits


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


def halves() -> Image.Image:
    """Three stripes, 24x8: red, green, blue."""
    pixels = np.zeros((8, 24, 3), np.uint8)
    for index in range(3):
        pixels[:, index * 8 : index * 8 + 8, index] = 255
    return Image.fromarray(pixels)


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
    Image.fromarray(np.full((4, 4), 2.0, np.float32)).save(tmp_path / "deep.tif")
    with pytest.raises(ValueError, match=r"4 of 5 files .* cannot be read; repair or remove them, or") as error:
        ImageFolder(tmp_path, 8)
    for name in ("text.png: ", "empty.jpg: ", "cut.png: ", "deep.tif: values of mode F must lie in 0..1"):
        assert name in str(error.value)
    assert "good.png: " not in str(error.value)


ORIENTED = {  # rows of red, green and blue corners as shown, by orientation, of one that is stored as in 1
    1: ["RG", "B."],
    2: ["GR", ".B"],
    3: [".B", "GR"],
    4: ["B.", "RG"],
    5: ["RB", "G."],
    6: ["BR", ".G"],
    7: [".G", "BR"],
    8: ["G.", "RB"],
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_as_exif_defines_it(orientation, tmp_path):
    colours = {"R": (255, 0, 0), "G": (0, 255, 0), "B": (0, 0, 255), ".": (0, 0, 0)}
    picture = Image.new("RGB", (2, 2))
    for y, row in enumerate(ORIENTED[1]):
        for x, letter in enumerate(row):
            picture.putpixel((x, y), colours[letter])
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.png", exif=exif)
    image = ImageFolder(tmp_path, 2).images[0]
    names = {colour: letter for letter, colour in colours.items()}
    assert ["".join(names[tuple(image[:, y, x].tolist())] for x in (0, 1)) for y in (0, 1)] == ORIENTED[orientation]


def exif_of(*entries: tuple[int, int, bytes]) -> bytes:
    """EXIF with one value of 4 bytes per (tag, type), big-endian."""
    table = b"".join(struct.pack(">HHI", tag, kind, 1) + value for tag, kind, value in entries)
    return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, len(entries)) + table + bytes(4)


SIDEWAYS = (0x0112, 3, struct.pack(">HH", 6, 0))


@pytest.mark.parametrize("odd", [(259, 4, struct.pack(">I", 70_000)), (305, 11, struct.pack(">f", 1.5))])
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_other_exif_is_passed_over(name, odd, tmp_path):
    halves().save(tmp_path / name, exif=exif_of(SIDEWAYS, odd), **({"quality": 100} if name == "a.jpg" else {}))
    image = ImageFolder(tmp_path, (24, 8)).images[0]
    assert [part[:, 2:6, 2:6].float().mean(dim=(1, 2)).argmax() for part in image.split(8, dim=1)] == [0, 1, 2]


@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\0", b"Exif\0\0nonsense", exif_of((0x0112, 2, b"6666"))])
def test_a_picture_with_broken_exif_is_not_turned(exif, tmp_path):
    halves().save(tmp_path / "a.jpg", exif=exif)
    assert ImageFolder(tmp_path, (8, 24)).images[0, 0, 4, 4] > 200


def test_whatever_decoding_raises_names_the_file_but_for_want_of_memory(tmp_path, monkeypatch):
    save(tmp_path / "a.png", (1, 2, 3))
    for error in (struct.error("ushort format"), AttributeError("no encode"), RuntimeError()):
        monkeypatch.setattr(Image.Image, "resize", lambda *_, error=error, **__: throw(error))
        with pytest.raises(ValueError, match=rf"1 of 1 files .*\n  a.png: {str(error) or 'RuntimeError'}$"):
            ImageFolder(tmp_path, 8)
    for method in ("resize", "getexif"):
        for error in (MemoryError(), KeyboardInterrupt()):
            with monkeypatch.context() as patch:
                patch.undo()
                patch.setattr(Image.Image, method, lambda *_, error=error, **__: throw(error))
                with pytest.raises(type(error)):
                    ImageFolder(tmp_path, 8)


def throw(error):
    raise error


def test_a_sliver_is_padded(tmp_path):
    save(tmp_path / "a.png", (200, 0, 0), size=(1000, 1))
    save(tmp_path / "b.png", (200, 0, 0), size=(1, 1000))
    wide, high = (images == 200 for images in ImageFolder(tmp_path, 8, squaring="pad", background=(0, 0, 0)).images)
    assert wide[0].nonzero().tolist() == [[3, x] for x in range(8)]
    assert high[0].nonzero().tolist() == [[y, 3] for y in range(8)]
    assert ImageFolder(tmp_path, 8).images[:, 0].unique().tolist() == [200]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    save(tmp_path / "a.png", (1, 2, 3))
    save(tmp_path / "locked/b.png", (1, 2, 3))
    scandir = os.scandir

    def refusing(path):
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(OSError, match=r"these folders cannot be read: locked \(Permission denied\); make them"):
        ImageFolder(tmp_path, 8)


def test_links_to_folders_are_warned_of_and_links_to_files_followed(tmp_path):
    save(tmp_path / "elsewhere/a.png", (1, 2, 3))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file.png").symlink_to(tmp_path / "elsewhere/a.png")
    (tmp_path / "data/loop").symlink_to(tmp_path / "data")
    (tmp_path / "data/more").symlink_to(tmp_path / "elsewhere")
    with pytest.warns(UserWarning, match=r"data: links to folders were not followed: 2, such as loop; copy") as caught:
        assert ImageFolder(tmp_path / "data", 8).paths == ["file.png"]
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)]


def test_a_decompression_bomb_is_among_those_that_cannot_be_read(tmp_path, monkeypatch):
    save(tmp_path / "bomb.png", 0, size=(300, 300), mode="1")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"bomb.png: Image size"):
        ImageFolder(tmp_path, 8)


def test_folders_without_pictures_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no picture that can be read: it is empty\. Pass a folder with PNG"):
        ImageFolder(tmp_path, 8)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"files of other kinds: 1, such as notes.txt\. Pass"):
        ImageFolder(tmp_path, 8)
    with pytest.raises(NotADirectoryError, match="is not a directory"):
        ImageFolder(tmp_path / "notes.txt", 8)


def test_other_pictures_are_warned_of(tmp_path):
    save(tmp_path / "a.png", (1, 2, 3))
    (tmp_path / "b.heic").write_bytes(b"")
    with pytest.warns(
        UserWarning, match=r"files of kinds that are not read were left out: 1 HEIC, such as b.heic \(convert with"
    ) as caught:
        ImageFolder(tmp_path, 8)
    assert Path(caught[0].filename) == Path(__file__)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (((0, 8),), "size must be"),
        ((8, 2), "channels must be 1"),
        ((8, 3, "squash"), "squaring must be one of crop"),
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
    feed = open_feed(data, image_channels=1, base_size=(4, 4), level=0, seed=2, workers=0, device=torch.device("cpu"))
    batch_at = {0: 4, 4: 4, 8: 6, 14: 6}.__getitem__
    batches = [batch.images[:, 0, 0, 0].tolist() for batch in feed.batches(0, 20, batch_at)]
    assert [len(batch) for batch in batches] == [4, 4, 6, 6]
    assert [batch.images[:, 0, 0, 0].tolist() for batch in feed.batches(8, 20, batch_at)] == batches[2:]
    assert sorted(index for batch in batches for index in batch) == sorted(list(range(10)) * 2)


def taken_in(data, image_channels=3, workers=0):
    return open_feed(
        data,
        image_channels=image_channels,
        base_size=(4, 4),
        level=1,
        seed=0,
        workers=workers,
        device=torch.device("cpu"),
    )


def test_a_folder_with_items_of_its_own_is_asked_for_them(tmp_path):
    class Dark(ImageFolder):
        def __getitem__(self, index):
            return self.images[index] // 2

    class Named(ImageFolder):
        """Changes nothing of its items."""

    save(tmp_path / "a.png", (200, 100, 0))
    feeds = [taken_in(kind(tmp_path, 8)) for kind in (ImageFolder, Named, Dark)]
    assert [colour_of(next(feed.batches(0, 1, lambda _: 1)).images[0]) for feed in feeds] == [
        [200, 100, 0],
        [200, 100, 0],
        [100, 50, 0],
    ]
    assert feeds[0].fingerprint == feeds[1].fingerprint != feeds[2].fingerprint


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        *(
            (
                name,
                TypeError,
                rf"must be a tensor or a map-style data set, got {kind}; .*pass ImageFolder\(path, size\)",
            )
            for name, kind in (("icons", "str"), (b"icons", "bytes"), (Path("icons"), r"\w*Path"))
        ),
        (np.zeros((2, 3, 8, 8), np.uint8), TypeError, r"data set, got ndarray; pass torch.from_numpy\(data\)$"),
        (
            torch.zeros(2, 8, 8, 3),
            ValueError,
            r"must be \(N, C, H, W\), got \(2, 8, 8, 3\), which looks like \(N, H, W, C\); pass images.permute\(0, 3, ",
        ),
        (
            [torch.zeros(8, 8, 3)],
            ValueError,
            r"must be \(C, H, W\), got \(8, 8, 3\), which looks like \(H, W, C\); return image.permute\(2, 0, 1\) from",
        ),
        (torch.zeros(2, 2, 8, 8), ValueError, "the images have 2; convert them$"),
        (torch.zeros(2, 4, 8, 8), ValueError, "the images have 4; convert them, or .* image_channels=4$"),
    ],
)
def test_what_is_no_data_is_told_what_would_be(data, error, text):
    with pytest.raises(error, match=text):
        taken_in(data)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("bad", [2.0, -1.0, float("nan")])
def test_items_out_of_range_are_refused_whenever_they_come(bad, dtype):
    first = Order(3, 0)[0]
    items = [torch.full((3, 8, 8), 0.5 if index == first else bad, dtype=dtype) for index in range(3)]
    with pytest.raises(
        ValueError, match=rf"^item [12]: images of floats must be in \[0, 1\], got values from {bad:g} to {bad:g};"
    ):
        list(taken_in(items).batches(1, 2, lambda _: 1))
    if dtype == torch.float32:
        with pytest.raises(ValueError, match=r"images of floats must be in \[0, 1\]"):
            list(taken_in(items, workers=1).batches(1, 2, lambda _: 1))


class Noisy:
    """Items that draw: from a generator of their own, or a global one."""

    def __init__(self, generator=None):
        self.generator = generator

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if self.generator is None:
            return torch.from_numpy(np.random.random((3, 8, 8)))
        return torch.from_numpy(self.generator.random((3, 8, 8)))


def test_a_data_set_with_a_random_state_of_its_own_is_warned_of_and_not_told_apart_by_what_it_draws():
    with pytest.warns(UserWarning, match="draws from a random state of its own .* will not repeat it exactly; draw"):
        first = taken_in(Noisy(np.random.default_rng())).fingerprint
    with pytest.warns(UserWarning, match="random state of its own"):
        assert taken_in(Noisy(np.random.default_rng())).fingerprint == first
    assert first == {"kind": "dataset", "shape": [3, 3, 8, 8], "content": None}


def test_a_second_fit_takes_a_data_set_with_a_random_state_of_its_own():
    trainer = Trainer.from_recipe(presets.mel_icon(8, channels=(4, 4)), device="cpu", progress=False)
    for until in (8, 16):
        with pytest.warns(UserWarning, match="random state of its own") as caught:
            trainer.fit(Noisy(np.random.default_rng()), until=until)
        assert Path(caught[0].filename) == Path(__file__)
    assert trainer.images_seen == 16


def test_a_data_set_that_draws_from_global_states_is_told_apart():
    prints = [taken_in(Noisy()).fingerprint for _ in range(2)]
    assert prints[0] == prints[1]
    assert prints[0]["content"] is not None


class Icons:
    """Icons of 32x32, with a label, each a little lighter or darker by chance; counts what is fetched."""

    def __init__(self, n):
        self.images = draw_icons.draw_icons(60, size=32) / 255
        self.n = n
        self.fetched = 0

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        self.fetched += 1
        return self.images[index % 60] * (0.9 + 0.1 * np.random.random()), index


class Turned(ImageFolder):
    """A folder that hands its pictures out flipped, every other one."""

    def __getitem__(self, index):
        return self.images[index].flip(-1) if index % 2 else self.images[index]


def feed_of_32_pixels(data):
    return open_feed(data, image_channels=3, base_size=(4, 4), level=3, seed=0, workers=0, device=torch.device("cpu"))


def test_flips_are_judged_by_items_and_nothing_else_changes():
    data = Icons(1000)
    feed = feed_of_32_pixels(data)
    expected = list(feed.batches(0, 16, lambda _: 8))
    data.fetched = 0
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    verdict = feed.flip_verdict()
    assert data.fetched == 300
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    assert verdict.safe is False
    assert verdict == feed_of_32_pixels(data).flip_verdict()
    for batch, same in zip(feed.batches(0, 16, lambda _: 8), expected, strict=True):
        assert torch.equal(batch.images, same.images)


def test_flips_are_judged_as_a_folder_hands_its_pictures_out(tmp_path):
    for index in range(100):
        draw_icons.draw_icon(index, size=32).save(tmp_path / f"{index:02}.png")
    assert feed_of_32_pixels(ImageFolder(tmp_path, 32)).flip_verdict().safe is False
    assert feed_of_32_pixels(Turned(tmp_path, 32)).flip_verdict().safe is True


def test_the_trainer_warns_of_flips_of_items_once(tmp_path):
    recipe = presets.mel_icon(32, channels=(4, 4, 4, 4))
    recipe = replace(recipe, training=replace(recipe.training, augment_real=(HorizontalFlip(),)))
    trainer = Trainer.from_recipe(recipe, device="cpu", progress=False, run_dir=tmp_path, judge_every=0)
    data = Icons(60)
    with pytest.warns(UserWarning, match=r"HorizontalFlip is on, and left-right flips look unsafe: \d+ of") as caught:
        trainer.fit(data, until=8)
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)]
    trainer.fit(data, until=16)
    (logged,) = (tmp_path / "warnings.jsonl").read_text().splitlines()
    assert json.loads(logged) == {"images_seen": 0, "text": str(caught[0].message)}


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_set_that_fits_is_held_in_the_memory_of_the_device():
    images = torch.randint(0, 256, (21, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batches = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        feed = open_feed(images, image_channels=3, base_size=(4, 4), level=1, seed=0, workers=0, device=device)
        batches.append([batch.images for batch in feed.batches(0, 64, lambda _: 8)])
    for here, there in zip(*batches, strict=True):
        assert there.device.type == "cuda"
        assert torch.equal(here, there.cpu())


def test_positions_are_found_on_the_device_as_one_by_one():
    order = Order(7, 3)
    there = OrderOnDevice(order, torch.device("cpu"))
    for positions in (range(8), range(5, 8), range(8, 30), range(1, 40, 3), range(7, 14), range(3, 4)):
        assert there[positions].tolist() == [Order(7, 3)[position] for position in positions]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_set_that_is_held_is_converted_at_once(rank, monkeypatch):
    """The batches are those that are converted one by one; at the highest level, the converted set is too large."""
    images = torch.randint(0, 256, (70, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    converted = []

    def convert(images, level):
        converted.append(len(images))
        return match_level(images.float() / 255, level)

    conversion = Conversion(lambda count: count // 160, convert)
    settings = {"image_channels": 3, "base_size": (4, 4), "level": 2, "seed": 0, "workers": 0}
    feed = open_feed(images, device=torch.device("cpu"), **settings)
    batches = partial(feed.batches, 8, 480, lambda _: 8, rank=rank, ranks=2, conversion=conversion)
    expected = list(batches())
    assert converted == [4] * 59
    converted.clear()
    largest = 70 * 3 * 8 * 8 * 4
    monkeypatch.setattr(tensor_feed, "fits", lambda images, _: images.numel() * images.element_size() <= largest)
    for here, there in zip(batches(), expected, strict=True):
        assert torch.equal(here.images, there.images)
    assert converted == [1, 64, 6, 1, 64, 6, 1, *[4] * 20]


def test_what_does_not_fit_stays_where_it_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (4000, 8000))
    cuda = torch.device("cuda")
    assert fits(torch.zeros(1000, dtype=torch.uint8), cuda)
    assert not fits(torch.zeros(1001, dtype=torch.uint8), cuda)
    assert not fits(torch.zeros(1), torch.device("cpu"))
