"""What a run directory records of its run, and whether a trainer can go on with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from progan.errors import AnotherRunError
from progan.recipe import Recipe
from progan.runs import checkpoint
from progan.runs.checkpoint import blocks_of, describing, images_seen_of
from progan.runs.directory import CONFIG, WRITTEN, differences, read_config
from progan.runs.rebuild import same_block
from progan.runs.start import Start
from progan.schedule import Schedule


class RunRecord(NamedTuple):
    """Hold what a run directory records.

    Attributes:
        run_dir: the directory.
        checkpoint: the newest sound one; None = there is none yet.
        manifest: of that checkpoint, else config.json.
        images_seen: at the checkpoint.
        recipe: of the run.
        data: the fingerprint of what it is trained on, as far as it is known.
        start: Where its first weights came from; None = from the seed.
        fork: Checkpoint of another directory from which it continues, if any.
    """

    run_dir: Path
    checkpoint: Path | None
    manifest: dict[str, Any]
    images_seen: int
    recipe: Recipe
    data: dict[str, Any] | None
    start: Start | None
    fork: Start | None

    @classmethod
    def read(cls, run_dir: Path) -> RunRecord | None:
        """Read it; None where no run is.

        Raises:
            ValueError: if files as a run writes them are there without a config.json of ours.
            CheckpointError: if the checkpoints are all damaged, or what is recorded is no run.
        """
        config = read_config(run_dir)
        if config is None:
            strangers = [name for name in (CONFIG, *WRITTEN) if (run_dir / name).exists()]
            if strangers:
                raise ValueError(
                    f"{run_dir} holds {', '.join(strangers)} but no sound {CONFIG} of progan's; pass another run_dir"
                )
            return None
        path = checkpoint.find_checkpoint(run_dir) if checkpoint.checkpoints(run_dir) else None
        return cls._read(run_dir, path, config if path is None else checkpoint.read_manifest(path))

    @classmethod
    def at(cls, folder: Path) -> RunRecord:
        """Read what one checkpoint records.

        Raises:
            CheckpointError: If it is damaged, or what is recorded is no run.
        """
        return cls._read(folder, folder, checkpoint.verify(folder))

    @classmethod
    def _read(cls, run_dir: Path, path: Path | None, manifest: dict[str, Any]) -> RunRecord:
        with describing(run_dir / CONFIG if path is None else path / checkpoint.MANIFEST):
            images_seen = 0 if path is None else images_seen_of(manifest)
            recipe, data = Recipe.from_json(manifest["recipe"]), manifest["data"]
            blocks_of(manifest)
            if not isinstance(data, dict | None):
                raise ValueError(f"data must be a JSON object or null, got {data!r}")
            start, fork = Start.from_json(manifest.get("start")), Start.from_json(manifest.get("fork"))
        return cls(run_dir, path, manifest, images_seen, recipe, data, start, fork)

    def check_same(self, identity: Mapping[str, Any], schedule: Schedule) -> None:
        """Raise where this is a run of other settings; a longer schedule will do.

        Args:
            identity: what makes the trainer's run that run: recipe, seed, blocks, data, start, fork.
            schedule: of the trainer.

        Raises:
            AnotherRunError: naming each setting that differs.
        """
        own = json.loads(json.dumps(identity))
        theirs = {name: self.manifest.get(name) for name in own}
        own["data"] = theirs["data"]  # compared once the data is there
        if all(same_block(name, self.manifest["blocks"][role]) for role, name in own["blocks"].items()):
            own["blocks"] = theirs["blocks"]
        if schedule.agrees(self.recipe.schedule, self.images_seen):
            own["recipe"]["stages"] = self.manifest["recipe"]["stages"]
        if theirs["start"] is None or own["start"] is None:
            for each in (own, theirs):
                each["start"] = each["start"] and each["start"]["path"]
        if own["fork"] is None or own["fork"]["sha256"] == (theirs["fork"] or {}).get("sha256"):
            own["fork"] = theirs["fork"]
        if own != theirs:
            raise AnotherRunError(
                f"{self.run_dir} holds another run; differing (there -> here): {differences(theirs, own)}. "
                "Pass another run_dir, the same settings, or overwrite=True"
            )
