"""A disk that is full or broken while a run trains: what is saved stays whole, and the run ends as on a sound disk."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import EACH_FAULT, FAULTS, contents
from running import make

from progan import Callback, Stage, Trainer, presets
from progan.runs import checkpoint
from progan.training.callbacks import metrics_log

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


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
@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
@EACH_FAULT
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
    # Of the tensors' many writes some; of the rest, in the quick part, an eighth for each error.
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
