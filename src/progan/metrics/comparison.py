"""The comparison of samples with real images: every measure beside its floor, in numbers and in words.

`evaluate` and the judgements of a training run are both made of these parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from progan.metrics.copying import Copying, copying
from progan.metrics.defects import defects
from progan.metrics.density_coverage import compared_by_balls
from progan.metrics.diversity import collapse_remark, diversity, latent_diversity
from progan.metrics.feature_distance import energy_distance
from progan.metrics.features import BuiltInFeatures, built_in_features, features_of
from progan.metrics.floor import Floor, noise_floor, prediction_interval
from progan.metrics.images import Images, ImageSet
from progan.metrics.kernel_distance import squared_discrepancy
from progan.metrics.ms_ssim import ms_ssim
from progan.metrics.sliced_wasserstein import SlicedWasserstein, patch_distance, sliced_wasserstein
from progan.randomness import keyed_generator

LEADING = "feature_distance"
"""The measure that comes first, and by which checkpoints are compared: the lower the better."""

LEAST_FOR_FLOOR = 16  # images that are split into halves
LEAST_FOR_COPYING = 8
NEIGHBOURS = 5  # that a ball of density and coverage reaches to
SPLITS = 8
PATCH_SPLITS = 4  # of the patches, which cost more
_PATTERN_EXCESS = 0.05  # of the high-pass energy; from there on a fixed pattern is remarked
_CORNER_EXCESS = 3.0  # grey levels of 255


@dataclass(frozen=True)
class Findings:
    """What one part of a comparison has found.

    Attributes:
        values: Numbers by name.
        floors: What real images give, by the name of the number.
        remarks: Sentences that a person understands.
        alarms: Remarks that something is wrong.
        copies: The result of `copying`, from that part.
    """

    values: Mapping[str, float]
    floors: Mapping[str, Floor] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()
    copies: Copying | None = None


class Reference:
    """The real images that samples are compared with, and what the measures need of them, computed once.

    Args:
        real: Real images, (N, C, H, W), uint8 or floats in [0, 1], or a map-style data set of images.
        training: All images that the networks were trained on; None = the real images.
        held_out: Real images that they were not trained on; None = there are none.
        n_samples: Number of samples that will be compared; None = as many as real images.
        seed: Random seed of splits, patches and pairs.
    """

    def __init__(
        self,
        real: Images,
        *,
        training: Images | None = None,
        held_out: Images | None = None,
        n_samples: int | None = None,
        seed: int = 0,
    ) -> None:
        self.real = real
        self.images = ImageSet("real", real)
        self.training: Images = real if training is None else training
        self.held_out = held_out
        self.n_samples: int = len(self.images) if n_samples is None else n_samples
        self.seed = seed

    @property
    def splits(self) -> bool:
        """Whether there are enough images for floors."""
        return len(self.images) >= LEAST_FOR_FLOOR

    @cached_property
    def extractor(self) -> BuiltInFeatures:
        """The built-in features, scaled by the real images."""
        return built_in_features(self.images)

    @cached_property
    def features(self) -> Tensor:
        """Features of the real images, (N, D)."""
        return features_of(self.images, self.extractor)

    @cached_property
    def feature_floors(self) -> dict[str, Floor]:
        """Floors of what is computed from features."""
        if not self.splits:
            return {}
        half = min(self.n_samples, len(self.features) // 2)
        found: dict[str, list[float]] = {}
        for split in range(SPLITS):
            rng = keyed_generator(self.seed, "metrics", f"floor {split}")
            order = torch.from_numpy(rng.permutation(len(self.features)))
            halves = self.features[order[:half]], self.features[order[half : 2 * half]]
            for name, value in feature_measures(*halves).items():
                found.setdefault(name, []).append(value)
        return {name: Floor(*prediction_interval(values), half) for name, values in found.items()}

    @cached_property
    def patch_floors(self) -> dict[str, Floor]:
        """Floors of the sliced Wasserstein distance, of each level and in the mean; a quarter of its directions do."""
        if not self.splits:
            return {}
        found: dict[str, list[float]] = {}

        def distance(a: Images, b: Images) -> float:
            for name, value in patch_measures(patch_distance(a, b, seed=self.seed, repeats=1)).items():
                found.setdefault(name, []).append(value)
            return found["swd"][-1]

        floor = noise_floor(self.real, distance, n=self.n_samples, splits=PATCH_SPLITS, seed=self.seed)
        return {name: Floor(*prediction_interval(values), floor.images) for name, values in found.items()}

    @cached_property
    def similarity(self) -> float:
        """MS-SSIM of random pairs of real images."""
        return ms_ssim(self.real, seed=self.seed)


Part = Callable[[Reference, Images], Findings]


def feature_measures(x: Tensor, y: Tensor) -> dict[str, float]:
    """Return all measures of features of real images, (N, D), and of samples, (M, D)."""
    found = {"feature_distance": 1000 * energy_distance(x, y), "kernel_distance": 1000 * squared_discrepancy(x, y)}
    if len(x) > NEIGHBOURS:
        balls = compared_by_balls(x, y, NEIGHBOURS)
        found |= {"density": balls.density, "coverage": balls.coverage}
    return found


def patch_measures(distance: SlicedWasserstein) -> dict[str, float]:
    """Return a sliced Wasserstein distance by names: its mean, and its levels."""
    return {"swd": distance.mean} | {f"swd_{size}": value for size, value in distance.levels.items()}


def compare_features(reference: Reference, samples: Images) -> Findings:
    """Measure the distances, density and coverage of the built-in features."""
    features = features_of(ImageSet("samples", samples), reference.extractor)
    return Findings(feature_measures(reference.features, features), reference.feature_floors)


def compare_patches(reference: Reference, samples: Images) -> Findings:
    """Measure the sliced Wasserstein distance."""
    distance = sliced_wasserstein(reference.real, samples, seed=reference.seed)
    return Findings(patch_measures(distance), reference.patch_floors)


def compare_similarity(reference: Reference, samples: Images) -> Findings:
    """Measure the MS-SSIM of random pairs beside that of real pairs."""
    own = reference.similarity
    return Findings({"ms_ssim": ms_ssim(samples, seed=reference.seed)}, {"ms_ssim": Floor(own, own, own)})


def compare_diversity(reference: Reference, samples: Images) -> Findings:
    """Measure the diversity of the samples relative to that of the real images."""
    ratio = diversity(samples, reference.real, seed=reference.seed)
    remark = collapse_remark(ratio)
    return Findings(
        {"diversity": ratio}, {"diversity": Floor(1.0, 1.0, 1.0)}, alarms=() if remark is None else (remark,)
    )


def compare_defects(reference: Reference, samples: Images) -> Findings:
    """Measure the two defects."""
    found = defects(samples, reference.real)
    remarks = []
    if found.fixed_pattern > found.fixed_pattern_real + _PATTERN_EXCESS:
        remarks.append(
            f"A fixed pattern, such as stripes or dots: {found.fixed_pattern:.0%} of the fine detail is the same in "
            f"all samples; in the data, {found.fixed_pattern_real:.0%}."
        )
    if found.corners > found.corners_real + _CORNER_EXCESS:
        remarks.append(
            f"Uneven backgrounds: the upper corners of a sample differ by {found.corners:.0f} of 255; in the data, by "
            f"{found.corners_real:.0f}."
        )
    real = {"fixed_pattern": found.fixed_pattern_real, "corners": found.corners_real}
    floors = {name: Floor(value, value, value) for name, value in real.items()}
    return Findings({"fixed_pattern": found.fixed_pattern, "corners": found.corners}, floors, tuple(remarks))


def compare_copies(reference: Reference, samples: Images) -> Findings:
    """Look for copies of training images; sets of fewer than 8 images show nothing and are left out."""
    if min(len(ImageSet("samples", samples)), len(ImageSet("training", reference.training))) < LEAST_FOR_COPYING:
        return Findings({})
    apart = reference.held_out
    if apart is not None and len(ImageSet("held_out", apart, least=1)) < LEAST_FOR_COPYING:
        apart = None
    found = copying(samples, reference.training, held_out=apart, seed=reference.seed)
    usual = found.share_training if found.share_held_out is None else found.share_held_out
    return Findings(
        {"copies": found.share},
        {"copies": Floor(usual, usual, usual)},
        remarks=() if found.alarm else (found.remark,),
        alarms=(found.remark,) if found.alarm else (),
        copies=found,
    )


def compare_latents(generate: Callable[[Tensor], Tensor], latent_shape: tuple[int, ...], *, seed: int = 0) -> Findings:
    """Measure how much pictures change along random directions of the latent space."""
    found = latent_diversity(generate, latent_shape, directions=min(16, torch.Size(latent_shape).numel()), seed=seed)
    remark = collapse_remark(1.0, found)
    return Findings({"dead_directions": found.dead}, alarms=() if remark is None else (remark,))


PARTS: Mapping[str, Part] = {
    "features": compare_features,
    "patches": compare_patches,
    "similarity": compare_similarity,
    "diversity": compare_diversity,
    "defects": compare_defects,
    "copies": compare_copies,
}
"""The parts of a comparison, in the order in which their numbers are shown."""
