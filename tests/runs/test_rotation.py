"""Which checkpoints stay, and which one a run resumes from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from running import make

from progan import CheckpointError, Trainer
from progan.runs import checkpoint
from progan.runs.checkpoint import FOLDER


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


def sparse(recipe, run_dir, **keywords) -> Trainer:
    """A trainer that saves at every third step, and keeps three checkpoints."""
    return make(recipe, run_dir, **{"save_every": 24, "keep": 3, **keywords})


def test_only_the_newest_checkpoints_stay_and_a_damaged_one_is_passed_over(recipe, images, tmp_path):
    run = tmp_path / "run"
    sparse(recipe, run, keep=2).fit(images)
    kept = sorted((run / "checkpoints").iterdir())
    assert len(kept) == 2
    tensors = kept[1] / "tensors.safetensors"
    data = bytearray(tensors.read_bytes())
    data[-1] ^= 1
    tensors.write_bytes(data)
    with pytest.warns(UserWarning, match=r"is used; newer checkpoints were skipped: .*damaged"):
        assert sparse(recipe, run).images_seen == int(kept[0].name)
    (kept[0] / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint of .* is sound: .*damaged.*cannot be read"):
        sparse(recipe, run)


@pytest.mark.parametrize("keep", [1, 3])
def test_a_damaged_newest_checkpoint_costs_no_other(keep, recipe, images, tmp_path):
    run = tmp_path / "run"
    sparse(recipe, run, keep=9).fit(images)
    newest = sorted((run / "checkpoints").iterdir())[-1]
    (newest / "manifest.json").write_text("{}")
    with pytest.warns(UserWarning, match="newer checkpoints were skipped"):
        trainer = sparse(recipe, run, keep=keep)
    begun = trainer.images_seen
    trainer.fit(images, until=begun + 8)
    with pytest.warns(UserWarning, match="newer checkpoints were skipped"):
        assert sparse(recipe, run).images_seen == begun + 8, "what was trained since is not lost"
    assert newest.exists(), "it may be of a newer progan"
    trainer.fit(images)
    assert sparse(recipe, run).images_seen == int(newest.name), "and it is replaced in its turn"


def test_an_old_checkpoint_that_cannot_be_removed_is_warned_of(recipe, images, tmp_path, monkeypatch):
    trainer = sparse(recipe, tmp_path / "run", keep=1)
    trainer.fit(images, until=24)

    def held(path, target):
        if path.name == "000000024":
            raise PermissionError("in use")
        return replace_file(path, target)

    replace_file = os.replace
    monkeypatch.setattr(os, "replace", held)
    with pytest.warns(UserWarning, match=r"old checkpoint .*000000024 could not be removed: in use"):
        trainer.fit(images, until=32)
    assert sparse(recipe, tmp_path / "run").images_seen == 32


def test_what_a_save_that_was_cut_off_left_behind_is_removed(recipe, images, tmp_path):
    sparse(recipe, tmp_path / "run").fit(images, until=8)
    left = tmp_path / "run/checkpoints/.000000016.partial"
    left.mkdir()
    (left / "tensors.safetensors").write_bytes(b"half")
    sparse(recipe, tmp_path / "run").fit(images, until=24)
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == ["000000008", "000000024"]
