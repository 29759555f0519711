"""The run directory: what it contains, which process owns it, and what may be removed from it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from progan.errors import CheckpointError, warn
from progan.runs import checkpoint
from progan.runs.checkpoint import MANIFEST_LIMIT, check_version
from progan.runs.judging import JUDGING, update_best
from progan.runs.recovery import SETBACKS
from progan.storage.comparison import flat
from progan.storage.files import OWNER, make_folder, owned, remove, write_file
from progan.storage.names import UNREADABLE, matched, normalised, shown, sort_key
from progan.storage.untrusted import read_json

CONFIG, FORMAT, VERSION = "config.json", "progan run", 1
DATA = "data.json"
REPORT, FILMS = "report.html", "films"
FILES = (DATA, "progress.png", "metrics.jsonl", "warnings.jsonl", JUDGING, SETBACKS, REPORT)  # beside config.json
WRITTEN = (*FILES, "samples", FILMS, checkpoint.FOLDER)
_SAME_LETTERS = "same letters, other Unicode normalisation"
_DATA_LIMIT = 200_000_000  # bytes: two million pictures
PICTURE_NAME = re.compile(r"(\d{9,}|level_\d+|closest)\.png")  # in samples/
FILM_NAME = re.compile(r".+\.(gif|png|apng|webp|mp4)", re.DOTALL)  # in films/


class RunDirectory:
    """The run directory that a trainer writes to.

    Args:
        path: Path of the directory, which need not exist.
        overwrite: Whether to remove the run that is there before anything is written.
        keep: Number of checkpoints to keep, newest first.
        keep_every: Number of real images; the first checkpoint at or after each multiple is kept for good. None = no
            such checkpoints.

    Attributes:
        path: Path of the directory.
        overwrite: Whether a run is still to be removed.

    Raises:
        NotADirectoryError: If the path is a file.
    """

    def __init__(self, path: Path, *, overwrite: bool, keep: int, keep_every: int | None) -> None:
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(f"run_dir must be a folder, and {path} is a file; pass another")
        self.path: Path = path
        self.overwrite: bool = overwrite
        self._keep = keep
        self._keep_every = keep_every
        self._owned = False
        self._found = what_is_there(path)

    def check(self) -> None:
        """Raise ValueError if the directory has changed since its last read or write, or may not be overwritten."""
        if self.overwrite:
            check_removable(self.path)
        elif what_is_there(self.path) not in (self._found, (None, [])):  # a person may have emptied it
            raise self._has_changed()

    @contextmanager
    def owning(self) -> Iterator[None]:
        """Own the directory for this process; nested uses have no effect.

        Raises:
            ValueError: As for `check`.
            BlockingIOError: If another process owns it.
        """
        if self._owned:
            yield
            return
        self.check()
        make_folder(self.path)
        with owned(self.path):
            self._owned = True
            try:
                yield
            finally:
                self._owned = False

    def begin(self, config: Mapping[str, Any], files: Mapping[str, str] | None) -> None:
        """Begin a run: remove one that is to be overwritten, and write config.json.

        Args:
            config: Record of the run.
            files: Hash of each data file by name, if the data comes from files.
        """
        self.check()
        if self.overwrite:
            remove_run(self.path)
            self.overwrite = False
        make_folder(self.path)
        checkpoint.remove_partial(self.path)
        contents = {"format": FORMAT, "version": VERSION, **config}
        write_file(self.path / CONFIG, (json.dumps(contents, indent=1) + "\n").encode())
        if config["data"] is not None and files is not None:
            write_data(self.path, config["data"], files)
        self._found = what_is_there(self.path)

    def make_sure(self, config: Mapping[str, Any], files: Mapping[str, str] | None) -> None:
        """Begin a run if that has not been done.

        Raises:
            ValueError: If another trainer has begun one there since.
        """
        if self.overwrite or not (self.path / CONFIG).exists():
            self.begin(config, files)
        elif what_is_there(self.path)[0] != self._found[0]:
            raise self._has_changed()

    def write(
        self,
        images_seen: int,
        manifest: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        needed: Collection[int] = (),
    ) -> Path:
        """Write a checkpoint, then remove those that are no longer kept; return its folder.

        Args:
            images_seen: Count of real images, which names the checkpoint.
            manifest: Values that JSON can hold.
            tensors: Tensors by name.
            needed: Counts of checkpoints that are kept in any case.
        """
        path = checkpoint.write_checkpoint(self.path, images_seen, manifest, tensors)
        self._rotate(images_seen, needed)
        self._found = what_is_there(self.path)
        return path

    def tidy(self, images_seen: int, needed: Collection[int] = ()) -> None:
        """Complete the last save of a finished run, which may have been killed in the middle."""
        if (self.path / CONFIG).exists():
            with suppress(OSError), self.owning():
                checkpoint.remove_partial(self.path)
                self._rotate(images_seen, needed)

    def sound_checkpoint(self, counts: Iterable[int]) -> Path | None:
        """Return the folder of the first sound checkpoint of some counts; None where there is none."""
        there = {int(folder.name): folder for folder in checkpoint.checkpoints(self.path)}
        for count in counts:
            if folder := there.get(count):
                try:
                    checkpoint.verify(folder)
                except CheckpointError as error:
                    warn(f"the run cannot go back to a damaged checkpoint: {error}")
                else:
                    return folder
        return None

    def go_back(self, images_seen: int, at: int) -> None:
        """Remove the checkpoints past a count, up to the one at which the run has ended in trouble, newest first."""
        with self.owning():
            for folder in reversed(checkpoint.checkpoints(self.path)):
                if images_seen < int(folder.name) <= at:
                    checkpoint.remove_checkpoint(folder)
            self._found = what_is_there(self.path)

    def _rotate(self, images_seen: int, needed: Collection[int]) -> None:
        best = update_best(self.path, images_seen)
        checkpoint.rotate(self.path, images_seen, self._keep, self._keep_every, best, needed)

    def _has_changed(self) -> ValueError:
        return ValueError(
            f"{self.path} has changed since this trainer was made or last saved: another one trains there, or files "
            "were moved. Make a new trainer, which resumes from the newest checkpoint, or pass another run_dir"
        )


def read_config(run_dir: Path) -> dict[str, Any] | None:
    """Return the contents of a run's config.json; None if there is none of progan.

    Raises:
        CheckpointError: If this progan does not know its version.
    """
    try:
        config, _ = read_json(run_dir / CONFIG, MANIFEST_LIMIT)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        return None
    check_version(config, VERSION, run_dir / CONFIG)
    return config


def write_data(run_dir: Path, fingerprint: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Record which images a run is trained on."""
    contents = {"fingerprint": fingerprint, "files": files}
    write_file(run_dir / DATA, (json.dumps(contents, indent=1) + "\n").encode())


