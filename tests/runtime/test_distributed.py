"""Several processes train as one: the same numbers, one writer, one end."""

from __future__ import annotations

import _thread
import json
import multiprocessing
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import ranked
import torch
import torch.distributed as dist
from conftest import ROOT, small_recipe

from progan import (
    R1,
    AverageChoice,
    Contrast,
    Ema,
    GradientPenalty,
    HorizontalFlip,
    NonSaturating,
    Recipe,
    Reconstruction,
    Stage,
    Translate,
    presets,
)
from progan.compatibility import check_ranks
from progan.errors import RankError
from progan.networks.layers import MiniBatchStd
from progan.runs.checkpoint import checkpoints, read_manifest, read_tensors
from progan.runs.recovery import read_setbacks
from progan.runtime import connections
from progan.runtime.ranks import Ranks
from progan.storage.comparison import disagreements

pytestmark = pytest.mark.skipif(not dist.is_available() or not hasattr(os, "fork"), reason="needs gloo and fork")

BATCH = {"mel_icon": 32, "karras2018": 16}
PYTHONPATH = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "src")])


class Started:
    """What came of some processes: their exit statuses (negative: of a signal), and what each of them said."""

    def __init__(self, ranks: int, folder: Path, settings: dict) -> None:
        context = multiprocessing.get_context("forkserver")
        number = len(list(folder.glob("store*")))
        store = folder / f"store{number}"
        store.touch()
        logs = [folder / f"log{number}.{rank}" for rank in range(ranks)]
        processes = [
            context.Process(target=ranked.as_rank, args=(rank, ranks, str(store), str(logs[rank]), settings))
            for rank in range(ranks)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)  # nobody waits longer for one that has died
        self.alive = [process.is_alive() for process in processes]
        for process in processes:
            process.kill()
        self.statuses = [process.exitcode for process in processes]
        self.said = [log.read_text() if log.exists() else "" for log in logs]
        for status, said in zip(self.statuses, self.said, strict=True):
            assert status not in (0, 1) or "threads of gloo left at the end: 0" in said, said


@pytest.fixture(scope="module", autouse=True)
def forkserver():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ranked"])
    with pytest.MonkeyPatch.context() as patch:  # where it looks for it
        patch.setenv("PYTHONPATH", PYTHONPATH)
        process = context.Process(target=os.getpid)
        process.start()
        process.join()


def train(ranks: int, tmp_path: Path, name: str = "run", preset: str = "mel_icon", **settings) -> Path:
    """Train to the end, or until a count; return the run's folder."""
    run_dir = tmp_path / name
    settings = {"run_dir": str(run_dir), "preset": preset, "batch_size": BATCH[preset], **settings}
    started = Started(ranks, tmp_path, settings)
    assert started.statuses == [0] * ranks, "\n".join(started.said)
    return run_dir


def fails(tmp_path: Path, **settings) -> Started:
    """Start two ranks that are not to end well."""
    settings = {"run_dir": str(tmp_path / "run"), "preset": "mel_icon", "batch_size": 32, **settings}
    started = Started(2, tmp_path, settings)
    assert started.alive == [False, False], started.said
    return started


def tensors(run_dir: Path) -> dict[str, torch.Tensor]:
    return read_tensors(checkpoints(run_dir)[-1])


def files(run_dir: Path) -> dict[str, bytes]:
    """All that a run wrote and that must be the same in equal runs."""
    found = {
        path.relative_to(run_dir).as_posix(): path.read_bytes()
        for path in sorted(run_dir.rglob("*"))
        if path.suffix in (".png", ".safetensors")
    }
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    kept = [{name: value for name, value in line.items() if not name.endswith("_s")} for line in lines]
    return found | {"metrics.jsonl": json.dumps(kept).encode()}


