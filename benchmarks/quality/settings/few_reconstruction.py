"""few_linear with a reconstruction."""

import few_linear

from progan import Recipe, Reconstruction


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    return few_linear.recipe(resolution, images, n_images, reconstruction=Reconstruction(weight=3.0, components=32))
