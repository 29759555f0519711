"""presets.few_images, in bf16."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from progan import Recipe, presets


def recipe(
    resolution: int,
    images: int,
    n_images: int,
    *,
    architecture: Mapping[str, Any] | None = None,
    stages: Mapping[str, Any] | None = None,
    **training: Any,
) -> Recipe:
    """Return the recipe for a number of real images shown.

    Args:
        resolution: Side of the images in pixels.
        images: Real images shown in all.
        n_images: Different real images.
        architecture: Settings of the networks that differ.
        stages: Settings of every stage that differ.
        **training: Settings of the training that differ.
    """
    few = presets.few_images(resolution, n_images, total_images=images, precision="bf16")
    return replace(
        few,
        architecture=replace(few.architecture, **(architecture or {})),
        stages=tuple(replace(stage, **(stages or {})) for stage in few.stages),
        training=replace(few.training, **training),
    )
