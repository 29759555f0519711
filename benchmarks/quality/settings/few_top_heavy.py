"""few_images with 70 % of the images at the top level."""

from dataclasses import replace

import few_images

from progan import Recipe, Stage

SHARES = (0.7, 0.15, 0.1, 0.05)  # from the top level down; the last is for all lower levels together


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    few = few_images.recipe(resolution, images, n_images)
    *_, first, second = few.stages
    top, batch, rate = first.level, first.batch_size, few.stages[0].learning_rate
    lower = max(1, top - 2)
    shares = [SHARES[top - level] if top - level < 3 else SHARES[3] / lower for level in range(top + 1)]
    counts = [round(share * images) for share in shares]
    counts[top] -= first.hold_images + second.hold_images
    fades = [round(0.3 * count) if level else 0 for level, count in enumerate(counts)]
    pairs = zip(fades, counts, strict=True)
    grown = [Stage(level, fade, count - fade, batch, rate) for level, (fade, count) in enumerate(pairs)]
    return replace(few, stages=(*grown, first, second))
