"""The record of a run, as config.json and each checkpoint's manifest hold it: read and checked in this one place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from progan.errors import AnotherRunError, CheckpointError
from progan.labels import Classes
from progan.networks.architecture import Architecture
from progan.parts import with_recorded_names
from progan.recipe import Recipe, Training
from progan.recipe_json import networks_from_json, with_later_settings
from progan.runs import checkpoint
from progan.runs.blocks import recorded_blocks, same_block
from progan.runs.data_history import DataRecord, history_from_json
from progan.runs.directory import CONFIG, WRITTEN, differences, read_config
from progan.runs.recovery import Recovery
from progan.runs.start import Start
from progan.schedule import Schedule

INTERVALS = ("log_every", "save_every", "preview_every", "keep", "keep_every", "judge_every")
_MAY_BE_NONE = ("keep_every", "judge_every")
DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}
_LONGEST_REASON = 300  # characters; an error may quote what a file holds


@dataclass(frozen=True)
class RunRecord:
    """What a config.json or a checkpoint's manifest records of a run.

    Attributes:
        path: Run directory, or folder of the checkpoint.
        checkpoint: Folder of the checkpoint; None = read from config.json.
        contents: All that the file holds.
        images_seen: Real images shown; 0 for config.json.
        architecture: Architecture of both networks.
        schedule: Schedule of the run.
        seed: Random seed of the run.
        dtype: Data type of the networks that config.json records; None for a checkpoint, whose tensors have one.
        blocks: Qualified names of both networks' blocks, by role; None = the built-in block.
        data: Fingerprint of the training data; None = not known yet.
        data_history: Records of all data sets of the run, the present one last; empty where there was only one.
        held_out: Images that are never trained on: ``{"share": ...}`` or ``{"data": ...}``; None = there are none.
        start: Source of the first weights; None = the seed.
        fork: Checkpoint of another directory that the run continues from, if any.
        intervals: Options of the trainer that config.json records; None for a checkpoint.
        recovery: How the run goes on after trouble, as config.json records it; not at all for a checkpoint.
    """

    path: Path
    checkpoint: Path | None
    contents: Mapping[str, Any]
    images_seen: int
    architecture: Architecture
    schedule: Schedule
    seed: int
    dtype: torch.dtype | None
    blocks: dict[str, str | None]
    data: dict[str, Any] | None
    data_history: tuple[DataRecord, ...]
    held_out: dict[str, Any] | None
    start: Start | None
    fork: Start | None
    intervals: dict[str, Any] | None
    recovery: Recovery

    @property
    def file(self) -> Path:
        """The file that was read."""
        return self.path / (CONFIG if self.checkpoint is None else checkpoint.MANIFEST)

    @property
    def classes(self) -> Classes | None:
        """The classes of the training data; None where the networks have none, or the data is not known yet.

        Raises:
            CheckpointError: If they are not recorded as they should be.
        """
        if not self.architecture.classes or self.data is None:
            return None
        with _describing(self.file):
            return Classes.from_json(self.data.get("labels"), self.architecture.classes)

    @property
    def sha256(self) -> str:
        """SHA-256 of the checkpoint's file of tensors."""
        return str(self.contents["tensors_sha256"])

    @classmethod
    def from_config(cls, run_dir: Path) -> RunRecord:
        """Read the config.json of a run directory.

        Raises:
            CheckpointError: If there is none, or it does not describe a run.
        """
        config = read_config(run_dir)
        if config is None:
            raise CheckpointError(f"{run_dir} holds no progan run: it has no valid {CONFIG}")
        return cls._from_config(run_dir, config)

    @classmethod
    def from_checkpoint(cls, path: Path) -> RunRecord:
        """Read the manifest of one checkpoint, or of the newest sound one of a run, and verify its tensors.

        A warning lists newer checkpoints that are damaged.

        Args:
            path: Folder of a checkpoint, or run directory.

        Raises:
            CheckpointError: If there is no sound checkpoint, or it does not describe a run.
        """
        folder, manifest = checkpoint.find_checkpoint(path)
        with _describing(folder / checkpoint.MANIFEST):
            return cls._parse(folder, folder, manifest, _images_seen(manifest), None, None)

    @classmethod
    def read(cls, run_dir: Path) -> RunRecord | None:
        """Read what the run in a directory resumes from: its newest sound checkpoint, or else its config.json.

        Returns:
            The record; None where the directory holds no run.

        Raises:
            ValueError: If the directory holds files that a run writes, without a config.json of progan's.
            CheckpointError: If all checkpoints are damaged, or the record does not describe a run.
        """
        config = read_config(run_dir)
        if config is None:
            strangers = [name for name in (CONFIG, *WRITTEN) if (run_dir / name).exists()]
            if strangers:
                raise ValueError(
                    f"{run_dir} holds {', '.join(strangers)} but no valid {CONFIG} of progan; pass another run_dir"
                )
            return None
        has_checkpoints = bool(checkpoint.checkpoints(run_dir))
        return cls.from_checkpoint(run_dir) if has_checkpoints else cls._from_config(run_dir, config)

    @classmethod
    def _from_config(cls, run_dir: Path, config: Mapping[str, Any]) -> RunRecord:
        with _describing(run_dir / CONFIG):
            intervals, dtype = config["intervals"], config["dtype"]
            if not isinstance(intervals, dict) or set(intervals) != set(INTERVALS):
                raise ValueError(f"intervals must have {', '.join(INTERVALS)}, got {intervals!r}")
            check_counts(intervals)
            if dtype not in DTYPES:
                raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
            return cls._parse(run_dir, None, config, 0, DTYPES[dtype], intervals)

    @classmethod
    def _parse(
        cls,
        path: Path,
        folder: Path | None,
        contents: Mapping[str, Any],
        images_seen: int,
        dtype: torch.dtype | None,
        intervals: dict[str, Any] | None,
    ) -> RunRecord:
        """Check what both files have in common."""
        architecture, schedule = networks_from_json(contents["recipe"])
        seed, data = contents["seed"], contents["data"]
        if type(seed) is not int:
            raise ValueError(f"seed must be an int, got {seed!r}")
        if not isinstance(data, dict | None):
            raise ValueError(f"data must be a JSON object or null, got {data!r}")
        start, fork = Start.from_json(contents.get("start")), Start.from_json(contents.get("fork"))
        blocks, history = recorded_blocks(contents), history_from_json(contents.get("data_history"))
        return cls(
            *(path, folder, contents, images_seen, architecture, schedule, seed, dtype, blocks, data, history),
            *(_held_out(contents.get("held_out")), start, fork, intervals, Recovery.from_json(contents.get("recover"))),
        )

    def recipe(self, parts: Sequence[type] = ()) -> Recipe:
        """Return the whole recipe.

        Args:
            parts: Classes of a user's own objectives, regularisers and augmentations that it names.

        Raises:
            CheckpointError: If a class is missing, or the recipe is not valid.
        """
        with _describing(self.file):
            return Recipe.from_json(self.contents["recipe"], parts)

    def recorded_options(self) -> dict[str, Any]:
        """Return the options that a run which continues needs: seed, a share that is held out, intervals, recovery."""
        share = (self.held_out or {}).get("share")
        return {"seed": self.seed, "held_out": share, **self._run_options()}

    def _run_options(self) -> dict[str, Any]:
        """Return intervals and recovery as recorded; for a checkpoint, by the run directory that it lies in, if any."""
        config = self._config()
        return {} if config is None or config.intervals is None else {**config.intervals, "recover": config.recovery}

    @property
    def notes(self) -> dict[str, Any] | None:
        """Notes of config.json; for a checkpoint, those of the run directory that it lies in, if any."""
        config = self._config()
        notes = None if config is None else config.contents.get("notes")
        return notes if isinstance(notes, dict) else None

    def _config(self) -> RunRecord | None:
        """Return the record of config.json: this one, or for a checkpoint that of its run directory, if any."""
        if self.intervals is not None:
            return self
        try:
            return RunRecord.from_config(self.path.resolve().parent.parent)
        except (CheckpointError, OSError):
            return None

    def check_same(self, identity: Mapping[str, Any], schedule: Schedule, run_dir: Path) -> None:
        """Raise where this is a run of other settings; a longer schedule is accepted.

        Args:
            identity: Identity of the trainer's run: recipe, seed, blocks, data, start, fork.
            schedule: Schedule of the trainer.
            run_dir: Run directory, for the message.

        Raises:
            AnotherRunError: If settings differ; the message names each of them.
        """
        own = json.loads(json.dumps(identity))
        theirs = {name: self.contents.get(name) for name in own}
        theirs["recipe"] = with_later_settings(self.contents["recipe"], Training())
        own["data"] = theirs["data"]  # compared when the data is opened
        if all(each["held_out"] is not None and "data" in each["held_out"] for each in (own, theirs)):
            own["held_out"] = theirs["held_out"]
        if all(same_block(name, self.blocks[role]) for role, name in own["blocks"].items()):
            own["blocks"] = theirs["blocks"]
        own["recipe"] = with_recorded_names(own["recipe"], theirs["recipe"])
        if schedule.agrees(self.schedule, self.images_seen):
            own["recipe"]["stages"] = self.contents["recipe"]["stages"]
        if theirs["start"] is None or own["start"] is None:
            for each in (own, theirs):
                each["start"] = each["start"] and each["start"]["path"]
        if own["fork"] is None or own["fork"]["sha256"] == (theirs["fork"] or {}).get("sha256"):
            own["fork"] = theirs["fork"]
        if own != theirs:
            raise AnotherRunError(
                f"{run_dir} holds another run; differing (there -> here): {differences(theirs, own)}. "
                "Pass another run_dir, the same settings, or overwrite=True"
            )


