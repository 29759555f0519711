"""Train the Mel Icon setup on the embedded icons or on your own folder.

    python examples/mel_icon/train.py --quick          a small run, minutes on a laptop
    python examples/mel_icon/train.py                  the article's full recipe on the embedded icons
    python examples/mel_icon/train.py --data DIR       the same on the pictures of a folder, which is checked first
    python examples/mel_icon/train.py --preset few_images --hours 1     the recipe for good pictures in little time
    python examples/mel_icon/train.py --data DIR --start runs/mel_icon     start from another run's weights

Run the same command again to resume the run; if it is finished, the script says so. To share each batch among several
GPUs:

    torchrun --nproc-per-node 4 examples/mel_icon/train.py
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from draw_icons import draw_icons

import progan
from progan import ImageFolder, Recipe, Trainer, presets
from progan.cli.command import UsageError
from progan.cli.finish import fit_and_finish
from progan.cli.folder import choice_keywords
from progan.cli.options import add_choice, at_least_1, positive, reading, reading_arguments, resolution, user_path
from progan.cli.output import in_options, is_first_process, printed_once, show, warnings_as_lines
from progan.cli.training import (
    add_run_options,
    check_apart,
    default_precision,
    has_flat_colours,
    make_trainer,
    recipe_of_length,
    shortened,
    with_run_options,
)
from progan.data import check

QUICK_RESOLUTION = 32  # pixels
QUICK_IMAGES = 12_000  # real images shown in all

LARGEST = 256  # pixels; the article has channels for 4, 8, 16, ... 256


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example and return the exit status."""
    parser = argument_parser()
    options = parser.parse_args(arguments)
    if options.only is not None and options.data is None:
        parser.error("--only chooses from a folder; pass it with --data")
    options.preset = options.preset or ("few_images" if options.quick else "mel_icon")
    if options.quick and options.preset != "few_images":
        parser.error(f"--quick trains few_images; leave it out, or --preset {options.preset}")
    if options.colours is not None and options.preset != "few_images":
        parser.error(f"--colours is about few_images; leave it out, or --preset {options.preset}")
    if options.contrast and options.preset != "mel_icon":
        parser.error("--contrast is the article's variant of mel_icon; leave it out, or pass --preset mel_icon")
    if options.data is None and (given := "--skip-unreadable" * options.skip_unreadable or reading_arguments(options)):
        parser.error(f"{given.split()[0]} is about the files of a folder; pass it with --data")
    try:
        with warnings_as_lines(), printed_once():
            return train(options)
    except KeyboardInterrupt:
        show("\nStopped before the training began.", sys.stderr)  # `fit_and_finish` reports later ones
        return 130
    except (UsageError, ValueError, OSError, ImportError, progan.CheckpointError, progan.RankError) as error:
        parser.exit(2, f"{parser.prog}: {in_options(str(error))}\n")


def argument_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=user_path, metavar="DIR", help="folder of pictures (default: embedded icons)")
    parser.add_argument(
        "--preset",
        choices=("mel_icon", "few_images"),
        help="recipe: the article's, or progan's for few images and little time (default: mel_icon; few_images with "
        "--quick)",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "tf32", "bf16"),
        help="default: fp32; for few_images, bf16 where the device is fast at it",
    )
    parser.add_argument(
        "--resolution",
        type=partial(resolution, most=LARGEST),
        metavar="PX",
        help=f"4, 8, ... {LARGEST} (default: {LARGEST}; {QUICK_RESOLUTION} with --quick)",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--images", type=at_least_1, metavar="N", help="real images to show in all (default: the recipe's)"
    )
    length.add_argument("--hours", type=positive, metavar="H", help="train about as long as this on this machine")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"few_images at {QUICK_RESOLUTION}x{QUICK_RESOLUTION}, {QUICK_IMAGES:,} images: icons form in minutes",
    )
    parser.add_argument(
        "--contrast", action="store_true", help="the article's variant: random contrast, twice the images"
    )
    add_run_options(parser)
    add_choice(parser)
    return parser


