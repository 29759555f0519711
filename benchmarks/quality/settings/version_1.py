"""The article's version 1: mel_icon's networks at the full resolution from the start, without MiniBatchStd."""

from dataclasses import replace

import mel_icon

from progan import Recipe, Stage


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    grown = mel_icon.recipe(resolution, images, n_images)
    top, last = grown.architecture.top_level, grown.stages[-2:]
    before = grown.schedule.total_images - sum(stage.images for stage in last)
    first = Stage(top, 0, before, grown.stages[0].batch_size, grown.stages[0].learning_rate)
    # Over groups of one image the standard deviation is 0, as if the layer were not there.
    architecture = replace(grown.architecture, minibatch_std_group=1, minibatch_std_unbiased=False)
    return replace(grown, architecture=architecture, stages=(first, *last))
