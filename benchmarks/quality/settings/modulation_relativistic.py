"""first_draft with modulation, the relativistic objective, R1 and R2."""

from dataclasses import replace

import relativistic

from progan import Recipe


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    few = relativistic.recipe(resolution, images, n_images)
    return replace(few, architecture=replace(few.architecture, modulation=True))
