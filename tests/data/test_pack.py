"""A folder as one file: the same pictures, mapped and not read; whole under its name, or not there."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MEMORY
from PIL import Image

from progan import ImageFolder, Trainer
from progan.data import Pack, open_feed, pack
from progan.storage.files import owned


@pytest.fixture
def folder(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    pictures = tmp_path / "pictures"
    (pictures / "sub").mkdir(parents=True)
    for index in range(21):
        name = f"sub/{index}.png" if index % 3 else f"{index} ü.png"
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(pictures / name)
    return pictures


@pytest.mark.parametrize("settings", [{}, {"channels": 1}, {"channels": 4, "squaring": "pad", "background": (1, 2, 3)}])
def test_a_pack_is_the_folder(settings, folder, tmp_path):
    packed, read = pack(folder, tmp_path / "a.pack", 16, **settings), ImageFolder(folder, 16, **settings)
    assert torch.equal(packed.images, read.images)
    assert packed.paths == read.paths
    assert packed.fingerprint == read.fingerprint
    assert torch.equal(Pack(tmp_path / "a.pack")[3], read[3])
    packed.verify()


def test_tensor_folder_and_pack_give_the_same_batches(folder, tmp_path):
    read = ImageFolder(folder, 16)
    feeds = [
        open_feed(data, image_channels=3, base_size=(4, 4), level=2, seed=5, workers=0, device=torch.device("cpu"))
        for data in (read.images, read, pack(folder, tmp_path / "a.pack", 16))
    ]
    batches = [[batch.images for batch in feed.batches(8, 100, lambda _: 8)] for feed in feeds]
    assert len(batches[0]) == 12
    for ours in zip(*batches, strict=True):
        assert all(torch.equal(ours[0], other) for other in ours[1:])


def test_a_run_on_a_folder_goes_on_with_its_pack(recipe, folder, tmp_path):
    trainers = []
    for name, data in (("a", ImageFolder(folder, 16)), ("b", pack(folder, tmp_path / "a.pack", 16))):
        trainer = Trainer.from_recipe(recipe, run_dir=tmp_path / name, progress=False, device="cpu")
        trainer.fit(ImageFolder(folder, 16), until=16)
        trainer = Trainer.from_run(tmp_path / name, progress=False, device="cpu")
        trainer.fit(data, until=32)
        trainers.append(trainer)
    states = [trainer.generator.state_dict() for trainer in trainers]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_changed_pictures_are_named_one_by_one(recipe, folder, tmp_path):
    run = tmp_path / "run"
    Trainer.from_recipe(recipe, run_dir=run, progress=False, device="cpu").fit(ImageFolder(folder, 16), until=8)
    picture = Image.open(folder / "sub/1.png")
    picture.putpixel((12, 8), (1, 2, 3))
    picture.save(folder / "sub/1.png")
    (folder / "sub/2.png").rename(folder / "renamed.png")
    for data in (ImageFolder(folder, 16), pack(folder, tmp_path / "a.pack", 16, progress=False)):
        trainer = Trainer.from_run(run, progress=False, device="cpu")
        text = r"the data is not that of the run .*: 1 changed: sub/1.png; 1 gone: sub/2.png; 1 new: renamed.png; pass"
        with pytest.raises(ValueError, match=text):
            trainer.fit(data)
    (run / "data.json").unlink()
    with pytest.raises(ValueError, match=r"\(there -> here\): content '\w+' -> '\w+'; pass"):
        Trainer.from_run(run, progress=False, device="cpu").fit(ImageFolder(folder, 16))


def test_only_some_are_packed(folder, tmp_path):
    assert pack(folder, tmp_path / "a.pack", 8, only=["sub/1.png", "0 ü.png"]).paths == ["0 ü.png", "sub/1.png"]


def test_writing_to_the_images_leaves_the_file_alone(folder, tmp_path):
    packed = pack(folder, tmp_path / "a.pack", 8)
    before = (tmp_path / "a.pack").read_bytes()
    packed.images[:] = 0
    assert (tmp_path / "a.pack").read_bytes() == before


def test_a_changed_picture_is_found(folder, tmp_path):
    path = tmp_path / "a.pack"
    packed = pack(folder, path, 8)
    contents = bytearray(path.read_bytes())
    contents[contents.index(packed.images[4].numpy().tobytes())] ^= 1
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=f"1 of 21 pictures are not .*; pack the folder again: {packed.paths[4]}$"):
        Pack(path).verify()


@pytest.mark.parametrize("cut", [0, 5, 60, 3000])
def test_files_that_are_cut_off_are_refused(cut, folder, tmp_path):
    pack(folder, tmp_path / "a.pack", 8)
    (tmp_path / "a.pack").write_bytes((tmp_path / "a.pack").read_bytes()[:cut])
    with pytest.raises(ValueError, match="is damaged"):
        Pack(tmp_path / "a.pack")


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (b'"progan pack"', b'"some format"', "is not a pack of pictures; write one with progan.data.pack"),
        (b'"version": "1"', b'"version": "2"', "version '2' of the format, this progan reads 1; update progan"),
        (b'"hashes"', b'"hushes"', "is damaged: it holds 'hushes', 'images', 'names', not images, hashes, names; pack"),
        (b'"U8", "shape": [21, 16]', b'"BOOL","shape":[21, 16]', "is damaged: not all of it is uint8; pack"),
        (b"[21, 3, 8, 8]", b"[21, 8, 3, 8]", "is damaged: its parts do not fit; pack the folder again"),
        (b"sub/1.png\0", b"sub/2.png\0", "is damaged: its names are not all different; pack the folder again"),
        (b"sub/1.png\0", b"../11.png\0", r"is damaged: \.\./11.png leads out of the folder;.*; pack the folder again"),
        (b"sub/1.png\0", b"/ub/1.png\0", "is damaged: /ub/1.png leads out of the folder;.*; pack the folder again"),
        (b"[21, 16]", b"[16, 21]", "is damaged: its parts do not fit"),
        (b"sub/1.png\0", b"sub/1.png-", "is damaged: its parts do not fit"),
    ],
)
def test_other_files_are_refused(old, new, text, folder, tmp_path):
    path = tmp_path / "a.pack"
    pack(folder, path, 8)
    contents = path.read_bytes()
    assert contents.count(old) == 1
    path.write_bytes(contents.replace(old, new))
    with pytest.raises(ValueError, match=text):
        Pack(path)


HUGE = 1 << 62
PARTS = {"images": [1, 3, 4, 4], "hashes": [1, 16], "names": [5]}


@pytest.mark.parametrize(
    ("changed", "metadata", "text"),
    [
        ({}, {}, None),
        ({"images": [0, HUGE, HUGE, HUGE]}, {}, "is damaged: .*a shape is larger than .*; pack the folder again"),
        ({"images": [HUGE, 0, 10**30, 3], "hashes": [HUGE, 0]}, {}, "is damaged: .*a shape is larger than"),
        ({"images": [0, 3, 4, 4], "hashes": [0, 16], "names": [0]}, {}, "is damaged: a part of it is empty"),
        ({"images": [HUGE, 3, 4, 4]}, {}, "is damaged: .*; pack the folder again"),
        ({"names": [5, 1]}, {}, "is damaged: its parts do not fit"),
        ({"images": [3, 4, 4]}, {}, "is damaged: its parts do not fit"),
        ({"images": []}, {}, "is damaged: its parts do not fit"),
        ({"images": [1, 2, 4, 4]}, {}, "is damaged: its parts do not fit"),
        (
            {"more": [2]},
            {},
            "is damaged: it holds 'hashes', 'images', 'more', 'names', not images, hashes, names; pack",
        ),
        ({}, {"format": ["progan pack"]}, "is not a pack of pictures; write one"),
        ({}, {"version": {"1": None}}, "version .* of the format, this progan reads 1; update"),
        ({}, None, "is not a pack of pictures; write one"),
        ({}, [], "is damaged: its header cannot be read .*; pack the folder again"),
    ],
)
def test_shapes_and_metadata_of_an_attacker(changed, metadata, text, tmp_path):
    path, header, position = tmp_path / "a.pack", {}, 0
    for name, shape in (PARTS | changed).items():
        size = math.prod(shape) if math.prod(shape) < 1000 else 48
        header[name] = {"dtype": "U8", "shape": shape, "data_offsets": [position, position + size]}
        position += size
    if metadata is not None:
        right = {"format": "progan pack", "version": "1"}
        header["__metadata__"] = right | metadata if isinstance(metadata, dict) else metadata
    written = json.dumps(header).encode()
    path.write_bytes(len(written).to_bytes(8, "little") + written + (bytes(position) + b"a.png")[5:])
    if text is None:
        assert Pack(path).paths == ["a.png"]
    else:
        with pytest.raises(ValueError, match=text):
            Pack(path)


class Halves(Pack):
    """A pack with items of its own."""

    def __init__(self, path, factor):
        super().__init__(path)
        self.factor = factor

    def __getitem__(self, index):
        return self.images[index] // self.factor


def test_a_copy_maps_the_file_again(folder, tmp_path, monkeypatch):
    whole = pack(folder, tmp_path / "a.pack", 64)
    monkeypatch.chdir(tmp_path)
    halves = Halves("a.pack", 2)
    monkeypatch.chdir("/")
    for packed in (whole, halves):
        pickled = pickle.dumps(packed)
        assert len(pickled) < 1000
        for copied in (pickle.loads(pickled), copy.deepcopy(packed)):  # noqa: S301
            assert type(copied) is type(packed)
            assert (copied.paths, copied.fingerprint) == (packed.paths, packed.fingerprint)
            assert torch.equal(copied[4], packed[4])
            copied.verify()
    pack(folder, tmp_path / "a.pack", 8)
    with pytest.raises(ValueError, match=r"a.pack is not the pack that it was; open it again with Pack\(path\)"):
        pickle.loads(pickled)  # noqa: S301


def test_a_link_leads_to_the_pack(folder, tmp_path):
    (tmp_path / "disk").mkdir()
    link = tmp_path / "a.pack"
    link.symlink_to(tmp_path / "disk/there.pack")
    pack(folder, link, 8)
    pack(folder, link, 16)
    assert link.is_symlink()
    assert Pack(tmp_path / "disk/there.pack").images.shape == Pack(link).images.shape == (21, 3, 16, 16)
    with (
        owned(tmp_path / "disk", ".there.pack.owner"),
        pytest.raises(BlockingIOError, match=r"/a.pack is being"),
    ):
        pack(folder, link, 8)
    (tmp_path / "disk/notes.txt").write_text("mine")
    (tmp_path / "notes.pack").symlink_to(tmp_path / "disk/notes.txt")
    with pytest.raises(FileExistsError, match=r"notes.pack exists already and is not a pack"):
        pack(folder, tmp_path / "notes.pack", 8)
    (tmp_path / "loop.pack").symlink_to(tmp_path / "loop.pack")
    with pytest.raises(OSError, match=r"loop.pack is a symlink loop; remove it"):
        pack(folder, tmp_path / "loop.pack", 8)


def test_what_a_killed_one_left_takes_no_room(folder, tmp_path, monkeypatch):
    left = tmp_path / ".a.pack.partial"
    left.write_bytes(bytes(1_000_000))
    (tmp_path / ".a.pack.owner").write_text("process 1 on another machine")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 0 if left.exists() else 10_000}))
    pack(folder, tmp_path / "a.pack", 8)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.pack", "pictures"]


def test_a_file_that_is_no_pack_is_not_replaced(folder, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes.txt exists already and is not a pack; pass another path"):
        pack(folder, tmp_path / "notes.txt", 8)
    with pytest.raises(NotADirectoryError, match="nowhere is not a directory; make it first"):
        pack(folder, tmp_path / "nowhere/a.pack", 8)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pack")
        with pytest.raises(ValueError, match=r"pipe.pack is not a file, and so not a pack"):
            Pack(tmp_path / "pipe.pack")
        with pytest.raises(FileExistsError, match="is not a pack"):
            pack(folder, tmp_path / "pipe.pack", 8)


def test_one_process_writes_a_pack(folder, tmp_path):
    with owned(tmp_path, ".a.pack.owner"), pytest.raises(BlockingIOError, match=r"a.pack is being written to by this"):
        pack(folder, tmp_path / "a.pack", 8)
    pack(folder, tmp_path / "a.pack", 8)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.pack", "pictures"]


def test_a_failure_leaves_the_older_pack(folder, tmp_path, monkeypatch):
    path = tmp_path / "a.pack"
    pack(folder, path, 8)
    before = path.read_bytes()
    (folder / "cut.png").write_bytes((folder / "sub/1.png").read_bytes()[:100])
    (folder / "empty.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"(?s)2 of 23 files .* cannot be read.*cut.png: .*empty.png: an empty file"):
        pack(folder, path, 8)
    for name in ("cut.png", "empty.png"):
        (folder / name).unlink()
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"a.pack needs 4,\d+ bytes, and 100 are free there; pass a path on"):
        pack(folder, path, 8)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.pack", "pictures"]


PACKED = """
import sys
import progan
from progan.data import pack
before = begin()
images = pack(sys.argv[1], sys.argv[2], 256, progress=False).images
images[[5, 9, 300]].float().mean()
print(peak_above(before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")
def test_packing_holds_a_few_pictures_at_a_time(tmp_path):
    """1,500 of them are 295 MB as pixels."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(1500):
        Image.new("RGB", (256, 256), (index % 256, index // 256, 0)).save(folder / f"{index}.png", compress_level=1)
    command = [sys.executable, "-c", MEMORY + PACKED, str(folder), str(tmp_path / "a.pack")]
    taken = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert float(taken) < 150, f"{taken} MB above import"
    assert len(Pack(tmp_path / "a.pack")) == 1500


def test_progress_is_shown_where_it_takes_long(folder, tmp_path, capsys, monkeypatch):
    pack(folder, tmp_path / "a.pack", 8)
    assert capsys.readouterr().err == ""
    clock = iter(range(0, 10_000, 4))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    pack(folder, tmp_path / "a.pack", 8)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "packing: 3/21  left: 1 min 12 s"
    assert len(lines) == 7
