"""The generator that is to be exported, and what is known of it: from a run, from a file, or by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any

from progan.arguments import check_flag, check_instance, check_int
from progan.networks.architecture import Architecture
from progan.networks.generator import ProgressiveGenerator
from progan.reports.rows import Rows, read_rows
from progan.runs.average_choice import AverageChoice, average_in_use, recorded_choice
from progan.runs.checkpoint import is_checkpoint
from progan.runs.generator import load_generator
from progan.runs.generator_file import LARGEST_SCALE, GeneratorRecord, is_file, read_generator, read_record
from progan.runs.judging import best_checkpoint
from progan.runs.record import RunRecord
from progan.sampling import GrownGenerator
from progan.storage.paths import user_path

Source = GrownGenerator | str | PathLike[str]


def path_to_write(path: str | PathLike[str], suffix: str) -> Path:
    """Return the path of a file to write, whose name must end in a suffix."""
    target = user_path(path)
    if target.suffix != suffix or target.is_dir():
        raise ValueError(f"path must be that of a file whose name ends in {suffix}, got {target}")
    return target


def open_source(
    source: Source, *, best: bool = False, average: str | None = None, enlarge: int = 1
) -> tuple[GrownGenerator, GeneratorRecord]:
    """Return a generator on the CPU or on its own device, and the record of it.

    Args:
        source: Run directory, for its newest sound checkpoint; folder of one checkpoint; file of a generator; or a
            generator, of which nothing else is known.
        best: Whether to take the run's best checkpoint instead of the newest.
        average: Name of an average of the checkpoint; None = the one that was chosen, or the first one. The measures in
            the record are those of this average.
        enlarge: Factor by which images are drawn larger than the source's, see `progan.GrownGenerator.enlarged`.

    Raises:
        CheckpointError: If there is no sound checkpoint, or the file is damaged.
        TypeError: If the source is none of these.
        ValueError: If the generator cannot be exported: it has blocks of one's own, or a level is fading in; or if best
            or an average is given for something else than a run, or there is no such average; or if its images cannot
            be drawn so large.
    """
    grown, record = _opened(source, best=best, average=average)
    check_int("enlarge", enlarge, 1)
    grown = grown.enlarged(enlarge)
    if (scale := grown.drawing.scale) > LARGEST_SCALE:
        raise ValueError(f"images are drawn at most {LARGEST_SCALE} times as large as the level's, got {scale} times")
    return grown, replace(record, scale=scale)


def _opened(source: Source, *, best: bool, average: str | None) -> tuple[GrownGenerator, GeneratorRecord]:
    check_flag("best", best)
    if isinstance(source, str | PathLike) and not is_file(path := user_path(source, "source")):
        return _of_run(path, best=best, average=average)
    if best:
        raise ValueError("best=True chooses among the checkpoints of a run; pass its directory, or leave it out")
    if average is not None:
        raise ValueError("average chooses among the averages of a run; pass its directory, or leave it out")
    if isinstance(source, str | PathLike):
        return read_generator(path), read_record(path)
    remedies: list[tuple[type, str]] = [(ProgressiveGenerator, "pass GrownGenerator(generator, level)")]
    if hasattr(source, "grown"):
        remedies = [(object, "pass its run_dir, or what its grown() returns")]
    check_instance("source", source, GrownGenerator, remedies)
    if type(source) is not GrownGenerator:
        raise ValueError(
            f"a {type(source).__name__} does more than a file can hold; pass the generator that it was made from"
        )
    check_exportable(source)
    return source, GeneratorRecord(small_architecture(source), source.level, source.classes)


def small_architecture(grown: GrownGenerator) -> Architecture:
    """Return the architecture of a generator without the levels above the one to which it has grown."""
    architecture = grown.generator.architecture
    return replace(architecture, channels=architecture.channels[: grown.level + 1])


def check_exportable(grown: GrownGenerator) -> None:
    """Raise ValueError where a generator is not the function that its architecture and its weights describe."""
    if (name := grown.generator.block_name) is not None:
        raise _own_blocks(name)
    if grown.alpha is not None:
        raise ValueError(
            f"level {grown.level} is still fading in (alpha {grown.alpha:.3g}), and a file holds one grown level; "
            "train on until the fade ends, pass an earlier checkpoint, or, for the level below, "
            f"GrownGenerator(grown.generator, {grown.level - 1})"
        )


def _own_blocks(name: str) -> ValueError:
    return ValueError(
        f"the generator has blocks of a class of your own, {name}, and a file holds numbers, not code: nobody could "
        "load it without that class. Share the run and the class, for load_generator(run_dir, block=...)"
    )


def _of_run(path: Path, *, best: bool, average: str | None) -> tuple[GrownGenerator, GeneratorRecord]:
    run = RunRecord.from_checkpoint(best_checkpoint(path) if best else path)
    if (name := run.blocks["generator"]) is not None:
        raise _own_blocks(name)
    grown = load_generator(run.path, average=average)
    check_exportable(grown)
    run_dir = run.path.resolve().parent.parent if is_checkpoint(path) else path
    rows = _rows_until(run_dir, run.images_seen)
    trained = [row.trained_s for row in rows.losses if row.trained_s is not None]
    record = GeneratorRecord(
        small_architecture(grown),
        grown.level,
        grown.classes,
        images_seen=run.images_seen,
        recipe=run.contents["recipe"],
        data=_data_notes(run),
        judgement=_judgement_of(average_in_use(run) if average is None else average, rows, recorded_choice(run)),
        trained_s=trained[-1] if trained and rows.is_whole else None,
    )
    return grown, record


def _judgement_of(average: str, rows: Rows, choice: AverageChoice | None) -> Mapping[str, Any] | None:
    """Return what was measured of one average last: a judgement is of one of them, a choice of all by one measure.

    Args:
        average: Name of the average.
        rows: Rows of the run, up to the checkpoint.
        choice: Choice among the averages, if the checkpoint has one.
    """
    if judged := [asdict(each) for each in rows.judgements if each.average == average]:
        return {name: judged[-1][name] for name in ("images_seen", "measures", "floors")}
    if choice is None or (value := choice.values.get(average)) is None:
        return None
    floors = rows.judgements[-1].floors if rows.judgements else {}
    known = {name: asdict(floor) for name, floor in floors.items() if name == choice.measure}
    return {"images_seen": choice.images_seen, "measures": {choice.measure: value}, "floors": known}


def _data_notes(run: RunRecord) -> dict[str, int] | None:
    """Return the numbers of training images, and of those that are held out."""
    n = _number_of_images(run.data)
    if n is None:
        return None
    if run.held_out is None:
        return {"images": n, "held_out": 0}
    if "share" in run.held_out:
        held = math.floor(run.held_out["share"] * n)
        return {"images": n - held, "held_out": held}
    return {"images": n, "held_out": _number_of_images(run.held_out["data"]) or 0}


def _number_of_images(fingerprint: Mapping[str, Any] | None) -> int | None:
    shape = (fingerprint or {}).get("shape")
    return shape[0] if isinstance(shape, list) and shape and type(shape[0]) is int and shape[0] > 0 else None


def _rows_until(run_dir: Path, images_seen: int) -> Rows:
    """Return the rows of a run up to a count of images."""
    rows = read_rows(run_dir / "metrics.jsonl")
    losses = tuple(row for row in rows.losses if row.images_seen <= images_seen)
    return replace(
        rows, losses=losses, judgements=tuple(row for row in rows.judgements if row.images_seen <= images_seen)
    )
