"""few_images as it was at first: 38 % of the images at the top level."""

from dataclasses import replace
from typing import Any

import few_images

from progan import Recipe, Stage

SHARES = (0.4, 0.3, 0.2, 0.07)  # from the top level down; the last is also for all lower levels


def recipe(resolution: int, images: int, n_images: int, **settings: Any) -> Recipe:
    """Return the recipe for a number of real images shown.

    Args:
        resolution: Side of the images in pixels.
        images: Real images shown in all.
        n_images: Different real images.
        **settings: Settings that differ, as for few_images.
    """
    few = few_images.recipe(resolution, images, n_images, **settings)
    *_, first, second = few.stages
    top, batch, rate = first.level, first.batch_size, few.stages[0].learning_rate
    shares = [SHARES[min(top - level, len(SHARES) - 1)] for level in range(top + 1)]
    counts = [round(share / sum(shares) * images) for share in shares]
    counts[top] = images - sum(counts[:top]) - first.hold_images - second.hold_images
    fades = [round(0.3 * count) if level else 0 for level, count in enumerate(counts)]
    pairs = zip(fades, counts, strict=True)
    grown = [Stage(level, fade, count - fade, batch, rate) for level, (fade, count) in enumerate(pairs)]
    return replace(few, stages=(*grown, first, second))
