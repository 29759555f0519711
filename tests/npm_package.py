"""A stand-in for the npm package onnxruntime-web, which is not in the repository."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

FILES = {
    "ort.webgpu.bundle.min.mjs": b"// WebGPU",
    "ort-wasm-simd-threaded.asyncify.wasm": b"\0asm WebGPU",
    "ort.wasm.bundle.min.mjs": b"// WebAssembly",
    "ort-wasm-simd-threaded.wasm": b"\0asm",
}


def write_package(folder: Path) -> Path:
    """Write the unpacked package."""
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": "onnxruntime-web", "version": "1.99.0"}))
    for name, contents in FILES.items():
        (folder / "dist" / name).write_bytes(contents)
    return folder


def write_tgz(path: Path, folder: Path) -> Path:
    """Pack the package as npm does."""
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, "package")
    return path
