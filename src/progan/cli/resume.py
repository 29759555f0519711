"""``progan resume``: go on with a run that was stopped."""

from __future__ import annotations

import argparse

from progan.cli.finish import fit_and_finish
from progan.cli.folder import open_pictures
from progan.cli.notes import data_of_run
from progan.cli.options import add_choice_of_pictures, check_folder, user_path
from progan.cli.output import show, shown

HELP = "Go on with a run that was stopped or broke off."
EXAMPLE = "progan resume runs/my_icons"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("run_dir", type=user_path, metavar="RUN", help="run directory")
    parser.add_argument(
        "--data", type=user_path, metavar="PATH", help="folder of pictures, or pack (default: where they were)"
    )
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best available)")
    parser.add_argument(
        "--data-may-change", action="store_true", help="resume though pictures were added, removed or changed"
    )
    add_choice_of_pictures(parser)


def run(options: argparse.Namespace) -> int:
    """Rebuild the trainer, open the pictures, and train on."""
    from progan import Trainer

    check_folder(options.run_dir, "a run directory")
    trainer = Trainer.from_run(options.run_dir, device=options.device, data_may_change=options.data_may_change)
    if trainer.images_seen >= trainer.schedule.total_images:
        generate = f"progan generate {shown(options.run_dir)} --out icons"
        show(f"The run in {options.run_dir} is finished: {generate} draws pictures.")
        return 0
    data = data_of_run(options.run_dir, options)
    architecture = trainer.generator.architecture
    size = architecture.size(architecture.top_level)
    images = open_pictures(data, options, size, architecture.image_channels)
    show(f"Resuming {options.run_dir} after {trainer.images_seen:,} of {trainer.schedule.total_images:,} images.")
    return fit_and_finish(trainer, images, options.run_dir)
