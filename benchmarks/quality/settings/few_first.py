"""few_images as it was at first: 38 % of the images at the top level."""

from typing import Any

import few_images
import few_top_heavy

from progan import Recipe

SHARES = (0.4, 0.3, 0.2, 0.07)  # from the top level down; the last is also for all lower levels


def recipe(resolution: int, images: int, n_images: int, **settings: Any) -> Recipe:
    """Return the recipe for a number of real images shown.

    Args:
        resolution: Side of the images in pixels.
        images: Real images shown in all.
        n_images: Different real images.
        **settings: Settings that differ, as for few_top_heavy.
    """
    few = few_top_heavy.recipe(resolution, images, n_images, **settings)
    *_, first, second = few.stages
    top = first.level
    shares = [SHARES[min(top - level, len(SHARES) - 1)] for level in range(top + 1)]
    counts = [round(share / sum(shares) * images) for share in shares]
    counts[top] = images - sum(counts[:top]) - first.hold_images - second.hold_images
    return few_images.with_counts(few, counts)
