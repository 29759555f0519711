"""Make the run for the other figures: the example's quick run with all checkpoints kept."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from draw_icons import draw_icons
from train import argument_parser, make_recipe

from progan import Trainer

EVERY = 400  # real images between two checkpoints


def make_run(run_dir: Path, size: int, until: int | None) -> None:
    """Train the example's quick recipe on its icons.

    Args:
        run_dir: Run directory; an existing run is resumed.
        size: Image size in pixels.
        until: Number of real images to train to; None = to the end.
    """
    recipe = make_recipe(argument_parser().parse_args(["--quick"]), size)
    trainer = Trainer.from_recipe(
        recipe, run_dir=run_dir, log_every=80, save_every=EVERY, preview_every=EVERY, keep_every=EVERY, device="cpu"
    )
    trainer.fit(draw_icons(size=size), until=until)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/figures"))
    parser.add_argument("--size", type=int, default=32, help="pixels (default: %(default)s)")
    parser.add_argument("--until", type=int, help="real images (default: all)")
    options = parser.parse_args(arguments)
    make_run(options.run_dir, options.size, options.until)


if __name__ == "__main__":
    main()
