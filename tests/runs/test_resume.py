"""A run that was stopped and gone on with is the uninterrupted one: to the bit, whatever stopped it or watched it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import MEMORY, Noisy, contents, small_recipe
from running import BATCH, PRESETS, SIGNALS, make, pixels, program

from progan import (
    Callback,
    Contrast,
    HorizontalFlip,
    Interrupted,
    MetricsLog,
    Recipe,
    Stage,
    load_generator,
    presets,
)
from progan.runs.checkpoint import FOLDER, read_entries

pytestmark = pytest.mark.usefixtures("short_plans")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


# Of small_recipe; its batch divides no stage. Steps begin at 0, 8, 16, 24 (level 0 overruns its 30) | 32, 40, 48
# (level 1 fades to 50), 56 (and overruns its 59) | 64, 72, 80 (level 2 fades to 83), 88, and the end is at 96.
RAGGED = small_recipe().stages
# The batch divides every stage: ends at 32, 72 and 104, fades to 56 and 88.
EXACT = (Stage(0, 0, 32, 8, 1e-3), Stage(1, 24, 16, 8, 2e-3), Stage(2, 16, 16, 8, 1e-3))


class Point(NamedTuple):
    """Where a run stops."""

    stages: tuple[Stage, ...]
    counts: tuple[int, ...]
    """of real images, at each of which it stops"""
    before: tuple[int, float | None]
    """stage and alpha of the last step before the last stop"""
    after: tuple[int, float | None]
    """of the first one after it"""

    @property
    def recipe(self) -> dict[str, Recipe]:
        """By preset."""
        augment = (Contrast(), HorizontalFlip())
        return {
            name: replace(small_recipe(getattr(presets, name), augment_real=augment), stages=self.stages)
            for name in PRESETS
        }


POINTS = {
    "the first step": Point(RAGGED, (8,), (0, None), (0, None)),
    "a boundary within a step": Point(RAGGED, (32,), (0, None), (1, 2 / 20)),
    "mid-fade": Point(RAGGED, (48,), (1, 10 / 20), (1, 18 / 20)),
    "a fade's end within a step": Point(RAGGED, (56,), (1, 18 / 20), (1, None)),
    "mid-fade of the top": Point(RAGGED, (80,), (2, 13 / 24), (2, 21 / 24)),
    "the last step": Point(RAGGED, (96,), (2, None), (2, None)),
    "the exact boundary": Point(EXACT, (32,), (0, None), (1, 0.0)),
    "the first step after growth": Point(EXACT, (40,), (1, 0.0), (1, 8 / 24)),
    "a fade's last step": Point(EXACT, (56,), (1, 16 / 24), (1, None)),
    "the exact boundary to the top": Point(EXACT, (72,), (1, None), (2, 0.0)),
    "the step before the last": Point(EXACT, (96,), (2, None), (2, None)),
    "a resume of a resume": Point(EXACT, (16, 56, 64), (1, None), (1, None)),
}
ADAM_HAS_JUST_BEGUN_ANEW = (32, 56, 72, 88)  # of EXACT, in karras2018


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
def test_the_points_are_what_they_are_called(point):
    schedule = point.recipe["mel_icon"].schedule
    last, following = schedule.at(point.counts[-1] - BATCH), schedule.at(point.counts[-1])
    assert (last.stage, last.alpha) == point.before
    assert (following.stage, following.alpha) == point.after


@pytest.fixture
def threads(request):
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Run from end to end, once each."""
    runs: dict[tuple[object, ...], dict[str, object]] = {}

    def run(recipe: Recipe) -> dict[str, object]:
        name = json.dumps(recipe.to_json()), torch.get_num_threads()
        if name not in runs:
            run_dir = tmp_path_factory.mktemp("whole")
            make(recipe, run_dir).fit(pixels())
            runs[name] = contents(run_dir)
        return runs[name]

    return run


ALWAYS = "the exact boundary", "mid-fade of the top"  # of few_images too; its other points are slow tests
CASES = [
    pytest.param(
        *(point, preset, threads),
        marks=[pytest.mark.slow]
        * ((threads == 2 and name != "the exact boundary") or (preset == "few_images" and name not in ALWAYS)),
        id=f"{name}, {preset}, {threads}",
    )
    for name, point in POINTS.items()
    for preset in PRESETS
    for threads in (1, 2)
]


@pytest.mark.parametrize(("point", "preset", "threads"), CASES, indirect=["threads"])
def test_resume_is_the_uninterrupted_run_bit_for_bit(point, preset, threads, uninterrupted, tmp_path):
    recipe = point.recipe[preset]
    for count in point.counts:
        make(recipe, tmp_path).fit(pixels(), until=count)
    resumed = make(recipe, tmp_path)
    assert (resumed.images_seen, torch.get_num_threads()) == (point.counts[-1], threads)
    resumed.fit(pixels())
    got, expected = contents(tmp_path), uninterrupted(recipe)
    assert got.keys() == expected.keys()
    for name in expected:
        assert got[name] == expected[name], name


