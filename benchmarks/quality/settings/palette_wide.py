"""few_linear with 1.5 times the channels at every level."""

import few_linear

from progan import Recipe, presets


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    widths = presets.few_images(resolution, n_images, total_images=images).architecture.channels
    wide = {"channels": tuple(width * 3 // 2 for width in widths)}
    return few_linear.recipe(resolution, images, n_images, architecture=wide)
