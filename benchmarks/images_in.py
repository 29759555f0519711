"""Measure image input: check, pack, memory, and how long training waits for data. Prints JSON.

python benchmarks/images_in.py [--parts check pack memory wait] [--out benchmarks/results/images_in.json]

The pictures are the example's icons, 256x256, as PNG; beyond 640 they are recoloured and mirrored. Run nothing else on
the machine.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import PIL
import torch
from PIL import Image

import progan
from progan import ImageFolder, Schedule, Stage, Trainer, presets
from progan.data import Pack, check, pack

ROOT = Path(__file__).resolve().parents[1]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# Peak memory above that of the import, in MB. Not ru_maxrss, which a process inherits from its parent.
MEMORY = """
import sys
import progan
from progan.data import pack

def resident(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) / 1000

with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = resident("VmRSS")
images = pack(sys.argv[1], sys.argv[2], 256, progress=False).images
images[[5, 9, 300]].float().mean()
print(resident("VmHWM") - before)
"""


def make_pictures(folder: Path, n: int) -> Path:
    """Draw 640 icons, and recolour them to get n."""
    sys.path.insert(0, str(ROOT / "examples/mel_icon"))
    from draw_icons import draw_icon

    folder.mkdir()
    with ThreadPoolExecutor(CORES) as pool:
        icons = list(pool.map(draw_icon, range(min(n, 640))))
        orders = list(itertools.permutations(range(3)))

        def save(index: int) -> None:
            picture, variant = icons[index % 640], index // 640
            bands = [picture.getchannel(band) for band in orders[variant % 6]]
            if variant // 6 % 3:
                bands[variant // 6 % 3] = bands[variant // 6 % 3].point(lambda value: 255 - value)
            picture = Image.merge("RGB", bands)
            if variant // 18 % 2:
                picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            picture.save(folder / f"{index:05d}.png")

        list(pool.map(save, range(n)))
    return folder


def seconds(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure_check(few: Path, many: Path, n: int) -> dict[str, Any]:
    check(few, printed=False)
    times = [seconds(lambda: check(few, printed=False)) for _ in range(3)]
    long = seconds(lambda: check(many, printed=False))
    return {
        "check_640_s": round(statistics.median(times), 2),
        f"check_{n}_s": round(long, 1),
        "time_per_image_ratio": round(long / n / (statistics.median(times) / 640), 2),
    }


def measure_pack(few: Path, beside: Path) -> dict[str, Any]:
    times = [seconds(lambda: pack(few, beside, 256, progress=False)) for _ in range(3)]
    rate = 640 / statistics.median(times)
    opened = seconds(lambda: Pack(beside))
    return {"pack_images_per_s_and_core": round(rate / CORES), "cores": CORES, "open_640_s": round(opened, 4)}


def measure_memory(folders: dict[int, Path], beside: Path) -> dict[str, Any]:
    taken = {}
    for n, folder in folders.items():
        command = [sys.executable, "-c", MEMORY, str(folder), str(beside)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        taken[f"pack_{n}_mb_above_import"] = round(float(printed))
        taken[f"open_{n}_s"] = round(seconds(lambda: Pack(beside)), 4)
    return taken


def measure_wait(folder: Path, beside: Path, device: str) -> dict[str, Any]:
    """Measure the share of a step's time spent waiting for data, by level."""
    recipe = presets.mel_icon()
    read = ImageFolder(folder, 256)
    result = {}
    for name, data in (("tensor", read.images), ("folder", read), ("pack", pack(folder, beside, 256, progress=False))):
        shares = []
        for level in range(7):
            generator, discriminator = recipe.build()
            schedule = Schedule([Stage(level, hold_images=1000)])
            trainer = Trainer(generator, discriminator, schedule, recipe.training, device=device, progress=False)
            feed = trainer._open(data)
            waited = whole = 0.0
            batches = feed.batches(0, 8 * max(5, 120 >> level), lambda _: 8)  # more than an epoch at 4x4
            for step in itertools.count():
                began = time.perf_counter()
                batch = next(batches, None)
                there = time.perf_counter()
                if batch is None:
                    break
                trainer.step(trainer._engine.to_level(batch.images, level))
                if trainer.device.type == "cuda":
                    torch.cuda.synchronize()
                if step:  # the first one warms up
                    waited, whole = waited + there - began, whole + time.perf_counter() - began
            shares.append(round(100 * waited / whole, 3))
        result[name] = shares
    return {"wait_percent_by_level": result, "device": device}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["check", "pack", "memory", "wait"])
    parser.add_argument("--many", type=int, default=10_000, help="number of pictures for the larger check")
    parser.add_argument("--most", type=int, default=20_000, help="number of pictures for the largest pack")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        few, beside = make_pictures(here / "few", 640), here / "a.pack"
        if "check" in options.parts:
            result |= measure_check(few, make_pictures(here / "many", options.many), options.many)
        if "pack" in options.parts:
            result |= measure_pack(few, beside)
        if "memory" in options.parts:
            folders = {n: make_pictures(here / f"memory_{n}", n) for n in (1000, options.most)}
            result |= measure_memory(folders, beside)
        if "wait" in options.parts:
            result |= measure_wait(few, beside, options.device)
    result |= {
        "progan": progan.__version__,
        "torch": torch.__version__,
        "pillow": PIL.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {CORES} cores, {torch.get_num_threads()} threads",
        "date": datetime.date.today().isoformat(),
    }
    if options.out is not None and options.out.exists():  # keep earlier measurements of other parts
        result = json.loads(options.out.read_text()) | result
    text = json.dumps(result, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