def assert_close(one: Path, other: Path, tolerance: float) -> None:
    theirs = tensors(other)
    assert tensors(one).keys() == theirs.keys()
    for name, tensor in tensors(one).items():
        torch.testing.assert_close(tensor, theirs[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("preset", ["mel_icon", "karras2018"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-4)])
def test_two_ranks_do_what_one_process_does(preset, dtype, tolerance, tmp_path):
    one = train(1, tmp_path, "one", preset, dtype=dtype)
    two = train(2, tmp_path, "two", preset, dtype=dtype)
    assert_close(one, two, tolerance)
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, two)]
    assert len(lines[0]) == len(lines[1]) == 11
    for mine, theirs in zip(*lines, strict=True):
        assert mine.keys() == theirs.keys()
        for name in set(mine) - {"step_s", "elapsed_s", "alpha"}:
            assert mine[name] == pytest.approx(theirs[name], rel=100 * tolerance, abs=100 * tolerance), name
        assert mine["alpha"] == theirs["alpha"]


def test_two_ranks_augment_and_regularize_as_one_process_does(tmp_path):
    training = {
        "objective": NonSaturating(),
        "regularizers": (R1(every=2), GradientPenalty(every=3)),
        "augment_real": (HorizontalFlip(), Contrast()),
        "augment_all": Translate(0.25),
        "augment_strength": 0.75,
    }
    one, two = (train(ranks, tmp_path, f"{ranks}", dtype="float64", training=[training] * 2) for ranks in (1, 2))
    assert_close(one, two, 1e-10)
    assert tensors(two)["augment/strength"] == 0.75
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, two)]
    for mine, theirs in zip(*lines, strict=True):
        assert mine.keys() == theirs.keys()
        assert mine["critic_loss"] == pytest.approx(theirs["critic_loss"], rel=1e-8)
    assert [("r1" in line, "penalty" in line) for line in lines[0]][:3] == [(True, True), (False, False), (True, False)]


def test_two_ranks_reconstruct_as_one_process_does(tmp_path):
    training = [{"reconstruction": Reconstruction(components=3)}] * 2
    one, two = (
        train(ranks, tmp_path, f"{ranks}", "karras2018", dtype="float64", training=training) for ranks in (1, 2)
    )
    assert_close(one, two, 1e-10)
    assert tensors(two)["codes/basis"].any()


def test_two_ranks_train_on_classes_as_one_process_does(tmp_path):
    settings = {"dtype": "float64", "classes": 3}
    one, two = train(1, tmp_path, "one", "karras2018", **settings), train(2, tmp_path, "two", "karras2018", **settings)
    assert_close(one, two, 1e-10)


@pytest.mark.parametrize(("preset", "micro_batch"), [("mel_icon", 8), ("karras2018", 4)])
def test_two_ranks_in_micro_batches_do_what_one_process_does_on_whole_batches(preset, micro_batch, tmp_path):
    whole = train(1, tmp_path, "whole", preset, dtype="float64")
    parts = train(2, tmp_path, "parts", preset, dtype="float64", micro_batch=micro_batch)
    assert_close(whole, parts, 1e-10)
    assert (
        json.loads((checkpoints(parts)[-1] / "manifest.json").read_text())["environment"]["micro_batch"] == micro_batch
    )


def test_rank_zero_judges_while_the_others_wait(tmp_path):
    plain = train(2, tmp_path, "plain", held_out=0.2)
    judged = train(2, tmp_path, "judged", held_out=0.2, judged=True)
    for name, tensor in tensors(plain).items():
        assert torch.equal(tensor, tensors(judged)[name]), name
    lines = [json.loads(line) for line in (judged / "metrics.jsonl").read_text().splitlines()]
    assert [line["images_seen"] for line in lines if "measures" in line] == [256, 320, 352]
    held = json.loads((judged / "config.json").read_text())["held_out"]
    assert held == {"share": 0.2}


def test_all_ranks_keep_the_same_averages_and_know_the_choice(tmp_path):
    settings = {
        "run_dir": str(tmp_path / "run"),
        "preset": "mel_icon",
        "batch_size": 32,
        "judged": True,
        "training": [{"ema": Ema(0.99, batch=8, warm_up=True, other_half_lives=(0.2, 5))}] * 2,
    }
    for until in (96, None):
        started = Started(2, tmp_path, settings | {"until": until})
        assert started.statuses == [0, 0], "\n".join(started.said)
    choices = [re.findall("^chosen: (.*)$", said, re.MULTILINE) for said in started.said]
    recorded = read_manifest(checkpoints(tmp_path / "run")[-1])["numbers"]["average_choice"]
    assert choices == [[str(AverageChoice.from_json(recorded))]] * 2
    assert recorded["images_seen"] == 352


