"""What the tests share: one thread, a small recipe, a few pictures."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from launcher import Launcher
from torch import Tensor
from torch.utils.data import Dataset

from progan import EmaGenerator, Growth, Recipe, Stage, presets
from progan.storage import files
from progan.training import planning
from progan.training.draws import Draws
from progan.training.state import TrainingState
from progan.training.step import TrainingStep

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

# Two workers share two cores; and a run is the same to the bit with the same number of threads only.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start

# Triton reads it when it is imported, which torch.compile's modules do too.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# What a shell starts in the background ignores Ctrl-C, and so would the programs that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Of a disk that is full or forbidden; and in the slow tests, over its quota, read-only or broken.
FAULTS = [errno.ENOSPC, errno.EACCES, errno.EDQUOT, errno.EROFS, errno.EIO]
EACH_FAULT = pytest.mark.parametrize(
    "number",
    [pytest.param(number, marks=[pytest.mark.slow] * (index > 1)) for index, number in enumerate(FAULTS)],
    ids=errno.errorcode.get,
)

# For programs that tests start: the peak of their memory, in MB, above what it was at `begin`. Not ru_maxrss,
# which a process takes over from the one that started it.
MEMORY = """
def begin():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return resident("VmRSS")

def resident(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) / 1000

def peak_above(before):
    return resident("VmHWM") - before
"""


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two states have the same names, and the same bits of each."""
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def small_recipe(preset=presets.mel_icon, **training) -> Recipe:
    """A preset with three narrow levels and a schedule of a dozen steps, fades and a hold among them."""
    recipe = preset(16, channels=(8, 6, 4))
    architecture = replace(recipe.architecture, latent_shape=(5, *recipe.architecture.latent_shape[1:]))
    stages = (Stage(0, 0, 30, 8, 1e-3), Stage(1, 20, 9, 8, 2e-3), Stage(2, 24, 10, 8, 1e-3))
    return Recipe(architecture, stages, replace(recipe.training, **training))


def with_patches(resolution, *, channels) -> Recipe:
    """The preset few_images with scores of patches, as it has them at high resolutions."""
    few = presets.few_images(resolution, channels=channels)
    return replace(few, architecture=replace(few.architecture, patch_scores=True))


def gradients_of_a_step(
    recipe: Recipe, level: int, batch: int, device: torch.device, dtype: torch.dtype
) -> list[list[Tensor]]:
    """The gradients of both networks' updates in one step at a level."""
    generator, discriminator = (network.to(device, dtype) for network in recipe.build())
    step = TrainingStep(
        TrainingState(generator, discriminator, EmaGenerator(generator, 0.99), recipe.training.adam), recipe.training
    )
    found: list[list[Tensor]] = []
    measure = step.watch.measure
    step.watch.measure = lambda gradients: (found.append(list(gradients)), measure(gradients))[1]
    draws = Draws.at(0, batch, recipe.architecture.latent_shape, 0, recipe.training)
    size = recipe.architecture.size(level)
    real = torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step(real.to(device, dtype), draws, Growth(0, level, None, 1e-3, batch), 0)
    return found


class Noisy(Dataset):
    """Items of a random transform that draws from all three global generators."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        shift = (torch.rand(1).item() + np.random.rand() + random.random()) / 3
        return (self.images[index] / 255 * shift).float(), "a label"


def contents(run_dir: Path) -> dict[str, object]:
    """All that a run has written and that equal runs have in common, to the byte; of the metrics all but the times."""
    found: dict[str, object] = {}
    for path in sorted(run_dir.rglob("*")):
        name = path.relative_to(run_dir).as_posix()
        if name in ("warnings.jsonl", "report.html"):
            continue
        if name == "metrics.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{key: value for key, value in line.items() if not key.endswith("_s")} for line in lines]
        elif path.is_file():
            found[name] = path.read_bytes()
        elif not any(path.iterdir()):
            found[f"{name}/"] = None
    return found


Hook = Callable[[str, Path], None]


class Watched:
    """A file that tells of every write."""

    def __init__(self, file: Any, path: Path, hook: Hook) -> None:
        self._file, self._path, self._hook = file, path, hook

    def write(self, data: bytes) -> int:
        self._hook("write", self._path)
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


@pytest.fixture(scope="session", autouse=True)
def neither_measures_nor_report() -> Iterator[None]:
    """Judge by no built-in measure and write no report: they take seconds, and tests of judging bring measures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("progan.training.callbacks.judge.built_in_measures", dict)
        patch.setattr("progan.training.callbacks.report_page.write_report", None)
        yield


@pytest.fixture
def hooked(monkeypatch):
    """Call a hook before every operation of progan.storage.files on the disk."""

    def install(hook: Hook) -> None:
        def opened(path: Path, mode: str) -> Watched:
            hook("open", Path(path))
            # Unbuffered: what is written is there when the process dies.
            return Watched(Path(path).open(mode, buffering=0), Path(path), hook)

        monkeypatch.setattr(files, "open", opened, raising=False)
        for name in ("replace", "unlink", "mkdir", "rmdir"):
            operation = getattr(os, name)

            def call(path: Any, *rest: Any, name: str = name, operation: Any = operation, **keywords: Any) -> Any:
                hook(name, Path(path))
                return operation(path, *rest, **keywords)

            monkeypatch.setattr(os, name, call)
        fsync = os.fsync

        def synced(descriptor: int) -> None:
            hook("fsync", Path(f"/proc/self/fd/{descriptor}").readlink())
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", synced)

    return install


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    """One for all tests of a file."""
    made = Launcher()
    yield made
    made.close()


@pytest.fixture
def short_plans(monkeypatch) -> None:
    """Plan from two timed steps of each stage instead of ten."""
    monkeypatch.setitem(planning.make_plan.__kwdefaults__, "timed_steps", 2)


@pytest.fixture
def recipe() -> Recipe:
    return small_recipe()


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (21, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class FakeStream:
    """Stand in for a CUDA stream, and note what it waits for."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def wait_stream(self, other):
        self.log.append(f"{self.name} waits for {other.name}")


class OwnBlock(torch.nn.Module):
    """A generator block of a user's own."""

    def __init__(self, architecture, level):
        super().__init__()
        self.conv = torch.nn.Conv2d(architecture.channels[level - 1], architecture.channels[level], 3, padding=1)

    def forward(self, x):
        return torch.nn.functional.leaky_relu(self.conv(torch.nn.functional.interpolate(x, scale_factor=2.0)))