def test_the_points_after_which_adam_begins_anew_have_no_moments(tmp_path):
    make(POINTS["the exact boundary"].recipe["karras2018"], tmp_path).fit(pixels())
    for folder in sorted((tmp_path / FOLDER).iterdir()):
        has_moments = any(name.startswith("adam_") for name in read_entries(folder))
        assert has_moments == (int(folder.name) not in ADAM_HAS_JUST_BEGUN_ANEW), folder.name


PROGRAM = """
import json, sys, numpy, torch
from pathlib import Path
from running import make, pixels
from progan import Recipe
torch.set_num_threads(1)
make(Recipe.from_json(json.loads(sys.argv[1])), Path("run")).fit(pixels())
"""


def test_resume_in_a_new_process(uninterrupted, tmp_path):
    recipe = POINTS["mid-fade"].recipe["mel_icon"]
    make(recipe, tmp_path / "run").fit(pixels(), until=44)
    program(PROGRAM, json.dumps(recipe.to_json()), cwd=tmp_path)
    assert contents(tmp_path / "run") == uninterrupted(recipe)


GROWTH = (
    MEMORY
    + """
import ctypes, torch
from dataclasses import replace
from pathlib import Path
from running import make
from progan import Callback, Stage, presets
from progan.training.callbacks import metrics_log
from progan.runs import checkpoint

STEPS = 4000
recipe = replace(presets.mel_icon(4, channels=(4,)), stages=(Stage(0, 0, 8 * STEPS, 8),))
sizes = {}

class Measure(Callback):
    def on_step(self, run, metrics):
        if metrics.images_seen in (8 * 1000, 8 * STEPS):
            ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free in the heap is no growth
            sizes[metrics.images_seen // 8] = resident("VmRSS")

intervals = {"log_every": 80, "save_every": 8000, "preview_every": 8000}
make(recipe, Path("run"), callbacks=[Measure()], keep=2, **intervals).fit(torch.rand(9, 3, 4, 4))
print((sizes[STEPS] - sizes[1000]) / (STEPS - 1000) * 1000)
"""
)


@linux
@pytest.mark.slow
def test_memory_grows_by_at_most_1_mb_in_1000_steps(tmp_path):
    mb = float(program(GROWTH, cwd=tmp_path).stdout)
    print(f"\n{mb:.3f} MB per 1000 steps")
    assert mb <= 1


SAVING = (
    MEMORY
    + """
import torch
from pathlib import Path
from running import make
from progan import presets

trainer = make(presets.mel_icon(8, channels=(256, 128)), Path("run"))
trainer.fit(torch.rand(9, 3, 8, 8), until=16)
state = sum(tensor.nbytes for tensor in trainer.state_dict()["tensors"].values()) / 1e6
before = begin()
trainer.save()
print(state, peak_above(before))
"""
)


@linux
def test_a_save_takes_hardly_more_memory_than_the_state(tmp_path):
    """At most 1.1 of the state is promised; tensors are written one by one and not copied, so it is far less."""
    state, extra = map(float, program(SAVING, cwd=tmp_path).stdout.split())
    print(f"\nstate {state:.1f} MB, extra peak of a save {extra:.1f} MB")
    assert state > 50
    assert extra <= 0.1 * state


def test_fit_saves_again_only_what_is_not_saved(recipe, images, tmp_path):
    saves = []

    class Count(Callback):
        def on_save(self, run, path):
            saves.append(path.name)

    trainer = make(recipe, tmp_path, callbacks=[Count()])
    trainer.fit(images, until=24)
    once = list(saves)
    trainer.fit(images, until=24)
    make(recipe, tmp_path, callbacks=[Count()]).fit(images, until=16)
    assert saves == once
    trainer.load_state_dict(trainer.state_dict())
    trainer.fit(images, until=24)
    assert saves == [*once, once[-1]]


@pytest.fixture(scope="module")
def died(tmp_path_factory):
    """A run at its checkpoint of 48 real images; the lines of metrics up to 64; all that the whole run is."""
    folder = tmp_path_factory.mktemp("died")
    sparse = {"save_every": 48, "preview_every": 1000}
    make(small_recipe(), folder / "whole", **sparse).fit(pixels())
    make(small_recipe(), folder / "run", **sparse).fit(pixels(), until=48)
    lines = (folder / "whole/metrics.jsonl").read_bytes().splitlines(keepends=True)
    assert (folder / "run/metrics.jsonl").read_bytes().count(b"\n") == 6
    return folder / "run", lines[:8], contents(folder / "whole")


def ends_as_the_whole(died, data: bytes, run_dir: Path) -> None:
    run, _, expected = died
    shutil.copytree(run, run_dir)
    (run_dir / "metrics.jsonl").write_bytes(data)
    make(small_recipe(), run_dir, save_every=48, preview_every=1000).fit(pixels())
    assert contents(run_dir) == expected


