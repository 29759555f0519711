"""``progan plan``: how long a training would take."""

from __future__ import annotations

import argparse

from progan.cli.config import add_config
from progan.cli.options import add_json
from progan.cli.output import show, show_json
from progan.cli.settings import Prepared, add_settings, prepare

HELP = "Say how long a training would take, stage by stage, and what it would be; nothing is written."
EXAMPLE = "progan plan my_icons/ --resolution 128"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_settings(parser)
    add_config(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Prepare, time a few steps of each stage, and print the plan."""
    show_plan(prepare(options), json=options.json)
    return 0


def show_plan(prepared: Prepared, *, json: bool = False, rough: bool = False) -> None:
    """Print what was found and decided, and the plan."""
    trainer, stages = prepared.trainer, prepared.recipe.schedule
    if not json:
        for line in prepared.lines:
            show(line)
    plan = trainer.plan(printed=False, rough=rough)
    if json:
        memory = {"memory_bytes": plan.memory, "memory_limit_bytes": plan.memory_limit}
        show_json(prepared.decisions | {"seconds": plan.total_s, "stage_seconds": list(plan.stage_s)} | memory)
        return
    show("")
    show(plan.table(stages, prepared.recipe.architecture.base_size))
