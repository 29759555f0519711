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
import dataclasses
import json
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from draw_icons import draw_icons
from folder_options import (
    add_reading_options,
    at_least_1,
    in_options,
    reading_arguments,
    reading_options,
    show,
    warnings_in_options,
)
from paths import user_path

import progan
from progan import HorizontalFlip, ImageFolder, Recipe, Stage, Trainer, presets
from progan.data import Curation, check
from progan.metrics import evaluate
from progan.reports import Film, time_lapse

# What --quick changes in the article's recipe: the number of real images per level, coarsest first, where the last
# number is also for all higher levels; and the number in the two holds at the top, at the full and at a fifth of the
# learning rate. The learning rate itself stays the same: twice the rate is so unstable that different last bits, from
# another kind of CPU, can ruin a run.
QUICK_CHANNELS = (64, 48, 24, 12)
QUICK_LEVEL_IMAGES = (1_600, 3_200, 4_800, 2_000)
QUICK_HOLD_IMAGES = (4_000, 800)

RESOLUTIONS = tuple(4 << level for level in range(7))  # the resolutions that the article has channels for: 4 ... 256

JUDGED = 640  # number of samples, and of icons at most, for the final table
LEAST_JUDGED = 16  # pixels

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
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere if RANK else sys.stdout):
            return train(options)
    except KeyboardInterrupt:
        print("\nStopped before the training began.", file=sys.stderr)  # `train` reports later ones
        return 130
    except (ValueError, OSError, ImportError, progan.CheckpointError, progan.RankError) as error:
        parser.exit(2, f"{parser.prog}: {in_options(str(error))}\n")


def argument_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=user_path, metavar="DIR", help="folder of pictures (default: embedded icons)")
    parser.add_argument(
        "--only", type=user_path, metavar="FILE", help="train only on the pictures that a curate.py list keeps"
    )
    parser.add_argument("--skip-unreadable", action="store_true", help="skip files of --data that cannot be read")
    add_reading_options(parser)
    parser.add_argument("--run-dir", type=user_path, metavar="DIR", help="run directory (default: runs/...)")
    parser.add_argument(
        "--start",
        type=user_path,
        metavar="PATH",
        help="start with the weights of a run, one of its checkpoints or a .safetensors file; levels that the run had "
        "reached are not grown again",
    )
    parser.add_argument(
        "--preset",
        choices=("mel_icon", "few_images"),
        default="mel_icon",
        help="recipe: the article's, or progan's for few images and little time (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of weights, noise and data order (default: %(default)s)"
    )
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best available)")
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="fp32", help="default: %(default)s")
    parser.add_argument(
        "--resolution", type=resolution_in_px, metavar="PX", help="4, 8, ... 256 (default: 256; 32 with --quick)"
    )
    parser.add_argument(
        "--stage-images", type=at_least_1, metavar="N", help="real images per stage (default: the recipe's)"
    )
    parser.add_argument(
        "--batch-size", type=at_least_1, metavar="N", help="real images per step (default: the recipe's)"
    )
    parser.add_argument(
        "--hours", type=float, metavar="H", help="set the length of all stages to what this machine trains in H hours"
    )
    parser.add_argument("--quick", action="store_true", help="a small version of the recipe: icons form in minutes")
    parser.add_argument(
        "--contrast", action="store_true", help="the article's variant: random contrast, twice the images"
    )
    parser.add_argument("--flips", action="store_true", help="mirror a random half of the real images, left to right")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run")
    return parser


def resolution_in_px(text: str) -> int:
    """Parse --resolution."""
    if text not in map(str, RESOLUTIONS):
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(map(str, RESOLUTIONS))}, got {text!r}")
    return int(text)