@pytest.mark.parametrize(("sign_s", "ends_well"), [(0.2, True), (60, False)])
def test_the_others_wait_for_a_judgement_as_long_as_rank_zero_gives_signs(sign_s, ends_well, tmp_path):
    settings = {"run_dir": str(tmp_path / "run"), "preset": "mel_icon", "batch_size": 32, "judged": True, "until": 256}
    started = Started(2, tmp_path, settings | {"patience_s": 2, "judgement_s": 3, "sign_s": sign_s})
    assert started.statuses == ([0, 0] if ends_well else [1, 1]), "\n".join(started.said)
    assert ends_well or "RankError: another rank has died, left or does not answer" in started.said[1]


def test_the_same_number_of_ranks_gives_the_same_bits_however_often_it_stops(tmp_path):
    whole = train(2, tmp_path, "whole", workers=1)
    for until in (96, 224, None):
        stopped = train(2, tmp_path, "stopped", until=until, workers=0)
    assert tensors(whole).keys() == tensors(stopped).keys()
    assert files(whole)["metrics.jsonl"] == files(stopped)["metrics.jsonl"]
    for name, tensor in tensors(whole).items():
        assert torch.equal(tensor, tensors(stopped)[name]), name


def test_all_ranks_go_back_to_the_same_checkpoint(tmp_path):
    recovering = {"breaks": [288, 9e-4], "recovers": [2] * 8}
    whole = train(2, tmp_path, "whole", with_run_dir=[0], **recovering)
    for until in (256, 320, None):
        stopped = train(2, tmp_path, "stopped", until=until, **recovering)
    for run_dir in (whole, stopped):
        assert [(each.at, each.back_to) for each in read_setbacks(run_dir)] == [(288, 256)]
    for name, tensor in tensors(whole).items():
        assert torch.equal(tensor, tensors(stopped)[name]), name
    assert files(whole)["metrics.jsonl"] == files(stopped)["metrics.jsonl"]


def test_ranks_train_on_with_added_images_as_one_process_does(tmp_path):
    settings = {"dtype": "float64", "recovers": [2] * 8}
    for ranks, name in ((1, "one"), (2, "two")):
        train(ranks, tmp_path, name, until=256, n_images=16, **settings)
        run_dir = train(ranks, tmp_path, name, with_run_dir=[0], data_may_change=True, breaks=[288, 9e-4], **settings)
        assert [each.back_to for each in read_setbacks(run_dir)] == [256]
    assert_close(tmp_path / "one", run_dir, 1e-10)
    for log in ("log1.0", "log3.0", "log3.1"):
        assert "data [(0, 16), (256, 21)]" in (tmp_path / log).read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has memory to share")
@pytest.mark.parametrize("refuses", [0, 1])
def test_ranks_that_share_no_memory_give_the_same_bits(refuses, tmp_path):
    sharing = train(2, tmp_path, "sharing")
    apart = train(2, tmp_path, "apart", refuses=refuses)
    assert files(sharing) == files(apart)
    for log, shared in (("log0", True), ("log1", False)):
        for rank in range(2):
            assert f"memory shared: {shared}" in (tmp_path / f"{log}.{rank}").read_text()


def test_a_run_goes_on_with_other_numbers_of_ranks(tmp_path):
    whole = train(1, tmp_path, "whole")
    for ranks, until in ((1, 64), (2, 160), (4, 288), (1, None)):
        run_dir = train(ranks, tmp_path, "changing", until=until)
    assert_close(whole, run_dir, 1e-4)
    said = (tmp_path / "log2.0").read_text()
    assert "rank 0 of 2 begins at 64" in said
    assert "ranks 1 -> 2" in said
    assert "rank 1 of 2 begins at 64" in (tmp_path / "log2.1").read_text()


def alone(tmp_path: Path, name: str, **settings) -> Path:
    """Train in this process."""
    run_dir = tmp_path / name
    ranked.main({"run_dir": str(run_dir), "preset": "mel_icon", "batch_size": 32, "dtype": "float64", **settings})
    return run_dir


