"""What the tests of runs share: a trainer that writes at every step, its images, and programs in other processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from conftest import ROOT

from progan import Recipe, Trainer

PRESETS = ("mel_icon", "karras2018", "few_images")
BATCH = 8
EVERY_STEP = {"log_every": 8, "save_every": 8, "preview_every": 24, "judge_every": 0, "keep": 99}
SIGNALS = [number for name in ("SIGINT", "SIGTERM", "SIGUSR1") if (number := getattr(signal, name, None))]


def make(recipe: Recipe, run_dir: Path | None = None, **keywords: Any) -> Trainer:
    return Trainer.from_recipe(
        recipe, seed=3, run_dir=run_dir, device="cpu", **{"progress": False, **EVERY_STEP, **keywords}
    )


def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (21, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def program(text: str, *arguments: str, check: bool = True, **keywords: Any) -> subprocess.CompletedProcess[str]:
    """Run a program, which may import what the tests do."""
    path = os.pathsep.join([str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-W", "error", "-c", text, *arguments]
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, check=check, env=environment, capture_output=True, text=True, **keywords)
