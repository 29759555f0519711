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

from progan import CheckpointError, TruncatedGenerator, load_generator
from progan.cli.command import UsageError
from progan.cli.generate import write_samples, write_way
from progan.cli.options import check_new_folder, number_of_pictures, user_path
from progan.cli.output import show
from progan.reports import walk_film


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run-dir", type=user_path, metavar="DIR", help="run directory; its newest checkpoint is used")
    source.add_argument(
        "--checkpoint", type=user_path, metavar="DIR", help="one checkpoint, such as .../checkpoints/000480000"
    )
    parser.add_argument("--n", type=number_of_pictures, help="number of icons (default: 64; 9 with --between)")
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
    try:
        if options.out is not None:
            check_new_folder(options.out)
        grown = load_generator(options.run_dir or options.checkpoint)
        if options.truncation is not None:
            grown = TruncatedGenerator(grown, options.truncation)
        if options.walk is not None:
            show(str(walk_film(grown, options.walk, seed=options.seed)))
        if options.out is None:
            return 0
        if options.between is None:
            said = write_samples(options.out, grown, range(options.n or 64), options.seed)
        else:
            said = write_way(options.out, grown, options.between, options.n or 9, options.seed)
        show(said)
    except (UsageError, CheckpointError, ImportError, OSError, ValueError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
