"""few_linear with penalties in every 4th step instead of every 16th."""

import few_linear

from progan import R1, R2, Recipe


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    penalties = R1(5e-4, every=4, per_pixel=True), R2(5e-4, every=4, per_pixel=True)
    return few_linear.recipe(resolution, images, n_images, regularizers=penalties)