def train(options: argparse.Namespace) -> int:
    """Train as the options say, print the outcome, and return the exit status."""
    size = options.resolution or (QUICK_RESOLUTION if options.quick else LARGEST)
    run_dir = options.run_dir or default_run_dir(options)
    if options.precision is None and options.preset == "few_images":
        options.precision = default_precision(options, run_dir, options.device)
    make_recipe(options, size)  # so that what is wrong with it is said before the data are read
    data = draw_icons(size=size) if options.data is None else read_folder(options, size, run_dir)

    images = data.images if isinstance(data, ImageFolder) else data
    flat = options.preset == "few_images" and has_flat_colours(options, run_dir, images)

    def make(total_images: int | None) -> Recipe:
        return make_recipe(options, size, len(data), total_images, flat=flat)

    recipe = recipe_of_length(make, options, run_dir, options.device)
    trainer = make_trainer(recipe, options, run_dir, options.device)
    trainer.check(data)
    if trainer.images_seen >= recipe.schedule.total_images:
        show(f"The run in {run_dir} is finished; --overwrite replaces it.")
    else:
        show_plan(trainer, recipe, len(data), options)
    return fit_and_finish(trainer, data, run_dir, again="run the same command again")


def read_folder(options: argparse.Namespace, size: int, run_dir: Path) -> ImageFolder:
    """Read the pictures; before a new run on a whole folder, print a report on them."""
    check_apart(run_dir, options.data)
    if options.only is None and is_first_process() and (options.overwrite or not run_dir.exists()):
        report = check(options.data, printed=False, **reading(options))
        show(f"{options.data}:\n{in_options(report.summary())}")
        if report.curation.dropped:
            command = f"{Path(__file__).with_name('curate.py')} --data {options.data}{reading_arguments(options)}"
            show(f"To see which, and to select pictures: python {command} --out report")
    return ImageFolder(options.data, size, **choice_keywords(options.data, options))


def make_recipe(
    options: argparse.Namespace,
    resolution: int,
    n_images: int = 640,
    total_images: int | None = None,
    *,
    flat: bool = True,
) -> Recipe:
    """Return the recipe of the preset, changed as the options say.

    Args:
        options: Options of the command line.
        resolution: Side of the images in pixels.
        n_images: Number of different real images.
        total_images: Real images to show in all; None = as the options say.
        flat: Whether few_images takes the pictures to be of flat colours.
    """
    total_images = total_images or options.images or (QUICK_IMAGES if options.quick else None)
    if options.preset == "few_images":
        recipe = presets.few_images(resolution, n_images, total_images=total_images, flat=flat)
    else:
        recipe = shortened(presets.mel_icon(resolution, contrast=options.contrast), total_images)
    return with_run_options(recipe, options)


def default_run_dir(options: argparse.Namespace) -> Path:
    """Return the default run directory."""
    name = "mel_icon" if options.data is None else options.data.resolve().name
    suffix = "_quick" if options.quick else "_few_images" if options.preset == "few_images" else ""
    return Path("runs") / (name + suffix)


def show_plan(trainer: Trainer, recipe: Recipe, n_images: int, options: argparse.Namespace) -> None:
    """Print the plan of the run, with an estimate of its time."""
    show(recipe.schedule.table(recipe.architecture.base_size, n_images))
    if trainer.start is not None and not trainer.images_seen:
        after = "" if trainer.start.images_seen is None else f" after {trainer.start.images_seen:,} real images"
        show(f"Starting with the weights of {trainer.start.path}{after}.")
    if trainer.images_seen:
        show(f"Resuming {trainer.run_dir} after {trainer.images_seen:,} real images.")
    plan = trainer.plan(printed=False)
    threads = f" with {torch.get_num_threads()} threads" if trainer.device.type == "cpu" else ""
    processes = f", {trainer.ranks} processes" if trainer.ranks > 1 else ""
    show(
        f"On {trainer.device}{threads}{processes}, in {recipe.training.precision}: about {plan}, from a few "
        f"timed steps of each stage; memory: {plan.memory_text()}. Ctrl-C saves; the same command resumes."
    )


if __name__ == "__main__":
    warnings.simplefilter("default")
    sys.exit(main())
