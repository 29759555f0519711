"""first_draft with modulation."""

from dataclasses import replace

import first_draft

from progan import Recipe


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    few = first_draft.recipe(resolution, images, n_images)
    return replace(few, architecture=replace(few.architecture, modulation=True))