@pytest.mark.filterwarnings("ignore:start .* is not taken as it is. it had grown to level 1")
def test_all_ranks_start_from_what_rank_0_reads(tmp_path):
    old = alone(tmp_path, "old", until=160)
    one = alone(tmp_path, "one", until=64, start=str(old))
    two = train(2, tmp_path, "two", until=64, start=str(old), dtype="float64")
    assert_close(one, two, 1e-10)
    assert json.loads((two / "config.json").read_text())["start"]["images_seen"] == 160


@pytest.mark.parametrize("on_rank", [0, 1])
def test_weights_loaded_before_the_first_step_are_those_of_rank_0_on_all(on_rank, tmp_path):
    one = alone(tmp_path, "one", until=32, **({"loads": 0} if on_rank == 0 else {}))
    assert_close(one, train(2, tmp_path, "two", until=32, dtype="float64", loads=on_rank), 1e-10)


@pytest.mark.parametrize("on_rank", [0, 1])
def test_a_signal_to_any_rank_ends_all_at_the_same_step(on_rank, tmp_path):
    started = fails(tmp_path, within="step", fault="signal", on_rank=on_rank, at=160)
    assert all("progan.errors.Interrupted: signal 15" in said for said in started.said)
    assert checkpoints(tmp_path / "run")[-1].name == "000000192"
    whole, resumed = train(2, tmp_path, "whole"), train(2, tmp_path, "run")
    assert files(whole)["metrics.jsonl"] == files(resumed)["metrics.jsonl"]
    assert all(torch.equal(tensor, tensors(resumed)[name]) for name, tensor in tensors(whole).items())


def test_a_callback_stops_all_ranks_at_the_same_step(tmp_path):
    run_dir = train(2, tmp_path, stop_at=96)
    assert all("ended at 96, " in (tmp_path / f"log0.{rank}").read_text() for rank in range(2))
    assert checkpoints(run_dir)[-1].name == "000000096"


@pytest.mark.parametrize("on_rank", [0, 1])
@pytest.mark.parametrize("fault", ["kill", "raise"])
def test_a_rank_that_dies_or_fails_ends_the_other(fault, on_rank, tmp_path):
    started = fails(tmp_path, within="step", fault=fault, on_rank=on_rank, at=160)
    assert started.statuses[on_rank] == (-9 if fault == "kill" else 1)
    assert started.statuses[1 - on_rank] == 1
    assert "RankError: another rank has died, left or does not answer" in started.said[1 - on_rank]
    assert checkpoints(tmp_path / "run")[-1].name == "000000128"


@pytest.mark.parametrize(
    "settings",
    [
        {"destroys": True},  # the program's own process group
        {"own": False},
        {"then": {"run_dir": None}},
        {"calls": [("state_dict",), ("state_dict",)]},
        {"own": False, "within": "step", "fault": "raise", "on_rank": 0, "at": 64},
        {"own": False, "within": "step", "fault": "kill", "on_rank": 1, "at": 64},
    ],
)
def test_no_thread_of_gloo_is_left_when_a_program_ends(settings, tmp_path):
    if settings.get("own") is False:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            settings = settings | {"port": free.getsockname()[1]}
    settings = {"run_dir": None, "preset": "mel_icon", "batch_size": 32, "until": 96, **settings}
    started = Started(2, tmp_path, settings)  # which looks for such threads
    assert started.alive == [False, False]
    if "fault" not in settings:
        assert started.statuses == [0, 0], started.said


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_rank_0_is_raised_even_if_the_others_have_left(rank, monkeypatch):
    def left(self, value):
        raise RankError("the others have left")

    monkeypatch.setattr(Ranks, "broadcast", left)
    ranks = Ranks()
    ranks.rank, ranks.size = rank, 2
    with pytest.raises(OSError if rank == 0 else RankError):
        ranks.on_rank_zero(lambda: Path("there is no such file").stat())


def test_a_trainer_whose_connections_are_closed_says_so(tmp_path):
    started = fails(tmp_path, then={"run_dir": None}, destroys_between=True)
    assert all("RankError: the connections to the other ranks are closed, by an earl" in said for said in started.said)


