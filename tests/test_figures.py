"""The scripts that draw the documentation's figures run, here on a tiny run; what is drawn is looked at by people."""

from __future__ import annotations

from dataclasses import replace

import fade_in
import growth
import minibatch_std
import pytest
import small_run
import speed
import wgan_gp
from conftest import ROOT
from draw_icons import draw_icons

from progan import Stage, Trainer, load_generator, presets
from progan.render import read_png

FIGURES = ROOT / "docs/figures"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run with a checkpoint of every step, of which one is amid a fade."""
    path = tmp_path_factory.mktemp("figures") / "run"
    stages = [Stage(0, hold_images=8), Stage(1, fade_images=16, hold_images=8)]
    recipe = replace(presets.mel_icon(8, channels=(16, 8)), stages=stages)
    trainer = Trainer.from_recipe(
        recipe, run_dir=path, device="cpu", progress=False, log_every=8, save_every=8, keep_every=8
    )
    trainer.fit(draw_icons(8, size=8))
    return path


def test_the_small_run_trains_on_the_examples_icons(tmp_path):
    small_run.main(["--run-dir", str(tmp_path / "run"), "--size", "4", "--until", "8"])
    assert load_generator(tmp_path / "run").sample(1).shape == (1, 3, 4, 4)


@pytest.mark.parametrize("script", [growth, minibatch_std, speed, wgan_gp], ids=lambda script: script.__name__)
def test_charts_are_drawn(script, run_dir, tmp_path):
    script.main(["--run-dir", str(run_dir), "--out", str(tmp_path)])
    assert (tmp_path / f"{script.__name__}.png").read_bytes().startswith(b"\x89PNG")


def test_the_fade_is_drawn_from_amid_it(run_dir, tmp_path):
    assert fade_in.amid_the_fade(run_dir).alpha == 0.5
    fade_in.main(["--run-dir", str(run_dir), "--out", str(tmp_path)])
    height, gap = 96, 4
    assert read_png(tmp_path / "fade_in.png").shape == (3, 4 * (height + gap) - gap, 5 * (height + gap) - gap)


def test_the_tables_of_speed_are_what_was_measured():
    page = (ROOT / "docs/speed.md").read_text()
    assert speed.table("step_time") in page
    assert speed.table("step_time_avx2") in page
    assert speed.convolutions() in page
    assert speed.others() in page
    assert speed.gpu() in (ROOT / "docs/cuda.md").read_text()


def test_a_run_without_a_fade_is_refused(run_dir, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/000000008").symlink_to(run_dir / "checkpoints/000000008")
    with pytest.raises(SystemExit, match="no checkpoint from amid a fade"):
        fade_in.amid_the_fade(tmp_path)


def test_figures_are_small_and_each_has_its_script():
    pictures = sorted(FIGURES.glob("*.png"))
    assert [path.stem for path in pictures] == ["fade_in", "growth", "minibatch_std", "speed", "wgan_gp"]
    for path in pictures:
        assert path.stat().st_size < 100_000
        assert path.with_suffix(".py").is_file()
