"""A generator in one file: its tensors in the safetensors layout, and a record of it as JSON in the file's metadata.

The file holds what the images of one level are made from, and nothing that is executed. What the record asks for is
compared with the tensors before memory is allocated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from progan._version import __version__
from progan.errors import CheckpointError
from progan.labels import Classes
from progan.networks.architecture import Architecture
from progan.networks.generator import ProgressiveGenerator
from progan.parts import build
from progan.runs import checkpoint
from progan.runs.rebuild import without_memory
from progan.sampling import GrownGenerator
from progan.storage.tensor_file import Entry, read_header
from progan.storage.untrusted import open_file, parse_json

FilePrecision = Literal["fp32", "fp16"]

METADATA = "progan"  # name of the one entry
DTYPES: Mapping[FilePrecision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16}
LARGEST_SCALE = 16  # of images; a larger one would take much memory for each
LONGEST_TEXT = 20_000  # characters of the licence, and of the note
_FORMAT, _VERSION = "progan generator", 1
_LARGEST_COUNT = 10**15
_LONGEST_TIME_S = 1e10  # three centuries
_LONGEST_REASON = 300  # characters; an error may quote what a file holds


@dataclass(frozen=True)
class GeneratorRecord:
    """A description of a trained generator: what a file of one holds beside the weights, and what a card is made from.

    Attributes:
        architecture: Architecture, up to the level.
        level: Level of the images, its highest.
        classes: Classes of the training data; None = the generator has no classes.
        precision: Precision of the weights, ``fp32`` or ``fp16``.
        scale: Factor by which images are drawn larger than the level's, see `progan.GrownGenerator.enlarged`.
        images_seen: Real images shown; None = unknown, as for all that follows.
        recipe: Recipe of the run as JSON, for `progan.Recipe.from_json`.
        data: Numbers of training images: ``images``, and ``held_out`` of them, which were never trained on.
        judgement: Newest judgement of the run, as metrics.jsonl records it: ``images_seen``, ``measures``, ``floors``.
        trained_s: Seconds of training.
        licence: Licence of the generator.
        note: Anything else that its author says.
        progan: Version of progan that wrote the file.
    """

    architecture: Architecture
    level: int
    classes: Classes | None
    precision: FilePrecision = "fp32"
    scale: int = 1
    images_seen: int | None = None
    recipe: Mapping[str, Any] | None = None
    data: Mapping[str, int] | None = None
    judgement: Mapping[str, Any] | None = None
    trained_s: float | None = None
    licence: str | None = None
    note: str | None = None
    progan: str = __version__

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the images in pixels."""
        height, width = self.architecture.size(self.level)
        return self.scale * height, self.scale * width

    def to_json(self) -> dict[str, Any]:
        """Return the record as a dict that `json.dump` accepts."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "architecture": asdict(self.architecture),
            "classes": None if self.classes is None else asdict(self.classes),
        }

    @classmethod
    def from_json(cls, data: object) -> GeneratorRecord:
        """Rebuild a record from what `to_json` returned.

        Raises:
            KeyError: If an entry is missing.
            ValueError: If the data is not such a record, or one of a later progan.
        """
        if not isinstance(data, Mapping) or data.get("format") != _FORMAT:
            raise ValueError(f"its metadata is not that of a {_FORMAT}")
        if data.get("version") != _VERSION:
            raise ValueError(f"it has version {data.get('version')!r} of the format, this progan reads {_VERSION}")
        architecture, level, precision = build(Architecture, data["architecture"]), data["level"], data["precision"]
        if type(level) is not int or level != architecture.top_level:
            raise ValueError(f"its level must be the highest of its architecture, {architecture.top_level}")
        if precision not in get_args(FilePrecision):
            raise ValueError(f"its precision must be one of {', '.join(DTYPES)}, got {precision!r}")
        scale = data.get("scale", 1)  # files of earlier versions have none
        if type(scale) is not int or not 1 <= scale <= (LARGEST_SCALE if architecture.palette else 1):
            raise ValueError(f"its scale must be an int from 1 to {LARGEST_SCALE}, and 1 without a palette")
        classes = Classes.from_json(data["classes"], architecture.classes) if architecture.classes else None
        if classes is not None and max(classes.counts) > _LARGEST_COUNT:
            raise ValueError("the counts of its classes are too large")
        for name in ("recipe", "data", "judgement"):
            if not isinstance(data[name], dict | None):
                raise ValueError(f"its {name} must be a JSON object or null")
        counts = {"images_seen": data["images_seen"], **(data["data"] or {})}
        for name, count in counts.items():
            if count is not None and (type(count) is not int or not 0 <= count <= _LARGEST_COUNT):
                raise ValueError(f"its {name[:_LONGEST_REASON]} must be an int of at least 0")
        trained_s = data["trained_s"]
        if trained_s is not None and (type(trained_s) not in (int, float) or not 0 <= trained_s <= _LONGEST_TIME_S):
            raise ValueError("its trained_s must be seconds, or null")
        for name in ("licence", "note", "progan"):
            text = data[name]
            if text is not None and (not isinstance(text, str) or len(text) > LONGEST_TEXT):
                raise ValueError(f"its {name} must be a text of at most {LONGEST_TEXT:,} characters, or null")
        names = "images_seen", "recipe", "data", "judgement", "trained_s", "licence", "note"
        given = {name: data[name] for name in names}
        return cls(architecture, level, classes, precision, scale, **given, progan=str(data["progan"]))


class _NotStored(nn.Module):
    """An RGB layer of another level than the one that a file holds."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError(
            f"this generator was loaded from one file, which makes images of level {self.level} only; load the run "
            "for other levels"
        )


