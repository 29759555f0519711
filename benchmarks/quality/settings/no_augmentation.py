"""first_draft without augmentation."""

import first_draft

from progan import Recipe


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    return first_draft.recipe(resolution, images, n_images, augment_all=())