def test_weights_that_part_are_noticed_before_a_save(tmp_path):
    started = fails(tmp_path, within="step", fault="change", on_rank=1, at=160)
    for said in started.said:
        assert "RankError: the ranks no longer hold the same weights: rank 1 differs from rank 0, in " in said
        assert re.search(r" of \d+ tensors, such as \w+/from_rgb\.0\.bias; nothing was saved", said)
    assert checkpoints(tmp_path / "run")[-1].name == "000000128"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has memory to share")
@pytest.mark.parametrize("on_rank", [0, 1])
@pytest.mark.parametrize("at", [0, 96, 160])  # 96: a level begins, for which the others take more memory
def test_a_rank_that_trains_less_than_the_others_is_noticed(at, on_rank, tmp_path):
    started = fails(tmp_path, within="step", fault="freeze", on_rank=on_rank, at=at)
    for said in started.said:
        assert re.search(
            rf"RankError: rank {on_rank} has [\d,]+ values to average, rank {1 - on_rank} has [\d,]+; every rank must "
            "train the same parameters",
            said,
        )


@pytest.mark.skipif(sys.platform != "linux", reason="the other systems share no memory in any test")
def test_the_same_is_noticed_where_no_memory_is_shared(tmp_path):
    started = fails(tmp_path, within="step", fault="freeze", on_rank=1, at=96, refuses=0)
    assert all("RankError: rank 1 has" in said for said in started.said)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"data_differs": 1},
            r"different data or until: data\.content: rank 0 has '\w+', rank 1 has '\w+'; start every rank with",
        ),
        ({"seeds": [0, 1]}, "different networks or settings: seed: rank 0 has 0, rank 1 has 1; start every rank with"),
        (
            {"recovers": [2, 3]},
            r"different networks or settings: recover\.times: rank 0 has 2, rank 1 has 3; start every rank with",
        ),
        ({"untils": [96, None]}, "different data or until: until: rank 0 has 96, rank 1 has 352; start every rank"),
        (
            {"dtypes": ["float32", "float64"]},
            "different networks or settings: dtype: rank 0 has 'torch.float32', rank 1 has 'torch.float64'; start",
        ),
        (
            {"training": [{"ema": Ema(0.5)}, {"ema": Ema(0.25)}]},
            r"different networks or settings: recipe\.training\.ema\.decay: rank 0 has 0.5, rank 1 has 0.25; start",
        ),
    ],
)
def test_ranks_that_were_given_different_things_are_refused(settings, message, tmp_path):
    started = fails(tmp_path, **settings)
    assert all(re.search(f"ValueError: the ranks were given {message}", said) for said in started.said), started.said


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([("save",), ("fit",)], "rank 1 is about to begin fit, rank 0 to compare weights"),
        ([("fit",), ("save",)], "rank 0 is about to begin fit, rank 1 to compare weights"),
    ],
)
def test_ranks_that_call_different_things_are_told_so(calls, message, tmp_path):
    started = fails(tmp_path, calls=calls)
    assert all(
        f"RankError: the ranks are at different places of the program: {message}" in said for said in started.said
    )


def test_only_rank_0_needs_a_run_dir(tmp_path):
    assert files(train(2, tmp_path, "one", with_run_dir=[0])) == files(train(2, tmp_path, "both"))


def test_the_error_of_rank_0_is_told_to_all(tmp_path):
    train(1, tmp_path, until=32)
    started = fails(tmp_path, seeds=[5, 5])
    assert "AnotherRunError: " in started.said[0]
    assert "holds another run; differing (there -> here): seed 0 -> 5" in started.said[0]
    assert "RankError: rank 0 failed, and rank 1 ends with it: AnotherRunError: " in started.said[1]
    assert "seed 0 -> 5" in started.said[1]


