"""few_images without patch scores and palette, as it was fourth."""

from collections.abc import Mapping
from typing import Any

import few_patches

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
        **settings: Settings that differ, as for few_patches.
    """
    return few_patches.recipe(
        resolution, images, n_images, architecture={"patch_scores": False, **(architecture or {})}, **settings
    )
