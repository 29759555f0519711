"""What every program that trains shares: options, the recipe's length and the trainer; `finish` has what follows."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan.cli.command import UsageError
from progan.cli.options import at_least_1, share, user_path

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from progan import Recipe, Trainer

_GRIDS = 48  # previews of a run, and checkpoints


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that do not depend on what is trained."""
    parser.add_argument(
        "--run-dir", type=user_path, metavar="DIR", help="run directory (default: in runs/, named after the data)"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed of the run (default: 0)")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best available)")
    parser.add_argument(
        "--batch-size", type=at_least_1, metavar="N", help="real images per step (default: the preset's)"
    )
    parser.add_argument(
        "--micro-batch", type=at_least_1, metavar="N", help="images that are trained on at once, where memory is short"
    )
    parser.add_argument("--colours", choices=("flat", "shaded"), help="colours of the pictures, for few_images: flat "
        "ones, as of many drawings, come of a palette (default: as they look)")  # fmt: skip
    parser.add_argument("--flips", action="store_true", help="mirror a random half of the real images, left to right")
    parser.add_argument(
        "--held-out", type=share, metavar="SHARE", help="share of the pictures to judge by, such as 10%%"
    )
    parser.add_argument("--recover", type=int, choices=range(10), default=2, metavar="N", help="times to go back to an "
        "earlier checkpoint when training diverges (default: 2)")  # fmt: skip
    parser.add_argument("--start", type=user_path, metavar="RUN", help="begin with the weights of a run, a checkpoint "
        "or a .safetensors file; levels that it had reached are not grown again")  # fmt: skip
    parser.add_argument(
        "--data-may-change", action="store_true", help="resume though pictures were added, removed or changed"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run")


def check_apart(run_dir: Path, data: Path) -> None:
    """Raise UsageError if a run directory lies in the folder of its pictures."""
    if run_dir.resolve().is_relative_to(data.resolve()):
        raise UsageError(f"{run_dir} lies in {data}: its samples would be data too; pass another --run-dir")


def default_precision(options: argparse.Namespace, run_dir: Path, device: torch.device | str | None) -> str:
    """Return the precision of the run that is there, so that the same command resumes it anywhere; else the fastest.

    Args:
        options: What `add_run_options` parsed.
        run_dir: Run directory.
        device: Device to train on; None = the best available.
    """
    from progan.runtime.device import choose_device, fastest_precision

    if (recipe := _recorded_recipe(options, run_dir)) is not None:
        return recipe.training.precision
    return fastest_precision(choose_device(device, "fp32"))


def has_flat_colours(options: argparse.Namespace, run_dir: Path, images: Tensor) -> bool:
    """Return whether colours are taken to be flat: as was passed, as in the run that is there, or as they look.

    Args:
        options: What `add_run_options` parsed.
        run_dir: Run directory.
        images: Pictures to train on, (N, C, H, W), uint8.
    """
    from progan.data import colour_verdict

    if options.colours is not None:
        return bool(options.colours == "flat")
    if (recipe := _recorded_recipe(options, run_dir)) is not None:
        return recipe.architecture.palette > 0
    return colour_verdict(images).flat is not False


def _recorded_recipe(options: argparse.Namespace, run_dir: Path) -> Recipe | None:
    """Return the recipe of the run that is there and will be resumed, if any."""
    from progan.errors import CheckpointError
    from progan.runs.record import RunRecord

    if options.overwrite:
        return None
    try:
        return RunRecord.from_config(run_dir).recipe()
    except (CheckpointError, OSError):
        return None  # there is none, or the trainer will say what is wrong with it


def shortened(recipe: Recipe, total_images: int | None) -> Recipe:
    """Return a recipe whose stages are scaled to a number of real images in all; None = as it is."""
    if total_images is None:
        return recipe
    return replace(recipe, stages=recipe.schedule.scaled(total_images / recipe.schedule.total_images).stages)


def with_run_options(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    """Return a recipe with the batch size, the flips and the precision of the options.

    Args:
        recipe: Recipe of a preset.
        options: What `add_run_options` parsed, and the precision; what is None stays the recipe's.
    """
    from progan import HorizontalFlip

    stages = recipe.stages
    if options.batch_size is not None:
        stages = tuple(replace(stage, batch_size=options.batch_size) for stage in stages)
    training = replace(
        recipe.training,
        augment_real=(*recipe.training.augment_real, *[HorizontalFlip()] * options.flips),
        precision=options.precision or recipe.training.precision,
    )
    return replace(recipe, stages=stages, training=training)


def recipe_of_length(
    make: Callable[[int | None], Recipe],
    options: argparse.Namespace,
    run_dir: Path,
    device: torch.device | str | None,
) -> Recipe:
    """Return a recipe without the levels that ``--start`` had reached, as long as ``--hours`` says.

    Args:
        make: Returns the recipe for a number of real images to show; None = its own.
        options: Options of the command line.
        run_dir: Run directory; the length of a run that is there is kept.
        device: Device to time the training on.
    """
    from progan import Trainer

    def shared(total_images: int | None) -> Recipe:
        return _with_shared_batches(make(total_images), options, run_dir)

    recipe = shared(None)
    if options.start is not None:
        recipe = after_start(recipe, level_of_start(options.start, run_dir, overwrite=options.overwrite))
    if options.hours is None:
        return recipe
    scaled = Trainer.recipe_for_hours(
        recipe,
        options.hours,
        device=device,
        run_dir=run_dir,
        overwrite=options.overwrite,
        micro_batch=options.micro_batch,
    )
    if options.preset == "few_images" and options.start is None:
        return shared(scaled.schedule.total_images)  # its settings depend on the number
    return scaled


def _with_shared_batches(recipe: Recipe, options: argparse.Namespace, run_dir: Path) -> Recipe:
    """Return a recipe with batches that the processes can share, unless they were passed.

    Those of a run that is there are kept, so that it resumes with another number of processes too.
    """
    from progan.runtime.connections import world_size

    if options.batch_size is not None:
        return recipe
    if (recorded := _recorded_recipe(options, run_dir)) is not None:
        sizes = {stage.level: stage.batch_size for stage in recorded.stages}
        stages = [replace(stage, batch_size=sizes.get(stage.level, stage.batch_size)) for stage in recipe.stages]
        return replace(recipe, stages=tuple(stages))
    return recipe.for_processes(world_size())


def level_of_start(start: Path, run_dir: Path, *, overwrite: bool) -> int | None:
    """Return the level that a start had reached, which an existing run has recorded; None = unknown."""
    from progan import CheckpointError, load_generator
    from progan.runs.record import RunRecord

    try:
        if not overwrite and (run_dir / "config.json").is_file():
            recorded = RunRecord.from_config(run_dir).start
            return None if recorded is None else recorded.level
        return load_generator(start).level
    except (CheckpointError, OSError, ValueError):
        return None  # a file of tensors, or the trainer will say what is wrong with it


def after_start(recipe: Recipe, level: int | None) -> Recipe:
    """Return the recipe without the levels that a start had reached; the next one, if any, fades in.

    Args:
        recipe: The full recipe.
        level: Level that the start had reached; None = unknown, which counts as the highest.
    """
    top = recipe.architecture.top_level
    if level is None or level >= top:
        return recipe.starting_at(top)
    return recipe.starting_at(level + 1, fade=True)


def make_trainer(
    recipe: Recipe,
    options: argparse.Namespace,
    run_dir: Path,
    device: torch.device | str | None,
    notes: dict[str, Any] | None = None,
) -> Trainer:
    """Make the trainer of a run, at its newest checkpoint if there is one.

    Args:
        recipe: Recipe of the run.
        options: What `add_run_options` parsed.
        run_dir: Run directory.
        device: Device to train on; None = the best available.
        notes: What config.json is to record beside the settings.

    Raises:
        ValueError: If the settings do not go together, or the run directory holds another run.
    """
    from progan import Trainer

    every = max(1, recipe.schedule.total_images // _GRIDS)
    return Trainer.from_recipe(
        recipe,
        seed=options.seed,
        run_dir=run_dir,
        device=device,
        save_every=every,
        preview_every=every,
        held_out=options.held_out,
        recover=options.recover,
        overwrite=options.overwrite,
        start=options.start,
        micro_batch=options.micro_batch,
        data_may_change=options.data_may_change,
        notes=notes,
    )
