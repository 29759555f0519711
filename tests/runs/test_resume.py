"""A run that was stopped and gone on with is the uninterrupted one: to the bit, whatever stopped it or watched it."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import warnings
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from conftest import FAULTS, MEMORY, ROOT, Noisy, contents, small_recipe
from killed import LEFT_AT_ONCE, SAVE_EVERY
from launcher import Aim

from progan import (
    Callback,
    Contrast,
    HorizontalFlip,
    Interrupted,
    MetricsLog,
    Recipe,
    Stage,
    Trainer,
    load_generator,
    presets,
)
from progan.runs import checkpoint
from progan.runs.checkpoint import FOLDER, read_entries
from progan.training.callbacks import metrics_log

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

PRESETS = ("mel_icon", "karras2018")
BATCH = 8
EVERY_STEP = {"log_every": 8, "save_every": 8, "preview_every": 24, "keep": 99}
SIGNALS = [number for name in ("SIGINT", "SIGTERM", "SIGUSR1") if (number := getattr(signal, name, None))]


def make(recipe: Recipe, run_dir: Path | None = None, **keywords) -> Trainer:
    return Trainer.from_recipe(
        recipe, seed=3, run_dir=run_dir, device="cpu", **{"progress": False, **EVERY_STEP, **keywords}
    )


def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (21, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


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
            name: replace(small_recipe(getattr(presets, name), augment=augment), stages=self.stages) for name in PRESETS
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


CASES = [
    pytest.param(
        *(point, preset, threads),
        marks=[pytest.mark.slow] * (threads == 2 and name != "the exact boundary"),
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
from test_resume import make, pixels
from progan import Recipe
torch.set_num_threads(1)
make(Recipe.from_json(json.loads(sys.argv[1])), Path("run")).fit(pixels(), until=int(sys.argv[2]))
"""


