"""Measure the time and the peak of memory of each measure on sets of images, each in a process of its own. Prints JSON.

python benchmarks/measures.py [--images 640] [--size 64] [--measures NAME ...] [--out FILE]

Both sets are random pictures of soft colours and edges, made when they are asked for, so that the images themselves
take no memory. Memory is the peak above that of a process which has imported progan and made the sets.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from measuring import peak_of_memory, report, start_of_memory, timed
from torch import Tensor

from progan import metrics
from progan.randomness import uniform

_PICTURES = 64  # that all others are cut from


class Pictures(torch.utils.data.Dataset[Tensor]):
    """A set of pictures, (3, size, size), uint8, each another part of a few random ones."""

    def __init__(self, images: int, size: int, seed: int) -> None:
        self._images, self._size, self._seed = images, size, seed
        colours = F.interpolate(uniform((_PICTURES, 3, 9, 9), 0, "plan", 0), size=(size, size), mode="bicubic")
        edges = F.interpolate(uniform((_PICTURES, 1, 5, 5), 0, "plan", 1), size=(size, size)) > 0.5
        self._pictures = ((colours.clamp(0, 1) + 0.3 * edges) / 1.3 * 255).to(torch.uint8)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return self._images

    def __getitem__(self, index: int) -> Tensor:
        """Return a picture, rolled by an amount of its own."""
        drawn = torch.randint(self._size, (2,), generator=torch.Generator().manual_seed(2 * index + self._seed))
        return self._pictures[index % _PICTURES].roll((int(drawn[0]), int(drawn[1])), (1, 2))


def work(name: str, real: Pictures, fake: Pictures) -> Callable[[], object]:
    """Return what a measure does with two sets."""
    if name == "ms_ssim":
        return lambda: metrics.ms_ssim(fake)
    if name == "defects":
        return lambda: metrics.defects(fake, real)
    if name == "copying":
        return lambda: metrics.copying(fake, real)
    if name == "evaluate":
        return lambda: metrics.evaluate(fake, real, printed=False)
    measure = getattr(metrics, name)
    return lambda: measure(real, fake)


ALL = (
    "feature_distance",
    "sliced_wasserstein",
    "ms_ssim",
    "kernel_distance",
    "density_coverage",
    "copying",
    "diversity",
    "defects",
    "evaluate",
)


def main() -> None:
    """Measure in processes of their own, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=640, help="of each set")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--measures", nargs="+", choices=ALL, default=ALL, help="one alone is measured in this process")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if len(options.measures) == 1:
        real, fake = (Pictures(options.images, options.size, seed) for seed in (0, 1))
        before = start_of_memory("cpu")
        seconds = timed(work(options.measures[0], real, fake))
        print(json.dumps({"seconds": round(seconds, 1), "mb": peak_of_memory(before, "cpu")}))
        return
    result = {}
    for name in options.measures:
        command = [sys.executable, __file__, "--images", f"{options.images}", "--size", f"{options.size}"]
        found = subprocess.run([*command, "--measures", name], check=True, stdout=subprocess.PIPE, text=True)
        result[name] = json.loads(found.stdout)
        print(name, result[name], file=sys.stderr, flush=True)
    report({f"{options.images} images of {options.size} px": result}, options.out)


if __name__ == "__main__":
    main()
