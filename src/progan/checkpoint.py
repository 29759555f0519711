"""Checkpoints: a JSON manifest beside one file of raw tensors. Nothing in them is ever executed.

``checkpoints/000480000/`` holds ``manifest.json`` and ``tensors.safetensors``; the manifest has a SHA-256 of the other
file and one of itself. The folder is written beside its final name, synced, and renamed, so that it is whole or not
there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from progan.files import make_folder, move, remove, write_file
from progan.tensor_file import Entry, header_of, read_header

MANIFEST, TENSORS, FOLDER = "manifest.json", "tensors.safetensors", "checkpoints"
_FORMAT, _VERSION = "progan checkpoint", 1
_OWN_HASH, _NO_HASH = "manifest_sha256", "0" * 64
_MANIFEST_LIMIT = 10_000_000  # bytes; a longer one is cut off, and so damaged


class CheckpointError(Exception):
    """Say why a checkpoint cannot be used: damaged, incomplete, or another run's."""


def write_checkpoint(
    run_dir: Path, images_seen: int, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Path:
    """Write a checkpoint of a run.

    Args:
        run_dir: the run's folder.
        images_seen: real images, which name the checkpoint.
        manifest: JSON-able; format, version and the tensors' checksum are added.
        tensors: by name.

    Returns:
        The checkpoint's folder.
    """
    final = run_dir / FOLDER / f"{images_seen:09d}"
    beside, aside = final.with_name(f".{final.name}.partial"), _aside(final)
    try:
        remove_partial(run_dir)  # of a save that failed, and could not clean up
        make_folder(beside)
        digest = hashlib.sha256()
        write_file(beside / TENSORS, _hashed(_pieces(tensors), digest))
        contents = {"format": _FORMAT, "version": _VERSION, "images_seen": images_seen, **manifest}
        contents["tensors_sha256"] = digest.hexdigest()
        contents[_OWN_HASH] = _NO_HASH
        text = (json.dumps(contents, indent=1) + "\n").encode()
        write_file(beside / MANIFEST, text.replace(_NO_HASH.encode(), _own_hash(text)))
        verify(beside)
        if final.exists():
            move(final, aside)  # until the new one stands in its place
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
    """List a run's checkpoints, oldest first."""
    folders = (path for path in (run_dir / FOLDER).glob("[0-9]*") if path.name.isdecimal())
    return sorted(
        (path for path in folders if path.is_dir() and not path.is_symlink()), key=lambda path: int(path.name)
    )


def remove_checkpoint(folder: Path) -> None:
    """Remove a checkpoint; one that is cut off here is no longer taken for one."""
    beside = folder.with_name(f".{folder.name}.partial")
    move(folder, beside)
    remove(beside)


def rotate(run_dir: Path, images_seen: int, keep: int, keep_every: int | None) -> None:
    """Remove the checkpoints that are not to stay; warn of one that cannot be removed.

    Args:
        run_dir: the run's folder.
        images_seen: real images. Checkpoints of a higher count are not older ones, and stay: a resume passed them over,
            as damaged or of a newer progan.
        keep: how many of the newest stay.
        keep_every: real images; the first checkpoint at or after each multiple stays too. None = no such ones.
    """
    so_far = [found for found in checkpoints(run_dir) if int(found.name) <= images_seen]
    stay = set(so_far[-keep:])
    if keep_every is not None:
        first = {int(found.name) // keep_every: found for found in reversed(so_far)}
        stay |= {found for multiple, found in first.items() if multiple > 0}
    for old in so_far:
        if old not in stay:
            try:
                remove_checkpoint(old)
            except OSError as error:
                warnings.warn(f"the old checkpoint {old} could not be removed: {error}", stacklevel=5)


def _aside(final: Path) -> Path:
    """Return where a checkpoint of the same count waits while it is replaced."""
    return final.with_name(f".{final.name}.replaced")


def _put_back(final: Path) -> None:
    """Undo what a failed save did to the checkpoint that it was to replace."""
    if _aside(final).exists() and not final.exists():
        move(_aside(final), final)


def remove_partial(run_dir: Path) -> None:
    """Remove what a save that was cut off left beside the checkpoints; what it was about to replace is put back."""
    for folder in (run_dir / FOLDER).glob(".[0-9]*.replaced"):
        _put_back(folder.with_name(folder.name[1:].removesuffix(".replaced")))
        remove(folder)
    for folder in (run_dir / FOLDER).glob(".[0-9]*.partial"):
        remove(folder)
    for folder in (run_dir, run_dir / "samples"):
        for path in folder.glob(".*.partial"):
            remove(path)


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint that a path names: itself, or the newest sound one of a run; warn of those passed over.

    Raises:
        CheckpointError: if there is none, or the one named is damaged.
    """
    if (path / MANIFEST).is_file():
        verify(path)
        return path
    found = checkpoints(path)
    if not found:
        raise CheckpointError(f"{path} is no checkpoint, and no run with one: it has no {FOLDER}/*/{MANIFEST}")
    reasons = []
    for candidate in reversed(found):
        try:
            verify(candidate)
        except CheckpointError as error:
            reasons.append(str(error))
        else:
            if reasons:
                warnings.warn(
                    f"{candidate} is taken, and newer checkpoints were passed over: {'; '.join(reasons)}", stacklevel=3
                )
            return candidate
    raise CheckpointError(f"no checkpoint of {path} is sound: " + "; ".join(reasons))


def verify(folder: Path) -> dict[str, Any]:
    """Check a checkpoint against its checksum and return its manifest.

    Raises:
        CheckpointError: if it is damaged or incomplete.
    """
    manifest = read_manifest(folder)
    try:
        with (folder / TENSORS).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{folder}: {TENSORS} cannot be read: {error}") from error
    if digest != manifest.get("tensors_sha256"):
        raise CheckpointError(f"{folder}: {TENSORS} is damaged: its checksum is not the manifest's")
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's manifest.

    Raises:
        CheckpointError: if it cannot be read, or is of a kind that this version does not know.
    """
    try:
        with (folder / MANIFEST).open("rb") as file:
            text = file.read(_MANIFEST_LIMIT)
        manifest = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder}: {MANIFEST} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise CheckpointError(f"{folder}: {MANIFEST} is not a {_FORMAT}'s")
    if manifest.get("version") != _VERSION:
        raise CheckpointError(
            f"{folder}: version {manifest.get('version')!r} of the format, this progan reads {_VERSION}; update progan"
        )
    declared = str(manifest.pop(_OWN_HASH, "")).encode()
    if len(declared) != len(_NO_HASH) or _own_hash(text.replace(declared, _NO_HASH.encode())) != declared:
        raise CheckpointError(f"{folder}: {MANIFEST} is damaged: its checksum is not its own")
    return manifest


def _own_hash(text: bytes) -> bytes:
    """Return the hash of a manifest's text in which it stands as zeros itself."""
    return hashlib.sha256(text).hexdigest().encode()


def read_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a checkpoint's tensors, from the header alone.

    Raises:
        CheckpointError: if the file is damaged.
    """
    path = folder / TENSORS
    try:
        with path.open("rb") as file:
            return {name: entry.shape for name, entry in read_header(file, path)[0].items()}
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def read_tensors(folder: Path, prefix: str = "") -> dict[str, Tensor]:
    """Read the tensors whose names begin with a prefix, on the CPU, the prefix taken off.

    Every offset is checked against the file's size before memory is taken.

    Raises:
        CheckpointError: if the file is damaged.
    """
    path = folder / TENSORS
    try:
        with path.open("rb") as file:
            entries, _ = read_header(file, path)
            return {
                name.removeprefix(prefix): _read_tensor(file, entry)
                for name, entry in entries.items()
                if name.startswith(prefix)
            }
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    except (OSError, EOFError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _read_tensor(file: BinaryIO, entry: Entry) -> Tensor:
    raw = torch.empty(math.prod(entry.shape) * entry.dtype.itemsize, dtype=torch.uint8, device="cpu")
    file.seek(entry.begin)
    if file.readinto(raw.numpy()) != len(raw):  # type: ignore[attr-defined]
        raise EOFError("the file ends early")
    return raw.view(entry.dtype).reshape(entry.shape)


def _pieces(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """Yield the file: header length, header, then each tensor's bytes, which are copied only from another device."""
    yield header_of({name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}, {})
    for tensor in tensors.values():
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        yield flat.view(torch.uint8).numpy().data


def _hashed(pieces: Iterator[bytes | memoryview], digest: Any) -> Iterator[bytes | memoryview]:
    for piece in pieces:
        digest.update(piece)
        yield piece
