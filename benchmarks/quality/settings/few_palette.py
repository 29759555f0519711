"""few_linear with patch scores in batches of 8 above 32x32, and drawn as it was trained, as it was sixth."""

import few_linear

from progan import Recipe


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    large = resolution > 32
    architecture = {"patch_scores": large, "sharpness": 1.0, "supersampling": 1}
    return few_linear.recipe(resolution, images, n_images, batch_size=8 if large else None, architecture=architecture)
