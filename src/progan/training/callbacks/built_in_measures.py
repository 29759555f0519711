"""The built-in measures of a judgement: the parts of a comparison, the latent directions, the critic's overfitting."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from progan.metrics.comparison import PARTS, Findings, Part, Reference, compare_latents
from progan.metrics.copying import closest_pairs
from progan.metrics.critic import critic_overfitting
from progan.metrics.diversity import COLLAPSED
from progan.training.callbacks.judged_images import JudgedImages
from progan.training.callbacks.measures import Measure, Measured

# What a part needs of the real images alone. Computed once per level, and its time counts as preparation.
_PREPARED = {"features": ("features", "feature_floors"), "patches": ("patch_floors",), "similarity": ("similarity",)}

_COSTLY = ("patches",)  # seconds per level of the pyramid, and a multiple of that for their floors

_FADING = COLLAPSED / 2  # diversity below which a generator has collapsed even though a level fades in


def built_in_measures() -> dict[str, Measure]:
    """Return the measures of every judgement, by name, in their order."""
    parts: dict[str, Measure] = {name: partial(_compare, name, part) for name, part in PARTS.items()}
    return {**parts, "diversity": _diversity, "dead_directions": _latents, "critic_overfitting": _critic}


def _compare(name: str, part: Part, images: JudgedImages) -> Measured:
    if name in _COSTLY:
        return images.costly(partial(_compared, name, part, images)) or Measured({})
    return _compared(name, part, images)


def _compared(name: str, part: Part, images: JudgedImages) -> Measured:
    reference = images.once(
        "reference",
        lambda: Reference(
            images.real,
            training=images.training,
            held_out=images.held_out,
            n_samples=len(images.samples),
            seed=images.seed,
        ),
    )
    for prepared in _PREPARED.get(name, ()):
        images.once(f"reference {prepared}", partial(getattr, reference, prepared))
    return _measured(part(reference, images.samples), images)


def _diversity(images: JudgedImages) -> Measured:
    """Measure the diversity; while a level fades in it often falls for a while, which is a remark and no alarm."""
    found = _compare("diversity", PARTS["diversity"], images)
    ratio = found.values["diversity"]
    if images.grown.alpha is None or ratio is None or ratio < _FADING:
        return found
    return replace(found, remarks=(*found.remarks, *found.alarms), alarms=())


def _latents(images: JudgedImages) -> Measured:
    generate = images.grown.one_class().images
    return _measured(compare_latents(generate, tuple(images.latents.shape[1:]), seed=images.seed), images)


def _critic(images: JudgedImages) -> Measured:
    scores = images.critic_scores()
    return Measured({} if scores is None else {"critic_overfitting": critic_overfitting(*scores)})


def _measured(found: Findings, images: JudgedImages) -> Measured:
    sheet = None
    if found.copies is not None and found.copies.pairs:
        sheet = closest_pairs(images.samples, images.training, found.copies.pairs)
    return Measured(found.values, found.floors, found.remarks, found.alarms, sheet)
