"""Measures of generated pictures against real ones, made for sets of a few hundred images.

Each measure goes from features to statistics to a number, in three small functions. May import operations, randomness
and the argument checks.
"""

from progan.metrics.density_coverage import DensityCoverage, density_coverage
from progan.metrics.floor import Floor, compare_with_floor, noise_floor
from progan.metrics.kernel_distance import kernel_distance
from progan.metrics.ms_ssim import ms_ssim
from progan.metrics.sliced_wasserstein import SlicedWasserstein, sliced_wasserstein

__all__ = [
    "DensityCoverage",
    "Floor",
    "SlicedWasserstein",
    "compare_with_floor",
    "density_coverage",
    "kernel_distance",
    "ms_ssim",
    "noise_floor",
    "sliced_wasserstein",
]
