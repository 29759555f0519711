"""Train a setting, judge it, and add a row to the log: one experiment on the quality of pictures.

python benchmarks/quality/run.py few_images --data icons/ --resolution 64 --images 150000 --seed 0

A setting is a file in benchmarks/quality/settings/ with a function recipe(resolution, images, n_images) -> Recipe. The
run directory is named after setting, data, resolution, images and seed, so the same command resumes a run that broke
off. At the end, 640 samples are judged against all real images: a row in benchmarks/results/quality.jsonl, and a sheet
in the run directory. Rows stay, those of settings that did not help too.

Training does not depend on the machine's load; minutes do, so that minutes of rows are compared only where nothing
else ran (--quiet says so). Where the classifier of imagenet.py is installed, the row has its measures too.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import progan
from progan import ImageFolder, Recipe, Trainer, image_grid, load_generator, to_uint8, write_png
from progan.metrics import defects, evaluate

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "settings")]  # settings build on one another

import imagenet  # noqa: E402
from measuring import circumstances  # noqa: E402

LOG = HERE.parent / "results" / "quality.jsonl"
SAMPLES = 640


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one experiment."""
    options = parse(arguments)
    images = ImageFolder(options.data, options.resolution)
    recipe, about = recipe_of(options, len(images))
    run_dir = options.out / "-".join(
        [options.setting, options.data.name, f"{options.resolution}px", f"{options.images}", f"seed{options.seed}"]
    )
    minutes, images_seen = train(recipe, images, run_dir, options)
    if images_seen < recipe.schedule.total_images:
        print(f"stopped at {images_seen:,} images; the same command resumes", flush=True)
        return 1
    samples = load_generator(run_dir).sample(SAMPLES, seed=0)
    report_row(options.setting, about, samples, images, run_dir, options, images_seen, minutes)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", help="name of a file in benchmarks/quality/settings/")
    parser.add_argument("--images", type=int, default=150_000, help="real images shown in all")
    add_options(parser)
    return parser.parse_args(arguments)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every experiment."""
    parser.add_argument("--data", type=Path, required=True, help="folder of images")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/quality"), help="where run directories go")
    parser.add_argument("--threads", type=int, help="threads of the processor")
    parser.add_argument("--quiet", action="store_true", help="nothing else runs: minutes may be compared")
    parser.add_argument("--no-log", dest="log", action="store_false", help="print the row only")


def recipe_of(options: argparse.Namespace, n_images: int) -> tuple[Recipe, str]:
    """Return the recipe of a setting and the first line of its docstring."""
    path = HERE / "settings" / f"{options.setting}.py"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.py")))
        raise SystemExit(f"there is no setting {options.setting}; there are {known}")
    setting = importlib.import_module(options.setting)
    recipe: Recipe = setting.recipe(options.resolution, options.images, n_images)
    return recipe, (setting.__doc__ or "").strip().splitlines()[0]


def train(recipe: Recipe, images: ImageFolder, run_dir: Path, options: argparse.Namespace) -> tuple[float, int]:
    """Train, or resume what broke off; return the minutes of all sittings and the images seen."""
    if options.threads:
        torch.set_num_threads(options.threads)
    clock = run_dir / "minutes.json"
    before = json.loads(clock.read_text()) if clock.is_file() else 0.0
    begin = time.perf_counter()
    trainer = Trainer.from_recipe(recipe, seed=options.seed, run_dir=run_dir, device="cpu", judge_every=0)
    try:
        trainer.fit(images)
        if recipe.training.ema.other_half_lives and trainer.images_seen == recipe.schedule.total_images:
            trainer.choose_average(images)  # as a run that is judged does
    finally:
        minutes = before + (time.perf_counter() - begin) / 60
        if run_dir.is_dir():
            clock.write_text(json.dumps(minutes))
    return minutes, trainer.images_seen


def report_row(
    setting: str,
    about: str,
    samples: Tensor,
    images: ImageFolder,
    run_dir: Path,
    options: argparse.Namespace,
    images_seen: int,
    minutes: float,
    **more: Any,
) -> None:
    """Judge samples, print the row, and add it to the log; there may be more to say than of other experiments."""
    row = {"setting": setting, "about": about, "data": options.data.name, "n_images": len(images)}
    row |= {"resolution": options.resolution, "seed": options.seed, "images": images_seen}
    row |= {"minutes": round(minutes, 1), "quiet": options.quiet, **more}
    row |= {**judged(samples, images, run_dir), **circumstances()}
    print(json.dumps(row, indent=1), flush=True)
    if options.log:
        with LOG.open("a") as log:
            log.write(json.dumps(row) + "\n")


def judged(samples: Tensor, images: ImageFolder, run_dir: Path) -> dict[str, Any]:
    """Judge samples against all real images, and write a sheet into the run directory."""
    side = samples.shape[-1]
    sheet = samples[: 16 * 8]
    write_png(run_dir / "sheet.png", image_grid(progan.enlarge(to_uint8(sheet), max(64, side)), columns=16))
    return compared(samples, images)


def compared(samples: Tensor, images: ImageFolder) -> dict[str, Any]:
    """Judge samples against all real images."""
    evaluation = evaluate(samples, images, printed=False)
    values = {name: None if value is None else round(value, 4) for name, value in evaluation.values.items()}
    height, width = samples.shape[2:]
    middle = defects(samples, images, region=(height // 4, width // 4, height * 3 // 4, width * 3 // 4))
    values |= {"fixed_pattern_middle": round(middle.fixed_pattern, 4)}  # faces, without the contours of shoulders
    values |= imagenet.measures(images.images, to_uint8(samples))
    floors = {name: round(floor.value, 4) for name, floor in evaluation.floors.items()}
    floors |= imagenet.measures(images.images[::2], images.images[1::2])
    floors |= {"fixed_pattern_middle": round(middle.fixed_pattern_real, 4)}
    return {"measures": values, "floors": floors, "alarms": list(evaluation.alarms)}


if __name__ == "__main__":
    raise SystemExit(main())
