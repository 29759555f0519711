"""Files of raw little-endian tensors in the safetensors layout, for checkpoints and packed pictures.

The length of the header in 8 bytes, a JSON header, the tensors' bytes. Nothing in a file is executed, and every offset
is checked.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from progan.storage.untrusted import parse_json

# Networks for 1024x1024 have a header of 62,000 bytes; parsed, one takes up to 30 times its length in memory.
HEADER_LIMIT = 1_000_000  # bytes
_MOST_SIDES = 8  # of a tensor
_LARGEST = 2**63 - 1  # bytes, what torch can count; a side of 0 counts as 1
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class Entry(NamedTuple):
    """The dtype, shape and position of a tensor in a file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    """Bytes from the start of the file."""


def header_of(
    tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], metadata: Mapping[str, str], length: int = 0
) -> bytes:
    """Return the beginning of a file whose tensors' bytes follow in the order given.

    Args:
        tensors: Dtype and shape of each tensor, by name.
        metadata: Texts, by name.
        length: Minimum number of bytes, to fill with spaces; a multiple of 8.

    Raises:
        ValueError: On a machine that is not little-endian, or if the header is too long to be read.
    """
    if sys.byteorder != "little":
        raise ValueError("files of tensors are little-endian, and this machine is not")
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name, (dtype, shape) in tensors.items():
        end = position + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _DTYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    text = text.ljust(length - 8)
    if len(text) > HEADER_LIMIT:
        raise ValueError(
            f"{len(tensors):,} tensors need a header of {len(text):,} bytes, and {HEADER_LIMIT:,} are read; use fewer "
            "tensors, or shorter names"
        )
    return len(text).to_bytes(8, "little") + text


def file_pieces(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """Yield a file in pieces: its beginning, then the bytes of each tensor, copied only from another device.

    Args:
        tensors: Tensors by name.
        metadata: Texts, by name.

    Raises:
        ValueError: As for `header_of`.
    """
    yield header_of({name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}, metadata)
    for tensor in tensors.values():
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        yield flat.view(torch.uint8).numpy().data


def read_header(file: BinaryIO, path: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the tensors' entries and the metadata, checked against the file's size.

    Raises:
        ValueError: If the file is damaged.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= size - 8:
        raise ValueError(f"{path} is damaged: a header of {length:,} bytes in a file of {size:,}")
    if length > HEADER_LIMIT:
        raise ValueError(f"{path} is damaged: a header of {length:,} bytes, and {HEADER_LIMIT:,} are read")
    try:
        header = parse_json(file.read(length))
        metadata = {str(name): str(text) for name, text in header.pop("__metadata__", {}).items()}
        spans = {name: _span(entry) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: its header cannot be read ({repr(error)[:200]})") from None
    expected = 0
    for name, (dtype, shape, begin, end) in sorted(spans.items(), key=lambda item: item[1][2:]):
        if begin != expected or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{path} is damaged: tensor {name[:200]!r} does not lie where it should")
        expected = end
    if expected != size - 8 - length:
        raise ValueError(f"{path} is damaged: {size:,} bytes, its header describes {8 + length + expected:,}")
    return {name: Entry(dtype, shape, 8 + length + begin) for name, (dtype, shape, begin, _) in spans.items()}, metadata


def _span(entry: Mapping[str, Any]) -> tuple[torch.dtype, tuple[int, ...], int, int]:
    dtype, shape, (begin, end) = _DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
    if len(shape) > _MOST_SIDES:
        raise ValueError(f"a tensor of {len(shape):,} sides, and {_MOST_SIDES} are read")
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise ValueError("sizes and offsets must be ints of at least 0")
    if math.prod(max(side, 1) for side in shape) * dtype.itemsize > _LARGEST:
        raise ValueError("a shape is larger than 2^63 - 1 bytes")
    return dtype, shape, begin, end