def program(text: str, *arguments: str, check: bool = True, **keywords: Any) -> subprocess.CompletedProcess[str]:
    """Run a program, which may import what the tests do."""
    path = os.pathsep.join(
        [str(ROOT / "tests"), str(ROOT / "tests/runs"), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    command = [sys.executable, "-W", "error", "-c", text, *arguments]
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, check=check, env=environment, capture_output=True, text=True, **keywords)


def test_resume_in_a_new_process(uninterrupted, tmp_path):
    recipe = POINTS["mid-fade"].recipe["mel_icon"]
    for until in ("44", "1000"):
        program(PROGRAM, json.dumps(recipe.to_json()), until, cwd=tmp_path)
    assert contents(tmp_path / "run") == uninterrupted(recipe)


def signals(each: int, seed: int) -> list[Aim]:
    """In every phase, and twice as many within a save."""
    rng = random.Random(seed)
    phases = ["step", "growth", "sampling", "logging", *["save"] * 3, "clock"] * each
    planned = [
        Aim(phase, rng.randint(1, 2), rng.random() * (0.3 if phase == "clock" else 0.004), SIGNALS[index % 3])
        for index, phase in enumerate(phases)
    ]
    rng.shuffle(planned)
    return planned


def signalled_and_begun_again(launcher, folder: Path, planned: list[Aim], preset: str) -> Counter[str]:
    """Signal a run per aim; see how it leaves, and that the same command ends it as if nothing had been."""
    assert launcher.run(folder / "whole", preset, keep=1).status == 0
    expected = contents(folder / "whole")
    histogram: Counter[str] = Counter()
    waiting, attempts = list(planned), 0
    while waiting:
        attempts += 1
        assert attempts < 10 * len(planned), f"the phases are not reached: {waiting[:3]}"
        aim, run_dir = waiting.pop(0), folder / f"{attempts}"
        heard = launcher.run(run_dir, preset, aim, keep=1)
        if heard.signalled is None:  # it had ended before
            assert heard.status == 0
        else:
            phase, count = heard.signalled
            histogram[phase] += 1
            assert heard.status == 128 + aim.number
            assert heard.begun_since["step"] + heard.begun_since["growth"] <= (phase == "between")
            assert heard.begun_since["save"] <= (phase != "save")
            assert heard.stopped in (count, count + BATCH), "the step is finished, and no other one begun"
            assert [int(path.name) for path in (run_dir / FOLDER).iterdir()] == [heard.stopped]
            assert not list(run_dir.rglob(".*")), "a stray file"
            again = launcher.run(run_dir, preset, keep=1)
            assert (again.resumed, again.status) == (heard.stopped, 0)
        assert contents(run_dir) == expected
        if heard.signalled is None or aim.phase not in (heard.signalled[0], "clock"):  # it was too late
            waiting.append(aim.once_more())
    print("\nsignalled in", dict(histogram))
    return histogram


@forks
def test_signals(launcher, tmp_path):
    planned = signals(each=1, seed=0)
    histogram = signalled_and_begun_again(launcher, tmp_path, planned, "mel_icon")
    assert 3 <= histogram["save"] >= len(planned) / 5


@forks
@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_fifty_signals(preset, launcher, tmp_path):
    planned = signals(each=7, seed=1)
    assert len(planned) >= 50
    histogram = signalled_and_begun_again(launcher, tmp_path, planned, preset)
    assert histogram["save"] >= histogram.total() / 5


@forks
def test_a_second_ctrl_c_leaves_at_once_and_the_same_command_goes_on(launcher, tmp_path):
    launcher.run(tmp_path / "whole", "mel_icon")
    twice = Aim("step", 4, 0.0, signal.SIGINT), Aim("signalled", 1, 0.0, signal.SIGINT)
    heard = launcher.run(tmp_path / "run", "mel_icon", *twice, long_step=4)
    assert heard.status == LEFT_AT_ONCE
    assert heard.signalled is not None
    assert not heard.begun_since, "it saved, or went on"
    assert (
        max(int(path.name) for path in (tmp_path / "run" / FOLDER).iterdir()) == heard.seen // SAVE_EVERY * SAVE_EVERY
    )
    assert not list((tmp_path / "run").rglob(".*")), "a stray file"
    assert launcher.run(tmp_path / "run", "mel_icon").status == 0
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


UNCAUGHT = """
import os, signal, sys, torch
from test_resume import make, pixels
from conftest import small_recipe
from progan import Callback

class Ask(Callback):
    def on_step(self, run, metrics):
        for _ in range(int(sys.argv[2])):
            os.kill(os.getpid(), int(sys.argv[1]))

make(small_recipe(), callbacks=[Ask()]).fit(pixels())
"""


@forks
@pytest.mark.parametrize(
    ("number", "times", "status"),
    [(signal.SIGTERM, 1, 1), (signal.SIGINT, 2, -signal.SIGINT), (signal.SIGTERM, 2, -signal.SIGTERM)],
)
def test_the_status_of_a_program_that_catches_nothing(number, times, status):
    """A shell calls the negative ones 130 and 143."""
    done = program(UNCAUGHT, str(int(number)), str(times), check=False)
    assert done.returncode == status
    if times == 1:
        assert f"\nprogan.errors.Interrupted: signal {number:d}\n" in done.stderr


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_tells_its_number_and_handlers_are_put_back(number, recipe, images, tmp_path):
    class Ask(Callback):
        def on_step(self, run, metrics):
            if metrics.images_seen == 40:
                signal.raise_signal(number)

    before = [signal.getsignal(each) for each in SIGNALS]
    with pytest.raises(Interrupted) as caught:
        make(recipe, tmp_path / "run", callbacks=[Ask()]).fit(images)
    assert caught.value.signal == number
    assert isinstance(caught.value, KeyboardInterrupt)
    assert [signal.getsignal(each) for each in SIGNALS] == before
    assert make(recipe, tmp_path / "run").images_seen == 40


GROWTH = (
    MEMORY
    + """
import ctypes, torch
from dataclasses import replace
from pathlib import Path
from test_resume import make
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
from test_resume import make
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


SHORT = replace(presets.mel_icon(4, channels=(4,)), stages=(Stage(0, 0, 32, 8),))
SHORT_PIXELS = torch.linspace(0, 1, 9 * 48).reshape(9, 3, 4, 4)


class HasNoGap(Callback):
    """Whatever happens after a checkpoint, no line before it is missing."""

    def on_save(self, run, path):
        lines = (run.run_dir / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["images_seen"] for line in lines] == list(range(8, run.images_seen + 1, 8))


def make_short(run_dir: Path, **keywords) -> Trainer:
    keywords = {"keep": 1, "on_failed_save": "go_on", "callbacks": [HasNoGap()], "preview_every": 16, **keywords}
    return make(SHORT, run_dir, **keywords)


@linux
@pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
@pytest.mark.parametrize("number", FAULTS, ids=errno.errorcode.get)
def test_a_run_goes_on_after_an_error_at_any_operation(number, every, tmp_path, hooked):
    """The error lasts for the rest of the step; what is written before the first step and at the end must be."""
    operations: list[str] = []
    fails_at = failed_at = None
    trainer = make_short(tmp_path / "whole")

    def hook(operation: str, path: Path) -> None:
        nonlocal failed_at
        operations.append(operation)
        if len(operations) - 1 == fails_at:
            failed_at = trainer.images_seen
        if failed_at == trainer.images_seen and (operation, number) != ("fsync", errno.EACCES):
            raise OSError(number, os.strerror(number), str(path))

    hooked(hook)
    trainer.fit(SHORT_PIXELS)
    expected = contents(tmp_path / "whole")
    # Of the tensors' many writes some; of the rest, in the quick part, a tenth for each error.
    chosen = [k for k, operation in enumerate(operations) if operation != "write" or k % 10 == 0]
    warned: Counter[str] = Counter()
    for k in chosen[FAULTS.index(number) % every :: every]:
        run_dir = tmp_path / f"{k}"
        trainer, fails_at, failed_at = make_short(run_dir), k, None
        operations.clear()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                trainer.fit(SHORT_PIXELS)
            except OSError:
                assert failed_at in (0, 32), f"operation {k}"
        fails_at, last_failed, failed_at = None, failed_at, None
        assert last_failed in (0, 32) or not list(run_dir.glob("*/.*")), f"operation {k}: what failed was left there"
        for warning in caught:
            text = str(warning.message)
            assert str(run_dir) in text
            warned[text.split(" ", 2)[1]] += 1
            assert last_failed == 32 or f"at {last_failed} images" in text or "old checkpoint" in text
        make_short(run_dir).fit(SHORT_PIXELS)
        got = contents(run_dir)
        missing = {name for name in expected if name not in got}
        assert {name for name in missing if "png" not in name} == set(), f"operation {k}"
        assert all(got[name] == expected[name] for name in got.keys() - {"progress.png"}), f"operation {k}"
        assert not list(run_dir.rglob(".*")), f"operation {k}"
    assert every > 1 or {"checkpoint", "line", "preview"} <= warned.keys()


@pytest.fixture
def disk(monkeypatch):
    """A disk that can be full: then half a line gets through, and no checkpoint."""

    class Disk:
        full = False

    append_line, write_file = metrics_log.append_line, checkpoint.write_file

    def append(path, line):
        if Disk.full:
            with path.open("a") as file:
                file.write(line[: len(line) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        append_line(path, line)

    def write(path, data):
        if Disk.full:
            raise OSError(errno.ENOSPC, "No space left on device, after 77 bytes", str(path))
        write_file(path, data)

    monkeypatch.setattr(metrics_log, "append_line", append)
    monkeypatch.setattr(checkpoint, "write_file", write)
    return Disk


class Fill(Callback):
    """Fill the disk for some steps: the save at their end and what the next one writes fails."""

    def __init__(self, disk, *counts):
        self.disk, self.counts = disk, counts

    def on_step(self, run, metrics):
        self.disk.full = metrics.images_seen in self.counts


@pytest.mark.parametrize("by", ["save", "fit", "the same command"])
def test_a_disk_that_is_full_for_long(by, recipe, images, tmp_path, disk):
    make(recipe, tmp_path / "whole", keep=1).fit(images)
    fill = Fill(disk, 24, 32, 40, 48, 56, 64, 88, 96)
    trainer = make(recipe, tmp_path / "run", keep=1, on_failed_save="go_on", callbacks=[HasNoGap(), fill])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(OSError, match="No space left"):
            trainer.fit(images)
    texts = [str(warning.message) for warning in caught]
    counts = [int(text.split(" images")[0].split()[-1]) for text in texts]
    assert counts == [24, *sorted([32, 40, 48, 56, 64] * 2), 72, 88, 96], "of a checkpoint, a line, or both"
    assert all("No space left on device" in text for text in texts)
    assert f"the next save will try again: [Errno 28] No space left on device, after 77 bytes: '{tmp_path}" in texts[0]
    assert "no line of metrics at 32 images yet; training continues: " in texts[1]
    disk.full = False
    again = make(recipe, tmp_path / "run", keep=1) if by == "the same command" else trainer
    assert again.images_seen == (80 if by == "the same command" else 96)
    again.save() if by == "save" else again.fit(images)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


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


def test_a_failed_save_ends_fit_unless_it_may_go_on(recipe, images, tmp_path, disk):
    with pytest.raises(OSError, match="No space left on device, after 77 bytes"):
        make(recipe, tmp_path, callbacks=[Fill(disk, 24)]).fit(images)
    disk.full = False
    assert make(recipe, tmp_path).images_seen == 16


@pytest.mark.parametrize("saved", [True, False])
def test_no_checkpoint_without_its_line_of_metrics(saved, recipe, images, tmp_path, disk, monkeypatch):
    make(recipe, tmp_path / "whole", keep=1).fit(images)
    append_line, tries = metrics_log.append_line, []

    def append(path, line):
        """Fail at 40 images: once, or in the save that follows too."""
        if '"images_seen": 40' in line and len(tries) < (1 if saved else 2):
            tries.append(line)
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        append_line(path, line)

    monkeypatch.setattr(metrics_log, "append_line", append)
    with pytest.raises(OSError, match="No space left") as caught:
        make(recipe, tmp_path / "run", keep=1).fit(images)
    assert ("all 40 images trained are saved" if saved else "could not save after it") in caught.value.__notes__[0]
    again = make(recipe, tmp_path / "run", keep=1)
    assert again.images_seen == (40 if saved else 32)
    again.fit(images)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_the_save_at_a_signal_must_be_written(recipe, images, tmp_path, disk):
    class Ask(Fill):
        def on_step(self, run, metrics):
            super().on_step(run, metrics)
            if self.disk.full:
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(OSError, match="No space left"):
        make(recipe, tmp_path, on_failed_save="go_on", callbacks=[Ask(disk, 24)]).fit(images)


def test_an_error_of_a_callback_at_a_save_is_no_failed_save(recipe, images, tmp_path):
    class Fails(Callback):
        def on_save(self, run, path):
            raise OSError("a fault of mine")

    with pytest.raises(OSError, match="a fault of mine"):
        make(recipe, tmp_path, on_failed_save="go_on", callbacks=[Fails()]).fit(images)


def test_a_word_that_says_nothing_about_failed_saves_is_refused(recipe):
    with pytest.raises(ValueError, match="on_failed_save must be 'raise' or 'go_on', got 'stop'"):
        make(recipe, on_failed_save="stop")


def kept(run_dir: Path) -> list[int]:
    """The counts of the checkpoints."""
    return sorted(int(path.name) for path in (run_dir / FOLDER).iterdir())


# The first checkpoint at 20, 40, 60 and 80 or after, of those at 8, 16, 24, ..., 96; and the newest ones.
@pytest.mark.parametrize(("keep", "expected"), [(1, [24, 40, 64, 80, 96]), (3, [24, 40, 64, 80, 88, 96])])
@pytest.mark.parametrize("stops", [(), (24,), (40, 48), tuple(range(8, 96, 8))], ids=str)
def test_every_nth_checkpoint_stays(keep, expected, stops, recipe, images, tmp_path):
    for until in (*stops, 1000):
        make(recipe, tmp_path, keep=keep, keep_every=20).fit(images, until=until)
    assert kept(tmp_path) == expected
    for count in expected:
        checkpoint.verify(tmp_path / FOLDER / f"{count:09d}")


def test_rare_checkpoints_all_stay(recipe, images, tmp_path):
    make(recipe, tmp_path, keep=1, keep_every=10, save_every=32).fit(images)
    assert kept(tmp_path) == [32, 64, 96]


def test_an_interrupted_save_costs_no_checkpoint_that_is_to_stay(recipe, images, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    make(recipe, tmp_path, keep=1, keep_every=20).fit(images, until=24)
    for name in ("write_checkpoint", "remove_checkpoint"):
        trainer = make(recipe, tmp_path, keep=1, keep_every=20)
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, name, die)
            with pytest.raises(Killed):
                trainer.fit(images, until=48)
    assert 24 in kept(tmp_path)
    make(recipe, tmp_path, keep=1, keep_every=20).fit(images)
    assert kept(tmp_path) == [24, 40, 64, 80, 96]


def test_a_rebuilt_trainer_keeps_as_the_run_did(recipe, images, tmp_path):
    make(recipe, tmp_path, keep=1, keep_every=20).fit(images, until=48)
    Trainer.from_run(tmp_path, device="cpu", progress=False).fit(images)
    assert kept(tmp_path) == [24, 40, 64, 80, 96]
    with pytest.raises(ValueError, match="keep_every must be an int of at least 1, got 0"):
        make(recipe, keep_every=0)


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
    recipe = small_recipe(getattr(presets, preset), augment=(Contrast(), HorizontalFlip()))
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
    with pytest.raises((RuntimeError, Interrupted)) if ending is not None else nullcontext():
        trainer.fit(Noisy(images), until=48)
    assert trainer.images_seen == (48 if ending is None else 40)
    load_generator(tmp_path).sample(3)
    assert global_state() == before
