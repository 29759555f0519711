"""Files made to do harm in place of another program's: nothing runs, each is refused, memory is bounded."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MEMORY
from foreign_programs import zoo_contents

from progan import CheckpointError, importers
from progan.importers.pickles import check_pickle

MARKER = Path("ran")  # of the folder in which the files are opened


class Calls:
    """An object whose pickle is a call."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def writes() -> Calls:
    return Calls(open, str(MARKER), "w")


def saved(contents: object, *, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(contents, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def good() -> bytes:
    return saved(zoo_contents())


def entries() -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(good())) as archive:
        for name in archive.namelist():
            yield name, archive.read(name)


def rezipped(change: Callable[[str, bytes], list[tuple[str, bytes]]], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in entries():
            for new_name, new_data in change(name, data):
                archive.writestr(new_name, new_data)
    return file.getvalue()


def with_pickle(data: bytes) -> bytes:
    return rezipped(lambda name, old: [(name, data if name.endswith("data.pkl") else old)])


def beside(name: str, data: bytes) -> bytes:
    return rezipped(lambda old, kept: [(old, kept)] + [(name, data)] * old.endswith("data.pkl"))


def with_tensor(tensor: object, name: str = "formatLayer.module.bias", **more: object) -> bytes:
    contents = zoo_contents()
    contents["netG"][name] = tensor
    return saved({**contents, **more})


def without(name: str) -> bytes:
    contents = zoo_contents()
    del contents["netG"][name]
    return saved(contents)


def shared() -> bytes:
    contents = zoo_contents()
    contents["avgG"]["toRGBLayers.1.module.bias"] = contents["avgG"]["toRGBLayers.0.module.bias"]
    return saved(contents)


def overlapping() -> bytes:
    contents, one = zoo_contents(), torch.randn(5)
    contents["netG"] |= {"toRGBLayers.0.module.bias": one[:3], "toRGBLayers.1.module.bias": one[2:]}
    return saved(contents)


def of_both_networks() -> bytes:
    contents = zoo_contents()
    return saved({**contents, "avgG": contents["netG"]})


def changed(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new)


def tar() -> bytes:
    file, storages = io.BytesIO(), pickle.dumps(writes())
    member = tarfile.TarInfo("storages")
    member.size = len(storages)
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(member, io.BytesIO(storages))
    return file.getvalue()


def old_format(numbers: int) -> bytes:
    """The layout before torch 1.6, with a storage of so many numbers that none of them follow."""
    data = saved({"netG": {"formatLayer.module.weight": torch.zeros(1000)}}, zipped=False)
    return changed(data, b"M\xe8\x03N", b"\x8a\x06" + numbers.to_bytes(6, "little") + b"N")


def deep_key() -> bytes:
    """A dict of which a key is nested so deeply that its hash takes all of the stack."""
    return b"\x80\x02})" + b"\x85" * 490_000 + b"K\x01s."


def hides_a_method() -> bytes:
    state = OrderedDict(zoo_contents()["netG"])
    state.__dict__["items"] = OrderedDict
    return saved({"netG": state})


def twice_in_a_dict() -> bytes:
    return b"\x80\x02}(X\x04\x00\x00\x00netGK\x01X\x04\x00\x00\x00netGK\x02u."


def storages(data: bytes) -> bytes:
    """A file whose first storage is said to have 8.5 GB."""
    larger, n = re.subn(
        rb"(X\x03\x00\x00\x00cpuq.)M..", lambda found: found[1] + b"J\x00\x00\x00\x7f", data, flags=re.DOTALL
    )
    assert n == 1
    return with_pickle(larger)


def data_pkl() -> bytes:
    return next(data for name, data in entries() if name.endswith("data.pkl"))


def far_end() -> bytes:
    """A zip whose end points to a directory of a terabyte."""
    data = bytearray(good())
    data[-58:-50] = struct.pack("<Q", 1 << 40)
    return bytes(data)


ZEROS = bytes(200_000_000)  # compresses to 200 kB
FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    # code
    "a bare pickle": (lambda: pickle.dumps(writes()), "it was not written by torch.save"),
    "a call": (lambda: saved(writes()), "its pickle asks for .*open"),
    "a call before torch 1.6": (lambda: saved(writes(), zipped=False), "its pickle asks for .*open"),
    "a call of the shell": (lambda: saved(Calls(os.system, f": > {MARKER}")), "its pickle asks for posix.system"),
    "a call beside weights": (lambda: saved({**zoo_contents(), "note": writes()}), "asks for .*open"),
    "a call as a tensor": (lambda: with_tensor(writes()), "its pickle asks for .*open"),
    "eval": (lambda: saved(Calls(eval, "1")), "its pickle asks for .*eval"),
    "a pickle in a pickle": (lambda: saved(Calls(pickle.loads, pickle.dumps(writes()))), "asks for _?pickle.loads"),
    "a newer protocol": (lambda: with_pickle(pickle.dumps(zoo_contents, 4)), "expected protocol 2"),
    "torchscript": (lambda: beside("archive/code/__torch__.py", b"1"), "'archive/code/__torch__.py' is not one of"),
    "a tar": (tar, "it was not written by torch.save"),
    "a hidden method": (hides_a_method, "its pickle .* expected|asks for"),
    # memory
    "ten gigabytes by a call": (lambda: saved(Calls(bytearray, 10**10)), "its pickle asks for .*bytearray"),
    "a compressed archive": (lambda: rezipped(lambda n, d: [(n, d)], zipfile.ZIP_DEFLATED), "is compressed"),
    "a zip bomb": (
        lambda: rezipped(lambda n, d: [(n, ZEROS if n.endswith("/0") else d)], zipfile.ZIP_DEFLATED),
        "is compressed",
    ),
    "a pickle that is too long": (
        lambda: with_pickle(b"\x80\x02" + b"}" * 600_000 + b"."),
        "600,003 bytes, and 500,000",
    ),
    "many dicts": (lambda: with_pickle(b"\x80\x02" + b"}" * 490_000 + b"."), "expected one value at its end"),
    "a deep key": (lambda: with_pickle(deep_key()), "expected texts or ints as keys"),
    "many entries": (lambda: many_entries(60_000), "the archive's directory has"),
    "a far directory": (far_end, "it does not end as torch.save ends it"),
    "storages larger than the file": (lambda: storages(data_pkl()), "its tensors take .* bytes, and the file has"),
    "a large storage before torch 1.6": (lambda: old_format(1 << 40), "its tensors take 4,398,046,511,104 bytes"),
    "a missing storage before torch 1.6": (lambda: old_format(1001)[:-4000], "its tensors take 4,004 bytes"),
    "a tensor that repeats a number": (
        lambda: with_tensor(torch.zeros(1).expand(10**12), "toRGBLayers.0.module.bias"),
        r"toRGBLayers.0.module.bias must be \(3,\), got \(1000000000000,\)",
    ),
    "a bias that repeats a number": (lambda: with_tensor(torch.zeros(1).expand(96)), "is a view with strides"),
    # damage
    "nothing": (lambda: b"", "it was not written by torch.save"),
    "a text": (lambda: b"<!DOCTYPE html>" * 100, "it was not written by torch.save"),
    "half of it": (lambda: good()[: len(good()) // 2], "it does not end as torch.save ends it"),
    "all but a byte": (lambda: good()[:-1], "it does not end as torch.save ends it"),
    "half of it before torch 1.6": (lambda: saved(zoo_contents(), zipped=False)[:-9_000], "its tensors take|cannot"),
    "something behind it": (lambda: good() + b"PK", "it does not end as torch.save ends it"),
    "something before it": (lambda: b"PK" + bytes(100) + good(), "it does not end as torch.save ends it"),
    "a changed byte": (lambda: with_changed_byte(), "the checksum of 'archive/data/3' is wrong"),
    "an entry twice": (
        lambda: good().replace(b"archive/data/1", b"archive/data/0"),
        "two entries of the archive have the same name",
    ),
    "an entry in other case": (lambda: beside("archive/DATA.PKL", b"\x80\x02}."), "have the same name"),
    "two folders": (lambda: beside("other/data.pkl", b"\x80\x02}."), "its entries are not in one folder"),
    "no pickle": (lambda: rezipped(lambda n, d: [(n, d)] * (not n.endswith("pkl"))), "the archive has no data.pkl"),
    "a missing tensor": (lambda: rezipped(lambda n, d: [(n, d)] * (not n.endswith("/3"))), "cannot be imported"),
    # other contents
    "a list": (lambda: saved([[[zoo_contents()]]]), "is not a checkpoint of image_generator_2, pro_gan_pth, pyt"),
    "a dict in a dict": (lambda: saved({"model": {"model": zoo_contents()}}), "is not a checkpoint of"),
    "a network that is a list": (lambda: saved({"netG": [1, 2]}), "it is not a dict of tensors by name"),
    "a dict in place of a tensor": (lambda: with_tensor({"weight": torch.zeros(3)}), "bias' is not a tensor"),
    "ints as names": (lambda: saved({"netG": {1: torch.zeros(3)}}), "it is not a dict of tensors by name"),
    "a name twice": (lambda: with_pickle(twice_in_a_dict()), "its pickle has the name 'netG' twice in one dict"),
    "conf that is none": (lambda: saved({"generator": {"conf": 3, "state_dict": {}}}), "is not a checkpoint of"),
    # other tensors
    "NaN": (
        lambda: with_tensor(torch.full((96,), torch.nan)),
        "formatLayer.module.bias has values that are not finite",
    ),
    "more than float32 holds": (lambda: with_tensor(torch.full((96,), 1e300, dtype=torch.float64)), "are not finite"),
    "a wrong shape": (lambda: with_tensor(torch.zeros(95)), r"formatLayer.module.bias must be \(96,\), got \(95,\)"),
    "no side": (lambda: with_tensor(torch.zeros(0, 7), "formatLayer.module.weight"), r"'?formatLayer.*\(0, 7\)"),
    "ints": (lambda: with_tensor(torch.zeros(96, dtype=torch.int64)), "must be of float32 or float64, got torch.int64"),
    "a sparse tensor": (
        lambda: with_tensor(torch.zeros(96).to_sparse()),
        "its pickle asks for torch._utils._rebuild_s",
    ),
    "a numpy array": (lambda: with_tensor(np.zeros(96)), "its pickle asks for numpy"),
    "a missing layer": (lambda: without("scaleLayers.0.0.module.bias"), "it lacks scaleLayers.0.0.module.bias"),
    "a gap": (lambda: without("toRGBLayers.1.module.weight"), r"numbered from 0 on, got \[0, 2\]"),
    "an unknown layer": (lambda: with_tensor(torch.zeros(3), "x" * 999), "'xxxx.*no layer for"),
    "levels without end": (lambda: levels(40), "images of at most 65,536 pixels a side are made"),
    "names that collide": (lambda: with_tensor(torch.zeros(96), "module.formatLayer.module.bias"), "has no layer for"),
    "a shared tensor": (shared, "toRGBLayers.0.module.bias and toRGBLayers.1.module.bias share memory"),
    "tensors that overlap": (overlapping, "toRGBLayers.0.module.bias and toRGBLayers.1.module.bias share memory"),
    "two networks in one": (of_both_networks, "share memory"),
}


def many_entries(n: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for index in range(n):
            archive.writestr(zipfile.ZipInfo(f"archive/data/{index}"), b"")
    return file.getvalue()


def with_changed_byte() -> bytes:
    data = bytearray(good())
    place = bytes(data).index(next(data for name, data in entries() if name.endswith("/3"))[:16])
    data[place] ^= 1
    return bytes(data)


def levels(n: int) -> bytes:
    state = zoo_contents()["netG"]
    for level in range(3, n):
        for part, shape in (("weight", (3, 4, 1, 1)), ("bias", (3,))):
            state[f"toRGBLayers.{level}.module.{part}"] = torch.zeros(shape)
        for unit in (0, 1):
            state[f"scaleLayers.{level - 1}.{unit}.module.weight"] = torch.zeros(4, 4, 3, 3)
            state[f"scaleLayers.{level - 1}.{unit}.module.bias"] = torch.zeros(4)
    return saved({"netG": state})


PROGRAM = """
import json, sys
from pathlib import Path
from progan import importers

importers.load("good.pt")  # imports what torch imports at the first file
found = {}
for path in sorted(Path().glob("*.hostile")):
    before = begin()
    try:
        importers.load(path)
        text = "loaded"
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
    found[path.name] = text, peak_above(before) * 1e6
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> tuple[Path, dict[str, tuple[str, float, int]]]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "good.pt").write_bytes(good())
    sizes = {}
    for index, (name, (made, _)) in enumerate(FILES.items()):
        path = folder / f"{index:02d}.hostile"
        path.write_bytes(made())
        sizes[name] = path.stat().st_size
    run = subprocess.run(
        [sys.executable, "-c", MEMORY + PROGRAM], cwd=folder, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout)
    return folder, {name: (*found[f"{index:02d}.hostile"], sizes[name]) for index, name in enumerate(FILES)}


@pytest.mark.parametrize("name", FILES)
def test_each_is_refused_in_plain_words(name, outcomes):
    text, peak, size = outcomes[1][name]
    assert re.match(r"CheckpointError: \S*\.hostile\b", text), text
    assert re.search(FILES[name][1], text), text
    assert len(text) < 600
    assert peak <= 2 * size + 150e6


def test_nothing_ran(outcomes, monkeypatch):
    folder, found = outcomes
    assert len(found) >= 30
    assert not (folder / MARKER).exists()
    monkeypatch.chdir(folder)
    pickle.loads(pickle.dumps(writes())).close()  # noqa: S301 (so it would have)
    assert (folder / MARKER).exists()
    (folder / MARKER).unlink()


@pytest.mark.parametrize("zipped", [True, False])
def test_memory_of_a_large_file(zipped, tmp_path):
    """80 MB of weights, and as much beside them that is not used."""
    contents = {"netG": {name: tensor.clone() for name, tensor in zoo_contents()["netG"].items()}}
    contents["netG"]["formatLayer.module.weight"] = torch.randn(96, 210_000)
    torch.save(
        {**contents, "tmp": torch.zeros(20_000_000)}, tmp_path / "good.pt", _use_new_zipfile_serialization=zipped
    )
    program = """
from progan import importers
before = begin()
imported = importers.load("good.pt")
print(peak_above(before) * 1e6)
"""
    run = subprocess.run(
        [sys.executable, "-c", MEMORY + program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert float(run.stdout) <= 2 * (tmp_path / "good.pt").stat().st_size + 150e6


def test_only_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(CheckpointError, match="is not a regular file"):
            importers.load(path)


def test_any_beginning_of_a_pickle_is_damaged():
    data = data_pkl()
    check_pickle(io.BytesIO(data), 10**6)
    for length in range(len(data)):
        with pytest.raises(ValueError, match="pickle"):
            check_pickle(io.BytesIO(data[:length]), 10**6)
