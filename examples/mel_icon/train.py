"""Train the Mel Icon setup on the embedded icons or on your own folder.

    python examples/mel_icon/train.py --quick          a small run, minutes on a laptop
    python examples/mel_icon/train.py                  the article's full recipe on the embedded icons
    python examples/mel_icon/train.py --data DIR       the same on the pictures of a folder, which is checked first
    python examples/mel_icon/train.py --preset few_images --hours 1     the recipe for good pictures in little time
    python examples/mel_icon/train.py --data DIR --start runs/mel_icon     start from another run's weights

Run the same command again to resume the run; if it is finished, the script says so. To share each batch among several
GPUs:

    torchrun --nproc-per-node 4 examples/mel_icon/train.py --batch-size 32
"""

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from draw_icons import draw_icons

import progan
from progan import HorizontalFlip, ImageFolder, Recipe, Stage, Trainer, presets
from progan.cli.command import UsageError
from progan.cli.finish import fit_and_finish
from progan.cli.folder import choice_keywords
from progan.cli.options import add_choice, at_least_1, positive, reading, reading_arguments, resolution, user_path
from progan.cli.output import in_options, show, warnings_as_lines
from progan.cli.training import add_run_options, check_apart, make_trainer, recipe_of_length
from progan.data import check

# What --quick changes in the article's recipe: the number of real images per level, coarsest first, where the last
# number is also for all higher levels; and the number in the two holds at the top, at the full and at a fifth of the
# learning rate. The learning rate itself stays the same: twice the rate is so unstable that different last bits, from
# another kind of CPU, can ruin a run.
QUICK_CHANNELS = (64, 48, 24, 12)
QUICK_LEVEL_IMAGES = (1_600, 3_200, 4_800, 2_000)
QUICK_HOLD_IMAGES = (4_000, 800)

