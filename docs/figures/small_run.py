"""Make the run for the other figures: a small and short `mel_icon`, with all checkpoints kept."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from draw_icons import draw_icons

from progan import Recipe, Trainer, presets

EVERY = 400  # real images between two checkpoints
CHANNELS = (64, 48, 24, 12)
LEVEL_IMAGES = (1_600, 3_200, 4_800, 2_000)  # the last number is also for all higher levels
HOLD_IMAGES = (4_000, 800)  # at the top, at the full and at a fifth of the learning rate


def small_recipe(size: int) -> Recipe:
    """Return mel_icon's recipe with narrow networks and few images.

    Args:
        size: Image size in pixels.
    """
    levels = (size // 4).bit_length()
    recipe = presets.mel_icon(size, channels=(CHANNELS + CHANNELS[-1:] * levels)[:levels])
    counts = [LEVEL_IMAGES[min(level, len(LEVEL_IMAGES) - 1)] for level in range(levels)]
    stages = tuple(
        replace(stage, fade_images=count if stage.fade_images else 0, hold_images=count if stage.hold_images else 0)
        for stage, count in zip(recipe.stages, [*counts, *HOLD_IMAGES], strict=True)
    )
    return replace(recipe, stages=stages)


def make_run(run_dir: Path, size: int, until: int | None) -> None:
    """Train the small recipe on the example's icons.

    Args:
        run_dir: Run directory; an existing run is resumed.
        size: Image size in pixels.
        until: Number of real images to train to; None = to the end.
    """
    trainer = Trainer.from_recipe(
        small_recipe(size),
        run_dir=run_dir,
        log_every=80,
        save_every=EVERY,
        preview_every=EVERY,
        keep_every=EVERY,
        device="cpu",
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
