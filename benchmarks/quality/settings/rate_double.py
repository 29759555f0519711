"""few_patches at twice the learning rates."""

import few_patches

from progan import Recipe


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    return few_patches.recipe(resolution, images, n_images, rate=2)
