"""The source of a run's first weights: its record, and whether another source is the same."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from progan.errors import CheckpointError
from progan.runs import checkpoint
from progan.storage.paths import user_path

ROLES = ("generator", "discriminator", "ema")
_LONGEST_PATH = 4096  # characters


@dataclass(frozen=True)
class Start:
    """A record of the source of a run's first weights, stored in config.json and in every checkpoint.

    Attributes:
        path: Path of the source, as it was given.
        images_seen: Real images that the source had been trained on; None = unknown, as for a file.
        level: Level to which the source had grown; None = unknown.
        sha256: SHA-256 of the source's file of tensors, which identifies it even after it is moved.
        taken: Networks that got weights from it, in full or in part: ``generator``, ``discriminator``, ``ema``.
    """

    path: str
    images_seen: int | None
    level: int | None
    sha256: str
    taken: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a dict that `json.dump` accepts."""
        return asdict(self) | {"taken": list(self.taken)}

    @classmethod
    def from_json(cls, data: Any) -> Start | None:
        """Rebuild a record from what `to_json` returned, None from None.

        Raises:
            ValueError: If the data is not such a record.
        """
        if data is None:
            return None
        if not isinstance(data, Mapping) or set(data) != {"path", "images_seen", "level", "sha256", "taken"}:
            raise ValueError(f"a start must have path, images_seen, level, sha256 and taken, got {data!r}")
        path, sha256, taken = data["path"], data["sha256"], data["taken"]
        if not isinstance(path, str) or not 0 < len(path) <= _LONGEST_PATH:
            raise ValueError(f"the path of a start must be a text of at most {_LONGEST_PATH} characters, got {path!r}")
        if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
            raise ValueError(f"the sha256 of a start must be 64 hexadecimal digits, got {sha256!r}")
        for name in ("images_seen", "level"):
            if data[name] is not None and (type(data[name]) is not int or data[name] < 0):
                raise ValueError(f"{name} of a start must be an int of at least 0, or null, got {data[name]!r}")
        if not isinstance(taken, list) or len(taken) > len(ROLES) or any(role not in ROLES for role in taken):
            raise ValueError(f"a start can have taken {', '.join(ROLES)}, got {taken!r}")
        return cls(path, data["images_seen"], data["level"], sha256, tuple(taken))


def same_start(recorded: Start | None, given: str | PathLike[str] | None) -> Start | None:
    """Return the recorded start if the given one is the same, else a description of the given one.

    A start is identified by its SHA-256, so that it may be moved or renamed. At the recorded path it may also have been
    removed, and a run that was trained further there is still the same run.
    """
    if given is None:
        return None
    digests = _digests(given)
    sha256 = digests[0][0] if digests else "unknown"
    if recorded is None:
        return Start(os.fspath(given), None, None, sha256, ())
    path = user_path(given, "start")
    same_path = os.fspath(given) == recorded.path or path.absolute() == Path(recorded.path).absolute()
    is_run = bool(digests) and path.is_dir() and not checkpoint.is_checkpoint(path)
    trained_further = is_run and any(int(folder.name) > (recorded.images_seen or 0) for _, folder in digests)
    known = any(digest == recorded.sha256 for digest, _ in digests)
    if known or (same_path and (not digests or trained_further)):
        return recorded
    return replace(recorded, path=os.fspath(given), sha256=sha256)


def source_at(given: str | PathLike[str]) -> Path:
    """Return the run directory, checkpoint folder or file that a path names; for a checkpoint's file, its folder."""
    path = user_path(given, "start")
    return path.parent if path.name == checkpoint.TENSORS and checkpoint.is_checkpoint(path.parent) else path


def is_of_run(given: str | PathLike[str], run_dir: Path) -> bool:
    """Return whether a path names a run directory, or one of its checkpoints."""
    path, run_dir = user_path(given, "start").resolve(), run_dir.resolve()
    return path == run_dir or path.is_relative_to(run_dir / checkpoint.FOLDER)


def _digests(given: str | PathLike[str]) -> list[tuple[str, Path]]:
    """Return the SHA-256 and path of each source that a path may stand for, newest first; empty if unreadable."""
    try:
        path = source_at(given)
        if path.is_dir():
            found = ((digest_of(folder), folder) for folder in folders(path))
            return [(digest, folder) for digest, folder in found if digest is not None]
        return [(checkpoint.sha256_of(path), path)] if path.is_file() else []
    except (CheckpointError, OSError):
        return []


def folders(path: Path) -> list[Path]:
    """Return the checkpoints that a folder is or holds, newest first."""
    return [path] if checkpoint.is_checkpoint(path) else checkpoint.checkpoints(path)[::-1]


def digest_of(folder: Path) -> str | None:
    """Return the SHA-256 of a checkpoint's tensors from its manifest; None if the manifest is damaged."""
    try:
        return str(checkpoint.read_manifest(folder)["tensors_sha256"])
    except (CheckpointError, KeyError):
        return None
