"""few_equal with a palette that is linear in the latent, and without a reconstruction, as it was seventh."""

from collections.abc import Mapping
from typing import Any

import few_equal

from progan import Recipe


def recipe(
    resolution: int, images: int, n_images: int, *, architecture: Mapping[str, Any] | None = None, **settings: Any
) -> Recipe:
    """Return the recipe for a number of real images shown.

    Args:
        resolution: Side of the images in pixels.
        images: Real images shown in all.
        n_images: Different real images.
        architecture: Settings of the networks that differ.
        **settings: Settings that differ, as for few_images.
    """
    linear = {"palette_layers": 0, **(architecture or {})}
    settings = {"reconstruction": None, **settings}
    return few_equal.recipe(resolution, images, n_images, architecture=linear, **settings)