def torchrun(run_dir: Path, restarts: int, **settings) -> subprocess.Popen[str]:
    """Train as a user would."""
    settings = {"run_dir": str(run_dir), "preset": "mel_icon", "batch_size": 32, **settings}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [*command, "--max-restarts", str(restarts), str(ROOT / "tests/ranked.py"), json.dumps(settings)],
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kills(number: int) -> list[dict]:
    """Of rank 0 and of rank 1 in turn; rank 0 within a step or a save."""
    draw = random.Random(0)
    found = []
    for index in range(number):
        within = "save" if index % 4 == 0 else "step"
        at = draw.randrange(4, 16) if within == "save" else 32 * draw.randrange(1, 11)
        found.append({"within": within, "fault": "kill", "on_rank": index % 2, "at": at})
    return found


@pytest.mark.parametrize("number", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_torchrun_restarts_after_a_kill_and_ends_with_the_same_bits(number, tmp_path):
    whole = files(train(2, tmp_path, "whole"))
    for index, kill in enumerate(kills(number)):
        killed = tmp_path / f"killed{index}"
        process = torchrun(killed, restarts=2, **kill)
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
        assert said.count("begins at") == 4, said
        assert said.count("ended at 352") == 2, said
        assert files(killed) == whole, kill
        assert not [path for path in killed.rglob(".*") if path.name.endswith((".partial", ".replaced"))]


@pytest.mark.slow
@pytest.mark.parametrize("restart", [False, True])
def test_no_thread_of_gloo_aborts_the_interpreter_when_it_ends(restart, tmp_path):
    kill = {"within": "step", "fault": "kill", "on_rank": 1, "at": 64} if restart else {}
    for number in range(20):  # of which some aborted while threads were left, since no thread got Python's lock before
        process = torchrun(tmp_path / f"{number}", restarts=1, switch_interval=5, until=96, **kill)
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
        assert "terminate called" not in said


@pytest.mark.slow
def test_a_signal_to_torchrun_ends_all_with_a_checkpoint(tmp_path):
    process = torchrun(tmp_path / "run", restarts=0, pause=0.2)
    assert process.stdout is not None
    heard = 0
    while heard < 2:
        heard += "begins at" in process.stdout.readline()
    time.sleep(1)
    process.terminate()
    said, _ = process.communicate(timeout=60)
    assert said.count("progan.errors.Interrupted: signal 15") == 2, said
    assert 0 < int(checkpoints(tmp_path / "run")[-1].name) < 352
    resumed = train(2, tmp_path)
    whole = train(2, tmp_path, "whole")
    assert files(whole)["metrics.jsonl"] == files(resumed)["metrics.jsonl"]
    assert all(torch.equal(tensor, tensors(resumed)[name]) for name, tensor in tensors(whole).items())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([{"a": 1}, {"a": 1}], ""),
        ([{"a": {"b": [1, 2]}, "c": 0}, {"a": {"b": [1, 3]}, "c": 0}], "a.b: rank 0 has [1, 2], rank 1 has [1, 3]"),
        ([{"a": 1}, {"a": 2}, {"a": 1}, {}], "a: ranks 0, 2 have 1, rank 1 has 2, rank 3 has nothing"),
        ([{"a": 1}] * 10 + [{"a": 2}], "a: ranks 0, 1, 2, 3, 4, 5, 6, 7 and 2 more have 1, rank 10 has 2"),
        ([{"a": "x" * 500}, {"a": ""}], f"a: rank 0 has '{'x' * 99}...{'x' * 99}', rank 1 has ''"),
        (
            [dict.fromkeys("abcdefghij", 0), dict.fromkeys("abcdefghij", 1)],
            "; ".join(f"{name}: rank 0 has 0, rank 1 has 1" for name in "abcdefgh") + "; and 2 more",
        ),
    ],
)
def test_what_differs_between_ranks_is_named(values, words):
    assert disagreements(values) == words


def in_threads(size: int, work: Callable[[Any, int], Any]) -> list[Any]:
    """Let every rank work with one store; return what each returns or raises."""
    store = dist.HashStore()

    def caught(rank: int) -> Any:
        try:
            return work(store, rank)
        except (RuntimeError, ValueError) as error:
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(caught, range(size)))


