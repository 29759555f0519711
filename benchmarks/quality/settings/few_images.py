"""presets.few_images, in bf16."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from progan import Recipe, Stage, presets


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


def with_counts(few: Recipe, counts: Sequence[int]) -> Recipe:
    """Return the recipe with other numbers of images at its levels, each of which fades in over the first 30 %.

    Args:
        few: Recipe of few_images, whose last two stages stay.
        counts: Images at each level before these, from level 0 on.
    """
    batch, rate = few.stages[-1].batch_size, few.stages[0].learning_rate
    fades = [round(0.3 * count) if level else 0 for level, count in enumerate(counts)]
    pairs = zip(fades, counts, strict=True)
    grown = [Stage(level, fade, count - fade, batch, rate) for level, (fade, count) in enumerate(pairs)]
    return replace(few, stages=(*grown, *few.stages[-2:]))
