"""Run directories of every kind, made without training."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import torch

from progan import Recipe, Stage, presets
from progan.render import enlarge, image_grid, write_png
from progan.runs.checkpoint import write_checkpoint
from progan.runs.directory import CONFIG, FORMAT, VERSION
from progan.runs.judging import Judged, JudgingRecord
from progan.runs.record import INTERVALS

ENVIRONMENT = {"device": "cpu", "ranks": 1, "threads": 2, "progan": "0.1.0", "torch": "2.9.0", "numpy": "2.3.0"}


def recipe_of(channels: tuple[int, ...], stage_images: int) -> Recipe:
    """Return a recipe that holds 4x4, then fades in and holds each higher resolution, for as many images each."""
    recipe = presets.mel_icon(4 << (len(channels) - 1), channels=channels)
    higher = tuple(Stage(level, stage_images, stage_images) for level in range(1, len(channels)))
    return replace(recipe, stages=(Stage(0, 0, stage_images), *higher))


def write_config(run_dir, recipe: Recipe | None = None, **changes) -> Recipe:
    """Write the config.json of a run: of 400 images at 4x4 and 800 at 8x8, half of them fading in, unless given."""
    recipe = recipe or recipe_of((16, 8), 400)
    contents = {
        "format": FORMAT,
        "version": VERSION,
        "recipe": recipe.to_json(),
        "seed": 0,
        "blocks": {"generator": None, "discriminator": None},
        "data": {"kind": "images", "shape": [640, 3, 8, 8], "content": "38ed5d4f"},
        "start": None,
        "fork": None,
        "dtype": "float32",
        "intervals": dict.fromkeys(INTERVALS, 100),
        "environment": ENVIRONMENT,
        **changes,
    }
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / CONFIG).write_text(json.dumps(contents))
    return recipe


def loss_row(recipe: Recipe, images_seen: int, elapsed_s: float, **values) -> dict:
    """Return a row of losses, with values like those of a WGAN-GP."""
    growth = recipe.schedule.at(max(0, images_seen - 1))
    noise = math.sin(images_seen * 12.9898) * 0.3
    return {
        "images_seen": images_seen,
        "stage": growth.stage,
        "level": growth.level,
        "alpha": growth.alpha,
        "learning_rate": growth.learning_rate,
        "generator_loss": 0.4 + noise,
        "critic_loss": -1.5 + noise,
        "wasserstein": -1.6 + noise,
        "penalty": 0.02 + noise * noise / 9,
        "step_s": 0.05,
        "elapsed_s": elapsed_s,
        **values,
    }


def judgement_row(recipe: Recipe, images_seen: int, **changes) -> dict:
    """Return a judgement of a run that becomes better."""
    growth = recipe.schedule.at(max(0, images_seen - 1))
    left = math.exp(-3 * images_seen / recipe.schedule.total_images)
    measures = {
        "feature_distance": 0.9 + 8 * left,
        "swd": 9 + 60 * left,
        "ms_ssim": 0.31 + 0.2 * left,
        "diversity": 1 - 0.5 * left,
        "copies": 0.0,
        "critic_overfitting": 0.3 * (1 - left),
        "fixed_pattern": 0.13 + 0.4 * left,
        "corners": 20 * left,
        "density": 1 - 0.6 * left,
        "coverage": 0.97 - 0.8 * left,
    }
    spread = {"feature_distance": 0.9, "swd": 9.0, "ms_ssim": 0.3, "fixed_pattern": 0.13, "corners": 0.1}
    floors = {name: {"value": v, "low": 0.92 * v, "high": 1.09 * v} for name, v in spread.items()}
    floors |= {
        "density": {"value": 1.0, "low": 0.94, "high": 1.06},
        "coverage": {"value": 0.97, "low": 0.95, "high": 0.99},
    }
    return {
        "images_seen": images_seen,
        "stage": growth.stage,
        "level": growth.level,
        "alpha": growth.alpha,
        "measures": measures,
        "floors": floors,
        "leading": "feature_distance",
        "remarks": ["The samples become better: the feature distance fell by 12 % since the last judgement."],
        "judge_s": 1.5,
        **changes,
    }


def write_rows(run_dir, *rows: dict, end: str = "\n") -> None:
    """Write a metrics.jsonl."""
    (run_dir / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + end)


def write_sheets(run_dir, recipe: Recipe, counts, *, height: int = 8, tiles: int = 16) -> None:
    """Write sample grids, and the newest row of each level, as previews do; height is that of the highest level."""
    folder = run_dir / "samples"
    folder.mkdir(exist_ok=True)
    for count in counts:
        level = recipe.schedule.reached(count)[0]
        own = height >> (max(stage.level for stage in recipe.stages) - level)
        waves = torch.linspace(0, 6.3, own)
        at = torch.rand(tiles, 3, 1, 1, generator=torch.Generator().manual_seed(count)) * 6.3
        pictures = ((at + waves[:, None]).sin() + (at * 2 + waves).cos() + 2) * 63
        images = enlarge(pictures.to(torch.uint8), height)
        write_png(folder / f"{count:09d}.png", image_grid(images, round(tiles**0.5)))
        write_png(folder / f"level_{level}.png", image_grid(images[:8], 8))


def save(run_dir, images_seen: int) -> None:
    """Write a checkpoint that holds next to nothing."""
    write_checkpoint(run_dir, images_seen, {}, {"ema/weight": torch.zeros(1)})


def finished_run(run_dir) -> Recipe:
    """Write a run that ran to its end, with everything that a run can have."""
    recipe = write_config(run_dir)
    total = recipe.schedule.total_images
    rows = [loss_row(recipe, count, count / 10) for count in range(100, total + 1, 100)]
    rows += [judgement_row(recipe, count) for count in range(200, total + 1, 200)]
    write_rows(run_dir, *sorted(rows, key=lambda row: row["images_seen"]))
    write_sheets(run_dir, recipe, [*range(200, total, 200), total])
    write_png(run_dir / "progress.png", torch.zeros(3, 16, 64, dtype=torch.uint8))
    write_png(run_dir / "samples" / "closest.png", torch.full((3, 40, 60), 90, dtype=torch.uint8))
    JudgingRecord(best=Judged(total, 1, None, "feature_distance", 1.2)).write(run_dir)
    warning = {"images_seen": 300, "text": "training is slower than it could be"}
    (run_dir / "warnings.jsonl").write_text(json.dumps(warning) + "\n")
    save(run_dir, total)
    return recipe
