"""Checkpoints: a JSON manifest beside one file of raw tensors. Nothing in them is ever executed.

``checkpoints/000480000/`` holds ``manifest.json`` and ``tensors.safetensors``; the manifest has a SHA-256 of the other
file and one of itself. The folder is written beside its final name, synced, and renamed, so that it is either complete
or absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from progan.errors import CheckpointError, warn
from progan.storage.files import make_folder, move, remove, write_file
from progan.storage.tensor_file import Entry, file_pieces, read_header
from progan.storage.untrusted import open_file, read_json

SUFFIX = ".safetensors"
MANIFEST, TENSORS, FOLDER = "manifest.json", f"tensors{SUFFIX}", "checkpoints"
_FORMAT, _VERSION = "progan checkpoint", 1
_OWN_HASH, _NO_HASH = "manifest_sha256", "0" * 64
MANIFEST_LIMIT = 500_000  # bytes; those of the presets have 3,000, one of a thousand stages 200,000
_LONGEST_REASON = 300  # characters; an error may quote what a file holds


def write_checkpoint(
    run_dir: Path, images_seen: int, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Path:
    """Write a checkpoint of a run.

    Args:
        run_dir: Run directory.
        images_seen: Count of real images, which names the checkpoint.
        manifest: Values that JSON can hold; format, version and the checksum of the tensors are added.
        tensors: Tensors by name.

    Returns:
        Folder of the checkpoint.
    """
    final = run_dir / FOLDER / f"{images_seen:09d}"
    beside, aside = final.with_name(f".{final.name}.partial"), _aside(final)
    try:
        remove_partial(run_dir)  # from a save that failed and could not clean up
        make_folder(beside)
        digest = hashlib.sha256()
        write_file(beside / TENSORS, _hashed(file_pieces(tensors, {}), digest))
        contents = {"format": _FORMAT, "version": _VERSION, "images_seen": images_seen, **manifest}
        contents["tensors_sha256"] = digest.hexdigest()
        contents[_OWN_HASH] = _NO_HASH
        text = (json.dumps(contents, indent=1) + "\n").encode()
        write_file(beside / MANIFEST, text.replace(_NO_HASH.encode(), _own_hash(text)))
        verify(beside)
        if final.exists():
            move(final, aside)  # until the new one is in place
        move(beside, final)
    except BaseException:
        with contextlib.suppress(OSError):
            remove(beside)
            _put_back(final)
        raise
    with contextlib.suppress(OSError):  # the next start removes it
        remove(aside)
    return final


def checkpoints(run_dir: Path) -> list[Path]:
    """Return a run's checkpoints, oldest first."""
    folders = (path for path in (run_dir / FOLDER).glob("[0-9]*") if path.name.isdecimal())
    return sorted(
        (path for path in folders if path.is_dir() and not path.is_symlink()), key=lambda path: int(path.name)
    )


def remove_checkpoint(folder: Path) -> None:
    """Remove a checkpoint; if this is interrupted, the rest no longer counts as a checkpoint."""
    beside = folder.with_name(f".{folder.name}.partial")
    move(folder, beside)
    remove(beside)


