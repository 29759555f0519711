"""Checkpoints made to do harm: no code in them runs, all of them are refused, and their size bounds the memory."""

from __future__ import annotations

import dbm.dumb
import gzip
import hashlib
import io
import json
import marshal
import os
import pickle
import re
import shelve
import shutil
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MEMORY, small_recipe

from progan import Trainer
from progan.networks.discriminator import ProgressiveDiscriminator
from progan.networks.generator import ProgressiveGenerator
from progan.recipe import Recipe

CHECKPOINT = "checkpoints/000000008"
TENSORS, MANIFEST, CONFIG = f"{CHECKPOINT}/tensors.safetensors", f"{CHECKPOINT}/manifest.json", "config.json"


# Files that carry code: what makes one, given the marker that its code is to write, and the unsafe way to read it.


class Fires:
    """Write the marker as this is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


class FiresByShell(Fires):
    def __reduce__(self):
        return os.system, (f": > '{self.marker}'",)


class FiresWithin(Fires):
    def __reduce__(self):
        return pickle.loads, (pickle.dumps(Fires(self.marker)),)


class FiresByTorchScript(torch.nn.Module):
    """TorchScript runs __setstate__ as it is loaded, and can write files."""

    def __init__(self, marker: str):
        super().__init__()
        self.marker = marker

    @torch.jit.export
    def __getstate__(self):
        return (self.marker, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.marker = state[0]
        self.training = state[1]
        torch.save(torch.zeros(1), self.marker)


def source(marker) -> str:
    return f"open({str(marker)!r}, 'w')"


def objects(marker) -> np.ndarray:
    return np.array([Fires(marker)], dtype=object)


def written(write) -> bytes:
    """What a function writes to the file that it is given."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def tar(marker) -> bytes:
    """As torch.save wrote it at first: a tar, in it a pickle of the number of storages."""
    storages = pickle.dumps(Fires(marker))
    member = tarfile.TarInfo("storages")
    member.size = len(storages)
    return written(lambda file: tarfile.open(fileobj=file, mode="w").addfile(member, io.BytesIO(storages)))


def torchscript(marker) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to drop it
        return written(lambda file: torch.jit.save(torch.jit.script(FiresByTorchScript(str(marker))), file))


def torch_package(marker) -> bytes:
    def write(file):
        with torch.package.PackageExporter(file) as exporter:
            exporter.save_source_string("payload", source(marker))

    return written(write)


def shelf(marker) -> dict[str, bytes]:
    """Three files: a shelf's data in place of ours, and both that it is made of beside it."""
    with tempfile.TemporaryDirectory() as folder:
        with shelve.Shelf(dbm.dumb.open(f"{folder}/shelf", "n")) as made:
            made["w"] = Fires(marker)
        data, index = (Path(f"{folder}/shelf{ending}").read_bytes() for ending in (".dat", ".dir"))
    return {"": data, ".dat": data, ".dir": index}


