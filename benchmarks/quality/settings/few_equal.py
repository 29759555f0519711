"""few_images with equal learning rates of both networks, as it was eighth."""

from typing import Any

import few_images

from progan import Adam, Recipe


def recipe(resolution: int, images: int, n_images: int, **settings: Any) -> Recipe:
    """Return the recipe for a number of real images shown.

    Args:
        resolution: Side of the images in pixels.
        images: Real images shown in all.
        n_images: Different real images.
        **settings: Settings that differ, as for few_images.
    """
    return few_images.recipe(resolution, images, n_images, **{"adam": Adam(), **settings})
