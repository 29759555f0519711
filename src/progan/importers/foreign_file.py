"""Files that other programs wrote with ``torch.save``: a zip archive, or the older sequence of pickles.

They are untrusted. The container and its pickles are checked before torch opens them, and torch runs no code from them.
"""

from __future__ import annotations

import os
import re
import struct
import zipfile
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import torch

from progan.errors import CheckpointError
from progan.importers.pickles import PICKLE_LIMIT, SETTINGS, check_pickle
from progan.storage.untrusted import open_file

_OLDEST_TORCH = (2, 10)  # before that, a crafted file corrupts memory
_OLD_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the first pickle of a file before torch 1.6
_OLD_PICKLES = 5  # magic number, version, machine, contents, keys of the storages that follow
_DIRECTORY_LIMIT = 2_000_000  # bytes of a zip's directory; parsed, it takes up to 20 times its length in memory
_ENTRY = re.compile(
    r"[^/]+/(data\.pkl|data/\d+|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id)"
)
_LONGEST_REASON = 300  # characters; an error may quote what a file holds


class Settings:
    """An object of settings in a checkpoint of pytorch_GAN_zoo; its attributes are not used."""


def read_foreign(path: Path) -> object:
    """Return what a file of ``torch.save`` holds: dicts, lists, numbers, texts and tensors on the CPU.

    Raises:
        CheckpointError: If it is no such file, or damaged, or holds anything else.
        RuntimeError: If torch is too old to read files from others safely.
    """
    _check_torch()
    try:
        with open_file(path) as file:
            _check(file)
            file.seek(0)
            with torch.serialization.safe_globals([(Settings, SETTINGS)]):
                contents: object = torch.load(file, map_location="cpu", weights_only=True)
            return contents
    except Exception as error:  # whatever torch makes of a damaged file
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} cannot be imported: {reason[:_LONGEST_REASON]}") from error


def _check_torch() -> None:
    version = tuple(map(int, re.findall(r"\d+", torch.__version__)[:2]))
    if version < _OLDEST_TORCH:
        raise RuntimeError(
            f"files of other programs are read with torch 2.10 or later, got torch {torch.__version__}, in which a "
            'crafted file can corrupt memory; pip install --upgrade "torch>=2.10"'
        )


def _check(file: BinaryIO) -> None:
    """Check a container and its pickles.

    Raises:
        ValueError: If there is anything unusual in it.
    """
    size = os.fstat(file.fileno()).st_size
    start = file.read(len(_OLD_MAGIC))
    if start == _OLD_MAGIC:
        file.seek(0)
        head = BytesIO(file.read(PICKLE_LIMIT))
        for _ in range(_OLD_PICKLES):
            check_pickle(head, size)
    elif start.startswith(b"PK"):
        check_pickle(BytesIO(_pickle_of_zip(file, size)), size)
    else:
        raise ValueError("it was not written by torch.save; pass the checkpoint as the program wrote it")


def _pickle_of_zip(file: BinaryIO, size: int) -> bytes:
    """Return the pickle of a zip archive after checking all entries, so that none is larger than the file."""
    _check_end_of_zip(file, size)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if len({name.casefold() for name in names}) < len(names):  # torch's reader ignores case
                raise ValueError("two entries of the archive have the same name")
            for entry in entries:
                if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                    raise ValueError(
                        f"its entry {entry.filename[:100]!r} is compressed, and torch.save compresses none"
                    )
                if not _ENTRY.fullmatch(entry.filename):
                    raise ValueError(f"its entry {entry.filename[:100]!r} is not one of torch.save's")
            if len({name.split("/")[0] for name in names}) != 1:
                raise ValueError("its entries are not in one folder")
            if sum(entry.file_size for entry in entries) > size:
                raise ValueError(f"its entries are larger than the file, which has {size:,} bytes")
            record = next((entry for entry in entries if entry.filename.endswith("/data.pkl")), None)
            if record is None:
                raise ValueError("the archive has no data.pkl")
            if record.file_size > PICKLE_LIMIT:
                raise ValueError(f"a pickle of {record.file_size:,} bytes, and {PICKLE_LIMIT:,} are read")
            if (damaged := archive.testzip()) is not None:  # torch compares no checksums
                raise ValueError(f"the archive is damaged: the checksum of {damaged[:100]!r} is wrong")
            return archive.read(record)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, struct.error) as error:
        raise ValueError(f"the archive is damaged: {error}") from None


def _check_end_of_zip(file: BinaryIO, size: int) -> None:
    """Check that a zip's directory ends the file, so that every reader finds the same one, and that it is small."""
    file.seek(max(0, size - 98))
    tail = file.read(98)
    damaged = ValueError("the archive is damaged: it does not end as torch.save ends it")
    if len(tail) < 22 or tail[-22:-18] != b"PK\5\6" or tail[-2:] != b"\0\0":
        raise damaged
    length, begin = struct.unpack("<2L", tail[-10:-2])
    end = size - 22
    if tail[-42:-38] == b"PK\6\7":  # of large archives
        end = size - 98
        if struct.unpack("<Q", tail[-34:-26])[0] != end or tail[:4] != b"PK\6\6":
            raise damaged
        length, begin = struct.unpack("<2Q", tail[40:56])
    if begin + length != end:
        raise damaged
    if length > _DIRECTORY_LIMIT:
        raise ValueError(f"the archive's directory has {length:,} bytes, and {_DIRECTORY_LIMIT:,} are read")
