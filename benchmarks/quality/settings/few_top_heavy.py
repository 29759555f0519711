"""few_images as it was second: batches of 16 at half the learning rates."""

from typing import Any

import few_whole

from progan import Recipe


def recipe(
    resolution: int, images: int, n_images: int, *, batch_size: int = 16, rate: float = 1, **settings: Any
) -> Recipe:
    """Return the recipe for a number of real images shown.

    Args:
        resolution: Side of the images in pixels.
        images: Real images shown in all.
        n_images: Different real images.
        batch_size: Real images per step.
        rate: Factor of all learning rates.
        **settings: Settings that differ, as for few_whole.
    """
    return few_whole.recipe(resolution, images, n_images, batch_size=batch_size, rate=rate / 2, **settings)