def train(options: argparse.Namespace) -> int:
    """Train as the options say, print the outcome, and return the exit status."""
    begin = time.monotonic()
    resolution = options.resolution if options.resolution is not None else 32 if options.quick else 256
    run_dir = options.run_dir or default_run_dir(options)
    make_recipe(options, resolution)  # so that what is wrong with it is said before the data are read
    if options.data is None:
        images = draw_icons(size=resolution)
        data: torch.Tensor | ImageFolder = images
    else:
        if run_dir.resolve().is_relative_to(options.data.resolve()):
            raise ValueError(f"{run_dir} lies in {options.data}: its samples would be data too; pass another --run-dir")
        new = RANK == 0 and (options.overwrite or not run_dir.exists())
        data = read_folder(options, resolution, new=new)
        images = data.images
    recipe = make_recipe(options, resolution, len(images))
    if options.start is not None:
        recipe = dataclasses.replace(recipe, stages=stages_above(recipe, level_of_start(options, run_dir)))
    if options.hours is not None:
        left = max(options.hours - (time.monotonic() - begin) / 3600, options.hours / 2)  # after reading the data
        recipe = Trainer.recipe_for_hours(
            recipe, left, run_dir=run_dir, device=options.device, overwrite=options.overwrite
        )
        if options.preset == "few_images" and options.start is None:  # whose settings depend on the number of images
            recipe = make_recipe(options, resolution, len(images), recipe.schedule.total_images)
    trainer = Trainer.from_recipe(
        recipe,
        seed=options.seed,
        run_dir=run_dir,
        device=options.device,
        save_every=max(1, recipe.schedule.total_images // 48),
        preview_every=max(1, recipe.schedule.total_images // 48),
        overwrite=options.overwrite,
        start=options.start,
    )
    trainer.check(data)
    finished = trainer.images_seen >= recipe.schedule.total_images
    if finished:
        print(f"The run in {run_dir} is finished; --overwrite replaces it.")
    else:
        show_plan(trainer, recipe, len(images), options)
    try:
        trainer.fit(data)
    except progan.Interrupted as interrupted:
        print(f"\nStopped after {trainer.images_seen:,} real images, and saved. Run the same command again to resume.")
        return 128 + interrupted.signal
    except KeyboardInterrupt:
        print("\nStopped immediately; run the same command again to resume from the last checkpoint.")
        return 130
    except progan.DivergenceError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    try:
        if trainer.rank == 0:
            if not finished:
                print(f"Done: open {run_dir}/report.html in a browser; the pictures are in {run_dir}/samples.")
                print(f"A film of the training: {write_film(run_dir)}")
            show_evaluation(trainer, images, options.seed)
    except KeyboardInterrupt:
        print(
            "\nStopped during the evaluation; the training is finished and saved. Run the same command again "
            "to evaluate."
        )
        return 130
    return 0


def read_folder(options: argparse.Namespace, resolution: int, *, new: bool) -> ImageFolder:
    """Read the pictures; before a new run on a whole folder, print a report on them."""
    on_unreadable: Literal["raise", "skip"] = "skip" if options.skip_unreadable else "raise"
    keywords, kept = reading_options(options), None
    if options.only is not None:
        with warnings_in_options():
            kept = Curation.load(options.only, options.data, hidden=options.hidden).kept
    elif new:
        report = check(options.data, printed=False, **keywords)
        show(f"{options.data}:\n{in_options(report.summary())}")
        if report.curation.dropped:
            command = f"{Path(__file__).with_name('curate.py')} --data {options.data}{reading_arguments(options)}"
            show(f"To see which, and to select pictures: python {command} --out report")
    with warnings_in_options():
        return ImageFolder(options.data, resolution, only=kept, on_unreadable=on_unreadable, **keywords)


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
            dataclasses.replace(
                stage,
                fade_images=round(article.fade_images * scale),
                hold_images=round(article.hold_images * scale),
            )
            for stage, article in zip(stages, recipe.stages, strict=True)
        )
    if options.batch_size is not None:
        stages = tuple(dataclasses.replace(stage, batch_size=options.batch_size) for stage in stages)
    training = dataclasses.replace(
        recipe.training,
        augment_real=(*recipe.training.augment_real, *[HorizontalFlip()] * options.flips),
        precision=options.precision,
    )
    return dataclasses.replace(recipe, stages=stages, training=training)


def quick_stages(recipe: Recipe) -> tuple[Stage, ...]:
    """Return the stages of --quick: the same kinds of stages with fewer images."""
    article = presets.mel_icon(recipe.architecture.size(recipe.architecture.top_level)[0]).stages
    longer = recipe.stages[0].images // article[0].images  # the contrast variant's stages are longer
    images = [QUICK_LEVEL_IMAGES[min(stage.level, len(QUICK_LEVEL_IMAGES) - 1)] for stage in article[:-2]]
    return tuple(
        dataclasses.replace(
            stage,
            fade_images=count * longer if stage.fade_images else 0,
            hold_images=count * longer if stage.hold_images else 0,
        )
        for stage, count in zip(recipe.stages, [*images, *QUICK_HOLD_IMAGES], strict=True)
    )


def level_of_start(options: argparse.Namespace, run_dir: Path) -> int | None:
    """Return the level that --start had reached, None if unknown; an existing run has recorded it."""
    config = run_dir / "config.json"
    if config.is_file() and not options.overwrite:
        try:
            recorded = json.loads(config.read_text())["start"]
        except (ValueError, KeyError, TypeError):
            return None  # the trainer reports what is wrong with it
        return None if recorded is None else recorded["level"]
    return None if options.start.suffix == ".safetensors" else progan.load_generator(options.start).level


def stages_above(recipe: Recipe, level: int | None) -> tuple[Stage, ...]:
    """Return the stages that remain after a start: those of higher levels, and the holds at full size.

    Args:
        recipe: The full recipe.
        level: Level that the start had reached; None = the top.
    """
    top = recipe.architecture.top_level
    reached = top if level is None else level
    return tuple(
        stage for stage in recipe.stages if stage.level > reached or (stage.level == top and not stage.fade_images)
    )


def default_run_dir(options: argparse.Namespace) -> Path:
    """Return the default run directory."""
    name = "mel_icon" if options.data is None else options.data.resolve().name
    if options.preset != "mel_icon":
        name = f"{name}_{options.preset}"
    return Path("runs") / (f"{name}_quick" if options.quick else name)


def show_plan(trainer: Trainer, recipe: Recipe, n_images: int, options: argparse.Namespace) -> None:
    """Print the plan of the run, with an estimate of its time."""
    print(recipe.schedule.table(recipe.architecture.base_size, n_images))
    if options.quick:
        print("--quick differs from the article in: " + ", ".join(differences(recipe, presets.mel_icon())) + ".")
    if trainer.start is not None and not trainer.images_seen:
        after = "" if trainer.start.images_seen is None else f" after {trainer.start.images_seen:,} real images"
        print(f"Starting with the weights of {trainer.start.path}{after}.")
    if trainer.images_seen:
        print(f"Resuming {trainer.run_dir} after {trainer.images_seen:,} real images.")
    plan = trainer.plan(printed=False)
    threads = f" with {torch.get_num_threads()} threads" if trainer.device.type == "cpu" else ""
    processes = f", {trainer.ranks} processes" if trainer.ranks > 1 else ""
    print(
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


def write_film(run_dir: Path) -> Film:
    """Write a film of the training, and return what was written."""
    folder = run_dir / "films"
    folder.mkdir(exist_ok=True)
    return time_lapse(run_dir, folder / "training.png")


def show_evaluation(trainer: Trainer, images: torch.Tensor, seed: int) -> None:
    """Print how good the samples are, as a table of measures beside what the icons themselves give."""
    grown = trainer.grown()
    height = trainer.generator.architecture.size(grown.level)[0]
    if height < LEAST_JUDGED or len(images) < 2:
        few = "There is only one icon" if len(images) < 2 else f"The samples have {height}x{height} pixels"
        print(f"{few}; judging needs 2 icons and {LEAST_JUDGED}x{LEAST_JUDGED} pixels.")
        return
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:JUDGED]
    evaluate(grown, images[chosen], seed=seed)


if __name__ == "__main__":
    warnings.simplefilter("default")
    sys.exit(main())