def rotate(
    run_dir: Path,
    images_seen: int,
    keep: int,
    keep_every: int | None,
    best: Path | None = None,
    needed: Collection[int] = (),
) -> None:
    """Remove the checkpoints that are no longer kept; a warning names one that cannot be removed.

    Args:
        run_dir: Run directory.
        images_seen: Count of real images. Checkpoints of a higher count are kept: they are not older, but were skipped
            when the run resumed, as damaged or written by a newer progan.
        keep: Number of the newest checkpoints to keep.
        keep_every: Number of real images; the first checkpoint at or after each multiple is kept too. None = no such
            checkpoints.
        best: Folder of the best checkpoint, which is kept too; None = there is none.
        needed: Counts of checkpoints that are kept too.
    """
    so_far = [found for found in checkpoints(run_dir) if int(found.name) <= images_seen]
    stay = set(so_far[-keep:])
    if keep_every is not None:
        first = {int(found.name) // keep_every: found for found in reversed(so_far)}
        stay |= {found for multiple, found in first.items() if multiple > 0}
    stay |= {found for found in so_far if int(found.name) in needed}
    for old in so_far:
        if old not in stay and old != best:
            try:
                remove_checkpoint(old)
            except OSError as error:
                warn(f"the old checkpoint {old} could not be removed: {error}")


def _aside(final: Path) -> Path:
    """Return the temporary path of a checkpoint that is being replaced by one of the same count."""
    return final.with_name(f".{final.name}.replaced")


def _put_back(final: Path) -> None:
    """Restore the checkpoint that a failed save was replacing."""
    if _aside(final).exists() and not final.exists():
        move(_aside(final), final)


def remove_partial(run_dir: Path) -> None:
    """Remove what an interrupted save left beside the checkpoints; a checkpoint that it was replacing is restored."""
    for folder in (run_dir / FOLDER).glob(".[0-9]*.replaced"):
        _put_back(folder.with_name(folder.name[1:].removesuffix(".replaced")))
        remove(folder)
    for folder in (run_dir / FOLDER).glob(".[0-9]*.partial"):
        remove(folder)
    for folder in (run_dir, run_dir / "samples", run_dir / "films"):
        for path in folder.glob(".*.partial"):
            remove(path)


def is_checkpoint(path: Path) -> bool:
    """Return whether a path names one checkpoint, not a run."""
    return (path / MANIFEST).is_file()


def find_checkpoint(path: Path) -> tuple[Path, dict[str, Any]]:
    """Find the checkpoint that a path names: itself, or the newest sound one of a run; a warning lists damaged ones.

    Args:
        path: Folder of a checkpoint, or run directory.

    Returns:
        The checkpoint's folder, and its manifest.

    Raises:
        CheckpointError: If there is none, or the named one is damaged.
    """
    if is_checkpoint(path):
        return path, verify(path)
    if not checkpoints(path):
        raise CheckpointError(f"{path} is not a checkpoint, nor a run with one: it has no {FOLDER}/*/{MANIFEST}")
    reasons: list[str] = []
    for candidate in reversed(checkpoints(path)):
        try:
            manifest = verify(candidate)
        except CheckpointError as error:
            reasons.append(str(error))
            continue
        if reasons:
            warn(f"{candidate} is used; newer checkpoints were skipped: {'; '.join(reasons)}")
        return candidate, manifest
    raise CheckpointError(f"no checkpoint of {path} is sound: " + "; ".join(reasons))


def verify(folder: Path) -> dict[str, Any]:
    """Check a checkpoint against its checksums and return its manifest.

    Raises:
        CheckpointError: If it is damaged or incomplete.
    """
    manifest = read_manifest(folder)
    if sha256_of(folder / TENSORS) != manifest.get("tensors_sha256"):
        raise CheckpointError(f"{folder}: {TENSORS} is damaged: its checksum is not the manifest's")
    read_entries(folder)
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's manifest.

    Raises:
        CheckpointError: If it cannot be read, or has a format that this version does not know.
    """
    try:
        manifest, text = read_json(folder / MANIFEST, MANIFEST_LIMIT)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: {MANIFEST} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise CheckpointError(f"{folder}: {MANIFEST} is not a {_FORMAT}'s")
    check_version(manifest, _VERSION, folder / MANIFEST)
    declared = str(manifest.pop(_OWN_HASH, "")).encode(errors="replace")
    if len(declared) != len(_NO_HASH) or _own_hash(text.replace(declared, _NO_HASH.encode())) != declared:
        raise CheckpointError(f"{folder}: {MANIFEST} is damaged: its checksum is not its own")
    return manifest


def check_version(contents: Mapping[str, Any], version: int, path: Path) -> None:
    """Raise CheckpointError where this progan does not know the version of a file's format."""
    if contents.get("version") != version:
        raise CheckpointError(
            f"{path}: version {repr(contents.get('version'))[:_LONGEST_REASON]} of the format, this progan reads "
            f"{version}; update progan"
        )


def _own_hash(text: bytes) -> bytes:
    """Return the hash of a manifest's text, in which the hash itself is replaced by zeros."""
    return hashlib.sha256(text).hexdigest().encode()


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    """Open a file of tensors; errors become a CheckpointError that names the file."""
    try:
        with open_file(path) as file:
            yield file
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    except (OSError, EOFError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file of tensors, as 64 hexadecimal digits.

    Raises:
        CheckpointError: If it cannot be read.
    """
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_entries(path: Path) -> dict[str, Entry]:
    """Return shape, data type and place of each tensor of a checkpoint, from the header alone.

    Args:
        path: Folder of a checkpoint, or a file of tensors.

    Raises:
        CheckpointError: If the file is damaged.
    """
    path = tensors_at(path)
    with _opened(path) as file:
        return read_header(file, path)[0]


def read_tensors(folder: Path, prefix: str = "") -> dict[str, Tensor]:
    """Read the tensors whose names begin with a prefix, on the CPU, and remove the prefix.

    Every offset is checked against the file's size before memory is allocated.

    Raises:
        CheckpointError: If the file is damaged.
    """
    found = read_named(folder, {name for name in read_entries(folder) if name.startswith(prefix)})
    return {name.removeprefix(prefix): tensor for name, tensor in found.items()}


def read_named(path: Path, names: Collection[str]) -> dict[str, Tensor]:
    """Read some of the tensors, on the CPU.

    Args:
        path: Folder of a checkpoint, or a file of tensors.
        names: Names in the file.

    Raises:
        CheckpointError: If the file is damaged.
    """
    path = tensors_at(path)
    with _opened(path) as file:
        entries, _ = read_header(file, path)
        return {name: _read_tensor(file, entry) for name, entry in entries.items() if name in names}


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name to a file that `read_tensors` reads, whole or not at all."""
    write_file(path, file_pieces(tensors, {}))


def tensors_at(path: Path) -> Path:
    """Return the file of tensors that a path stands for: the one in a checkpoint's folder, or the path itself."""
    return path if path.suffix == SUFFIX and not path.is_dir() else path / TENSORS


def _read_tensor(file: BufferedReader, entry: Entry) -> Tensor:
    raw = torch.empty(math.prod(entry.shape) * entry.dtype.itemsize, dtype=torch.uint8, device="cpu")
    file.seek(entry.begin)
    if file.readinto(raw.numpy().data) != len(raw):
        raise EOFError("the file ends early")
    return raw.view(entry.dtype).reshape(entry.shape)


def _hashed(pieces: Iterator[bytes | memoryview], digest: Any) -> Iterator[bytes | memoryview]:
    for piece in pieces:
        digest.update(piece)
        yield piece
