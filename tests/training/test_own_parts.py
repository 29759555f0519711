"""Parts of one's own train like built-in ones: they resume to the bit, and are asked for by name."""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import ROOT, small_recipe

from progan import R1, Callback, CheckpointError, Contrast, GradientPenalty, Trainer, Translate, load_generator, presets
from progan.runs.checkpoint import checkpoints, read_tensors


@dataclass(frozen=True)
class LeastSquares:
    """An objective of one's own, which reports a part."""

    target: float = 1.0

    def critic(self, real_scores, fake_scores):
        return self.critic_parts(real_scores, fake_scores)[0]

    def critic_parts(self, real_scores, fake_scores):
        real = (real_scores - self.target).square().mean()
        return real + fake_scores.square().mean(), {"real_part": real}

    def generator(self, fake_scores, real_scores):
        return (fake_scores - self.target).square().mean()


@dataclass(frozen=True)
class MixedScores:
    """A regulariser of one's own, which uses the numbers that it is given."""

    weight: float = 0.1
    every: int = 4

    def __call__(self, critic, real, fake, mix):
        return critic(torch.lerp(fake, real, mix.reshape(-1, 1, 1, 1))).square().mean()


@dataclass(frozen=True)
class Shade:
    """An augmentation of one's own, with two numbers per image."""

    most: float = 0.2
    draws_per_image: int = 2

    def __call__(self, images, draws, strength=1.0):
        factor, shift = (self.most * strength * (row - 0.5) for row in draws)
        return images * (1 + factor.reshape(-1, 1, 1, 1)) + shift.reshape(-1, 1, 1, 1)


PARTS = (LeastSquares, MixedScores, Shade)
RECIPE = small_recipe(
    presets.karras2018,
    objective=LeastSquares(),
    regularizers=(MixedScores(), R1(0.5, every=3)),
    augment_real=(Shade(), Contrast()),
    augment_all=(Translate(0.25), Shade(0.1)),
    augment_strength=0.5,
)


class Adapting(Callback):
    """Set the strength at some counts, as something that adapts it would."""

    def on_step(self, run, metrics):
        if metrics.images_seen in (24, 56):
            run.state_dict()["tensors"]["augment/strength"].fill_(metrics.images_seen / 100)


def contents(run_dir: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, object]]]:
    path = run_dir / "metrics.jsonl"  # which a short run may not have
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    kept = [{name: value for name, value in line.items() if not name.endswith("_s")} for line in lines]
    return read_tensors(checkpoints(run_dir)[-1]), kept


def assert_equal(one: Path, other: Path) -> None:
    (ours, lines), (theirs, their_lines) = contents(one), contents(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert lines == their_lines


def test_a_run_with_parts_of_ones_own_resumes_to_the_bit(images, tmp_path):
    """In steps with and without each lazy regulariser, after the strength has changed; anew, and by from_run."""

    def make(run_dir):
        return Trainer.from_recipe(
            RECIPE, run_dir=run_dir, device="cpu", log_every=8, callbacks=[Adapting()], progress=False
        )

    make(tmp_path / "whole").fit(images)
    stopped = tmp_path / "stopped"
    make(stopped).fit(images, until=16)
    for until in (40, 64, None):
        trainer = Trainer.from_run(stopped, device="cpu", callbacks=[Adapting()], progress=False, parts=PARTS)
        assert trainer.training == RECIPE.training
        trainer.fit(images, until=until)
    assert make(stopped).images_seen == trainer.images_seen
    assert_equal(tmp_path / "whole", stopped)
    tensors, lines = contents(stopped)
    assert tensors["augment/strength"] == torch.tensor(0.56)
    assert ["MixedScores" in line for line in lines] == [step % 4 == 0 for step in (*range(4), *range(4), *range(4))]
    assert ["r1" in line for line in lines] == [step % 3 == 0 for step in (*range(4), *range(4), *range(4))]
    assert all("real_part" in line for line in lines)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("own") / "run"
    images = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    Trainer.from_recipe(RECIPE, run_dir=run_dir, device="cpu", progress=False).fit(images, until=16)
    return run_dir


@pytest.mark.parametrize("missing", PARTS)
@pytest.mark.parametrize("path", [".", "checkpoints/000000016"])
def test_a_missing_class_is_named_with_the_remedy(path, missing, run_dir):
    given = [part for part in PARTS if part is not missing]
    text = f"is of the class '{__name__}.{missing.__name__}', which is not progan's; pass the class in parts=, such as"
    with pytest.raises(CheckpointError, match=re.escape(text)):
        Trainer.from_run(run_dir / path, device="cpu", progress=False, parts=given)
    assert Trainer.from_run(run_dir / path, device="cpu", progress=False, parts=PARTS).images_seen == 16


def test_what_does_not_train_needs_no_parts(run_dir):
    assert load_generator(run_dir).sample(2, seed=1).shape == (2, 3, 4, 4)
    other = small_recipe(presets.karras2018)
    assert Trainer.from_recipe(other, start=run_dir, device="cpu", progress=False).start.images_seen == 16


def test_another_recipe_is_refused_by_what_differs(run_dir):
    other = small_recipe(presets.karras2018, objective=LeastSquares(0.5), regularizers=GradientPenalty())
    with pytest.raises(ValueError, match=r"another run; differing .*objective.settings.target 1.0 -> 0.5"):
        Trainer.from_recipe(other, run_dir=run_dir, device="cpu", progress=False)


# The program in the documentation, as a script

KILLED = """
import os, runpy, signal, sys
from progan.training.step import TrainingStep

step, begun = TrainingStep.__call__, []

def dies(*arguments):
    begun.append(1)
    if len(begun) > int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*arguments)

TrainingStep.__call__ = dies
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_the_documented_program_is_killed_and_resumes_to_the_bit(tmp_path):
    page = (ROOT / "docs/own_parts.md").read_text()
    program = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    assert len([line for line in program.splitlines() if line.strip()]) <= 40
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.py").write_text(program)

    def start(name, *arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=tmp_path / name, capture_output=True, text=True, timeout=120)

    whole = start("whole", "own.py")
    assert whole.returncode == 0, whole.stderr
    killed = start("killed", "-c", KILLED, "own.py", "11")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run_dir = tmp_path / "killed/runs/own_parts"
    assert checkpoints(run_dir)[-1].name == "000000080"
    resumed = start("killed", "own.py")
    assert resumed.returncode == 0, resumed.stderr
    assert_equal(tmp_path / "whole/runs/own_parts", run_dir)
    with pytest.raises(CheckpointError, match=r"is of the class '__main__\.Hinge', .* such as parts=\(Hinge,\)"):
        Trainer.from_run(run_dir)
    before = Path.cwd()
    try:
        os.chdir(tmp_path / "killed")
        own = runpy.run_path("own.py", run_name="own")  # as a module, with other qualified names
    finally:
        os.chdir(before)
    assert own["trainer"].images_seen == 192
    parts = own["Hinge"], own["FakeGradient"], own["Brightness"]
    trainer = Trainer.from_run(run_dir, parts=parts, generator_block=own["Block"], device="cpu", progress=False)
    assert (trainer.images_seen, trainer.training) == (192, own["training"])
    assert load_generator(run_dir, block=own["Block"]).sample(1).shape == (1, 3, 8, 8)
