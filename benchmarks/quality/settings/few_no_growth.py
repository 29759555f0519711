"""few_top_heavy without growth: all images at the top level."""

from dataclasses import replace

import few_top_heavy

from progan import Recipe, Stage


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    few = few_top_heavy.recipe(resolution, images, n_images)
    *_, first, second = few.stages
    rest = images - first.hold_images - second.hold_images
    stages = Stage(first.level, 0, rest, first.batch_size, few.stages[0].learning_rate), first, second
    return replace(few, stages=stages)
