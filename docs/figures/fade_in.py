"""Draw a fade: the same latents at alpha 0, 1/4, 1/2, 3/4 and 1, with the weights from the middle of the fade."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from command_line import parse

from progan import GrownGenerator, enlarge, image_grid, load_generator, to_uint8, write_png

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
ROWS = 4  # latents
HEIGHT = 96  # pixels of each picture


def amid_the_fade(run_dir: Path) -> GrownGenerator:
    """Load the checkpoint nearest to the middle of the last fade."""
    loaded = [load_generator(path) for path in sorted((run_dir / "checkpoints").iterdir())]
    fading = [each for each in loaded if each.alpha is not None]
    if not fading:
        raise SystemExit(f"{run_dir} holds no checkpoint from amid a fade; make the run with small_run.py")
    top = max(each.level for each in fading)
    return min((each for each in fading if each.level == top), key=lambda each: abs((each.alpha or 0.0) - 0.5))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    options = parse(__doc__, arguments)
    grown = amid_the_fade(options.run_dir)
    columns = [GrownGenerator(grown.generator, grown.level, alpha).sample(ROWS, seed=3) for alpha in ALPHAS]
    pictures = torch.stack(columns, dim=1).flatten(0, 1)  # row by row
    write_png(options.out / "fade_in.png", image_grid(enlarge(to_uint8(pictures), HEIGHT), len(ALPHAS), gap=4))


if __name__ == "__main__":
    main()
