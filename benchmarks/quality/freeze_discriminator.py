"""Does it help to freeze the discriminator's layers next to the images when a run is fine-tuned (Mo et al. 2020)?

python benchmarks/quality/freeze_discriminator.py --out runs/freeze

A source is trained on 640 drawn portraits at 32x32, and then fine-tuned on 100 drawn animals, with the newest 0 to 3
levels of the discriminator frozen (their blocks and layers from RGB), and from scratch. Each is judged at several
counts of images against 500 animals that no run has seen. What it found: the more is frozen, the worse, at every count;
so the package does not offer it. What is there already is not computed again; the results are
written to benchmarks/results/freeze_discriminator.json.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from progan import Recipe, Stage, Trainer, image_grid, presets, to_uint8, write_png
from progan.metrics import copying, evaluate

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "examples/mel_icon"), str(HERE.parent)]

from draw_icons import draw_icons  # noqa: E402
from measuring import circumstances  # noqa: E402

RESULTS = HERE.parent / "results" / "freeze_discriminator.json"
SIDE, TOP = 32, 3
CHANNELS = (64, 48, 32, 24)
N_TRAINED, N_UNSEEN = 100, 500
COUNTS = (1500, 3000, 6000)  # images shown when a run is judged
SETTINGS = ("frozen 0", "frozen 1", "frozen 2", "frozen 3", "scratch")
MEASURES = ("feature_distance", "swd", "ms_ssim", "diversity")
FURS = ("f0a040", "8a5a3a", "d8d0c8", "4a4a52", "e8c890", "b06a48")
GROUNDS = ("cfe8cf", "f4e0e8", "d8e4f8", "fff0c8", "e4d8f4", "e0e0e0")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the source, fine-tune it in every setting, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/freeze"), help="where run directories go")
    parser.add_argument("--source-images", type=int, default=12_000, help="images shown to the source")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--settings", nargs="+", default=SETTINGS, choices=SETTINGS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    animals = draw_animals(N_TRAINED + N_UNSEEN)
    source = train_source(options.out / "source", options.source_images)
    for seed in range(options.seeds):
        for setting in options.settings:
            path = options.out / f"{setting.replace(' ', '_')}-seed{seed}.json"
            if not path.is_file():
                path.write_text(json.dumps(judged(setting, seed, source, animals, options.out)))
    rows = [json.loads(path.read_text()) for path in sorted(options.out.glob("*-seed*.json"))]
    results = {"source_images": options.source_images, "images": N_TRAINED, **summary(rows), "rows": rows}
    RESULTS.write_text(json.dumps(results | circumstances(), indent=1) + "\n")
    print(json.dumps(summary(rows), indent=1))


def train_source(run_dir: Path, images: int) -> Path:
    """Train the source, or resume what broke off; return its run directory."""
    recipe = presets.few_images(SIDE, 640, total_images=images, channels=CHANNELS, precision="bf16")
    trainer = Trainer.from_recipe(recipe, run_dir=run_dir, device="cpu", judge_every=0, preview_every=10**6)
    trainer.fit(draw_icons(640, size=SIDE))
    return run_dir


def judged(setting: str, seed: int, source: Path, animals: Tensor, out: Path) -> dict[str, Any]:
    """Train on the first animals in a setting; return the measures at each count, against the animals not seen."""
    trained, unseen = animals[:N_TRAINED], animals[N_TRAINED:]
    recipe = presets.few_images(SIDE, N_TRAINED, total_images=COUNTS[-1], channels=CHANNELS, precision="bf16")
    if setting != "scratch":
        recipe = replace(recipe, stages=(Stage(TOP, 0, COUNTS[-1], 16, 1e-3),))
    trainer = trainer_of(recipe, setting, seed, source)
    found: dict[str, Any] = {"setting": setting, "seed": seed}
    begin = time.process_time()
    seconds = 0.0
    for count in COUNTS:
        before = time.process_time()
        trainer.fit(trained, until=count)
        seconds += time.process_time() - before
        if trainer.grown().level == TOP:
            samples = trainer.grown().sample(N_UNSEEN, seed=seed)
            values = evaluate(samples, unseen, printed=False).values
            found[str(count)] = {name: round(float(values[name] or math.nan), 4) for name in MEASURES}
            found[str(count)]["copies"] = copying(samples, trained, held_out=unseen).share
    write_png(out / f"{setting.replace(' ', '_')}-seed{seed}.png", image_grid(to_uint8(samples[:64]), columns=16))
    print(setting, seed, round(time.process_time() - begin), "s", found, flush=True)
    return found | {"training_s": round(seconds, 1)}


def trainer_of(recipe: Recipe, setting: str, seed: int, source: Path) -> Trainer:
    """Return a trainer whose discriminator is frozen at its newest levels, as the setting says."""
    generator, discriminator = recipe.build(seed=seed)
    if setting == "scratch":
        return Trainer(generator, discriminator, recipe.schedule, recipe.training, seed=seed, device="cpu")
    for level in range(TOP, TOP - int(setting.split()[1]), -1):
        discriminator.blocks[level].requires_grad_(False)
        discriminator.from_rgb[level].requires_grad_(False)
    return Trainer(*(generator, discriminator, recipe.schedule, recipe.training), seed=seed, device="cpu", start=source)


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and standard deviation over the seeds of every measure, by setting and count."""
    found: dict[str, Any] = {}
    for setting in SETTINGS:
        own = [row for row in rows if row["setting"] == setting]
        for count in map(str, COUNTS):
            if own and all(count in row for row in own):
                found.setdefault(setting, {})[count] = {
                    name: [round(part, 3) for part in spread([row[count][name] for row in own])]
                    for name in (*MEASURES, "copies")
                }
    return {"mean_and_deviation": found}


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def draw_animals(n: int, seed: int = 0) -> Tensor:
    """Draw heads of animals from the front, with ears, eyes, nose and stripes: (n, 3, 32, 32), uint8."""
    return torch.stack([draw_animal(random.Random(f"{seed} {index}")) for index in range(n)])