def test_metrics_cut_off_at_every_byte_of_the_last_two_lines_are_mended(died, tmp_path):
    run, lines, _ = died
    shutil.copytree(run, tmp_path / "run")
    trainer = make(small_recipe(), tmp_path / "run")
    begun, whole = b"".join(lines[:6]), b"".join(lines)
    for length in range(len(begun), len(whole) + 1):
        (tmp_path / "run/metrics.jsonl").write_bytes(whole[:length])
        MetricsLog(8).on_start(trainer)
        assert (tmp_path / "run/metrics.jsonl").read_bytes() == begun, length


@pytest.mark.parametrize("spoiled", ["at its line's end", "in a line", "between lines", "in a number", "garbage"])
def test_a_run_with_spoiled_metrics_ends_as_the_whole(spoiled, died, tmp_path):
    lines = died[1]
    six, seven = b"".join(lines[:6]), b"".join(lines[:7])
    data = {
        "at its line's end": seven + lines[7][:-1],
        "in a line": six + lines[6][:40],
        "between lines": seven,
        "in a number": six + b'{"images_seen": 5',
        "garbage": seven + b"\x00\xff\r\x80 not a line\n[1]\n" + lines[7] + b"null\n{}\n\n",
    }[spoiled]
    ends_as_the_whole(died, data, tmp_path / "run")


@pytest.mark.slow
def test_a_run_with_metrics_cut_off_at_any_byte_ends_as_the_whole(died, tmp_path):
    begun, whole = len(b"".join(died[1][:6])), b"".join(died[1])
    for length in range(begun, len(whole), 7):
        ends_as_the_whole(died, whole[:length], tmp_path / f"{length}")


@pytest.mark.parametrize("left", [None, 0, 3], ids=["missing", "empty", "lines before the checkpoint gone"])
def test_lines_that_a_person_removed_stay_gone_and_the_rest_is_written(left, died, tmp_path):
    run, lines, expected = died
    shutil.copytree(run, tmp_path / "run")
    metrics = tmp_path / "run/metrics.jsonl"
    metrics.unlink() if left is None else metrics.write_bytes(b"".join(lines[:left]))
    make(small_recipe(), tmp_path / "run", save_every=48, preview_every=1000).fit(pixels())
    got = contents(tmp_path / "run")
    assert got.pop("metrics.jsonl") == expected["metrics.jsonl"][: left or 0] + expected["metrics.jsonl"][6:]
    assert got == {name: value for name, value in expected.items() if name != "metrics.jsonl"}


class Meddles(Callback):
    """Watch in every way there is: draw from every global generator, sample, show grids."""

    def on_step(self, run, metrics):
        torch.rand(3), np.random.rand(3), random.random()
        run.grown().sample(2)
        torch.randint(0, 9, (metrics.images_seen % 5 + 1,))


WATCHED = {
    "a run directory, all at every step": {"log_every": 1, "preview_every": 8, "save_every": 8},
    "a callback that draws and samples": {"callbacks": [Meddles()]},
    "progress": {"progress": True},
}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("watched", WATCHED)
def test_watching_changes_no_bit(watched, preset, images, tmp_path):
    recipe = small_recipe(getattr(presets, preset), augment_real=(Contrast(), HorizontalFlip()))
    alone = make(recipe)
    alone.fit(images)
    run_dir = tmp_path if "directory" in watched else None
    trainer = make(recipe, run_dir, **WATCHED[watched])
    trainer.plan()
    trainer.fit(images)
    tensors = alone.state_dict()["tensors"]
    assert trainer.state_dict()["tensors"].keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(trainer.state_dict()["tensors"][name], tensor), name


def global_state() -> list[object]:
    """All that a program shares with fit."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    generator = np.random.get_state()
    return [
        torch.get_rng_state().tolist(),
        (generator[0], generator[1].tolist(), *generator[2:]),
        random.getstate(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        (matmul.allow_tf32, cudnn.allow_tf32, cudnn.enabled, cudnn.benchmark, cudnn.deterministic),
        [signal.getsignal(number) for number in SIGNALS],
        Path.cwd(),
        dict(os.environ),
    ]


class Ends(Callback):
    """End fit by an error or a signal."""

    def __init__(self, ending):
        self.ending = ending

    def on_step(self, run, metrics):
        if metrics.images_seen == 40 and isinstance(self.ending, int):
            signal.raise_signal(self.ending)
        elif metrics.images_seen == 40 and self.ending is not None:
            raise self.ending


@pytest.mark.parametrize("ending", [None, RuntimeError("mine"), *SIGNALS], ids=repr)
def test_fit_leaves_every_global_state_as_it_found_it(ending, recipe, images, tmp_path):
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    before = global_state()
    trainer = make(recipe, tmp_path, callbacks=[Ends(ending)])
    trainer.plan()
    with pytest.raises((RuntimeError, Interrupted)) if ending is not None else nullcontext() as caught:
        trainer.fit(Noisy(images), until=48)
    if isinstance(ending, int):
        assert isinstance(caught.value, KeyboardInterrupt)
        assert caught.value.signal == ending
    assert trainer.images_seen == (48 if ending is None else 40)
    load_generator(tmp_path).sample(3)
    assert global_state() == before
