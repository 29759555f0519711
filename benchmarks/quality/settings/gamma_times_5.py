"""first_draft with five times the gamma."""

import first_draft

from progan import R1, Recipe


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    return first_draft.recipe(resolution, images, n_images, regularizers=(R1(25e-4, every=16, per_pixel=True),))
