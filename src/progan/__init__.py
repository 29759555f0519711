"""Progressive growing of GANs (Karras et al. 2018) for PyTorch."""

from progan import presets
from progan.architecture import Architecture
from progan.augment import Contrast, HorizontalFlip, adjust_contrast
from progan.averaging import Average
from progan.callbacks import Callback, MetricsLog, Previews, Progress, Run
from progan.checkpoint import CheckpointError
from progan.connections import RankError
from progan.data import ImageFolder, match_level
from progan.finite import DivergenceError
from progan.interpolation import slerp
from progan.layers import (
    EqualizedConv2d,
    EqualizedLinear,
    FadeIn,
    MiniBatchStd,
    PixelNorm,
    downsample,
    upsample,
)
from progan.losses import (
    CriticLoss,
    Loss,
    WganGp,
    gradient_penalty,
    wgan_generator_loss,
    wgan_gp_loss,
)
from progan.networks import ProgressiveDiscriminator, ProgressiveGenerator
from progan.planning import Plan
from progan.recipe import Recipe, Training
from progan.render import enlarge, image_grid, to_uint8, write_png
from progan.sampling import GrownGenerator, load_generator
from progan.schedule import Growth, Schedule, Stage
from progan.scoped import Interrupted
from progan.start import Start
from progan.step import StepMetrics
from progan.trainer import Trainer

__version__ = "0.1.0"

__all__ = [
    "Architecture",
    "Average",
    "Callback",
    "CheckpointError",
    "Contrast",
    "CriticLoss",
    "DivergenceError",
    "EqualizedConv2d",
    "EqualizedLinear",
    "FadeIn",
    "GrownGenerator",
    "Growth",
    "HorizontalFlip",
    "ImageFolder",
    "Interrupted",
    "Loss",
    "MetricsLog",
    "MiniBatchStd",
    "PixelNorm",
    "Plan",
    "Previews",
    "Progress",
    "ProgressiveDiscriminator",
    "ProgressiveGenerator",
    "RankError",
    "Recipe",
    "Run",
    "Schedule",
    "Stage",
    "Start",
    "StepMetrics",
    "Trainer",
    "Training",
    "WganGp",
    "adjust_contrast",
    "downsample",
    "enlarge",
    "gradient_penalty",
    "image_grid",
    "load_generator",
    "match_level",
    "presets",
    "slerp",
    "to_uint8",
    "upsample",
    "wgan_generator_loss",
    "wgan_gp_loss",
    "write_png",
]
