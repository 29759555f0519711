"""Draw a blind sheet: pictures of several sources, shuffled and numbered, and beside it the key that tells them apart.

python benchmarks/quality/blind.py recipe=runs/my_icons article=runs/mel_icon real=my_icons/ --resolution 64

A source is a run directory or a folder of pictures. Look at blind.png first, write down for each number which source it
is, and then open blind.json, whose lists hold the numbers of each source.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from progan import ImageFolder, enlarge, image_grid, load_generator, to_uint8, write_png
from progan.reports.captions import captioned


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the sheet and its key."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", metavar="NAME=PATH", help="run directories and folders of pictures")
    parser.add_argument("--resolution", type=int, default=64, help="of the pictures in folders (default: %(default)s)")
    parser.add_argument("--each", type=int, default=24, help="pictures of each source (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("blind"), help="the files' path, without its suffix")
    options = parser.parse_args(arguments)
    draw = random.Random(options.seed)
    pictures: list[tuple[str, Tensor]] = []
    for source in options.sources:
        name, _, path = source.partition("=")
        pictures += [(name, picture) for picture in some_of(Path(path), options, draw)]
    draw.shuffle(pictures)
    sheet = [captioned(picture, str(index)) for index, (_, picture) in enumerate(pictures)]
    write_png(options.out.with_suffix(".png"), image_grid(torch.stack(sheet), columns=12, gap=2))
    key: dict[str, list[int]] = {}
    for index, (name, _) in enumerate(pictures):
        key.setdefault(name, []).append(index)
    options.out.with_suffix(".json").write_text(json.dumps(key, indent=1) + "\n")
    return 0


def some_of(path: Path, options: argparse.Namespace, draw: random.Random) -> Tensor:
    """Return pictures of a run or a folder, (each, C, H, W), enlarged to at least 64 px."""
    if (path / "config.json").is_file():
        pictures = to_uint8(load_generator(path).sample(options.each, seed=options.seed))
    else:
        folder = ImageFolder(path, options.resolution)
        pictures = torch.stack([folder.images[index] for index in draw.sample(range(len(folder)), options.each)])
    return enlarge(pictures, 64)


if __name__ == "__main__":
    raise SystemExit(main())
