"""presets.few_images, in bf16."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from progan import Recipe, Stage, presets


def recipe(
    resolution: int,
    images: int,
    n_images: int,
    *,
    flat: bool = True,
    batch_size: int | None = None,
    rate: float = 1,
    architecture: Mapping[str, Any] | None = None,
    **training: Any,
) -> Recipe:
    """Return the recipe for a number of real images shown.

    Args:
        resolution: Side of the images in pixels.
        images: Real images shown in all.
        n_images: Different real images.
        flat: Whether there is a palette.
        batch_size: Real images per step; None = the preset's.
        rate: Factor of all learning rates.
        architecture: Settings of the networks that differ.
        **training: Settings of the training that differ.
    """
    few = presets.few_images(resolution, n_images, total_images=images, flat=flat, precision="bf16")
    stages = [
        replace(stage, batch_size=batch_size or stage.batch_size, learning_rate=rate * (stage.learning_rate or 0))
        for stage in few.stages
    ]
    return replace(
        few,
        architecture=replace(few.architecture, **(architecture or {})),
        stages=tuple(stages),
        training=replace(few.training, **training),
    )


def shaded(**changed: Any) -> Callable[..., Recipe]:
    """Return `recipe` without a palette and a reconstruction, and with settings of the networks that differ.

    Where the recipe is passed settings, these win.
    """

    def shaded_recipe(
        resolution: int, images: int, n_images: int, *, architecture: Mapping[str, Any] | None = None, **settings: Any
    ) -> Recipe:
        changes = {**changed, **(architecture or {})}
        settings = {"reconstruction": None, **settings}
        return recipe(resolution, images, n_images, flat=False, architecture=changes, **settings)

    return shaded_recipe


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
