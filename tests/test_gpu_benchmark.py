"""benchmarks/gpu.py on a small scale on the CPU, so that it does what it should when it meets a CUDA device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pro_gan_pth
import pytest
from conftest import ROOT


def run(folder: Path, part: str, *arguments: str) -> dict[str, object]:
    """Run a part from a bare checkout, as on another machine; return what it wrote."""
    out = folder / "gpu.json"
    command = [sys.executable, "-W", "error", ROOT / "benchmarks/gpu.py", "--part", part, "--out", out]
    subprocess.run(
        [*map(str, command), "--device", "cpu", "--smoke", *arguments],
        check=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
    )
    return json.loads(out.read_text())


PHASES = ["4 px", "8 px fading", "8 px"]


@pytest.mark.slow
def test_check(tmp_path):
    found = run(tmp_path, "check")["check"]
    for kind in ("mel_icon", "karras2018"):
        for phase in PHASES:
            for precision in ("fp32", "bf16"):
                entry = found[f"{kind} {phase} {precision}"]
                assert entry["captured"] is True
                for pair in ("graph_and_plain", "plain_and_plain"):
                    assert entry[pair]["equal_to_the_bit"] is True
                    assert entry[pair]["apart"] == {"generator": 0.0, "discriminator": 0.0, "ema": 0.0}
        whole = found[f"{kind} a schedule"]
        assert set(whole["apart_from_plain"].values()) == {0.0}
        assert whole["warnings"] == []
    assert found["device"] == "cpu"
    assert "done" in found


@pytest.mark.slow
def test_time(tmp_path):
    found = run(tmp_path, "time")["time"]
    for phase in PHASES:
        entry = found[phase]
        for what in ("ms", "mb", "kernels"):
            assert entry[what].keys() == {"loop", "plain", "graph", "graph tf32", "graph bf16"}
            assert not [value for value in entry[what].values() if isinstance(value, str)]
        assert entry["faster_by_graph"].keys() == entry["ms"].keys() - {"graph"}
    if pro_gan_pth.installed():
        assert found["8 px pro_gan_pth"]["ms"] > 0
    else:
        assert found["pro_gan_pth"].startswith("not measured: pip install")
    assert "done" in found


@pytest.mark.slow
def test_fit(tmp_path):
    found = run(tmp_path, "fit")["fit"]
    paces = found["ms a step, fp32"]
    assert list(paces) == ["4 px", "8 px"]
    by_draws = found["ms a step at 4 px by where random numbers are made, fp32"]
    assert list(by_draws) == ["in threads", "in the trainer's thread", "once"]
    assert all(0 < ms < 10_000 for ms in [*paces.values(), *by_draws.values()])
    shares = [float(share.split()[0]) for share in found["where the trainer's thread is at 4 px, fp32"].values()]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) < 101


@pytest.mark.slow
def test_train_and_what_was_measured_before_stays(tmp_path):
    np.save(tmp_path / "icons.npy", np.full((9, 3, 8, 8), 40, np.uint8))
    found = run(tmp_path, "train", "--images", str(tmp_path / "icons.npy"))
    assert found["train"]["began_with"]["images"] == 9
    assert found["train"]["whole"]["images_seen"] == found["train"]["whole"]["of"] == 216
    assert Path(found["train"]["whole"]["sheet"]).exists()
    assert list(found["train"]["seconds_to_the_end_of"]) == ["stage 0, 4 px", "stage 1, 8 px"]
    assert list(found["train"]["paces"]) == ["stage 0, 4 px", "stage 1, 8 px"]
    assert all(pace["median_ms_a_step"] > 0 for pace in found["train"]["paces"].values())
    again = run(tmp_path, "time", "--minutes", "0")
    assert again["train"] == found["train"]
    assert again["time"]["8 px"] == "not measured: out of time"


def test_training_ends_in_time(tmp_path):
    found = run(tmp_path, "train", "--minutes", "0")["train"]
    assert found["out_of_time"] is True
    assert found["whole"]["images_seen"] == 8
