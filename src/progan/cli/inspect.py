"""``progan inspect``: what a file or folder is."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan.cli.command import UsageError
from progan.cli.options import add_json, user_path
from progan.cli.output import on_one_line, show, show_json, shown

if TYPE_CHECKING:
    from progan.export import GeneratorRecord

HELP = "Say what a run, checkpoint, pack, exported file or page, or file of tensors is; nothing in it is run."
EXAMPLE = "progan inspect runs/my_icons"
FOREIGN = (".pth", ".pt", ".bin")
_SHOWN = 12  # tensors
MODELS = {".onnx": "ONNX model", ".pt2": "program for torch.export.load"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "path", type=user_path, metavar="PATH", help="run directory, checkpoint, pack, exported file or page"
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Look, and print what it is."""
    path = options.path
    if not path.exists():
        raise UsageError(f"there is no {path}")
    found = describe_folder(path) if path.is_dir() else describe_file(path)
    if options.json:
        show_json(found)
    else:
        show("\n".join(lines_of(found)))
    return 0


def describe_folder(path: Path) -> dict[str, Any]:
    """Describe a run directory, a checkpoint or an exported page.

    Raises:
        UsageError: If it is none of them.
        CheckpointError: If it is damaged.
    """
    from progan.runs.checkpoint import checkpoints, is_checkpoint
    from progan.runs.directory import CONFIG
    from progan.runs.record import RunRecord

    if is_checkpoint(path):
        record, kind = RunRecord.from_checkpoint(path), "checkpoint"
    elif (path / CONFIG).is_file():
        record, kind = RunRecord.from_config(path), "run"
    elif (path / "index.html").is_file():
        return _described_page(path, path / "index.html")
    else:
        raise UsageError(
            f"{path} is a folder without a run or a checkpoint; progan check describes folders of pictures"
        )
    architecture, saved = record.architecture, [int(folder.name) for folder in checkpoints(path)]
    height, width = architecture.size(architecture.top_level)
    return {
        "path": str(path),
        "kind": kind,
        "images_seen": record.images_seen if kind == "checkpoint" else max(saved, default=0),
        "total_images": record.schedule.total_images,
        "size": f"{width}x{height}",
        "image_channels": architecture.image_channels,
        "channels": list(architecture.channels),
        "latent": list(architecture.latent_shape),
        "classes": architecture.classes,
        "seed": record.seed,
        "data": record.data,
        **({"checkpoints": saved} if kind == "run" else {}),
        **_averages(path),
        "progan": (record.contents.get("environment") or {}).get("progan"),
    }


def _averages(path: Path) -> dict[str, Any]:
    """Return the names of the averages in a checkpoint, or in the newest sound one of a run, and which one is used."""
    from progan.errors import CheckpointError
    from progan.runs.average_choice import average_in_use, recorded_averages, recorded_choice
    from progan.runs.record import RunRecord

    try:
        record = RunRecord.from_checkpoint(path)
    except CheckpointError:  # of a run that has none yet
        return {}
    choice = recorded_choice(record)
    return {
        "averages": recorded_averages(record),
        "average_used": average_in_use(record),
        "average_choice": None if choice is None else choice.to_json(),
    }


def describe_file(path: Path) -> dict[str, Any]:
    """Describe a pack, an exported file or page, or another file in the safetensors layout.

    Raises:
        CheckpointError: If it is an exported file or page, and damaged.
        UsageError: If it is none of them, or a damaged pack.
    """
    if path.suffix in MODELS:
        from progan.export.reading import read_model

        return _described_record(path, MODELS[path.suffix], read_model(path))
    if path.suffix == ".html":
        return _described_page(path, path)
    from progan.data import Pack
    from progan.data.pack import is_pack
    from progan.errors import CheckpointError
    from progan.export import describe
    from progan.runs.checkpoint import SUFFIX, read_entries

    try:
        pack = Pack(path)
    except (ValueError, OSError) as error:
        if is_pack(path):
            raise UsageError(str(error)) from error
    else:
        n, channels, height, width = pack.images.shape
        found = {
            "path": str(path),
            "kind": "pack",
            "pictures": n,
            "size": f"{width}x{height}",
            "image_channels": channels,
        }
        return found | {"classes": list(pack.classes), "unreadable": len(pack.unreadable)}
    if path.suffix in FOREIGN:
        raise UsageError(
            f"{path} may be a checkpoint of another program, which only loading shows: progan import {shown(path)} "
            "OUT.safetensors reads those that progan knows, without running them"
        )
    if path.suffix != SUFFIX:
        raise UsageError(f"{path} is no pack and no file of tensors in the safetensors layout, which ends in {SUFFIX}")
    try:
        return _described_record(path, "generator", describe(path))
    except CheckpointError:
        pass
    try:
        entries = read_entries(path)
    except (CheckpointError, OSError, ValueError) as error:
        raise UsageError(f"{path} is no pack and no file of tensors in the safetensors layout: {error}") from error
    tensors = {name: {"dtype": str(entry.dtype), "shape": list(entry.shape)} for name, entry in entries.items()}
    return {"path": str(path), "kind": "file of tensors", "bytes": path.stat().st_size, "tensors": tensors}


def _described_page(path: Path, html: Path) -> dict[str, Any]:
    """Describe an exported page: a folder, or one file.

    Raises:
        CheckpointError: If it is none.
    """
    from progan.export.reading import read_page

    files = [html] if path == html else [each for each in path.rglob("*") if each.is_file()]
    return {
        "path": str(path),
        "kind": "web page",
        "bytes": sum(each.stat().st_size for each in files),
        **read_page(html),
    }


def _described_record(path: Path, kind: str, record: GeneratorRecord) -> dict[str, Any]:
    """Describe a file by the record in it."""
    height, width = record.image_size
    return {
        "path": str(path),
        "kind": kind,
        "bytes": path.stat().st_size,
        "size": f"{width}x{height}",
        "image_channels": record.architecture.image_channels,
        "channels": list(record.architecture.channels),
        "latent": list(record.architecture.latent_shape),
        "classes": record.architecture.classes,
        "precision": record.precision,
        "images_seen": record.images_seen,
        "data": record.data,
        "licence": record.licence,
        "note": record.note,
        "progan": record.progan,
    }


def lines_of(found: Mapping[str, Any]) -> list[str]:
    """Return a description as lines."""
    values = {name: value for name, value in found.items() if name not in ("path", "kind", "tensors", "average_choice")}
    if choice := found.get("average_choice"):
        values["average_used"] += f", the best by {choice['measure']} after {choice['images_seen']:,} real images"
    lines = [f"{found['path']}: {found['kind']}"]
    lines += [
        f"  {name.replace('_', ' '):<15} {on_one_line(_shown(value))}"
        for name, value in values.items()
        if value not in (None, [], 0)
    ]
    tensors = found.get("tensors", {})
    lines += [
        f"  {on_one_line(name)}: {each['dtype']} {tuple(each['shape'])}"
        for name, each in list(tensors.items())[:_SHOWN]
    ]
    if len(tensors) > _SHOWN:
        lines.append(f"  and {len(tensors) - _SHOWN:,} more; --json lists all")
    return lines


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items() if not isinstance(each, dict | list))
    if isinstance(value, list):
        return ", ".join(map(str, value[-_SHOWN:]))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
