"""Measures of generated pictures against real ones, made for sets of a few hundred images.

Each measure goes from features to statistics to a number, in three small functions. May import operations, randomness
and the argument checks.
"""

from progan.metrics.copying import Copying, Pair, closest_pairs, copying
from progan.metrics.critic import critic_overfitting
from progan.metrics.defects import Defects, defects
from progan.metrics.density_coverage import DensityCoverage, density_coverage
from progan.metrics.diversity import LatentDiversity, collapse_remark, diversity, latent_diversity
from progan.metrics.evaluation import Evaluation, evaluate
from progan.metrics.feature_distance import feature_distance
from progan.metrics.features import RandomFilters
from progan.metrics.floor import Floor, compare_with_floor, noise_floor
from progan.metrics.inception import InceptionScores, inception_features, inception_scores
from progan.metrics.kernel_distance import kernel_distance
from progan.metrics.ms_ssim import ms_ssim
from progan.metrics.pyramid import pyramid_descriptors
from progan.metrics.sliced_wasserstein import SlicedWasserstein, sliced_wasserstein

__all__ = [
    "Copying",
    "Defects",
    "DensityCoverage",
    "Evaluation",
    "Floor",
    "InceptionScores",
    "LatentDiversity",
    "Pair",
    "RandomFilters",
    "SlicedWasserstein",
    "closest_pairs",
    "collapse_remark",
    "compare_with_floor",
    "copying",
    "critic_overfitting",
    "defects",
    "density_coverage",
    "diversity",
    "evaluate",
    "feature_distance",
    "inception_features",
    "inception_scores",
    "kernel_distance",
    "latent_diversity",
    "ms_ssim",
    "noise_floor",
    "pyramid_descriptors",
    "sliced_wasserstein",
]