def test_ranks_on_devices_of_different_types_are_refused_before_they_wait_for_each_other():
    types = ["cpu", "cuda", "cpu"]
    errors = in_threads(3, lambda store, rank: connections._check_devices(store, rank, 3, types[rank]))
    message = (
        "the ranks train on devices of different types: device: ranks 0, 2 have 'cpu', rank 1 has 'cuda'; pass the "
        "same device= on every rank"
    )
    assert [str(error) for error in errors] == [message] * 3


def test_ranks_agree_on_a_word_that_no_dead_rank_knows():
    def agree(store, rank):
        if rank == 1:
            store.set("progan: 1 asks as", "one that has died")
        return connections._unique_prefix(store, rank, 3)

    words = in_threads(3, agree)
    assert len(set(words)) == 1
    assert len(words[0]) == 16


def test_missing_ranks_are_named(monkeypatch):
    monkeypatch.setattr(connections, "TIMEOUT", timedelta(seconds=0.1))
    with pytest.raises(RuntimeError, match=r"ranks 1, 2 did not come within 0:00:00\.1"):
        connections._unique_prefix(dist.HashStore(), 0, 3)
    with pytest.raises(RuntimeError, match="rank 0 did not come"):
        connections._unique_prefix(dist.HashStore(), 1, 3)


@pytest.mark.parametrize("rank", [0, 1])
def test_ctrl_c_ends_the_wait_for_other_ranks(rank):
    timer = threading.Timer(0.2, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        connections._unique_prefix(dist.HashStore(), rank, 2)
    timer.join()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "0", "WORLD_SIZE": "two"}, "WORLD_SIZE must be a number, as torchrun sets it, got 'two'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK must be below WORLD_SIZE, got 2 of 2"),
        ({"RANK": "", "WORLD_SIZE": "2"}, "RANK must be a number, as torchrun sets it, got ''"),
        (
            {"RANK": "0", "WORLD_SIZE": "2"},
            "this process cannot join the others: .*MASTER_PORT.*; start them with torchrun",
        ),
    ],
)
def test_an_environment_that_is_not_torchruns_is_refused(environment, message, monkeypatch):
    for name, value in ({"MASTER_ADDR": "127.0.0.1"} | environment).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_PORT", raising=False)
    with pytest.raises(ValueError, match=message):
        Ranks.join(torch.device("cpu"))


@pytest.mark.parametrize(
    ("group", "batch", "ranks", "words"),
    [
        (8, 8, 2, "1 MiniBatchStd group of 8 images, which 2 processes .* multiple of 16 in every stage"),
        (4, 24, 4, "6 MiniBatchStd groups of 4 images, which 4 processes .* multiple of 16 in every stage"),
        (None, 32, 2, "1 MiniBatchStd group of 32 images.*give the architecture a minibatch_std_group"),
        (4, 24, 3, None),
        (8, 64, 8, None),
        (8, 3, 1, None),
    ],
)
def test_a_batch_is_shared_by_whole_groups_or_refused(group, batch, ranks, words):
    recipe = small_recipe(presets.mel_icon)
    recipe = Recipe(replace(recipe.architecture, minibatch_std_group=group), (Stage(0, 0, 100, batch),))
    if words is None:
        check_ranks(recipe.architecture, recipe.schedule, ranks)
    else:
        with pytest.raises(ValueError, match=words):
            check_ranks(recipe.architecture, recipe.schedule, ranks)


def test_groups_of_consecutive_images_are_not_shared():
    recipe = small_recipe(presets.mel_icon)
    recipe = Recipe(replace(recipe.architecture, minibatch_std_consecutive=True), (Stage(0, 0, 100, 64),))
    check_ranks(recipe.architecture, recipe.schedule, 1)
    with pytest.raises(ValueError, match=r"2 processes cannot share .* consecutive images; .*start one process"):
        check_ranks(recipe.architecture, recipe.schedule, 2)


def test_the_groups_of_a_part_are_groups_of_the_whole():
    x = torch.randn(24, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    whole = MiniBatchStd(4)(x)
    for rank in range(3):
        ranks = Ranks()
        ranks.rank, ranks.size = rank, 3
        assert torch.equal(MiniBatchStd(4)(ranks.part(x)), ranks.part(whole))
        assert torch.equal(ranks.part(x.movedim(0, 1), 1), ranks.part(x).movedim(0, 1))
