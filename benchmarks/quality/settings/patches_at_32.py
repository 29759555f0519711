"""few_patches with patch scores at every size, up to 32x32 too."""

import few_patches

from progan import Recipe


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    return few_patches.recipe(resolution, images, n_images, architecture={"patch_scores": True})
