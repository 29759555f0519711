"""After a divergence or a collapse a run goes back, lowers its rate and trains on; killed or not, to the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT, contents, same, small_recipe
from recovering import TWICE, brittle
from running import make, pixels

from progan import Callback, DivergenceError, Judge, Recovery, Schedule, Setback, Stage, Trainer, load_generator
from progan.errors import CheckpointError
from progan.metrics.diversity import COLLAPSED
from progan.reports.rows import read_rows
from progan.runs.checkpoint import checkpoints, read_manifest, read_tensors
from progan.runs.judging import JudgingRecord
from progan.runs.recovery import RecoveryRecord, read_setbacks, saved_counts, write_setbacks
from progan.training.callbacks.diversity_watch import DiversityWatch

ONCE = Setback(72, 64, 0.5, "the generator's gradient was not finite")
AGAIN = replace(ONCE, at=80, back_to=48)
WENT_BACK = pytest.warns(UserWarning, match="training went back from")


def rows_of(run_dir: Path, name: str = "metrics.jsonl") -> list[dict]:
    return [json.loads(line) for line in (run_dir / name).read_text().splitlines()]


def counts_of(run_dir: Path) -> list[int]:
    return [int(folder.name) for folder in checkpoints(run_dir)]


def same_state(one: Trainer, other: Trainer) -> bool:
    return same(one.state_dict()["tensors"], other.state_dict()["tensors"])


# Settings and their record


@pytest.mark.parametrize(
    ("make_it", "error", "words"),
    [
        (lambda: Recovery(-1), ValueError, "Recovery.times must be at least 0, got -1"),
        (lambda: Recovery(1001), ValueError, "Recovery.times must be at most 1000, got 1001"),
        (lambda: Recovery(factor=1.0), ValueError, r"Recovery.factor must be in \(0, 1\), got 1.0: at the same rate"),
        (lambda: Recovery(factor="half"), TypeError, "Recovery.factor must be a number, got 'half'"),
        (lambda: Recovery(collapse="yes"), TypeError, "Recovery.collapse must be True or False, got 'yes'"),
        (lambda: make(small_recipe(), recover=True), TypeError, "recover must be a number of times, or a progan.Recov"),
        (
            lambda: make(small_recipe(), recover=-1),
            ValueError,
            "recover must be a number of times from 0 to 1000, got -1",
        ),
        (lambda: make(small_recipe(), recover=2), ValueError, "recover needs a run_dir, whose checkpoints"),
        (
            lambda: make(small_recipe(), Path("run"), recover=Recovery(collapse=True)),
            ValueError,
            "needs judgements at fixed counts of images, .*; pass judge_every= to the trainer, such as 16",
        ),
        (
            lambda: make(
                small_recipe(), Path("run"), recover=Recovery(collapse=True), callbacks=[Judge(8, built_in=False)]
            ),
            ValueError,
            "needs the measure diversity, which the Judge in callbacks does not have",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(make_it, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=words):
        make_it()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"setbacks": 3}, "setbacks must be a list"),
        ({"setbacks": [{"at": 8}]}, "a setback must have at, back_to, factor and reason"),
        ({"setbacks": [ONCE.to_json() | {"back_to": 80}]}, "to one of at most that, got 72 to 80"),
        ({"setbacks": [ONCE.to_json() | {"at": True}]}, "got True to 64"),
        ({"setbacks": [ONCE.to_json() | {"factor": 2.0}]}, r"must be in \(0, 1\), got 2.0"),
        ({"setbacks": [ONCE.to_json() | {"reason": "x" * 301}]}, "a text of at most 300 characters"),
        ({"sound": -8}, "sound must be an int of at least 0, got -8"),
        ({"collapsed": None}, "collapsed must be an int of at least 0, got None"),
        ({"more": 1}, "must have setbacks, sound and collapsed"),
    ],
)
def test_a_record_that_is_not_valid_is_refused_before_anything_is_changed(change, words):
    trainer = make(small_recipe())
    state = trainer.state_dict()
    before = RecoveryRecord((ONCE,), 64, 1)
    state["numbers"] = {"ema_warm_up": True, "recovery": before.to_json()}
    trainer.load_state_dict(state)
    assert trainer.setbacks == (ONCE,)
    state["numbers"] = {"ema_warm_up": True, "recovery": before.to_json() | change}
    with pytest.raises(CheckpointError, match=f"the state's record of recovery is not valid: .*{words}"):
        trainer.load_state_dict(state)
    assert trainer._engine.state.recovery == before


def test_the_rate_is_that_of_all_setbacks_up_to_a_count():
    record, growth = RecoveryRecord((ONCE, replace(AGAIN, factor=0.1))), Schedule([Stage(0, hold_images=800)]).at(0)
    rates = [record.lowered(growth, count).learning_rate for count in (0, 47, 48, 63, 64, 800)]
    assert rates == [1e-3, 1e-3, 1e-3 * 0.1, 1e-3 * 0.1, 1e-3 * (0.5 * 0.1), 1e-3 * (0.5 * 0.1)]
    assert RecoveryRecord().lowered(growth, 64) is growth


def test_counts_of_the_interval_are_those_at_which_fit_saves(tmp_path):
    schedule = Schedule([Stage(0, 0, 30, 8), Stage(1, 20, 50, 12), Stage(2, 24, 70, 4)])
    ends, count = [], 0
    while count < schedule.total_images:
        ends.append((count, count := count + schedule.at(count).batch_size))
    for save_every in (1, 5, 16, 30, 33, 1000):
        saved = [0, *(end for begin, end in ends if begin // save_every != end // save_every)]
        for images_seen in (0, 8, 31, 90, ends[-1][1]):
            found = list(saved_counts(schedule, save_every, images_seen))
            assert found == [each for each in reversed(saved) if each <= images_seen]


def test_which_checkpoints_a_run_may_go_back_to():
    schedule, record = Schedule([Stage(0, hold_images=8000)]), RecoveryRecord()

    def ways(at, **keywords):
        return record.ways_back(schedule, 80, at, collapsed=False, **keywords)

    assert ways(0) == [0]
    assert ways(72) == [0]
    assert ways(320) == [240, 160]  # the one at 320 is saved just before
    assert ways(352) == [240, 160]
    assert ways(360) == [320, 240, 160]
    assert record.needed(schedule, 80, 360) == {320, 240, 160}
    record.setbacks = (replace(ONCE, at=360, back_to=320),)
    assert ways(328) == [240, 160]
    assert ways(362) == [240, 160, 320]  # it has not got beyond that one
    assert ways(480) == [400, 320]
    assert record.needed(schedule, 80, 328) == {320, 240, 160}
    record.setbacks, record.sound = (*record.setbacks, replace(ONCE, at=240, back_to=80)), 100
    assert record.needed(schedule, 80, 328) == {320, 240, 160, 80, 0}
    assert record.ways_back(schedule, 80, 328, collapsed=True) == [0, 80]


# Divergence


def test_a_run_that_diverges_goes_back_with_half_the_rate(tmp_path):
    trainer = brittle(tmp_path, {72: 9e-4})
    with WENT_BACK as caught:
        trainer.fit(pixels())
    assert trainer.images_seen == 96
    assert trainer.setbacks == read_setbacks(tmp_path) == (ONCE,)
    assert [str(warning.message) for warning in caught] == [
        "training went back from 72 to 64 real images, since the generator's gradient was not finite; from there on, "
        "the learning rate is multiplied by 0.5 (return 1 of at most 2)"
    ]
    rows = rows_of(tmp_path)
    rates = {row["images_seen"]: row["learning_rate"] for row in rows if "setback" not in row}
    assert list(rates) == list(range(8, 97, 8))
    assert [rates[count] for count in (32, 40, 64, 72, 96)] == [1e-3, 2e-3, 2e-3, 5e-4, 5e-4]
    assert [row for row in rows if "setback" in row] == [
        {"images_seen": 64, "text": str(caught[0].message), "setback": ONCE.to_json()}
    ]
    assert rows_of(tmp_path, "warnings.jsonl") == [{"images_seen": 64, "text": str(caught[0].message)}]
    assert [row.images_seen for row in read_rows(tmp_path / "metrics.jsonl").losses] == list(rates)
    assert read_rows(tmp_path / "metrics.jsonl").skipped == 0
    manifest = read_manifest(checkpoints(tmp_path)[-1])
    assert manifest["numbers"]["recovery"] == RecoveryRecord((ONCE,)).to_json()
    assert json.loads((tmp_path / "config.json").read_text())["recover"] == Recovery(2).to_json()
    assert counts_of(tmp_path) == [64, 80, 96]
    assert load_generator(tmp_path).sample(1).isfinite().all()


def test_two_runs_of_a_seed_recover_to_the_same_bits_and_others_differ(tmp_path):
    found = []
    for name in ("one", "two"):
        with WENT_BACK:
            (trainer := brittle(tmp_path / name, TWICE)).fit(pixels())
        found.append(trainer)
        assert trainer.setbacks == (ONCE, AGAIN)
    assert same_state(*found)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    (unharmed := brittle(tmp_path / "unharmed", {})).fit(pixels())
    assert not same_state(found[0], unharmed)


def test_before_the_return_all_is_as_without_and_after_it_the_same_images_come(tmp_path):
    """The checkpoint that it goes back to is that of a run that does not diverge; the draws are functions of counts."""
    brittle(tmp_path / "whole", {}, keep=9).fit(pixels())
    with WENT_BACK:
        brittle(tmp_path / "run", {72: 9e-4}, keep=9).fit(pixels())
    for count in (0, 16, 32, 48, 64):
        one, other = (read_tensors(tmp_path / name / f"checkpoints/{count:09d}") for name in ("whole", "run"))
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    # From the state at 64 on, a trainer whose stages have the lower rate does the same.
    recipe = small_recipe()
    slower = replace(recipe, stages=(*recipe.stages[:2], replace(recipe.stages[2], learning_rate=5e-4)))
    by_hand = make(slower)
    state = brittle(None, {}, recover=0).state_dict()
    tensors = read_tensors(tmp_path / "whole/checkpoints/000000064")
    by_hand.load_state_dict(state | {"images_seen": 64, "tensors": tensors})
    by_hand.fit(pixels())
    done = read_tensors(tmp_path / "run/checkpoints/000000096")
    assert all(torch.equal(tensor, done[name]) for name, tensor in by_hand.state_dict()["tensors"].items())


def test_after_the_last_return_the_error_says_what_was_tried(tmp_path):
    trainer = brittle(tmp_path, {72: 0.0})
    with WENT_BACK, pytest.raises(DivergenceError) as caught:
        trainer.fit(pixels())
    assert (
        "after 72 real images; its state was not saved; earlier checkpoints are kept; the run went back twice before: "
        "from 72 to 64 images (the generator's gradient was not finite; learning rate x 0.5), from 72 to 48 images "
        in str(caught.value)
    )
    assert trainer.setbacks == read_setbacks(tmp_path) == (ONCE, replace(ONCE, back_to=48))
    assert counts_of(tmp_path)[-1] == 64
    again = brittle(tmp_path, {72: 0.0})
    with pytest.raises(DivergenceError, match="went back twice before"):
        again.fit(pixels())
    with WENT_BACK:
        (third := brittle(tmp_path, {72: 1.3e-4}, recover=Recovery(3, 0.5))).fit(pixels())
    assert (third.images_seen, len(third.setbacks)) == (96, 3)


def test_without_recovery_a_divergence_ends_the_run_as_before(tmp_path):
    with pytest.raises(DivergenceError) as caught:
        brittle(tmp_path, {72: 0.0}, recover=0).fit(pixels())
    assert str(caught.value) == (
        "training diverged: the generator's gradient is not finite, in stage 2 (level 2), after 72 real images; its "
        "state was not saved; earlier checkpoints are kept. Try a lower learning rate, or precision fp32"
    )
    assert counts_of(tmp_path) == [64]
    assert not (tmp_path / "setbacks.json").exists()
    assert "recover" not in json.loads((tmp_path / "config.json").read_text())
    assert list(read_manifest(checkpoints(tmp_path)[-1])["numbers"]) == ["ema_warm_up"]


def test_recovery_that_is_not_needed_changes_no_bit_and_keeps_what_it_needs(tmp_path):
    for recover in (0, 2):
        brittle(tmp_path / f"{recover}", {}, recover=recover).fit(pixels())
    assert counts_of(tmp_path / "0") == [96]
    assert counts_of(tmp_path / "2") == [64, 80, 96]
    one, other = (contents(tmp_path / name) for name in ("0", "2"))
    differing = {name for name in {**one, **other} if one.get(name) != other.get(name)}
    assert differing == {
        "config.json",
        *(
            f"checkpoints/0000000{count}/{name}"
            for count in (64, 80)
            for name in ("manifest.json", "tensors.safetensors")
        ),
    }


def test_a_rate_that_explodes_is_lowered(tmp_path):
    recipe = small_recipe()
    recipe = replace(recipe, stages=tuple(replace(stage, learning_rate=1e12) for stage in recipe.stages))
    keywords = {"save_every": 16, "progress": False, "device": "cpu", "judge_every": 0}
    with pytest.raises(DivergenceError):
        Trainer.from_recipe(recipe, run_dir=tmp_path / "ends", **keywords).fit(pixels())
    trainer = Trainer.from_recipe(recipe, run_dir=tmp_path / "recovers", recover=Recovery(1, 1e-15), **keywords)
    with WENT_BACK:
        trainer.fit(pixels())
    assert trainer.images_seen == 96
    assert trainer.setbacks[0].back_to == 0


def test_a_divergence_found_late_goes_back_from_where_it_began(tmp_path, monkeypatch):
    """As on CUDA, where it is looked for with the lines of metrics and before a save only."""
    with WENT_BACK:
        (soon := brittle(tmp_path / "soon", {72: 9e-4})).fit(pixels())
    late = brittle(tmp_path / "late", {72: 9e-4}, log_every=48)
    engine = late._engine
    check = engine.check_finite
    monkeypatch.setattr(engine, "check_finite", Late(check, lambda: late.images_seen % 16 == 0))
    with WENT_BACK:
        late.fit(pixels())
    assert late.setbacks == soon.setbacks
    assert same_state(soon, late)


class Late:
    """A check that looks at some times only."""

    def __init__(self, check, looks):
        self.check, self.looks = check, looks

    def __call__(self, *, weights):
        if self.looks():
            self.check(weights=weights)

    def forget(self):
        self.check.forget()


# Interruptions


@pytest.mark.parametrize("stops_at", [40, 64, 72, 88])
def test_a_run_that_is_stopped_and_resumed_recovers_to_the_same_bits(stops_at, tmp_path):
    """Also where it has saved at other counts than those of the interval."""
    with WENT_BACK:
        (whole := brittle(tmp_path / "whole", TWICE)).fit(pixels())
    with pytest.warns(UserWarning, match="went back") if stops_at > 72 else nothing():
        brittle(tmp_path / "run", TWICE).fit(pixels(), until=stops_at)
    resumed = brittle(tmp_path / "run", TWICE)
    assert resumed.images_seen == stops_at
    with WENT_BACK if stops_at < 88 else nothing():
        resumed.fit(pixels())
    assert same_state(whole, resumed)
    assert resumed.setbacks == whole.setbacks


class nothing:  # noqa: N801 (a context manager)
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.slow
@pytest.mark.parametrize("step", [111, 1])
def test_a_run_that_dies_at_any_operation_of_a_return_ends_with_the_same_files(step, tmp_path):
    path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(ROOT / "tests/recovering.py"), str(tmp_path), "1", str(step)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    operations, tried = map(int, done.stdout.split())
    print(f"\n{tried} deaths within {operations} operations")
    assert operations > 40
    assert tried >= 40 // step


def test_a_signal_within_a_return_ends_the_run_after_it(tmp_path):
    class Stops(Callback):
        def on_return(self, run):
            run.stop()

    with WENT_BACK:
        (stopped := brittle(tmp_path / "run", {72: 9e-4}, callbacks=[Stops()])).fit(pixels())
    assert (stopped.images_seen, counts_of(tmp_path / "run")[-1]) == (64, 64)
    (resumed := brittle(tmp_path / "run", {72: 9e-4})).fit(pixels())
    with WENT_BACK:
        (whole := brittle(tmp_path / "whole", {72: 9e-4})).fit(pixels())
    assert same_state(whole, resumed)


def test_a_damaged_checkpoint_is_passed_over_and_without_any_the_error_comes(tmp_path):
    class Damages(Callback):
        def on_step(self, run, metrics):
            if run.images_seen == 72:
                for count in damaged:
                    (run.run_dir / f"checkpoints/{count:09d}/tensors.safetensors").write_bytes(b"damaged")

    damaged = [64]
    trainer = brittle(tmp_path / "one", {72: 9e-4}, callbacks=[Damages()])
    with WENT_BACK, pytest.warns(UserWarning, match="cannot go back to a damaged checkpoint: .*000000064"):
        trainer.fit(pixels(), until=80)
    assert trainer.setbacks == (replace(ONCE, back_to=48),)
    damaged += [48, 32]
    with pytest.warns(UserWarning, match="damaged checkpoint"), pytest.raises(DivergenceError):
        brittle(tmp_path / "none", {72: 9e-4}, callbacks=[Damages()]).fit(pixels())
    assert counts_of(tmp_path / "none") == [32, 48, 64]


def test_a_lost_list_of_setbacks_is_written_again(tmp_path):
    with WENT_BACK:
        brittle(tmp_path, {72: 9e-4}).fit(pixels(), until=80)
    rows, warned = contents(tmp_path)["metrics.jsonl"], (tmp_path / "warnings.jsonl").read_text()
    write_setbacks(tmp_path, (AGAIN,))
    with WENT_BACK:
        brittle(tmp_path, {72: 9e-4}).fit(pixels(), until=88)
    assert read_setbacks(tmp_path) == (ONCE,)
    found = contents(tmp_path)["metrics.jsonl"]
    assert sorted(map(json.dumps, found[:-1])) == sorted(map(json.dumps, rows))
    assert len(rows_of(tmp_path, "warnings.jsonl")) == len(warned.splitlines()) + 1


def test_a_run_read_by_its_path_recovers_as_recorded(tmp_path):
    with WENT_BACK:
        brittle(tmp_path / "run", TWICE, recover=Recovery(3, 0.25)).fit(pixels(), until=80)
    trainer = Trainer.from_run(tmp_path / "run", device="cpu", progress=False)
    assert trainer.options.recovery == Recovery(3, 0.25)
    assert trainer.setbacks == (replace(ONCE, factor=0.25),)
    assert trainer.growth.learning_rate == 1e-3 * 0.25
    alone = Trainer.from_run(checkpoints(tmp_path / "run")[-1], device="cpu", progress=False)
    assert (alone.options.recovery.times, alone.setbacks) == (0, trainer.setbacks)
    changed = Trainer.from_run(tmp_path / "run", device="cpu", progress=False, recover=5)
    assert changed.options.recovery == Recovery(5)


def test_callbacks_and_workers_go_back_too(tmp_path):
    class Counts(Callback):
        def __init__(self):
            self.seen = []

        def on_step(self, run, metrics):
            self.seen.append(metrics.images_seen)

        def on_return(self, run):
            self.seen.append(-run.images_seen)

    counts = Counts()
    images = [image.float() / 255 for image in pixels()]
    with WENT_BACK:
        brittle(tmp_path, {72: 9e-4}, callbacks=[counts], workers=1).fit(images)
    assert counts.seen == [*range(8, 73, 8), -64, *range(72, 97, 8)]


# Collapse


def judged(run_dir, values, **keywords):
    judge = Judge(16, measures={"worth": lambda images: 1.0, "diversity": values}, built_in=False, n=4)
    recover = keywords.pop("recover", Recovery(2, 0.5, collapse=True))
    recipe = small_recipe()
    recipe = replace(recipe, stages=(Stage(2, 0, 160, 8, 1e-3),))
    return make(
        recipe, run_dir, callbacks=[judge], save_every=16, preview_every=999, keep=1, recover=recover, **keywords
    )


class Collapses:
    """A measure of diversity that falls at some counts, at a learning rate above a bound."""

    def __init__(self, counts, least=9e-4):
        self.counts, self.least = counts, least

    def __call__(self, images):
        run = images._run
        return 0.1 if run.images_seen in self.counts and run.growth.learning_rate > self.least else 0.9


def test_a_collapse_goes_back_to_before_it(tmp_path):
    with pytest.warns(UserWarning, match="went back from 96 to 64 real images, since the samples collapsed"):
        (trainer := judged(tmp_path / "one", Collapses({80, 96}))).fit(pixels())
    assert trainer.images_seen == 160
    assert trainer.setbacks == (Setback(96, 64, 0.5, "the samples collapsed"),)
    values = {
        row["images_seen"]: row["measures"]["diversity"] for row in rows_of(tmp_path / "one") if "measures" in row
    }
    assert values == dict.fromkeys(range(16, 161, 16), 0.9)
    assert sorted(JudgingRecord.read(tmp_path / "one").judged) == list(values)
    with pytest.warns(UserWarning, match="went back"):
        (again := judged(tmp_path / "two", Collapses({80, 96}))).fit(pixels())
    assert same_state(trainer, again)
    judged(tmp_path / "stopped", Collapses({80, 96})).fit(pixels(), until=88)  # after the first of both judgements
    with pytest.warns(UserWarning, match="went back"):
        (resumed := judged(tmp_path / "stopped", Collapses({80, 96}))).fit(pixels())
    assert same_state(trainer, resumed)


def test_one_judgement_alone_is_no_collapse(tmp_path):
    (trainer := judged(tmp_path, Collapses({80, 112, 144}))).fit(pixels())
    assert trainer.setbacks == ()


def test_a_collapse_from_the_beginning_has_nothing_to_go_back_to(tmp_path):
    (trainer := judged(tmp_path, Collapses(set(range(80))))).fit(pixels())
    assert (trainer.setbacks, trainer.images_seen) == ((), 160)


def test_a_collapse_is_no_trouble_where_it_was_not_asked_for(tmp_path):
    (trainer := judged(tmp_path, Collapses({80, 96}), recover=2)).fit(pixels())
    assert trainer.setbacks == ()


def test_after_the_last_return_a_collapsed_run_goes_on(tmp_path):
    said = (
        "training went back from|the samples have collapsed, and training continues as it is: the run went back twice"
    )
    with pytest.warns(UserWarning, match=said) as caught:
        (trainer := judged(tmp_path, Collapses({80, 96}, 0.0))).fit(pixels())
    assert trainer.images_seen == 160
    assert [setback.back_to for setback in trainer.setbacks] == [64, 48]
    assert ["continues as it is" in str(warning.message) for warning in caught] == [False, False, True]


def test_judgements_while_a_level_fades_in_do_not_count():
    record = RecoveryRecord()
    watch = DiversityWatch(record)
    assert watch.least == COLLAPSED
    for count, (value, alpha) in enumerate([(0.9, None), (0.1, None), (0.1, 0.5), (None, None), (0.9, 0.7)]):
        watch.on_log(None, {"images_seen": count, "alpha": alpha, "measures": {"diversity": value}})
    watch.on_log(None, {"images_seen": 9, "critic_loss": 1.0})
    assert (record.sound, record.collapsed) == (0, 1)
    watch.on_log(None, {"images_seen": 10, "alpha": None, "measures": {"diversity": COLLAPSED}})
    assert (record.sound, record.collapsed) == (10, 0)
