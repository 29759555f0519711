"""few_linear at half the learning rates."""

import few_linear

from progan import Recipe


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    return few_linear.recipe(resolution, images, n_images, rate=0.5)
