"""first_draft with the relativistic objective, R1 and R2."""

import first_draft

from progan import R1, R2, Recipe, Relativistic


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    penalties = R1(5e-4, every=16, per_pixel=True), R2(5e-4, every=16, per_pixel=True)
    return first_draft.recipe(resolution, images, n_images, objective=Relativistic(), regularizers=penalties)
