"""few_images with 70 % of the images at the top level."""

import few_images

from progan import Recipe

SHARES = (0.7, 0.15, 0.1, 0.05)  # from the top level down; the last is for all lower levels together


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    few = few_images.recipe(resolution, images, n_images)
    *_, first, second = few.stages
    top = first.level
    lower = max(1, top - 2)
    shares = [SHARES[top - level] if top - level < 3 else SHARES[3] / lower for level in range(top + 1)]
    counts = [round(share * images) for share in shares]
    counts[top] -= first.hold_images + second.hold_images
    return few_images.with_counts(few, counts)