def entry(dtype="F32", shape=(2,), offsets=(0, 8)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def tensors_file(header, body=bytes(8)) -> bytes:
    text = header if isinstance(header, bytes) else raw_json(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def raw_json(contents) -> str:
    """JSON in which "raw 1e999" stands for 1e999; in it ' stands for "."""
    return re.sub(r'"raw ([^"]*)"', lambda found: found[1].replace("'", '"'), json.dumps(contents))


CARRYING_CODE = {
    "a pickle": (TENSORS, lambda marker: pickle.dumps(Fires(marker)), "pickle.load(file)"),
    "a pickle that runs a shell": (TENSORS, lambda marker: pickle.dumps(FiresByShell(marker)), "pickle.load(file)"),
    "a pickle in a pickle": (TENSORS, lambda marker: pickle.dumps({"w": FiresWithin(marker)}), "pickle.load(file)"),
    "a pickle as text": (MANIFEST, lambda marker: pickle.dumps(Fires(marker), 0), "pickle.load(file)"),
    "a pickle for a config": (CONFIG, lambda marker: pickle.dumps(Fires(marker), 0), "pickle.load(file)"),
    "a pickle that is zipped": (TENSORS, lambda marker: gzip.compress(pickle.dumps(Fires(marker))), "unzipped(file)"),
    "a tar": (TENSORS, tar, "torch.load(file, weights_only=False)"),
    "old torch": (
        TENSORS,
        lambda marker: written(lambda file: torch.save(Fires(marker), file, _use_new_zipfile_serialization=False)),
        "torch.load(file, weights_only=False)",
    ),
    "torch": (
        TENSORS,
        lambda marker: written(lambda file: torch.save({"w": Fires(marker)}, file)),
        "torch.load(file, weights_only=False)",
    ),
    "TorchScript": (TENSORS, torchscript, "torch.jit.load(file)"),
    "a torch package": (TENSORS, torch_package, "torch.package.PackageImporter(path).import_module('payload')"),
    "npy": (TENSORS, lambda marker: written(lambda file: np.save(file, objects(marker))), "np.load(file, **PICKLED)"),
    "npz": (
        TENSORS,
        lambda marker: written(lambda file: np.savez(file, w=objects(marker))),
        "np.load(file, **PICKLED)['w']",
    ),
    "Python": (TENSORS, lambda marker: source(marker).encode(), "exec(file.read())"),
    "compiled Python": (
        TENSORS,
        lambda marker: marshal.dumps(compile(source(marker), "payload", "exec")),
        "exec(marshal.loads(file.read()))",
    ),
    "a shelf": (TENSORS, shelf, "shelve.Shelf(dbm.dumb.open(path))['w']"),
    "a name of a tensor": (
        TENSORS,
        lambda marker: tensors_file({source(marker): entry()}),
        "[eval(name) for name in json.loads(file.read()[8:-8])]",
    ),
}

UNSAFE = """
import dbm.dumb, gzip, json, marshal, pickle, shelve, sys, warnings
import numpy as np, torch
warnings.simplefilter("ignore")
PICKLED = {"allow_pickle": True}

def unzipped(file):
    return pickle.loads(gzip.decompress(file.read()))

for path, expression in json.loads(sys.stdin.read()):
    with open(path, "rb") as file:
        try:
            eval(expression)
        except Exception as error:  # after its code has run
            print(path, expression, error)
"""


# Files that carry no code, and ask for memory, time or an error.


def zipped(size) -> bytes:
    def write(file):
        with (
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open("data.pkl", "w") as member,
        ):
            for _ in range(size // 10**6):
                member.write(bytes(10**6))

    return written(write)


def many(count: int, size: int) -> bytes:
    """A file of so many tensors of so many bytes each."""
    form = '"%d":{"dtype":"U8","shape":[%d],"data_offsets":[%d,%d]}'
    entries = (form % (k, size, k * size, k * size + size) for k in range(count))
    return tensors_file(f"{{{','.join(entries)}}}".encode(), bytes(count * size))


def repeated(text: str, size: int) -> str:
    """A list of so many bytes of JSON."""
    return "[" + text * (size // len(text)) + "1]"


HEADERS = {
    "a header of 2^63 bytes": lambda: (1 << 63).to_bytes(8, "little") + bytes(100),
    "a header of 2^64 - 1 bytes": lambda: b"\xff" * 108,
    "a header of 10 MB of lists": lambda: tensors_file(repeated("[],", 10_000_000).encode()),
    "a header of 10 MB of objects": lambda: tensors_file(repeated('{"a":0},', 10_000_000).encode()),
    "a header of 1 MB of objects": lambda: tensors_file(repeated('{"a":0},', 990_000).encode()),
    "100,000 tensors": lambda: many(100_000, 1),
    "4,000 tensors of no size": lambda: many(4_000, 0),
    "a deep header": lambda: tensors_file(b'{"a":' * 100_000),
    "a header as deep as it can be read": lambda: tensors_file(b'{"a":' * 900 + b"1" + b"}" * 900),
    "an offset of 5000 digits": lambda: tensors_file({"a": entry(offsets=(0, "raw " + "9" * 5000))}),
    "an offset of 4000 digits": lambda: tensors_file({"a": entry(offsets=(0, "raw " + "9" * 4000))}),
    "a NaN for a side": lambda: tensors_file({"a": entry(shape=["raw NaN"])}),
    "an infinite offset": lambda: tensors_file({"a": entry(offsets=(0, "raw 1e999"))}),
    "one name twice": lambda: tensors_file(
        b'{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    ),
    "a name that is no string": lambda: tensors_file(b'{1:{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'),
    "names that are paths": lambda: tensors_file(
        {"../../../a": entry(), "/tmp/b\0": entry(offsets=(8, 16)), "\ud800": entry(offsets=(16, 24))}, bytes(24)
    ),
    "an overlap": lambda: tensors_file({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)),
    "a negative offset": lambda: tensors_file({"a": entry(offsets=(-8, 0))}),
    "an offset that is a float": lambda: tensors_file({"a": entry(offsets=(0.0, 8.0))}),
    "an offset that is a bool": lambda: tensors_file({"a": entry("U8", (1,), (False, True))}, bytes(1)),
    "an offset beyond the end": lambda: tensors_file({"a": entry(shape=(1 << 40,), offsets=(0, 1 << 42))}),
    "a gap": lambda: tensors_file({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)),
    "bytes at the end": lambda: tensors_file({"a": entry()}, bytes(9)),
    "an unknown dtype": lambda: tensors_file({"a": entry("C64", (1,))}),
    "a list for a dtype": lambda: tensors_file({"a": entry(["F32"])}),
    "a shape whose product overflows": lambda: tensors_file({"a": entry(shape=(1 << 32, 1 << 32, 1 << 32))}),
    "an overflow that wraps to the size": lambda: tensors_file({"a": entry("U8", (1 << 63, 2), (0, 0))}, b""),
    "an overflow with a side of 0": lambda: tensors_file({"a": entry("U8", (0, 1 << 62, 1 << 62), (0, 0))}, b""),
    "a side beyond 64 bits": lambda: tensors_file({"a": entry("U8", (0, 1 << 70), (0, 0))}, b""),
    "300,000 sides": lambda: tensors_file({"a": entry("U8", [1] * 300_000, (0, 1))}, bytes(1)),
    "a zip bomb": lambda: zipped(200_000_000),
    "a gzip bomb": lambda: gzip.compress(bytes(200_000_000), 1),
    "nothing": lambda: b"",
}


def set_in(place: str, value):
    """A change of an entry of a manifest, and of a config where it has that one."""

    def change(contents):
        *way, last = place.split(".")
        for name in way:
            contents = contents[name] if isinstance(contents, dict) else contents[int(name)]
        if value is MISSING:
            del contents[last]
        else:
            contents[last] = value

    return change


MISSING = object()
STAGE = {"level": 0, "fade_images": 0, "hold_images": 8, "batch_size": 8, "learning_rate": 1e-3}
DEEP = json.loads("[" * 900 + "]" * 900)

# Of both the manifest and config.json; the last ones of the manifest alone.
SETTINGS = {
    "huge widths": set_in("recipe.architecture.channels", [10**9, 10**9, 10**9]),
    "widths beyond 64 bits": set_in("recipe.architecture.channels", [10**30, 4, 4]),
    "widths that overflow a product": set_in("recipe.architecture.channels", [2**31, 2**31, 2**31]),
    "thousands of levels": set_in("recipe.architecture.channels", [1] * 20_000),
    "huge latents": set_in("recipe.architecture.latent_shape", [10**9]),
    "a huge base size": set_in(
        "recipe.architecture", {"channels": [8, 6, 4], "latent_shape": [5, 10**9, 10**9], "base_size": [10**9, 10**9]}
    ),
    "a width that is a string": set_in("recipe.architecture.channels", ["8", "6", "4"]),
    "a width that is a bool": set_in("recipe.architecture.channels", [True, True, True]),
    "a width that is a float": set_in("recipe.architecture.head_channels", 16.5),
    "channels that are floats": set_in("recipe.architecture.image_channels", 3.0),
    "an epsilon that is a string": set_in("recipe.architecture.norm_epsilon", "1e-7"),
    "an epsilon that is no number": set_in("recipe.architecture.norm_epsilon", "raw NaN"),
    "an infinite epsilon": set_in("recipe.architecture.norm_epsilon", "raw 1e999"),
    "a switch that is a string": set_in("recipe.architecture.widen_first", "no"),
    "architecture that is deep": set_in("recipe.architecture.channels", DEEP),
    "architecture that is a list": set_in("recipe.architecture", [1, 2, 3]),
    "a recipe that is a list": set_in("recipe", [1, 2, 3]),
    "1,100 stages": set_in("recipe.stages", [STAGE] * 1_100),
    "1,000,000 stages": set_in("recipe.stages", "raw [" + "{}," * 10**6 + "{}]"),
    "a stage of a huge learning rate": set_in("recipe.stages.0.learning_rate", "raw 1" + "0" * 400),
    "a stage that is deep": set_in("recipe.stages.0.batch_size", DEEP),
    "an objective that is code": set_in("recipe.training.objective.name", "__import__('os').system('false')"),
    "10 MB of lists": set_in("recipe.training", "raw " + repeated("[],", 10_000_000)),
    "10 MB of objects": set_in("recipe.training", "raw " + repeated("{'a':0},", 10_000_000)),
    "490 kB of objects": set_in("recipe.training", "raw " + repeated("{'a':0},", 490_000)),
    "blocks that are numbers": set_in("blocks", {"generator": 5, "discriminator": 5}),
    "blocks that are a list": set_in("blocks", ["os.system"]),
    "blocks that are code": set_in("blocks", {"generator": "os.system", "discriminator": "os.system"}),
    "no blocks": set_in("blocks", MISSING),
    "data that is deep": set_in("data", DEEP),
    "an environment that is deep": set_in("environment", DEEP),
    "a version that is deep": set_in("version", DEEP),
    "a format that is a list": set_in("format", ["progan run"]),
    "a count that is missing": set_in("images_seen", MISSING),
    "a count that is negative": set_in("images_seen", -8),
    "a count that is infinite": set_in("images_seen", "raw 1e999"),
    "a count that is a string": set_in("images_seen", "8"),
    "a count that is a list": set_in("images_seen", [8]),
}

# Of both, too; read only where a run goes on.
STARTED = {"path": "/etc/passwd", "images_seen": 8, "level": 0, "sha256": "0" * 64, "taken": ["generator"]}
RECORDS = {
    "a start that is code": set_in("start", "__import__('os').system('false')"),
    "a start that is a list": set_in("start", [STARTED]),
    "a start of a long path": set_in("start", STARTED | {"path": "/" * 100_000}),
    "a start of a long hash": set_in("start", STARTED | {"sha256": "0" * 100_000}),
    "a start that is deep": set_in("start", STARTED | {"path": DEEP}),
    "a start of an infinite count": set_in("start", STARTED | {"images_seen": "raw 1e999"}),
    "a start that took code": set_in("start", STARTED | {"taken": ["os.system"] * 3}),
    "a fork that is a number": set_in("fork", 1),
    "a warm-up that is code": set_in("numbers", {"ema_warm_up": "os.system"}),
    "numbers that are a list": set_in("numbers", ["ema_warm_up"]),
}

# Of config.json alone: the checkpoints beside it are sound.
CONFIGS = {
    "a seed that is a string": set_in("seed", "0"),
    "a seed that is a float": set_in("seed", 0.5),
    "intervals that overwrite the run": set_in("intervals.overwrite", True),
    "intervals that are code": set_in("intervals.callbacks", ["os.system"]),
    "an interval that is a string": set_in("intervals.keep", "3"),
    "an interval of a million digits": set_in("intervals.keep", "raw -1" + "0" * 4000),
    "intervals that are a list": set_in("intervals", [["log_every", 1]]),
    "a dtype that is a list": set_in("dtype", ["float32"]),
    "a dtype that is another": set_in("dtype", "float64"),
    "other settings": set_in("recipe.training.ema.decay", 0.5),
    "another seed": set_in("seed", 7),
}


def hostile_manifest(run: Path, contents: bytes) -> None:
    (run / MANIFEST).write_bytes(contents)


def own_hash_of_surrogates(run: Path) -> None:
    text = (run / MANIFEST).read_text()
    (run / MANIFEST).write_text(re.sub('"manifest_sha256": "[^"]*"', r'"manifest_sha256": "\\ud800"', text))


def bytes_for_weights(run: Path) -> None:
    """Networks of 36 million weights, for which there is a byte each."""
    small = small_recipe()
    recipe = Recipe(replace(small.architecture, channels=(2000, 6, 4)), small.stages, small.training)
    header, position = {}, 0
    with torch.device("meta"):
        networks = [kind(recipe.architecture) for kind in (ProgressiveGenerator, ProgressiveDiscriminator)]
    for role, network in zip(("generator", "discriminator", "ema"), [*networks, networks[0]], strict=True):
        for name, tensor in network.state_dict().items():
            header[f"{role}/{name}"] = entry("U8", tensor.shape, (position, position + tensor.numel()))
            position += tensor.numel()
    change(run, set_in("recipe", recipe.to_json()))
    (run / TENSORS).write_bytes(tensors_file(header, b""))
    os.truncate(run / TENSORS, (run / TENSORS).stat().st_size + position)


def linked_to(target):
    def link(run):
        (run / TENSORS).unlink()
        (run / TENSORS).symlink_to(target)

    return link


make_pipe = getattr(os, "mkfifo", os.mkdir)  # Windows has no named pipes among its files


def in_place_of(name, make):
    def put(run):
        (run / name).unlink()
        make(run / name)

    return put


OTHERS = {
    "a hash of surrogates": own_hash_of_surrogates,
    "bytes for weights": bytes_for_weights,
    "a deep manifest": lambda run: hostile_manifest(run, b"[" * 100_000),
    "a manifest of 10 MB": lambda run: hostile_manifest(run, repeated("[],", 10_000_000).encode()),
    "a link to a device": linked_to("/dev/zero"),
    "a pipe for tensors": in_place_of(TENSORS, make_pipe),
    "a pipe for a manifest": in_place_of(MANIFEST, make_pipe),
    "a folder for tensors": in_place_of(TENSORS, os.mkdir),
}


def huge_without_checkpoints(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    change(run, set_in("recipe.architecture.channels", [10_000, 10_000, 10_000]), names=[CONFIG])


CONFIG_FILES = {
    "huge widths and no checkpoint": huge_without_checkpoints,
    "a deep config": lambda run: (run / CONFIG).write_bytes(b"[" * 100_000),
    "a config of 10 MB": lambda run: (run / CONFIG).write_text(repeated("[],", 10_000_000)),
    "a pipe for a config": in_place_of(CONFIG, make_pipe),
    "a folder for a config": in_place_of(CONFIG, os.mkdir),
}


def change(run: Path, *changes, names=(MANIFEST, CONFIG)) -> None:
    for name in names:
        contents = json.loads((run / name).read_text())
        for one in changes:
            try:
                one(contents)
            except KeyError:
                assert name == CONFIG, "of the manifest alone"
        (run / name).write_text(raw_json(contents))


def seal(run: Path, sound: dict) -> None:
    """Make the hashes fit, so that they do not keep from the parser what is hostile."""
    tensors, manifest = run / TENSORS, run / MANIFEST
    if not (tensors.is_file() and manifest.is_file()) or tensors.is_symlink():
        return
    with tensors.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    text = manifest.read_text(errors="surrogateescape").replace(sound["tensors_sha256"], digest)
    text = text.replace(sound["manifest_sha256"], "0" * 64)
    text = text.replace("0" * 64, hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest())
    manifest.write_text(text, errors="surrogateescape")


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A run of one step."""
    run = tmp_path_factory.mktemp("sound") / "sound"
    images = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Trainer.from_recipe(small_recipe(), run_dir=run, device="cpu", progress=False).fit(images, until=8)
    return run


def spoiled(sound: Path, folder: Path, name: str, spoil) -> None:
    run = folder / name
    shutil.copytree(sound, run)
    spoil(run)
    seal(run, json.loads((sound / MANIFEST).read_text()))


def carry_code(sound: Path, folder: Path) -> dict[str, Path]:
    """Write the runs that carry code; return their markers."""
    markers = {name: folder.with_name(f"{folder.name} {index}") for index, name in enumerate(CARRYING_CODE)}
    for name, (place, make, _) in CARRYING_CODE.items():
        contents = make(markers[name])
        parts = contents if isinstance(contents, dict) else {"": contents}

        def spoil(run, place=place, parts=parts):
            for ending, data in parts.items():
                Path(f"{run / place}{ending}").write_bytes(data)

        spoiled(sound, folder, name, spoil)
    return markers


# The doors, in a child process that reads one run after the other.

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")

READ = (
    MEMORY
    + """
import json, resource, signal, sys, tempfile, warnings
from pathlib import Path
import torch
from progan import Recipe, Trainer, load_generator
from progan.runs import checkpoint

class Hangs(BaseException):
    pass

def hang(number, frame):
    raise Hangs

warnings.simplefilter("ignore")
signal.signal(signal.SIGALRM, hang)
resource.setrlimit(resource.RLIMIT_DATA, (6 << 30, -1))  # where a reader is broken, the machine is not to suffer
runs = [Path(run) for run in json.loads(sys.stdin.read())]
recipe = Recipe.from_json(json.loads((runs[0] / "config.json").read_text())["recipe"])
quiet = {"device": "cpu", "progress": False}
doors = {
    "find_checkpoint": checkpoint.find_checkpoint,
    "load_generator": load_generator,
    "from_run": lambda run: Trainer.from_run(run, **quiet),
    "from_recipe": lambda run: Trainer.from_recipe(recipe, run_dir=run, **quiet),
    "start": lambda run: Trainer.from_recipe(recipe, start=run, **quiet),
    "start of a file": lambda run: Trainer.from_recipe(recipe, start=file_of(run), **quiet),
}

folder = tempfile.TemporaryDirectory()

def file_of(run):
    "Return a link to the tensors alone, which has no manifest beside it."
    path = Path(folder.name, "weights.safetensors")
    path.unlink(missing_ok=True)
    path.symlink_to((run / "checkpoints/000000008/tensors.safetensors").resolve())
    return path

try:
    torch.empty(1 << 30, 1 << 30, 1 << 30, device="meta")
except RuntimeError:
    pass  # and with its first error the tables to unwind the stack: up to 50 MB
for run in runs:
    for name, door in doors.items():
        before = begin()
        signal.alarm(60)
        try:
            door(run)
            outcome, message = "read", ""
        except BaseException as error:
            kind = ValueError if isinstance(error, ValueError) else type(error)
            outcome, message = kind.__name__, str(error)
        signal.alarm(0)
        print(json.dumps([run.name, name, outcome, message, peak_above(before)]), flush=True)
"""
)


def readings(runs: list[Path], **environment) -> list[tuple]:
    """Read runs by every door, a sound one first; return (run, door, outcome, message, peak in MB) of each."""
    command, given = [sys.executable, "-c", READ], json.dumps([str(run) for run in runs])
    environment = {**os.environ, **environment}
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=300, env=environment)
    found = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"the reader ended with {done.returncode} after {found[-1:]}: {done.stderr}"
    assert len(found) == 6 * len(runs)
    return found


def size_of(run: Path) -> float:
    """All files of a run, in MB."""
    return sum(path.lstat().st_size for path in run.rglob("*")) / 1e6


SOUND_FILES = {"4,000 tensors of no size", "names that are paths", "a name of a tensor", "bytes for weights"}
SOUND_CHECKPOINTS = {"a pickle for a config", *CONFIGS, *CONFIG_FILES}
SOUND_TENSORS = {
    *(SETTINGS.keys() | RECORDS.keys() | SOUND_CHECKPOINTS),
    *("a pickle as text", "a hash of surrogates", "a deep manifest", "a manifest of 10 MB", "a pipe for a manifest"),
} - {"huge widths and no checkpoint"}

# A start builds no network of the sizes that a manifest tells; and a block's name is but another one than ours.
HARMLESS_TO_START = {
    *("huge widths", "huge latents", "widths beyond 64 bits", "widths that overflow a product"),
    "blocks that are code",
}


def as_expected(kind: str, door: str, outcome: str, message: str) -> bool:
    """Tell whether a door did what it should with a run of a kind."""
    if kind == "sound":
        return outcome == "read"
    if outcome == "read":
        if door == "find_checkpoint":
            return kind in SOUND_FILES | SETTINGS.keys() | RECORDS.keys() | SOUND_CHECKPOINTS
        if door == "start of a file":
            return kind in SOUND_TENSORS
        if door == "start" and kind in HARMLESS_TO_START:
            return True
        if door in ("load_generator", "start") and kind == "an objective that is code":  # they read no such settings
            return True
        if door in ("load_generator", "start") and kind in RECORDS:
            return kind != "a start that is deep"  # no JSON is
        return kind in SOUND_CHECKPOINTS and door != "from_run"  # only from_run takes settings of config.json
    if outcome == "ValueError" and door == "from_recipe":
        return "holds another run; differing" in message or "no valid config.json of progan" in message
    return outcome == "CheckpointError"


@pytest.fixture(scope="module")
def hostile(sound, tmp_path_factory) -> tuple[Path, dict[str, Path]]:
    """A folder of runs, and the markers of those that carry code."""
    folder = tmp_path_factory.mktemp("hostile") / "runs"
    markers = carry_code(sound, folder)
    for name, make in HEADERS.items():
        spoiled(sound, folder, name, lambda run, make=make: (run / TENSORS).write_bytes(make()))
    for name, one in {**SETTINGS, **RECORDS}.items():
        spoiled(sound, folder, name, lambda run, one=one: change(run, one))
    for name, one in CONFIGS.items():
        spoiled(sound, folder, name, lambda run, one=one: change(run, one, names=[CONFIG]))
    for name, spoil in {**OTHERS, **CONFIG_FILES}.items():
        spoiled(sound, folder, name, spoil)
    return folder, markers


def test_code_runs_where_it_is_read_the_unsafe_way(hostile):
    folder, markers = hostile
    reads = [(str(folder / name / place), how) for name, (place, _, how) in CARRYING_CODE.items()]
    done = subprocess.run([sys.executable, "-c", UNSAFE], input=json.dumps(reads), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [name for name, marker in markers.items() if not marker.exists()] == [], done.stdout
    for marker in markers.values():
        marker.unlink()


def refused_within_little_memory(runs: list[Path], **environment) -> None:
    """Read runs, of which the first and the last are sound."""
    found = readings(runs, **environment)
    sizes = {run.name: size_of(run) for run in runs}
    assert [row[:4] for row in found if not as_expected(*row[:4])] == []
    assert [row for row in found if len(row[3]) > 2000] == [], "an error that nobody can read"
    assert [row for row in found if row[4] > 2 * sizes[row[0]] + 60] == [], "more memory than their size allows"


@linux
@pytest.mark.parametrize(
    "environment",
    [{}, pytest.param({"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}, marks=pytest.mark.slow)],
    ids=["plain", "torch forced"],
)
def test_every_door_refuses_them_within_little_memory(environment, hostile, sound):
    folder, markers = hostile
    before = sorted(folder.parent.rglob("*"))
    runs = [folder / name for name in markers] if environment else sorted(folder.iterdir())
    refused_within_little_memory([sound, *runs, sound], **environment)
    assert [name for name, marker in markers.items() if marker.exists()] == []
    assert sorted(folder.parent.rglob("*")) == before, "something was written"


@linux
@pytest.mark.slow
def test_headers_of_100_mb(sound, tmp_path):
    for name, make in {
        "lists": lambda: tensors_file(repeated("[],", 99_000_000).encode()),
        "tensors": lambda: many(1_000_000, 1),
    }.items():
        spoiled(sound, tmp_path, name, lambda run, make=make: (run / TENSORS).write_bytes(make()))
    refused_within_little_memory([sound, *sorted(tmp_path.iterdir()), sound])


@linux
def test_memory_is_seen():
    """The measure itself: what is taken is in its peak, and not in the next one's."""
    program = "start = begin(); bytearray(200_000_000); print(peak_above(start)); begin(); print(peak_above(start))"
    peaks = subprocess.run([sys.executable, "-c", MEMORY + program], capture_output=True, text=True, check=True).stdout
    first, second = map(float, peaks.split())
    assert first > 190
    assert second < 50
