"""What every program that trains shares: what a start leaves of a recipe, and its length."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import small_recipe

from progan import Recipe, Trainer, presets
from progan.cli.training import add_run_options, after_start, level_of_start, recipe_of_length


def options_of(preset: str, *arguments: str, hours: float | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_run_options(parser)
    return parser.parse_args(arguments, argparse.Namespace(preset=preset, hours=hours))


@pytest.mark.parametrize(("level", "levels", "fades"), [(1, [2, 3, 3, 3], True), (3, [3, 3, 3], False)])
def test_what_a_start_leaves_of_the_stages(level, levels, fades):
    recipe = presets.mel_icon(32)
    left = after_start(recipe, level)
    assert [stage.level for stage in left.stages] == levels
    assert (left.stages[0].fade_images > 0) == fades
    assert left.stages[1:] == recipe.stages[1 - len(levels) :]


def test_a_start_of_a_larger_or_an_unknown_size_leaves_the_highest_level():
    recipe = presets.mel_icon(32)
    assert after_start(recipe, 5) == after_start(recipe, None) == after_start(recipe, 3)


def test_the_level_of_a_start_is_what_the_new_run_has_recorded(images, tmp_path):
    recipe = small_recipe()
    short = replace(recipe, stages=(replace(recipe.stages[0], hold_images=8),))
    old, new = tmp_path / "old", tmp_path / "new"
    Trainer.from_recipe(short, run_dir=old, device="cpu", progress=False).fit(images)
    assert level_of_start(old, new, overwrite=False) == 0
    left = after_start(recipe, 0)
    Trainer.from_recipe(left, run_dir=new, start=old, device="cpu", progress=False).fit(images, until=8)
    old.rename(tmp_path / "moved")
    assert level_of_start(old, new, overwrite=False) == 0
    assert level_of_start(old, new, overwrite=True) is None


@pytest.mark.parametrize(
    ("preset", "start", "totals"),
    [("few_images", [], [None, 35]), ("mel_icon", [], [None]), ("few_images", ["--start", "missing"], [None])],
)
def test_a_recipe_for_hours_is_made_anew_where_it_depends_on_its_length(preset, start, totals, monkeypatch):
    asked = []

    def make(total_images: int | None) -> Recipe:
        asked.append(total_images)
        return small_recipe()

    def shorter(recipe: Recipe, hours: float, **options) -> Recipe:
        assert (hours, options["device"]) == (2, "cpu")
        return replace(recipe, stages=(replace(recipe.stages[-1], fade_images=0, hold_images=35),))

    monkeypatch.setattr(Trainer, "recipe_for_hours", shorter)
    recipe = recipe_of_length(make, options_of(preset, *start, hours=2), Path("nowhere"), "cpu")
    assert asked == totals
    assert (recipe == small_recipe()) == (len(totals) == 2)
