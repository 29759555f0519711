"""The checkpoint's files: what is written is read, by the safetensors library too, and damage is named."""

from __future__ import annotations

import json
import os
import random

import pytest
import torch

from progan import CheckpointError, Trainer
from progan.runs import checkpoint
from progan.runs.checkpoint import (
    checkpoints,
    find_checkpoint,
    read_manifest,
    read_tensors,
    remove_partial,
    verify,
    write_checkpoint,
)

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8]


@pytest.fixture
def tensors():
    made = {f"generator/{dtype}": torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES}
    made["adam/step"] = torch.tensor(7.0)
    made["generator/transposed"] = torch.arange(6.0).reshape(2, 3).t()
    made["generator/empty"] = torch.zeros(0, 4)
    made["flag"] = torch.tensor([True, False])
    return made


@pytest.fixture
def folder(tmp_path, tensors):
    return write_checkpoint(tmp_path, 48, {"seed": 3}, tensors)


def same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        assert torch.equal(tensor, other[name]), name


def test_round_trip(folder, tensors):
    assert folder.name == "000000048"
    assert verify(folder)["seed"] == 3
    same(read_tensors(folder), tensors)
    same(read_tensors(folder, "adam/"), {"step": tensors["adam/step"]})
    assert sorted(path.name for path in folder.parent.iterdir()) == ["000000048"], "nothing is left beside it"


def test_the_safetensors_library_reads_it_too(folder, tensors):
    from safetensors.torch import load_file

    same(load_file(folder / "tensors.safetensors"), {name: tensor.contiguous() for name, tensor in tensors.items()})


