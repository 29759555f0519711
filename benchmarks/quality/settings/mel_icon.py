"""The article's recipe, its stages scaled to the number of images."""

from dataclasses import replace

from progan import Recipe, presets


def recipe(resolution: int, images: int, n_images: int) -> Recipe:
    """Return the recipe for a number of real images shown."""
    del n_images
    article = presets.mel_icon(resolution)
    return replace(article, stages=article.schedule.scaled(images / article.schedule.total_images).stages)
