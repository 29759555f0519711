"""Progressive growing of GANs (Karras et al. 2018) for PyTorch."""

from progan import presets
from progan._version import __version__ as __version__
from progan.augment.augmentations import Contrast, HorizontalFlip, adjust_contrast
from progan.data import ImageFolder, match_level
from progan.errors import CheckpointError, DivergenceError, Interrupted, RankError
from progan.losses.wgan_gp import (
    CriticLoss,
    Loss,
    WganGp,
    gradient_penalty,
    wgan_generator_loss,
    wgan_gp_loss,
)
from progan.networks.architecture import Architecture
from progan.networks.discriminator import ProgressiveDiscriminator
from progan.networks.generator import ProgressiveGenerator
from progan.networks.layers import EqualizedConv2d, EqualizedLinear, FadeIn, MiniBatchStd, PixelNorm
from progan.ops.resampling import downsample, upsample
from progan.recipe import Adam, Ema, Recipe, Training
from progan.render import enlarge, image_grid, to_uint8, write_png
from progan.runs.generator import load_generator
from progan.runs.start import Start
from progan.sampling import GrownGenerator, slerp
from progan.schedule import Growth, Schedule, Stage
from progan.training.callbacks import Callback, MetricsLog, Previews, Progress, Run
from progan.training.ema import EmaGenerator
from progan.training.options import RunOptions
from progan.training.planning import Plan
from progan.training.step import StepMetrics
from progan.training.trainer import Trainer

__all__ = [
    "Adam",
    "Architecture",
    "Callback",
    "CheckpointError",
    "Contrast",
    "CriticLoss",
    "DivergenceError",
    "Ema",
    "EmaGenerator",
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
    "RunOptions",
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