LARGEST = 256  # pixels; the article has channels for 4, 8, 16, ... 256
RANK = int(os.environ.get("RANK", "0"))  # rank under torchrun; only the first process prints


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example and return the exit status."""
    parser = argument_parser()
    options = parser.parse_args(arguments)
    if options.only is not None and options.data is None:
        parser.error("--only chooses from a folder; pass it with --data")
    if options.preset == "few_images":
        for given, name in ((options.quick, "--quick"), (options.contrast, "--contrast")):
            if given:
                parser.error(f"{name} changes the article's recipe; leave it out, or --preset few_images")
    if options.data is None and (given := "--skip-unreadable" * options.skip_unreadable or reading_arguments(options)):
        parser.error(f"{given.split()[0]} is about the files of a folder; pass it with --data")
    try:
        with (
            warnings_as_lines(),
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere if RANK else sys.stdout),
        ):
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
        default="mel_icon",
        help="recipe: the article's, or progan's for few images and little time (default: %(default)s)",
    )
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="fp32", help="default: %(default)s")
    parser.add_argument(
        "--resolution",
        type=partial(resolution, most=LARGEST),
        metavar="PX",
        help=f"4, 8, ... {LARGEST} (default: {LARGEST}; 32 with --quick)",
    )
    parser.add_argument(
        "--stage-images", type=at_least_1, metavar="N", help="real images per stage (default: the recipe's)"
    )
    parser.add_argument(
        "--hours",
        type=positive,
        metavar="H",
        help="set the length of all stages to what this machine trains in H hours",
    )
    parser.add_argument("--quick", action="store_true", help="a small version of the recipe: icons form in minutes")
    parser.add_argument(
        "--contrast", action="store_true", help="the article's variant: random contrast, twice the images"
    )
    add_run_options(parser)
    add_choice(parser)
    return parser


def train(options: argparse.Namespace) -> int:
    """Train as the options say, print the outcome, and return the exit status."""
    size = options.resolution or (32 if options.quick else LARGEST)
    run_dir = options.run_dir or default_run_dir(options)
    make_recipe(options, size)  # so that what is wrong with it is said before the data are read
    data = draw_icons(size=size) if options.data is None else read_folder(options, size, run_dir)

    def make(total_images: int | None) -> Recipe:
        return make_recipe(options, size, len(data), total_images)

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
    if options.only is None and RANK == 0 and (options.overwrite or not run_dir.exists()):
        report = check(options.data, printed=False, **reading(options))
        show(f"{options.data}:\n{in_options(report.summary())}")
        if report.curation.dropped:
            command = f"{Path(__file__).with_name('curate.py')} --data {options.data}{reading_arguments(options)}"
            show(f"To see which, and to select pictures: python {command} --out report")
    return ImageFolder(options.data, size, **choice_keywords(options.data, options))


def make_recipe(
    options: argparse.Namespace, resolution: int, n_images: int = 640, total_images: int | None = None
) -> Recipe:
    """Return the recipe of the preset, changed as the options say.

    Args:
        options: Options of the command line.
        resolution: Side of the images in pixels.
        n_images: Number of different real images.
        total_images: Real images to show in all; None = the preset's. For few_images only.
    """
    if options.preset == "few_images":
        recipe = presets.few_images(resolution, n_images, total_images=total_images)
    else:
        channels = None
        if options.quick:
            levels = max(1, (resolution // 4).bit_length())
            channels = (QUICK_CHANNELS + QUICK_CHANNELS[-1:] * levels)[:levels]
        recipe = presets.mel_icon(resolution, channels=channels, contrast=options.contrast)
    stages = quick_stages(recipe) if options.quick else recipe.stages
    if options.stage_images is not None and total_images is None:
        scale = options.stage_images / recipe.stages[0].images
        stages = tuple(
            replace(
                stage,
                fade_images=round(article.fade_images * scale),
                hold_images=round(article.hold_images * scale),
            )
            for stage, article in zip(stages, recipe.stages, strict=True)
        )
    if options.batch_size is not None:
        stages = tuple(replace(stage, batch_size=options.batch_size) for stage in stages)
    training = replace(
        recipe.training,
        augment_real=(*recipe.training.augment_real, *[HorizontalFlip()] * options.flips),
        precision=options.precision,
    )
    return replace(recipe, stages=stages, training=training)


def quick_stages(recipe: Recipe) -> tuple[Stage, ...]:
    """Return the stages of --quick: the same kinds of stages with fewer images."""
    article = presets.mel_icon(recipe.architecture.size(recipe.architecture.top_level)[0]).stages
    longer = recipe.stages[0].images // article[0].images  # the contrast variant's stages are longer
    images = [QUICK_LEVEL_IMAGES[min(stage.level, len(QUICK_LEVEL_IMAGES) - 1)] for stage in article[:-2]]
    return tuple(
        replace(
            stage,
            fade_images=count * longer if stage.fade_images else 0,
            hold_images=count * longer if stage.hold_images else 0,
        )
        for stage, count in zip(recipe.stages, [*images, *QUICK_HOLD_IMAGES], strict=True)
    )


def default_run_dir(options: argparse.Namespace) -> Path:
    """Return the default run directory."""
    name = "mel_icon" if options.data is None else options.data.resolve().name
    if options.preset != "mel_icon":
        name = f"{name}_{options.preset}"
    return Path("runs") / (f"{name}_quick" if options.quick else name)


def show_plan(trainer: Trainer, recipe: Recipe, n_images: int, options: argparse.Namespace) -> None:
    """Print the plan of the run, with an estimate of its time."""
    show(recipe.schedule.table(recipe.architecture.base_size, n_images))
    if options.quick:
        show("--quick differs from the article in: " + ", ".join(differences(recipe, presets.mel_icon())) + ".")
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


def differences(recipe: Recipe, article: Recipe) -> list[str]:
    """Describe the differences between two recipes."""
    sides = [
        {
            "resolution": each.architecture.size(each.architecture.top_level)[0],
            "widths": each.architecture.channels,
            "batch": each.stages[0].batch_size,
            "learning rate": each.stages[0].learning_rate,
            "real images": f"{each.schedule.total_images:,}",
        }
        for each in (recipe, article)
    ]
    return [f"{name} {here} for {sides[1][name]}" for name, here in sides[0].items() if here != sides[1][name]]


if __name__ == "__main__":
    warnings.simplefilter("default")
    sys.exit(main())
