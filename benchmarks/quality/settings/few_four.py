"""few_whole in batches of 4 at every size."""

import few_whole

from progan import Recipe


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    return few_whole.recipe(resolution, images, n_images, batch_size=4)