def is_file(path: Path) -> bool:
    """Return whether a path is that of a generator in one file, by its name: runs and checkpoints are folders."""
    return path.suffix == checkpoint.SUFFIX and not path.is_dir()


def check_precision(precision: object) -> None:
    """Raise ValueError if something is not a precision of files."""
    if precision not in get_args(FilePrecision):
        raise ValueError(f"precision must be one of {', '.join(DTYPES)}, got {precision!r}")


def check_target(path: Path) -> None:
    """Raise ValueError where no generator may be written: by another name, or over the tensors of a checkpoint."""
    if not is_file(path):
        raise ValueError(f"path must be that of a file whose name ends in {checkpoint.SUFFIX}, got {path}")
    if path.name == checkpoint.TENSORS and checkpoint.is_checkpoint(path.parent):
        raise ValueError(f"{path} is part of a checkpoint, which would be lost; pass another path")


def read_record(path: Path) -> GeneratorRecord:
    """Read the record of a generator in one file, and check that the tensors are as it says.

    Raises:
        CheckpointError: If the file is not one, or damaged.
    """
    return _read(path)[0]


def read_generator(path: Path) -> GrownGenerator:
    """Read the generator in one file, on the CPU, in float32.

    Raises:
        CheckpointError: If the file is not one, or damaged.
    """
    record, generator = _read(path)
    tensors = checkpoint.read_named(path, generator.in_use(record.level))
    for index in range(record.level):
        generator.to_rgb[index] = _NotStored(record.level)
    generator.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    generator.requires_grad_(False)
    return GrownGenerator(generator, record.level, classes=record.classes).enlarged(record.scale)


def _read(path: Path) -> tuple[GeneratorRecord, ProgressiveGenerator]:
    """Return the record in a file, and the generator that it describes, which takes no memory yet."""
    entries, metadata = _header(path)
    if METADATA not in metadata:
        known = checkpoint.is_checkpoint(path.parent) and path.name == checkpoint.TENSORS
        remedy = f"; pass the folder of the checkpoint, {path.parent}" if known else ""
        raise CheckpointError(f"{path} is not a generator in one file: it has no metadata of progan's{remedy}")
    record = parse_record(metadata[METADATA].encode(), path)
    generator = without_memory(ProgressiveGenerator, record.architecture, path)
    _check_tensors(path, entries, generator, record)
    return record, generator


def parse_record(text: bytes, path: Path) -> GeneratorRecord:
    """Return the record that a file holds as JSON.

    Raises:
        CheckpointError: If it is none that this progan reads.
    """
    try:
        return GeneratorRecord.from_json(parse_json(text))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        cut = "..." if len(reason) > _LONGEST_REASON else ""
        raise CheckpointError(
            f"{path} is not a generator that this progan reads: {reason[:_LONGEST_REASON]}{cut}"
        ) from error


def _header(path: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    try:
        with open_file(path) as file:
            return read_header(file, path)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _check_tensors(
    path: Path, entries: Mapping[str, Entry], generator: ProgressiveGenerator, record: GeneratorRecord
) -> None:
    """Raise CheckpointError where the tensors of a file are not those that its record describes."""
    dtype = DTYPES[record.precision]
    needed = {name: (dtype, tuple(each.shape)) for name, each in generator.in_use(record.level).items()}
    there = {name: (entry.dtype, entry.shape) for name, entry in entries.items()}
    if differing := [name for name in {**needed, **there} if needed.get(name) != there.get(name)]:
        name = differing[0]
        found, expected = (
            "missing" if each is None else f"{each[0]} {each[1]}" for each in (there.get(name), needed.get(name))
        )
        raise CheckpointError(
            f"{path}: its tensors do not fit its architecture: {name[:200]!r} is {found}, and should be {expected}"
        )


def metadata_of(record: GeneratorRecord) -> dict[str, str]:
    """Return the metadata of a file."""
    return {METADATA: json.dumps(record.to_json(), allow_nan=False)}
