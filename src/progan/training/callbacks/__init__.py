"""Callbacks: what watches a run without changing a bit of the training.

The logs of metrics and warnings, previews, judgements, trackers, the report, progress, checks of the data.
May import every room below the trainer, and alone in training the measures and the reports.
"""

from progan.training.callbacks.base import Callback, CallbackList, Run, crosses
from progan.training.callbacks.data_checks import FlipCheck, PaletteCheck
from progan.training.callbacks.judge import Judge
from progan.training.callbacks.judged_images import JudgedImages
from progan.training.callbacks.measures import Measured
from progan.training.callbacks.metrics_log import LossRows, MetricsLog
from progan.training.callbacks.previews import Previews
from progan.training.callbacks.progress import Progress
from progan.training.callbacks.report_page import ReportPage
from progan.training.callbacks.trackers import TensorBoard, Tracker
from progan.training.callbacks.warnings_log import WarningsLog

__all__ = [
    "Callback",
    "CallbackList",
    "FlipCheck",
    "Judge",
    "JudgedImages",
    "LossRows",
    "Measured",
    "MetricsLog",
    "PaletteCheck",
    "Previews",
    "Progress",
    "ReportPage",
    "Run",
    "TensorBoard",
    "Tracker",
    "WarningsLog",
    "crosses",
]
