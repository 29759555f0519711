"""What makes a run this run, and the environment that it is computed in."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from progan._version import __version__
from progan.data import Feed
from progan.errors import warn
from progan.labels import Classes
from progan.ops.dispatch import triton_kernels
from progan.recipe import Recipe
from progan.runs.data_history import DataRecord, with_change
from progan.runs.directory import changed_files, differences
from progan.runs.record import RunRecord
from progan.runs.start import Start

_LISTED = 8  # classes in a message


@dataclass
class RunIdentity:
    """The identity of a run: a run that resumes must have the same.

    Attributes:
        recipe: Recipe of the run.
        seed: Random seed of the run.
        blocks: Qualified names of the networks' custom blocks, by role; None = the built-in block.
        data: Fingerprint of the training data; None = not known yet.
        data_history: Records of all data sets of the run, the present one last; empty where there was only one.
        data_change: How the data differs from that before, where that is still to be reported.
        files: SHA-256 of each training image by name, where the images come from files.
        held_out: Images that are never trained on: ``{"share": ...}``, or ``{"data": ...}`` with their fingerprint,
            which is None before they are opened; None = there are none.
        start: Source of the first weights; None = the seed, or the networks that were passed.
        start_classes: Names of the source's classes, whose vectors the networks begin with; None = there are none.
        fork: Checkpoint of another directory that the run continues from, if any.
    """

    recipe: Recipe
    seed: int
    blocks: dict[str, str | None]
    data: dict[str, Any] | None = None
    data_history: tuple[DataRecord, ...] = ()
    data_change: str | None = None
    files: dict[str, str] | None = None
    held_out: dict[str, Any] | None = None
    start: Start | None = None
    start_classes: tuple[str, ...] | None = None
    fork: Start | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the identity as config.json and checkpoints record it."""
        return {
            "recipe": self.recipe.to_json(),
            "seed": self.seed,
            "blocks": self.blocks,
            "data": self.data,
            **({"data_history": [record.to_json() for record in self.data_history]} if self.data_history else {}),
            "held_out": self.held_out,
            "start": None if self.start is None else self.start.to_json(),
            "fork": None if self.fork is None else self.fork.to_json(),
        }

    @property
    def classes(self) -> Classes | None:
        """The classes of the training data; None where the networks have none, or the data is not known yet."""
        n = self.recipe.architecture.classes
        return None if not n or self.data is None else Classes.from_json(self.data.get("labels"), n)

    @property
    def whole_data_history(self) -> tuple[DataRecord, ...]:
        """The data sets of the run, each with the count at which training on it began; of most runs, one."""
        if self.data is None or self.data_history:
            return self.data_history
        return (DataRecord.of(0, self.data),)

    def check_same(self, record: RunRecord, run_dir: Path) -> None:
        """Compare with the run in a directory, and adopt what only its record knows.

        Raises:
            AnotherRunError: If settings differ.
        """
        record.check_same(self.to_json(), self.recipe.schedule, run_dir)
        self.start, self.fork, self.held_out = record.start, record.fork, record.held_out
        self.take_data_of(record)

    def take_data_of(self, record: RunRecord) -> None:
        """Adopt the data that a record knows."""
        self.data, self.data_history = record.data, record.data_history

    def go_back_to(self, record: RunRecord) -> None:
        """Adopt the history of the data up to a checkpoint, from which the run trains on with the present data."""
        self.data_history = record.data_history
        if self.data is not None and record.data is not None and self.data != record.data:
            self.data_history = with_change(record.data_history, record.data, self.data, record.images_seen)

    def check_data(self, feed: Feed, run_dir: Path | None, images_seen: int, *, may_change: bool = False) -> None:
        """Adopt the fingerprint of a data set; it must be that of the run, unless that may change.

        Args:
            feed: Feed of the data set.
            run_dir: Run directory, if there is one.
            images_seen: Real images shown so far.
            may_change: Whether the run may train on with other data.

        Raises:
            ValueError: If it is not.
        """
        before = self.data if self.data != feed.fingerprint else None
        changed = "" if before is None else self._changed(before, feed, run_dir)
        if before is not None and not may_change:
            raise ValueError(
                f"the data is not that of the run (there -> here): {changed}; pass the same data, or another run_dir, "
                "or data_may_change=True to train on with this data"
            )
        if self.held_out is not None and "data" in self.held_out:
            self._check_held_out(feed)
        if before is not None:
            self.data_history = with_change(self.data_history, before, feed.fingerprint, images_seen)
            self.data_change = self._described(changed, images_seen)
        self.data, self.files = feed.fingerprint, feed.files
        self._compare_classes(feed.class_names)

    def _changed(self, before: dict[str, Any], feed: Feed, run_dir: Path | None) -> str:
        """Return how the data differs, file by file where that is known."""
        files = "" if run_dir is None or feed.files is None else changed_files(run_dir, before, feed.files)
        return files or differences(before, feed.fingerprint)

    def _described(self, changed: str, images_seen: int) -> str | None:
        """Return a change of the data in words; None where the run is back at the data that it was trained on."""
        if not self.data_history or self.data_history[-1].images_seen != images_seen:
            return None
        before, now = (record.counted() for record in self.data_history[-2:])
        text = (
            f"from {images_seen:,} real images on, the run trains on {now} instead of {before} (there -> here): "
            f"{changed}"
        )
        if "share" in (self.held_out or {}):
            text += (
                "; the images that are held out are chosen anew, so some of them have been trained on, and what is "
                "measured with them is too good"
            )
        return text

    def _compare_classes(self, names: tuple[str, ...] | None) -> None:
        """Warn once where the classes are not those of the source that the first weights are from."""
        before, self.start_classes = self.start_classes, None
        if before is not None and names is not None and before != names:
            warn(
                f"the classes {_listed(names)} begin with what the start had learned of {_listed(before)}, in this "
                "order, whatever their names; classes that are in both should have the same numbers"
            )

    def _check_held_out(self, feed: Feed) -> None:
        there, here = (self.held_out or {})["data"], None if feed.held_out is None else feed.held_out.fingerprint
        if here is None or (there is not None and there != here):
            differing = "none were passed" if here is None else differences(there, here)
            raise ValueError(
                f"the held-out images are not those of the run (there -> here): {differing}; pass the same held_out="
            )
        self.held_out = {"data": here}


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names[:_LISTED])) + ", ..." * (len(names) > _LISTED)


def environment(device: torch.device, ranks: int, *, graph: bool, micro_batch: int | None = None) -> dict[str, Any]:
    """Return what may change when a run resumes; the bits of the training then differ.

    Args:
        device: Device of the networks.
        ranks: Number of processes that train together.
        graph: Whether steps are captured as CUDA graphs.
        micro_batch: Number of images that are trained on at once; None = a whole batch.
    """
    kernels: dict[str, dict[str, Any]] = {
        "cuda": {"graph": graph, "kernels": _kernels(device)},
        "cpu": {"cpu_capability": torch.backends.cpu.get_cpu_capability()},
    }
    return {
        **kernels.get(device.type, {}),
        **({} if micro_batch is None else {"micro_batch": micro_batch}),
        "device": device.type,
        "ranks": ranks,
        "threads": torch.get_num_threads(),
        "progan": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
    }


def _kernels(device: torch.device) -> str | None:
    """Return the compiler of progan's own kernels for a CUDA device; None where none are used."""
    kernels = triton_kernels(device) if device.type == "cuda" else None
    return None if kernels is None else f"triton {kernels.triton_version}"