def draw_animal(rng: random.Random) -> Tensor:
    """Draw one animal: (3, 32, 32), uint8."""
    side = 4 * SIDE
    fur, ground = (f"#{rng.choice(table)}" for table in (FURS, GROUNDS))
    image = Image.new("RGB", (side, side), ground)
    draw = ImageDraw.Draw(image)
    x, y, width, height = side / 2, side * 0.56, rng.uniform(38, 48), rng.uniform(32, 42)

    def oval(cx: float, cy: float, rx: float, ry: float, colour: str) -> None:
        draw.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), fill=colour)

    ears = rng.choice(["pointed", "round", "long"])
    for sign in (-1, 1):
        if ears == "pointed":
            tip = (x + sign * width * 0.85, y - height * 1.5)
            feet = [(x + sign * width * share, y - height * up) for share, up in ((0.95, 0.2), (0.15, 0.8))]
            draw.polygon([tip, *feet], fill=fur)
        elif ears == "round":
            oval(x + sign * width * 0.75, y - height * 0.85, 15, 15, fur)
        else:
            oval(x + sign * width * 0.5, y - height * 1.15, 9, 26, fur)
    oval(x, y, width, height, fur)
    if rng.random() < 0.4:
        for line in (-10, 0, 10):
            draw.line((x + line, y - height, x + line, y - height * 0.55), fill="#202020", width=4)
    oval(x, y + height * 0.4, width * 0.5, height * 0.45, "#fff8ee")
    eye = f"#{rng.choice(['202020', '2f6f3f', '3050a0'])}"
    for sign in (-1, 1):
        oval(x + sign * width * 0.42, y - height * 0.15, 7, 7, "#ffffff")
        oval(x + sign * width * 0.42, y - height * 0.15, 5, 5, eye)
    oval(x, y + height * 0.2, 6, 4, "#302020")
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous()


if __name__ == "__main__":
    main()
