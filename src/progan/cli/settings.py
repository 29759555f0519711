"""The settings of a training: what was found in the folder, what was passed, and what follows from both."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan.cli.command import UsageError
from progan.cli.folder import folder_keywords, in_two_lines, look_at, open_pack, shape_of
from progan.cli.options import add_choice_of_pictures, at_least_1, positive, resolution, user_path
from progan.cli.output import warn
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

if TYPE_CHECKING:
    from progan import Recipe, Trainer
    from progan.cli.folder import Images

PRESETS = ("few_images", "mel_icon", "karras2018")
_CPU_RESOLUTION = 64  # in an hour or so; of larger ones the last level alone takes four times as long for each doubling
_GPU_RESOLUTION = 256
_SHORT_HOURS = 0.2  # below which a CPU does not get past 32x32


@dataclass
class Prepared:
    """All that a training needs.

    Attributes:
        recipe: Recipe of the run.
        images: Pictures.
        run_dir: Run directory.
        trainer: Trainer, at the newest checkpoint if there is one.
        lines: What was found and decided, for people.
        decisions: The same, for programs.
    """

    recipe: Recipe
    images: Images
    run_dir: Path
    trainer: Trainer
    lines: list[str]
    decisions: dict[str, Any]


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add what `prepare` looks at."""
    parser.add_argument("data", nargs="?", type=user_path, metavar="DATA", help="folder of pictures, or a pack")
    parser.add_argument("--preset", choices=PRESETS, default="few_images", help="recipe (default: %(default)s)")
    parser.add_argument(
        "--resolution", type=resolution, metavar="PX", help="shorter side of the new pictures: 4, 8, 16, ... (default: "
        f"as the pictures allow, at most {_CPU_RESOLUTION} on a CPU and {_GPU_RESOLUTION} on a GPU)"
    )  # fmt: skip
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--hours", type=positive, metavar="H", help="train about as long as this on this machine")
    length.add_argument(
        "--images", type=at_least_1, metavar="N", help="real images to show in all (default: the preset's)"
    )
    parser.add_argument(
        "--precision", choices=("fp32", "tf32", "bf16"), help="default: bf16 where the device has it, else fp32"
    )
    parser.add_argument("--balanced", action="store_true", help="show every class of --labels equally often")
    add_run_options(parser)
    add_choice_of_pictures(parser)


def prepare(options: argparse.Namespace, *, notes: dict[str, Any] | None = None) -> Prepared:
    """Read the pictures, decide what was not passed, and make the trainer; nothing is written.

    Args:
        options: What `add_settings` parsed.
        notes: What config.json is to record beside the settings.

    Raises:
        UsageError: If options do not go together.
        ValueError: If the settings do not fit the pictures, or the run directory holds another run.
    """
    from progan.runtime.device import choose_device

    if options.data is None:
        raise UsageError("pass a folder of pictures, such as: progan train my_icons/")
    if options.colours is not None and options.preset != "few_images":
        raise UsageError(f"--colours is about few_images; leave it out, or --preset {options.preset}")
    if options.balanced and not options.labels:
        raise UsageError("--balanced is about the classes of --labels; pass both")
    run_dir = options.run_dir or Path("runs") / options.data.resolve().stem
    check_apart(run_dir, options.data)
    device = choose_device(options.device, options.precision or "fp32")
    options.precision = options.precision or default_precision(options, run_dir, device)
    images, base_size, found = _read(options, device.type)

    flat = options.preset == "few_images" and has_flat_colours(options, run_dir, images.images)

    def make(total_images: int | None) -> Recipe:
        return _recipe(options, images, base_size, total_images or options.images, flat=flat)

    recipe = recipe_of_length(make, options, run_dir, device)
    trainer = make_trainer(recipe, options, run_dir, device, notes)
    trainer.check(images)
    n, channels, height, width = images.images.shape
    colours = {1: "grey", 3: "colour", 4: "colour and transparency"}[channels]
    kind = ("flat" if flat else "shaded") if options.preset == "few_images" else None
    decided = f"{options.preset} at {width}x{height} in {colours}" + (f" ({kind})" if kind else "")
    epochs = recipe.schedule.total_images / n
    lines = [
        *found,
        f"decided  {decided}, on {device}, in {options.precision}"
        + (f", {len(images.classes)} classes" if options.labels else ""),
        f"         {recipe.schedule.total_images:,} real images will be shown, each {epochs:,.0f} times",
        f"run      {run_dir}" + (f", after {trainer.images_seen:,} images" if trainer.images_seen else ""),
    ]
    if trainer.ranks > 1:
        sizes = " and ".join(map(str, sorted({stage.batch_size for stage in recipe.stages})))
        lines.append(f"         {trainer.ranks} processes share batches of {sizes}")
    decisions = {
        "data": str(options.data), "pictures": n, "size": [width, height], "channels": channels,
        "preset": options.preset, "device": str(device), "precision": options.precision, "colours": kind,
        "total_images": recipe.schedule.total_images, "images_seen": trainer.images_seen, "run_dir": str(run_dir),
        "classes": list(images.classes),
    }  # fmt: skip
    return Prepared(recipe, images, run_dir, trainer, lines, decisions)


