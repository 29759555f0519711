"""Measures of generated pictures against real ones, made for sets of a few hundred images.

Each measure goes from features to statistics to a number, in three small functions. May import operations, randomness
and the argument checks.
"""

from progan.metrics.copying import Copying, Pair, closest_pairs, copying
from progan.metrics.critic import critic_overfitting
from progan.metrics.defects import Defects, defects
from progan.metrics.diversity import LatentDiversity, collapse_remark, diversity, latent_diversity

__all__ = [
    "Copying",
    "Defects",
    "LatentDiversity",
    "Pair",
    "closest_pairs",
    "collapse_remark",
    "copying",
    "critic_overfitting",
    "defects",
    "diversity",
    "latent_diversity",
]
