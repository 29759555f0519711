"""First draft of few_images: karras2018's body, narrow low levels, NonSaturating with lazy R1, light augmentation."""

from dataclasses import replace
from typing import Any

import few_first

from progan import R1, Colour, Ema, NonSaturating, Recipe, Translate


def recipe(resolution: int, images: int, n_images: int, **training: Any) -> Recipe:
    """Return the recipe for a number of real images shown.

    Args:
        resolution: Side of the images in pixels.
        images: Real images shown in all.
        n_images: Different real images.
        **training: Settings of the training that differ.
    """
    few = few_first.recipe(resolution, images, n_images)
    settings = {
        "objective": NonSaturating(),
        "regularizers": (R1(5e-4, every=16, per_pixel=True),),
        "ema": Ema(0.5, batch=5000, ramp_up=0.05),
        "augment_all": (Translate(0.125), Colour()),
        "augment_strength": 0.2,
    }
    return replace(
        few,
        architecture=replace(few.architecture, modulation=False),
        training=replace(few.training, **{**settings, **training}),
    )
