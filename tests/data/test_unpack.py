"""A pack as a folder of PNG files: the same pixels, names and classes, and nothing half written."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import EACH_FAULT
from PIL import Image

from progan import ImageFolder
from progan.data import pack, unpack
from progan.storage.names import normalised

MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def draw(folder, names, channels=3):
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (12, 8, channels), np.uint8)
        Image.fromarray(pixels.squeeze(), MODES[channels]).save(folder / name)


@pytest.fixture
def packed(tmp_path):
    draw(tmp_path / "icons", ["cats/1.png", "cats/2.png", "dogs/a b.png"])
    return pack(tmp_path / "icons", tmp_path / "icons.pack", (12, 8), labels="folders", progress=False)


@pytest.mark.parametrize("channels", MODES)
def test_pixels_names_and_classes_are_the_same(channels, tmp_path):
    draw(tmp_path / "icons", ["cats/1.png", "cats/2.png", "dogs/a b.png"], channels)
    packed = pack(tmp_path / "icons", tmp_path / "icons.pack", (12, 8), channels, labels="folders", progress=False)
    folder = unpack(packed.path, tmp_path / "again", progress=False)
    again = ImageFolder(folder, (12, 8), channels, labels="folders", squaring="refuse")
    assert torch.equal(again.images, packed.images)
    assert (again.fingerprint, again.classes) == (packed.fingerprint, ("cats", "dogs"))


def test_other_endings_become_png_and_names_stay_different(tmp_path):
    draw(tmp_path / "icons", ["1.bmp", "2.PNG", "x/1.gif"])
    pack(tmp_path / "icons", tmp_path / "a.pack", 8, progress=False)
    folder = unpack(tmp_path / "a.pack", tmp_path / "a")
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*")) == ["1.png", "2.png", "x/1.png"]
    draw(tmp_path / "icons", ["1.PNG"])
    packed = pack(tmp_path / "icons", tmp_path / "b.pack", 8, progress=False)
    folder = unpack(tmp_path / "b.pack", tmp_path / "b", progress=False)
    assert sorted(path.name for path in folder.iterdir()) == ["1.PNG.png", "1.bmp.png", "2.PNG.png", "x"]
    assert torch.equal(ImageFolder(folder, 8).images, packed.images)


@pytest.mark.parametrize("name", ["../../1.pn", "/etc/1.png", "a/../../1p", "././././/."])
def test_a_crafted_name_never_leads_out_of_the_folder(name, packed, tmp_path):
    packed.path.write_bytes(packed.path.read_bytes().replace(b"cats/1.png", name.encode()))
    with pytest.raises(ValueError, match="damaged"):
        unpack(packed.path, tmp_path / "again", progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["icons", "icons.pack"]


def test_names_of_one_file_are_refused(packed, tmp_path):
    packed.path.write_bytes(
        packed.path.read_bytes().replace(b"cats/2.png", b"cats//1.pn").replace(b"cats/1.png", b"cats/1.pn/")
    )
    with pytest.raises(ValueError, match="differ in upper and lower case only"):
        unpack(packed.path, tmp_path / "again", progress=False)


@pytest.mark.parametrize("names", [["1.bmp", "1.png/2.png"], ["\u00e9.bmp", "e\u0301.png"], ["x" * 251 + ".png"]])
def test_names_that_get_in_each_others_way_or_are_as_long_as_can_be(names, tmp_path):
    draw(tmp_path / "icons", names)
    packed = pack(tmp_path / "icons", tmp_path / "icons.pack", 8, progress=False)
    again = ImageFolder(unpack(packed.path, tmp_path / "again", progress=False), 8)
    assert sorted(map(bytes, again.images.numpy())) == sorted(map(bytes, packed.images.numpy()))
    assert len(names) == len({normalised(name) for name in again.paths})


def test_a_link_to_an_empty_folder_stays(packed, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    unpack(packed.path, tmp_path / "link", progress=False)
    assert (tmp_path / "link").is_symlink()
    assert len(list((tmp_path / "empty").rglob("*.png"))) == 3


def test_what_is_there_is_never_written_over(packed, tmp_path, monkeypatch):
    with pytest.raises(FileExistsError, match="icons exists and is not an empty folder; pass a new one"):
        unpack(packed.path, tmp_path / "icons")
    with pytest.raises(NotADirectoryError, match="no is not a directory; make it first"):
        unpack(packed.path, tmp_path / "no/icons")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(FileExistsError, match=r"\. is the current directory, which a new folder would replace; pass"):
        unpack(packed.path, ".")
    monkeypatch.chdir(tmp_path)
    assert len(list(unpack(packed.path, tmp_path / "empty", progress=False).rglob("*.png"))) == 3


def test_a_damaged_pack_leaves_nothing(packed, tmp_path):
    data = bytearray(packed.path.read_bytes())
    at = data.index(packed.images[2].numpy().tobytes())
    data[at] ^= 1
    packed.path.write_bytes(data)
    with pytest.raises(ValueError, match=r"is damaged: dogs/a b\.png is not what was packed; pack the folder again"):
        unpack(packed.path, tmp_path / "again", progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["icons", "icons.pack"]
    (tmp_path / "file").write_bytes(b"no pack")
    with pytest.raises(ValueError, match="file"):
        unpack(tmp_path / "file", tmp_path / "again")


@EACH_FAULT
def test_nothing_is_half_written(number, packed, tmp_path, hooked):
    operations, fails_at = [], None

    def hook(operation, path):
        operations.append(operation)
        if len(operations) - 1 == fails_at and operation in ("open", "write", "mkdir", "replace"):
            raise OSError(number, "broken", str(path))

    hooked(hook)
    unpack(packed.path, tmp_path / "all", progress=False)
    for k in range(len(operations)):
        fails_at = k
        operations.clear()
        try:
            unpack(packed.path, tmp_path / f"k{k}", progress=False)
        except OSError:
            assert not (tmp_path / f"k{k}").exists()
        else:
            assert len(list((tmp_path / f"k{k}").rglob("*.png"))) == 3
        assert not list(tmp_path.glob(".*"))