def _read(options: argparse.Namespace, device: str) -> tuple[Images, tuple[int, int], list[str]]:
    """Return the pictures, (height, width) of level 0, and lines on what was found."""
    from progan.data import ImageFolder

    if (packed := open_pack(options.data, options)) is not None:
        return packed, _base_of(options, packed), [f"found    {len(packed):,} pictures in the pack {options.data}"]
    found = look_at(options.data, options)
    if found.flips is not None and found.flips.safe is False:
        warn(f"{found.flips}; leave --flips out")
    given = folder_keywords(options.data, options)
    kept = [found.facts[name] for name in given["only"] or () if name in found.facts]
    shape = shape_of(kept or list(found.facts.values()))
    side = options.resolution or _resolution(shape.short_side, device, options.hours)
    images = ImageFolder(options.data, shape.size(side), options.channels or shape.channels, **given)
    return images, shape.base_size, in_two_lines(options.data, found, options)


def _resolution(short_side: int, device: str, hours: float | None) -> int:
    """Return the side of the new pictures: no larger than the real ones, nor than the machine draws in the time."""
    most = _GPU_RESOLUTION if device == "cuda" else _CPU_RESOLUTION
    if device != "cuda" and hours is not None and hours < _SHORT_HOURS:
        most //= 2
    side = 4
    while 2 * side <= min(short_side, most):
        side *= 2
    return max(side, 8)


def _base_of(options: argparse.Namespace, images: Images) -> tuple[int, int]:
    """Return (height, width) of level 0 for the pictures of a pack."""
    height, width = images.images.shape[2:]
    while height % 2 == 0 and width % 2 == 0 and min(height, width) >= 8:
        height, width = height // 2, width // 2
    if options.resolution is not None and options.resolution != min(images.images.shape[2:]):
        raise UsageError(
            f"{options.data} holds pictures of {images.images.shape[3]}x{images.images.shape[2]}; leave --resolution "
            "out, or pack the folder again"
        )
    return height, width


def _recipe(
    options: argparse.Namespace, images: Images, base_size: tuple[int, int], total_images: int | None, *, flat: bool
) -> Recipe:
    """Return the recipe of the preset, changed as the options say.

    Args:
        options: What `add_settings` parsed.
        images: Pictures.
        base_size: (height, width) of level 0.
        total_images: Real images to show in all; None = the preset's.
        flat: Whether few_images takes the pictures to be of flat colours.
    """
    from progan import presets

    n, channels, height, width = images.images.shape
    levels = (min(height // base_size[0], width // base_size[1])).bit_length()
    side = 4 << (levels - 1)
    if options.preset == "few_images":
        recipe = presets.few_images(side, n, total_images=total_images, flat=flat)
    else:
        recipe = shortened(getattr(presets, options.preset)(side), total_images)
    latent = recipe.architecture.latent_shape
    architecture = replace(
        recipe.architecture,
        image_channels=channels,
        base_size=base_size,
        latent_shape=(latent[0], *base_size) if len(latent) == 3 else latent,
    )
    recipe = with_run_options(replace(recipe, architecture=architecture), options)
    return recipe.with_classes(len(images.classes), balanced=options.balanced) if options.labels else recipe