def test_the_newest_sound_one_is_found(tmp_path, tensors, folder):
    newer = write_checkpoint(tmp_path, 1_000_000_000, {}, tensors)
    assert checkpoints(tmp_path) == [folder, newer]
    assert find_checkpoint(tmp_path)[0] == newer
    assert find_checkpoint(folder)[0] == folder
    (newer / "tensors.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match="000000048 is used; newer checkpoints were skipped: .*1000000000"):
        assert find_checkpoint(tmp_path)[0] == folder


def test_the_same_count_is_written_anew(tmp_path, folder):
    write_checkpoint(tmp_path, 48, {"seed": 4}, {"a": torch.ones(1)})
    assert read_manifest(folder)["seed"] == 4
    same(read_tensors(folder), {"a": torch.ones(1)})


def test_a_failed_write_leaves_nothing_and_harms_nothing(tmp_path, folder, tensors):
    with pytest.raises(KeyError):
        write_checkpoint(tmp_path, 48, {}, {"a": torch.zeros(1, dtype=torch.complex64)})
    assert sorted(path.name for path in folder.parent.iterdir()) == ["000000048"]
    same(read_tensors(folder), tensors)


@pytest.mark.parametrize("cut", ["fails", "dies"])
def test_a_checkpoint_of_the_same_count_is_never_lost(cut, tmp_path, tensors, folder, monkeypatch):
    """The rename that puts the new one in its place fails, or the process dies before it."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    replace = os.replace

    def fail(path, target):
        if path.name.endswith(".partial") and target.name == folder.name:
            raise OSError("in use")
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        if cut == "dies":
            patch.setattr(checkpoint, "_put_back", lambda final: None)
        with pytest.raises(OSError, match="in use"):
            write_checkpoint(tmp_path, 48, {"seed": 4}, tensors)
    if cut == "dies":
        assert not folder.exists()
        remove_partial(tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_damaged_checkpoint_is_refused_where_it_is_named(folder):
    data = bytearray((folder / "tensors.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "tensors.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match="checksum"):
        find_checkpoint(folder)


def header_of(data: bytes) -> tuple[dict, bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def file_of(header: object, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def mutate(**change):
    def change_first(data: bytes) -> bytes:
        header, body = header_of(data)
        header["a"] |= change
        return file_of(header, body)

    return change_first


DAMAGE = {
    "empty": lambda data: b"",
    "a header longer than the file": lambda data: (1 << 60).to_bytes(8, "little") + data[8:],
    "no JSON": lambda data: data[:8] + b"x" + data[9:],
    "a list for a header": lambda data: file_of([1], b""),
    "an entry that is no object": lambda data: file_of({"a": 3}, b""),
    "cut off": lambda data: data[:-1],
    "too long": lambda data: data + b"x",
    "an unknown dtype": mutate(dtype="F8"),
    "a negative offset": mutate(data_offsets=[-4, 4]),
    "an overlap": mutate(data_offsets=[4, 12]),
    "a huge shape": mutate(shape=[1 << 62]),
    "a negative side": mutate(shape=[-2]),
    "a side that is no int": mutate(shape=[2.0]),
    "three offsets": mutate(data_offsets=[0, 4, 8]),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_before_memory_is_taken(kind, tmp_path):
    folder = write_checkpoint(tmp_path, 0, {}, {"a": torch.zeros(2), "b": torch.ones(1)})
    path = folder / "tensors.safetensors"
    path.write_bytes(DAMAGE[kind](path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"damaged|cannot be read"):
        read_tensors(folder)
    with pytest.raises(CheckpointError, match="checksum is not the manifest's"):
        verify(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("[]", "is not a progan checkpoint's"),
        ('{"format": "other"}', "is not a progan checkpoint's"),
        (
            '{"format": "progan checkpoint", "version": 2}',
            "version 2 of the format, this progan reads 1; update progan",
        ),
    ],
)
def test_a_strange_manifest_is_refused(text, message, folder):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read_manifest(folder)


def test_a_missing_file_is_named(folder, tmp_path):
    (folder / "tensors.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        verify(folder)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_tensors(folder)
    with pytest.raises(CheckpointError, match="is not a checkpoint, nor a run with one"):
        find_checkpoint(tmp_path / "nowhere")


def cut(data, rng, other):
    return data[: rng.randrange(len(data))]


def flip_a_bit(data, rng, other):
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def zero_a_range(data, rng, other):
    begin = rng.randrange(len(data))
    end = min(len(data), begin + rng.randrange(1, 5000))
    return data[:begin] + bytes(end - begin) + data[end:]


def swap_two_ranges(data, rng, other):
    length = rng.randrange(1, len(data) // 4)
    begin = rng.randrange(len(data) - 2 * length)
    after = rng.randrange(begin + length, len(data) - length + 1)
    one, two = data[begin : begin + length], data[after : after + length]
    return data[:begin] + two + data[begin + length : after] + one + data[after + length :]


def insert_bytes(data, rng, other):
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(rng.randrange(1, 100)) + data[place:]


def take_a_range_of_another(data, rng, other):
    begin = rng.randrange(min(len(data), len(other)))
    end = min(len(data), len(other), begin + rng.randrange(1, 5000))
    return data[:begin] + other[begin:end] + data[end:]


def take_that_of_another(data, rng, other):
    return other


MUTATIONS = [
    cut,
    flip_a_bit,
    zero_a_range,
    swap_two_ranges,
    insert_bytes,
    take_a_range_of_another,
    take_that_of_another,
]


def test_1000_mutations_are_noticed_and_the_older_checkpoint_is_taken(tmp_path, recipe, images):
    """In either file of a real checkpoint; the other ones are of the same run, and of one of another seed."""
    rng = random.Random(0)
    quiet = {"device": "cpu", "progress": False}
    for seed, name in enumerate(("run", "another")):
        Trainer.from_recipe(recipe, run_dir=tmp_path / name, seed=seed, save_every=8, **quiet).fit(images, until=16)
    older, newest, foreign = (
        tmp_path / name / "checkpoints" / count
        for name, count in (("run", "000000008"), ("run", "000000016"), ("another", "000000016"))
    )
    assert find_checkpoint(tmp_path / "run")[0] == newest
    doors = [
        lambda run: Trainer.from_recipe(recipe, run_dir=run, **quiet).images_seen,
        lambda run: Trainer.from_run(run, **quiet).images_seen,
        lambda run: find_checkpoint(run)[0],  # most of the time: it is the quickest
    ]
    sound = {file: (newest / file).read_bytes() for file in ("manifest.json", "tensors.safetensors")}
    made = 0
    while made < 1000:
        mutate, file = MUTATIONS[made % len(MUTATIONS)], rng.choice(sorted(sound))
        other = (rng.choice((older, foreign)) / file).read_bytes()
        data = bytes(mutate(bytearray(sound[file]), rng, other))
        if data == sound[file]:
            continue
        (newest / file).write_bytes(data)
        told = rf"{newest}.*(manifest\.json|tensors\.safetensors)"
        with pytest.raises(CheckpointError, match=told):
            verify(newest)
        with pytest.warns(UserWarning, match=rf"{older} is used; newer checkpoints were skipped: {told}"):
            taken = doors[min(made % 25, 2)](tmp_path / "run")
        assert taken in (older, 8)
        (newest / file).write_bytes(sound[file])
        made += 1
    assert find_checkpoint(tmp_path / "run")[0] == newest


def test_a_manifest_without_end_is_refused(folder):
    (folder / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_manifest(folder)
