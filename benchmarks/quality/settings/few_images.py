"""presets.few_images, in bf16."""

from progan import Recipe, presets


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    return presets.few_images(resolution, n_images, total_images=images, precision="bf16")
