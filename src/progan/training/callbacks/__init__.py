"""Callbacks: what watches a run without changing a bit of the training.

The metrics log, previews, progress, and the check of mirrored images. May import every room below the trainer.
"""

from progan.training.callbacks.base import Callback, CallbackList, Run, crosses
from progan.training.callbacks.flips import FlipCheck
from progan.training.callbacks.metrics_log import MetricsLog
from progan.training.callbacks.previews import Previews
from progan.training.callbacks.progress import Progress

__all__ = ["Callback", "CallbackList", "FlipCheck", "MetricsLog", "Previews", "Progress", "Run", "crosses"]
