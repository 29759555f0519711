"""few_linear with two layers between the latent and the palette."""

import few_linear

from progan import Recipe


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    return few_linear.recipe(resolution, images, n_images, architecture={"palette_layers": 2})
