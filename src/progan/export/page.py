"""A generator as a web page that draws in the visitor's browser: a folder for any static web server, or one file."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from progan._version import __version__
from progan.arguments import check_flag
from progan.export.one_file import check_text
from progan.export.onnx_file import check_installed, onnx_model
from progan.export.page_directions import principal_directions
from progan.export.page_runtime import runtime_files
from progan.export.source import Source, open_source
from progan.render import image_grid, png_bytes, to_uint8
from progan.reports.text import escaped
from progan.runs.checkpoint import SUFFIX
from progan.runs.generator_file import FilePrecision, GeneratorRecord, check_precision
from progan.sampling import GrownGenerator
from progan.storage.files import folder_beside, make_folder, write_file
from progan.storage.paths import check_replaceable, user_path

_HERE = Path(__file__).parent
_CELLS, _COLUMNS = 12, 4
_SLIDERS = 6
_RANGE = 4  # standard deviations of a latent that a slider goes to either side
_SMALL_SIDE = 128  # pixels of the stored pictures, which show until the model is there
_LARGEST_IN_ONE = 25_000_000  # bytes of a model
_MARK = '<meta name="generator" content="progan '
_MODEL = "model.onnx"
# The two builds of onnxruntime-web, the better one first: their script and their WebAssembly in the folder dist.
_WEBGPU = {"name": "webgpu", "script": "ort.webgpu.bundle.min.mjs", "wasm": "ort-wasm-simd-threaded.asyncify.wasm"}
_WASM = {"name": "wasm", "script": "ort.wasm.bundle.min.mjs", "wasm": "ort-wasm-simd-threaded.wasm"}
_FOLDER = "onnxruntime-web"


@dataclass(frozen=True)
class WebPage:
    """A page that was written.

    Attributes:
        path: The page: its folder, or the one HTML file.
        size: Bytes of all its files.
        model_size: Bytes of its model.
        image_size: (height, width) of its pictures.
        precision: Precision of the model.
    """

    path: Path
    size: int
    model_size: int
    image_size: tuple[int, int]
    precision: FilePrecision


def save_page(
    source: Source,
    path: str | PathLike[str],
    *,
    best: bool = False,
    average: str | None = None,
    enlarge: int = 1,
    precision: FilePrecision = "fp32",
    single_file: bool = False,
    title: str | None = None,
    runtime: str | PathLike[str] | None = None,
    overwrite: bool = False,
) -> WebPage:
    """Write a trained generator as a web page that draws pictures in the visitor's browser, without another host.

    A folder works from any static web server; one HTML file opens from a disk too. The page draws by WebGPU where there
    is one (in a folder), else by WebAssembly. Picture k of seed s is that of ``sample(k + 1, seed=s)``, to rounding.

    The page's only library, onnxruntime-web, is downloaded by npm at the first export and kept in the user's cache.

    Args:
        source: As for `save_generator`: a run directory, the folder of a checkpoint, a file, or a generator.
        path: New or empty folder; or with single_file, a file that ends in ``.html``.
        best: Whether to take the run's best checkpoint by its judgements instead of the newest.
        average: Name of another average of the run than the chosen one, as for `progan.load_generator`.
        enlarge: Factor by which images are drawn larger than the source's; see `progan.GrownGenerator.enlarged`.
        precision: As for `save_onnx`: ``fp32``, or ``fp16`` for a model of half the size.
        single_file: Whether to write one HTML file with the model inside, of at most 25 MB.
        title: Title of the page; None = the name of the source.
        runtime: The npm package onnxruntime-web, for a machine without npm or a network: its ``.tgz``, or its folder;
            None = the cache, or npm.
        overwrite: Whether to replace a page that is there.

    Raises:
        CheckpointError: If the run has no sound checkpoint, or the source file is damaged.
        FileExistsError: If there is something at the path that may not be replaced.
        ImportError: If onnx, onnxscript or npm is not installed.
        TypeError: If an argument is of a wrong kind.
        ValueError: If the generator is not what a file can hold, as for `save_generator`; if the package is not
            onnxruntime-web; or if the model is too large for one file.
        OSError: If the download fails or the page cannot be written; an existing page is kept.
    """
    for name, flag in (("single_file", single_file), ("overwrite", overwrite)):
        check_flag(name, flag)
    check_text("title", title)
    check_precision(precision)
    target = user_path(path)
    check_place(target, single_file=single_file, overwrite=overwrite)
    package = None if runtime is None else user_path(runtime, "runtime")
    check_installed()
    grown, record = open_source(source, best=best, average=average, enlarge=enlarge)
    record = replace(record, precision=precision)
    grown = GrownGenerator(grown.generator, grown.level, classes=grown.classes)  # of all classes, as trained
    engines = [_WASM] if single_file else [_WEBGPU, _WASM]
    version, files = runtime_files([engine[kind] for engine in engines for kind in ("script", "wasm")], package)
    model: bytes = onnx_model(grown, record).SerializeToString()
    if single_file and len(model) > _LARGEST_IN_ONE:
        raise ValueError(
            f"the model has {len(model) / 1e6:.1f} MB, and one HTML file takes at most {_LARGEST_IN_ONE / 1e6:.0f} MB; "
            "write a folder, or use precision='fp16'"
        )
    sizes = {name: len(each) for name, each in {_MODEL: model, **files}.items()}
    files = {name: gzip.compress(each, 9, mtime=0) if name.endswith(".wasm") else each for name, each in files.items()}
    licences = _asset("licences.txt").format(version=version, licence=record.licence or "no licence is stated")
    licences = licences.encode(errors="backslashreplace").decode()  # a file may hold half characters
    if title is None:
        title = "progan"
        if isinstance(source, str | PathLike):
            title = user_path(source, "source").resolve().name.removesuffix(SUFFIX)
    facts = {**_facts(grown, record), "name": title, "sizes": sizes, "engines": engines, "alone": single_file}
    if single_file:
        embedded = {name: _base64(each) for name, each in {_MODEL: model, **files}.items()}
        page = _page(facts, title, record, licences, embedded)
        write_file(target, page)
        size = len(page)
    else:
        places = {name: f"{_FOLDER}/{name}{'.gz' * name.endswith('.wasm')}" for name in files}
        facts["files"] = {_MODEL: _MODEL, **places}
        contents = {
            "index.html": _page(facts, title, record, licences, {}),
            "LICENSES.txt": licences.encode(),
            _MODEL: model,
            **{places[name]: each for name, each in files.items()},
        }
        with folder_beside(target) as beside:
            for name, data in contents.items():
                make_folder((beside / name).parent)
                write_file(beside / name, data)
        size = sum(map(len, contents.values()))
    return WebPage(target, size, len(model), record.image_size, precision)


def check_place(target: Path, *, single_file: bool, overwrite: bool) -> None:
    """Raise where no page can be written.

    Raises:
        FileExistsError: If there is something that may not be replaced, or the current directory.
        NotADirectoryError: If the folder that it would be in is missing.
        ValueError: If the name does not fit.
    """
    if single_file and target.suffix != ".html":
        raise ValueError(f"a page of a single file must end in .html, got {target}")
    if not single_file and target.suffix == ".html":
        raise ValueError(f"a page is a folder, got {target}; pass single_file=True for one HTML file")
    if not single_file:
        check_replaceable(target)
    if not target.resolve().parent.is_dir():
        raise NotADirectoryError(f"{target.parent} is not a directory; make it first")
    if not target.exists() or (not single_file and target.is_dir() and not any(target.iterdir())):
        return
    if not _is_page(target if single_file else target / "index.html") or (
        not single_file and {each.name for each in target.iterdir()} - {"index.html", "LICENSES.txt", _MODEL, _FOLDER}
    ):
        raise FileExistsError(f"{target} exists and is not only a page of progan's; pass another path")
    if not overwrite:
        raise FileExistsError(f"{target} exists; pass overwrite=True or another path")


def _is_page(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _MARK.encode() in file.read(10_000)


def _facts(grown: GrownGenerator, record: GeneratorRecord) -> dict[str, Any]:
    """Return what the page must know of a generator, for JSON."""
    architecture = record.architecture
    directions = principal_directions(grown, min(_SLIDERS, math.prod(architecture.latent_shape)))
    classes = grown.classes
    images = _small(grown.enlarged(record.scale).sample(_CELLS, batch_size=4))
    sheet = png_bytes(image_grid(to_uint8(images), _COLUMNS))
    names = None if classes is None else classes.names or [f"class {label}" for label in range(len(classes))]
    return {
        "size": record.image_size,
        "channels": architecture.image_channels,
        "latent_shape": architecture.latent_shape,
        "classes": None if classes is None else {"names": names, "counts": classes.counts},
        "directions": [[round(value, 5) for value in row] for row in directions.flatten(1).tolist()],
        "range": _RANGE,
        "cells": _CELLS,
        "sheet": {"uri": "data:image/png;base64," + _base64(sheet), "columns": _COLUMNS},
    }


def _small(images: Tensor) -> Tensor:
    """Average pixels until images have at most about 128 a side."""
    return torch.nn.functional.avg_pool2d(images.cpu(), max(1, max(images.shape[2:]) // _SMALL_SIDE))


def _page(
    facts: Mapping[str, Any], title: str, record: GeneratorRecord, licences: str, embedded: Mapping[str, str]
) -> bytes:
    """Return the HTML file, with files of the page inside, in base64."""
    ids = {name: f"file-{index}" for index, name in enumerate(embedded)}
    script = _asset("draws.js") + _asset("steps.js") + _asset("js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}' 'wasm-unsafe-eval' {'data' if embedded else 'blob'}:; "
        "worker-src blob:; "
        f"connect-src {'none' if embedded else 'self'!r}; img-src data: blob:; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "version": __version__,
        "title": escaped(title, 100),
        "about": _about(record),
        "footer": _footer(record, licences if embedded else None),
        "style": _asset("css"),
        "facts": json.dumps({"files": ids, **facts}, separators=(",", ":")).replace("<", r"\u003c"),
        "worker": _asset("worker.js"),
        "embedded": "".join(f'<script type="text/plain" id="{ids[name]}">{embedded[name]}</script>\n' for name in ids),
        "script": script,
    }
    before, *rest = _asset("html").split("{{")
    text = [before]
    for part in rest:
        name, after = part.split("}}", 1)
        text += [parts[name], after]
    return "".join(text).encode()


def _about(record: GeneratorRecord) -> str:
    height, width = record.image_size
    return f"Pictures of {width}x{height} pixels that a generator draws in your browser, on your device."


def _footer(record: GeneratorRecord, licences: str | None) -> str:
    """Return what stands below the page."""
    lines = [f"<p>Licence of the generator: {escaped(record.licence)}.</p>"] if record.licence else []
    lines += [f"<p>{escaped(record.note)}</p>"] if record.note else []
    command = f"progan generate RUN --seed 5 --only 3{f' --enlarge {record.scale}' * (record.scale > 1)} --out pictures"
    lines.append(
        f"<p>Picture 3 of seed 5 is the one that <code>{command}</code> "
        "draws; the first one of the grid is picture 0. A picture changes the most along direction 1.</p>"
    )
    if licences is None:
        lines.append('<p><a href="LICENSES.txt">Licences of the software</a></p>')
    else:
        lines.append(
            f"<details><summary>Licences of the software</summary><pre>{html.escape(licences)}</pre></details>"
        )
    return "".join(lines)


def _asset(name: str) -> str:
    """Return the text of page.html, page.css, page_draws.js and so on."""
    joint = "." if name in ("html", "css", "js") else "_"
    return (_HERE / f"page{joint}{name}").read_text(encoding="utf-8")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
