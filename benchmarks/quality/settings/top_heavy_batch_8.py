"""few_top_heavy at batch 8."""

import few_top_heavy

from progan import Recipe


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    return few_top_heavy.recipe(resolution, images, n_images, batch_size=8)