def changed_files(run_dir: Path, fingerprint: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Describe how the images differ from those that a run began with; empty if that is not known.

    Names that differ in their Unicode normalisation only are the same name, unless a folder has both.
    """
    try:
        written, _ = read_json(run_dir / DATA, _DATA_LIMIT)
        there: dict[str, str] = dict(written["files"]) if written["fingerprint"] == fingerprint else {}
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    if not there:
        return ""
    pairs = matched(there, files)
    changed = [(old, new) for old, new in pairs.items() if files[new] != there[old]]
    gone, added = there.keys() - pairs.keys(), files.keys() - set(pairs.values())
    letters = [{normalised(name) for name in names} for names in (there, files)]

    def listed(names: Iterable[str]) -> list[str]:
        # A name that the other side has in another normalisation looks the same when it is printed.
        return [
            shown(name) + f" ({_SAME_LETTERS})" * all(normalised(name) in each for each in letters)
            for name in sorted(names, key=sort_key)
        ]

    kinds = {
        "changed": [
            shown(new) + f" ({_SAME_LETTERS})" * (old != new)
            for old, new in changed
            if UNREADABLE not in (there[old], files[new])
        ],
        "cannot be read any more": [shown(new) for old, new in changed if files[new] == UNREADABLE],
        "can be read now": [shown(new) for old, new in changed if there[old] == UNREADABLE],
        "gone": listed(gone),
        "new": listed(added),
    }
    return "; ".join(
        f"{len(names)} {kind}: {', '.join(names[:5])}{', ...' * (len(names) > 5)}"
        for kind, names in kinds.items()
        if names
    )


def what_is_there(run_dir: Path) -> tuple[bytes | None, list[str]]:
    """Return what changes when another trainer writes to a run directory: its config.json and checkpoints."""
    path = run_dir / CONFIG
    config = path.read_bytes() if path.is_file() else None
    return config, [found.name for found in checkpoint.checkpoints(run_dir)]


def check_removable(run_dir: Path) -> None:
    """Raise ValueError if a directory is not empty and has no config.json of progan."""
    if read_config(run_dir) is None and run_dir.exists() and any(path.name != OWNER for path in run_dir.iterdir()):
        raise ValueError(f"{run_dir} is not empty and holds no progan run; nothing was removed")


def remove_run(run_dir: Path) -> None:
    """Remove the files that a run writes, and nothing else, from a directory that holds a run."""
    if read_config(run_dir) is None:
        return
    checkpoint.remove_partial(run_dir)
    for folder in checkpoint.checkpoints(run_dir):
        for name in (checkpoint.MANIFEST, checkpoint.TENSORS):
            remove(folder / name)
        _remove_if_empty(folder)
    for path in run_dir.glob("samples/*.png"):
        if PICTURE_NAME.fullmatch(path.name):
            remove(path)
    for path in run_dir.glob("films/*"):
        if FILM_NAME.fullmatch(path.name) and not path.is_dir():
            remove(path)
    for name in FILES:
        remove(run_dir / name)
    for name in ("samples", FILMS, checkpoint.FOLDER):
        _remove_if_empty(run_dir / name)
    remove(run_dir / CONFIG)  # last, since it tells that all else is ours: the removal can be begun again


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        remove(folder)


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Describe what differs between two nested dicts."""
    left, right = dict(flat(there)), dict(flat(here))
    names = [name for name in {**left, **right} if left.get(name) != right.get(name)]
    shown = [f"{name[:200]} {repr(left.get(name))[:200]} -> {repr(right.get(name))[:200]}" for name in names[:8]]
    return "; ".join(shown) + (f"; and {len(names) - 8} more" if len(names) > 8 else "")
