"""Generate new icons from a trained run: N PNG files and a sheet of them.

    python examples/mel_icon/generate.py --run-dir runs/mel_icon_quick --n 64 --out icons/

The k-th icon depends only on the seed and k, not on --n. To interpolate between two of the icons:

    python examples/mel_icon/generate.py --run-dir runs/mel_icon_quick --between 3 17 --out walk/

To film a closed walk through the first of them, as .png, .gif, .webp or .mp4:

    python examples/mel_icon/generate.py --run-dir runs/mel_icon_quick --walk walk.png
"""

import argparse
import sys
from collections.abc import Sequence

import torch
from paths import user_path

from progan import CheckpointError, TruncatedGenerator, enlarge, image_grid, load_generator, to_uint8, write_png
from progan.reports import walk_film


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run-dir", type=user_path, metavar="DIR", help="run directory; its newest checkpoint is used")
    source.add_argument(
        "--checkpoint", type=user_path, metavar="DIR", help="one checkpoint, such as .../checkpoints/000480000"
    )
    parser.add_argument("--n", type=int, help="number of icons (default: 64; 9 with --between)")
    parser.add_argument(
        "--between", type=int, nargs=2, metavar="K", help="interpolate between two of the icons; the sheet has one row"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed of the latents (default: %(default)s)")
    parser.add_argument(
        "--truncation", type=float, metavar="PSI", help="0 to 1: the lower, the more typical and the more alike"
    )
    parser.add_argument("--walk", type=user_path, metavar="FILE", help="film of a closed walk through 7 of the icons")
    parser.add_argument("--out", type=user_path, metavar="DIR", help="new or empty folder for the files")
    options = parser.parse_args(arguments)
    if options.out is None and options.walk is None:
        parser.error("pass --out DIR for icons, --walk FILE for a film, or both")
    if options.out is not None and options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        parser.error(f"--out {options.out} exists and is not an empty folder; pass a new one")
    try:
        grown = load_generator(options.run_dir or options.checkpoint)
        if options.truncation is not None:
            grown = TruncatedGenerator(grown, options.truncation)
        if options.walk is not None:
            print(walk_film(grown, options.walk, seed=options.seed))
        if options.out is None:
            return 0
        if options.between is None:
            images = grown.sample(64 if options.n is None else options.n, seed=options.seed)
        else:
            z = grown.latents(options.between, seed=options.seed)
            walk = grown.latents_between(z[0], z[1], 9 if options.n is None else options.n)
            images = torch.cat([grown.images(part) for part in torch.split(walk, 64)])
        icons = to_uint8(images)
        options.out.mkdir(parents=True, exist_ok=True)
    except (CheckpointError, ImportError, OSError, ValueError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    digits = max(4, len(str(len(icons) - 1)))
    for index, icon in enumerate(icons):
        write_png(options.out / f"{index:0{digits}d}.png", icon)
    columns = max(1, round(len(icons) ** 0.5)) if options.between is None else len(icons)
    write_png(options.out / "sheet.png", image_grid(enlarge(icons, 96), columns, gap=2))
    print(f"{len(icons)} icons of {icons.shape[2]}x{icons.shape[3]} and sheet.png are in {options.out}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
