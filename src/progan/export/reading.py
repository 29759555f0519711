"""What exported models and pages say of themselves. Nothing of them is run, and only a little is read."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from progan.errors import CheckpointError
from progan.runs.generator_file import METADATA, GeneratorRecord, parse_record
from progan.storage.untrusted import parse_json

_LONGEST = 1_000_000  # bytes of a record
_LONGEST_HEAD = 3_000_000  # bytes of a page before its embedded files
_METADATA_PROPS = 14  # field of ONNX's ModelProto
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5  # wire types of protobuf
_VERSION = re.compile(r'<meta name="generator" content="progan ([^"]{1,40})">')
_FACTS = re.compile(r'<script type="application/json" id="facts">(.*?)</script>', re.DOTALL)


def read_model(path: Path) -> GeneratorRecord:
    """Return the record in what `save_onnx` or `save_program` wrote.

    Raises:
        CheckpointError: If the file has none, or is damaged.
        OSError: If it cannot be read.
    """
    text = _of_program(path) if path.suffix == ".pt2" else _of_onnx(path)
    if text is None:
        raise CheckpointError(f"{path} was not exported by progan, or is damaged: it has no metadata of progan's")
    return parse_record(text, path)


def read_page(path: Path) -> dict[str, Any]:
    """Return the facts in the HTML file of what `save_page` wrote, with progan's version.

    Raises:
        CheckpointError: If it is no such page, or damaged.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_LONGEST_HEAD).decode(errors="replace")
    version, facts = _VERSION.search(head), _FACTS.search(head)
    if version is None or facts is None:
        raise CheckpointError(f"{path} is no page that progan exported, or damaged")
    try:
        found = parse_json(facts[1].encode())
        height, width = map(int, found["size"])
        classes = found["classes"]
        return {
            "title": str(found["name"]),
            "size": f"{width}x{height}",
            "image_channels": int(found["channels"]),
            "latent": [int(side) for side in found["latent_shape"]],
            "classes": 0 if classes is None else len(classes["names"]),
            "progan": version[1],
        }
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{path} is no page that this progan reads, or damaged") from error


def _of_program(path: Path) -> bytes | None:
    """Return the extra file of a program's archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith(f"/extra/{METADATA}") and entry.file_size <= _LONGEST:
                    with archive.open(entry) as file:
                        return file.read(_LONGEST)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error):
        pass
    return None


def _of_onnx(path: Path) -> bytes | None:
    """Return the metadata of a model: protobuf, of whose fields all but the small ones are skipped."""
    end = path.stat().st_size
    with path.open("rb") as file:
        try:
            while (tag := _varint(file)) is not None:
                field, kind = tag >> 3, tag & 7
                size = {_VARINT: 0, _FIXED_64: 8, _FIXED_32: 4}.get(kind)
                if kind == _VARINT:
                    _varint(file)
                elif kind == _BYTES:
                    size = _varint(file)
                if size is None or size > end - file.tell():
                    return None
                if field == _METADATA_PROPS and kind == _BYTES and size <= _LONGEST:
                    name, text = _entry(file.read(size))
                    if name == METADATA.encode():
                        return text
                else:
                    file.seek(size, 1)
        except ValueError:
            pass
    return None


def _entry(data: bytes) -> tuple[bytes, bytes]:
    """Return the key and the value of an entry of metadata."""
    file, found = io.BytesIO(data), {1: b"", 2: b""}
    while (tag := _varint(file)) is not None:
        if tag & 7 != _BYTES or (size := _varint(file)) is None:
            raise ValueError("it is no entry of metadata")
        found[tag >> 3] = file.read(min(size, _LONGEST))
    return found[1], found[2]


def _varint(file: BinaryIO) -> int | None:
    """Read a number of protobuf; None at the end of the file."""
    number = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        number |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return number
    raise ValueError("it is no number of protobuf")
