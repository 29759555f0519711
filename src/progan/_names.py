"""The public names of the top level, from the rooms that define them; imported when the first one is used."""

from typing import TYPE_CHECKING

from progan import presets
from progan.augment.augmentation import Augmentation
from progan.augment.colour import Colour
from progan.augment.geometric import HorizontalFlip, Translate
from progan.augment.photometric import Contrast, adjust_contrast
from progan.data import Batch, ImageFolder, match_level
from progan.errors import CheckpointError, DivergenceError, Interrupted, RankError
from progan.inversion import FoundLatent, find_latent
from progan.labels import Classes
from progan.latents import slerp
from progan.losses.critic import Objective, Regularizer
from progan.losses.logistic import NonSaturating, Relativistic
from progan.losses.objectives import Wasserstein
from progan.losses.regularizers import GradientPenalty, gradient_penalty
from progan.losses.wgan_gp import CriticLoss, wgan_generator_loss, wgan_gp_loss
from progan.losses.zero_centered import R1, R2
from progan.networks.architecture import Architecture
from progan.networks.classes import EqualizedEmbedding
from progan.networks.discriminator import ProgressiveDiscriminator
from progan.networks.generator import ProgressiveGenerator
from progan.networks.layers import EqualizedConv2d, EqualizedLinear, FadeIn, MiniBatchStd, PixelNorm
from progan.ops.resampling import downsample, upsample
from progan.optimization import Adam, Ema
from progan.recipe import Recipe, Training
from progan.reconstruction import PrincipalCodes, Reconstruction
from progan.render import enlarge, image_grid, to_uint8, write_png
from progan.runs.average_choice import AverageChoice
from progan.runs.data_history import DataRecord
from progan.runs.generator import load_generator
from progan.runs.recovery import Recovery, Setback
from progan.runs.start import Start
from progan.sampling import GrownGenerator
from progan.schedule import Growth, Schedule, Stage
from progan.training.callbacks import (
    Callback,
    Judge,
    JudgedImages,
    Measured,
    MetricsLog,
    Previews,
    Progress,
    Run,
    TensorBoard,
    Tracker,
)
from progan.training.ema import EmaGenerator
from progan.training.options import RunOptions
from progan.training.planning import Plan
from progan.training.step import StepMetrics
from progan.training.trainer import Trainer
from progan.truncation import TruncatedGenerator

if TYPE_CHECKING:
    from progan import export, metrics, reports

__all__ = [
    "R1",
    "R2",
    "Adam",
    "Architecture",
    "Augmentation",
    "AverageChoice",
    "Batch",
    "Callback",
    "CheckpointError",
    "Classes",
    "Colour",
    "Contrast",
    "CriticLoss",
    "DataRecord",
    "DivergenceError",
    "Ema",
    "EmaGenerator",
    "EqualizedConv2d",
    "EqualizedEmbedding",
    "EqualizedLinear",
    "FadeIn",
    "FoundLatent",
    "GradientPenalty",
    "GrownGenerator",
    "Growth",
    "HorizontalFlip",
    "ImageFolder",
    "Interrupted",
    "Judge",
    "JudgedImages",
    "Measured",
    "MetricsLog",
    "MiniBatchStd",
    "NonSaturating",
    "Objective",
    "PixelNorm",
    "Plan",
    "Previews",
    "PrincipalCodes",
    "Progress",
    "ProgressiveDiscriminator",
    "ProgressiveGenerator",
    "RankError",
    "Recipe",
    "Reconstruction",
    "Recovery",
    "Regularizer",
    "Relativistic",
    "Run",
    "RunOptions",
    "Schedule",
    "Setback",
    "Stage",
    "Start",
    "StepMetrics",
    "TensorBoard",
    "Tracker",
    "Trainer",
    "Training",
    "Translate",
    "TruncatedGenerator",
    "Wasserstein",
    "adjust_contrast",
    "downsample",
    "enlarge",
    "export",
    "find_latent",
    "gradient_penalty",
    "image_grid",
    "load_generator",
    "match_level",
    "metrics",
    "presets",
    "reports",
    "slerp",
    "to_uint8",
    "upsample",
    "wgan_generator_loss",
    "wgan_gp_loss",
    "write_png",
]