def check_counts(counts: Mapping[str, Any]) -> None:
    """Raise ValueError where an interval or another count of the trainer is not valid; some may be None."""
    for name, value in counts.items():
        least = int(name not in ("workers", "judge_every"))
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (name in _MAY_BE_NONE and value is None) and (not whole or value < least):
            raise ValueError(f"{name} must be an int of at least {least}, got {value!r}")


@contextmanager
def _describing(path: Path) -> Iterator[None]:
    """Turn an error about the settings in a file into a CheckpointError that names the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        cut = "..." if len(reason) > _LONGEST_REASON else ""
        raise CheckpointError(f"{path} does not describe a run: {reason[:_LONGEST_REASON]}{cut}") from error


def _held_out(data: Any) -> dict[str, Any] | None:
    """Return the record of the held-out images, checked."""
    if data is None:
        return None
    if isinstance(data, dict) and set(data) == {"data"} and isinstance(data["data"], dict | None):
        return data
    share = data.get("share") if isinstance(data, dict) and set(data) == {"share"} else None
    if type(share) is not float or not 0 < share < 0.5:
        raise ValueError(f"held_out must be null, a share below 0.5 or a fingerprint of data, got {data!r}")
    return {"share": share}


def _images_seen(manifest: Mapping[str, Any]) -> int:
    """Return a manifest's count of real images."""
    images_seen = manifest.get("images_seen")
    if type(images_seen) is not int or images_seen < 0:
        raise ValueError(f"images_seen must be an int of at least 0, got {images_seen!r}")
    return images_seen
