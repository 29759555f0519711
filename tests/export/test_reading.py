"""What models and pages say of themselves, read without running them; hostile ones end in one error."""

from __future__ import annotations

import zipfile
from dataclasses import replace

import pytest
from conftest import small_recipe

from progan import GrownGenerator, export
from progan.errors import CheckpointError
from progan.export.reading import read_model, read_page
from progan.runs.generator_file import METADATA, metadata_of


@pytest.fixture(scope="module")
def record():
    return replace(export.describe(GrownGenerator(small_recipe().build()[0], 2)), note="mine")


def varint(number: int) -> bytes:
    found = b""
    while number > 127:
        found += bytes([number & 127 | 128])
        number >>= 7
    return found + bytes([number])


def field(number: int, data: bytes) -> bytes:
    """A field of protobuf that has a length."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def model(text: bytes, name: bytes = METADATA.encode()) -> bytes:
    """An ONNX model: a version, a graph of some bytes, metadata of another program, and that of progan."""
    entries = field(14, field(1, b"other") + field(2, b"x")), field(14, field(1, name) + field(2, text))
    return varint(1 << 3) + varint(300) + field(7, bytes(range(256)) * 9) + b"".join(entries)


def test_a_model_written_by_onnx(tmp_path, record):
    onnx = pytest.importorskip("onnx", reason="needs the extra export")
    pytest.importorskip("onnxscript", reason="needs the extra export")
    grown = GrownGenerator(small_recipe().build()[0], 2)
    path = export.save_onnx(grown, tmp_path / "icons.onnx").path
    assert read_model(path) == replace(record, note=None)
    other = onnx.load(path)
    other.ClearField("metadata_props")
    onnx.save(other, path)
    with pytest.raises(CheckpointError, match="was not exported by progan, or is damaged"):
        read_model(path)


def test_a_program(tmp_path, record):
    path = tmp_path / "icons.pt2"
    export.save_program(GrownGenerator(small_recipe().build()[0], 2), path)
    assert read_model(path) == replace(record, note=None)


def test_metadata_are_found_behind_everything_else(tmp_path, record):
    path = tmp_path / "icons.onnx"
    path.write_bytes(model(metadata_of(record)[METADATA].encode()))
    assert read_model(path) == record


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_hostile_models(suffix, tmp_path, record):
    path = tmp_path / f"icons{suffix}"
    whole = model(metadata_of(record)[METADATA].encode())
    if suffix == ".pt2":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"icons/extra/{METADATA}", metadata_of(record)[METADATA])
        assert read_model(path) == record
        whole = path.read_bytes()
    hostile = [whole[:end] for end in range(0, len(whole) - 1, 61)]
    hostile += [b"\xff" * 99, b"\x0b", varint(14 << 3 | 2) + varint(2**62), varint(7 << 3 | 2) + varint(2**65 - 1)]
    hostile += [field(14, b"\x08\x01"), model(b"[]"), model(b"{"), model(b'{"format": 1}'), model(b"[" * 100_000)]
    for data in hostile:
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match="icons"):
            read_model(path)


def test_an_archive_that_unpacks_to_too_much(tmp_path):
    path = tmp_path / "icons.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"icons/extra/{METADATA}", b" " * 50_000_000)
    with pytest.raises(CheckpointError, match=r"icons\.pt2 was not exported by progan, or is damaged"):
        read_model(path)


PAGE = '<meta name="generator" content="progan 9.1"><script type="application/json" id="facts">{}</script>'
FACTS = '{"name": "Icons", "size": [16, 24], "channels": 3, "latent_shape": [5], "classes": {"names": ["a", "b"]}}'


def test_a_page(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(PAGE.format(FACTS))
    expected = {"title": "Icons", "size": "24x16", "image_channels": 3, "latent": [5], "classes": 2, "progan": "9.1"}
    assert read_page(path) == expected
    for text in ("", PAGE[:40], PAGE, FACTS, PAGE.format("[]"), PAGE.format('{"size": 3}'), PAGE.format(FACTS[:-9])):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=r"page.html is no page that"):
            read_page(path)
