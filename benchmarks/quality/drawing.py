"""Judge what runs with a palette draw in several ways: how sharply, and at how many points of a pixel. Prints JSON.

python benchmarks/quality/drawing.py runs/a runs/b --data icons/ --resolution 64 --drawings 1x1 4x2 [--out FILE]

A drawing is SHARPNESS x SUPERSAMPLING, such as 4x2: see `progan.Architecture`. Every run draws the samples of the same
latents, which are judged as run.py judges them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import run
import torch
from measuring import report

from progan import ImageFolder, load_generator
from progan.networks.drawing import Drawing


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge each run in each drawing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories")
    parser.add_argument("--data", type=Path, required=True, help="folder of the real images")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--drawings", nargs="+", type=drawing, default=[Drawing()], metavar="SxP")
    parser.add_argument("--threads", type=int, help="threads of the processor")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    images = ImageFolder(options.data, options.resolution)
    found: dict[str, dict[str, Any]] = {}
    for run_dir in options.runs:
        grown = load_generator(run_dir)
        for drawn in options.drawings:
            grown.drawing = drawn
            samples = grown.sample(run.SAMPLES, seed=0)
            name = f"{run_dir.name}, {drawn.sharpness:g}x{drawn.supersampling}"
            found[name] = run.compared(samples, images)["measures"]
            print(name, found[name], file=sys.stderr, flush=True)
    report({"drawings": found}, options.out)
    return 0


def drawing(text: str) -> Drawing:
    """Parse a drawing."""
    sharpness, points = text.split("x")
    return Drawing(float(sharpness), int(points))


if __name__ == "__main__":
    raise SystemExit(main())
