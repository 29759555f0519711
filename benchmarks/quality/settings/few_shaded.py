"""presets.few_images without a palette, in bf16."""

import few_images

from progan import Recipe


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    return few_images.recipe(resolution, images, n_images, flat=False)
