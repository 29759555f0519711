"""few_whole in batches of 8 at every size, as it was third."""

from typing import Any

import few_whole

from progan import Recipe


def recipe(resolution: int, images: int, n_images: int, **settings: Any) -> Recipe:
    """Return the recipe for a number of real images shown.

    Args:
        resolution: Side of the images in pixels.
        images: Real images shown in all.
        n_images: Different real images.
        **settings: Settings that differ, as for few_whole.
    """
    return few_whole.recipe(resolution, images, n_images, batch_size=8, **settings)
