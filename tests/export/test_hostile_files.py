"""Files of generators made to do harm: nothing in them runs, all are refused, and their size bounds the memory."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
from dataclasses import asdict, replace

import pytest
import torch
from conftest import MEMORY, small_recipe
from running import make, program

from progan import CheckpointError, Classes, GrownGenerator, export, load_generator, presets
from progan.networks.architecture import Architecture
from progan.runs.generator_file import GeneratorRecord

ARCHITECTURE = replace(small_recipe().architecture, channels=(4, 4))


@pytest.fixture
def file(tmp_path):
    recipe = small_recipe()
    return export.save_generator(GrownGenerator(recipe.build()[0], 1), tmp_path / "icons.safetensors")


def parts(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write(path, header, body):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def with_record(path, change):
    """Change the record in a file."""
    header, body = parts(path)
    record = json.loads(header["__metadata__"]["progan"])
    text = change(record)
    header["__metadata__"]["progan"] = json.dumps(record) if text is None else text
    write(path, header, body)


make_pipe = getattr(os, "mkfifo", os.mkdir)  # Windows has no named pipes among its files


class Fires:
    def __reduce__(self):
        return os.system, ("touch fired",)


def setting(name, value):
    def change(record):
        *way, last = name.split(".")
        for each in way:
            record = record[each]
        record[last] = value

    return change


RECORDS = {
    "a pickle": (lambda _: pickle.dumps(Fires(), 0).decode("latin-1"), "not a generator that this progan reads"),
    "code": (lambda _: "__import__('os').system('touch fired')", "not a generator that this progan reads"),
    "a list": (lambda _: "[1]", "its metadata is not that of a progan generator"),
    "another format": (setting("format", "progan run"), "its metadata is not that of a progan generator"),
    "a later version": (setting("version", 2), "it has version 2 of the format, this progan reads 1"),
    "no level": (lambda record: record.pop("level") and None, "it lacks 'level'"),
    "another level": (setting("level", 0), "its level must be the highest of its architecture, 1"),
    "a level that is true": (setting("level", True), "its level must be the highest"),
    "a precision that is code": (setting("precision", "os.system"), "precision must be one of fp32, fp16"),
    "a precision that is a list": (setting("precision", ["fp32"]), "precision must be one of fp32, fp16"),
    "the other precision": (setting("precision", "fp16"), "torch.float32 .* and should be torch.float16"),
    "an unknown setting": (setting("architecture.block", "os.system"), "Architecture has no block"),
    "other widths": (setting("architecture.channels", [8, 7]), "do not fit its architecture: 'blocks.1"),
    "another padding": (setting("architecture.padding", "os"), "padding must be one of"),
    "huge widths": (setting("architecture.channels", [10**5, 10**5]), "do not fit its architecture"),
    "widths beyond 64 bits": (setting("architecture.channels", [10**30, 4]), "too large"),
    "thousands of levels": (setting("architecture.channels", [1] * 20_000), "65,536 pixels a side"),
    "classes without names": (setting("architecture.classes", 2), "the data has no record of its classes"),
    "a count without end": (setting("images_seen", 10**400), "its images_seen must be an int"),
    "a negative count": (setting("images_seen", -1), "its images_seen must be an int"),
    "counts of texts": (setting("data", {"images": "x"}), "its images must be an int"),
    "a scale of 0": (setting("scale", 0), "its scale must be an int from 1 to 16"),
    "a scale that is true": (setting("scale", True), "its scale must be an int from 1 to 16"),
    "a scale without a palette": (setting("scale", 2), "its scale must be .* 1 without a palette"),
    "a recipe that is a text": (setting("recipe", "mel_icon"), "its recipe must be a JSON object or null"),
    "a time without end": (setting("trained_s", 1e300), "trained_s must be seconds"),
    "a licence of a number": (setting("licence", 5), "its licence must be a text"),
    "a long note": (setting("note", "x" * 30_000), "its note must be a text of at most"),
    "NaN": (lambda record: json.dumps(record | {"trained_s": float("nan")}), "NaN is not valid JSON"),
    "deep lists": (lambda _: "[" * 1000 + "]" * 1000, "deep"),
    "a name twice": (lambda _: '{"format": "progan generator", "format": "progan generator"}', "a name occurs twice"),
}


def test_a_scale_without_end_is_refused(tmp_path):
    recipe = small_recipe(presets.few_images)
    path = export.save_generator(GrownGenerator(recipe.build()[0], 1), tmp_path / "icons.safetensors", enlarge=16)
    assert load_generator(path).image_size == (128, 128)
    with_record(path, setting("scale", 10**6))
    with pytest.raises(CheckpointError, match="its scale must be an int from 1 to 16"):
        load_generator(path)


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_that_does_not_fit_is_refused(kind, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    change, message = RECORDS[kind]
    with_record(file, change)
    for read in (load_generator, export.describe, export.model_card):
        with pytest.raises(CheckpointError, match=f"^{re.escape(str(file))}.*{message}") as caught:
            read(file)
        assert len(str(caught.value)) < 1000
    assert sorted(each.name for each in tmp_path.iterdir()) == [file.name]


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def with_header(change):
    def apply(path):
        header, body = parts(path)
        write(path, change(header) or header, body)

    return apply


FILES = {
    "cut off": (cut, "is damaged"),
    "empty": (lambda path: path.write_bytes(b""), "is damaged"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps(Fires())), "is damaged"),
    "of torch": (lambda path: torch.save({"a": Fires()}, path), "is damaged"),
    "a header of 2^63 bytes": (
        lambda path: path.write_bytes((1 << 63).to_bytes(8, "little") + bytes(99)),
        "is damaged",
    ),
    "no metadata": (with_header(lambda header: header.pop("__metadata__") and None), "no metadata of progan's"),
    "metadata of a list": (with_header(lambda header: header.update(__metadata__=[1])), "is damaged"),
    "another's metadata": (with_header(lambda header: header.update(__metadata__={"format": "pt"})), "no metadata"),
    "a tensor more": (
        with_header(lambda header: header.update(x={"dtype": "U8", "shape": [0], "data_offsets": [0, 0]})),
        "'x' is torch.uint8",
    ),
    "a tensor renamed": (
        with_header(lambda header: header.update(x=header.pop("to_rgb.1.bias"))),
        "'to_rgb.1.bias' is missing",
    ),
    "an offset past the end": (
        with_header(lambda header: header["to_rgb.1.bias"]["data_offsets"].__setitem__(1, 1 << 40)),
        "is damaged",
    ),
    "not there": (lambda path: path.unlink(), "cannot be read: .*No such file"),
    "a pipe": (lambda path: (path.unlink(), make_pipe(path)), "is not a regular file|not a checkpoint"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_file_is_refused(kind, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    damage, message = FILES[kind]
    damage(file)
    for read in (load_generator, export.describe):
        with pytest.raises(CheckpointError, match=message):
            read(file)
    assert not (tmp_path / "fired").exists()


def test_a_checkpoint_s_tensors_name_their_folder(images, tmp_path):
    make(small_recipe(), tmp_path).fit(images, until=8)
    checkpoint = tmp_path / "checkpoints/000000008"
    with pytest.raises(CheckpointError, match=f"pass the folder of the checkpoint, {re.escape(str(checkpoint))}"):
        load_generator(checkpoint / "tensors.safetensors")


@pytest.mark.parametrize("name", ["__import__('os').system('touch fired')", "\x00\n", "[a](javascript:b)", "\ud800"])
def test_texts_of_a_file_stay_texts(name, tmp_path, monkeypatch):
    """They come back as they were, and the card shows them without any effect."""
    monkeypatch.chdir(tmp_path)
    recipe = small_recipe()
    architecture = replace(recipe.architecture, classes=1)
    grown = GrownGenerator(replace(recipe, architecture=architecture).build()[0], 1, classes=Classes((3,), (name,)))
    path = export.save_generator(grown, "icons.safetensors", licence=f"<b>{name}</b>", note=f"# {name}")
    record = export.describe(path)
    assert (record.classes.names, record.note) == ((name,), f"# {name}")
    card = export.write_card(path).read_text()
    assert not re.search(r"(?<!\\)<b>|(?<!\\)\[a\]|^# \[|\x00", card, re.MULTILINE)
    assert sum(line.startswith("# ") for line in card.splitlines()) == 1
    assert load_generator(path).sample(1, label=name).shape == (1, 3, 8, 8)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["icons.md", "icons.png", "icons.safetensors"]


def test_a_recipe_that_is_none_leaves_a_card(file):
    with_record(file, setting("recipe", {"stages": [{}] * 1000, "training": 5}))
    assert "Its recipe cannot be read by this version of progan." in export.model_card(file)
    with_record(file, setting("judgement", {"images_seen": "x", "measures": [[]]}))
    assert "The run was not judged" in export.model_card(file)


def test_the_record_comes_back_from_json():
    record = GeneratorRecord(ARCHITECTURE, 1, None, "fp16", 1, 8, {}, {"images": 3}, None, 1.5, "a", "b")
    assert GeneratorRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
    assert record.to_json()["architecture"] == asdict(ARCHITECTURE)
    assert isinstance(record.architecture, Architecture)


def test_what_a_file_asks_for_takes_no_memory(file):
    """Weights of 3 GB, for which there are a few kB."""
    with_record(file, setting("architecture.channels", [9000, 9000]))
    done = program(
        MEMORY + "import sys\nfrom progan import CheckpointError, load_generator\nbefore = begin()\n"
        "try:\n    load_generator(sys.argv[1])\nexcept CheckpointError:\n    print(peak_above(before))\n",
        str(file),
    )
    assert float(done.stdout) < 150
