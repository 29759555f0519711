"""Ready-made recipes: the Mel Icon article's, the official program's of Karras et al. 2018, and one for few images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike

import torch

from progan.arguments import check_flag, check_int, tuple_of
from progan.augment.colour import Colour
from progan.augment.geometric import Translate
from progan.augment.photometric import Contrast
from progan.errors import warn
from progan.losses.logistic import Relativistic
from progan.losses.zero_centered import R1, R2
from progan.networks.architecture import Architecture
from progan.optimization import Adam, Ema
from progan.recipe import Precision, Recipe, Training
from progan.reconstruction import Reconstruction
from progan.schedule import Stage

_MEL_ICON_CHANNELS = (256, 128, 64, 32, 16, 8, 4)
_MEL_ICON_STAGE_IMAGES = 60_000  # 7500 iterations at batch 8

_FEW_CHANNELS = (128, 96, 64, 48, 32, 24, 16)
_FEW_IMAGES = 150_000  # shown up to 64x64, and twice as many for each doubling from there on
_FEW_SHARES = (0.7, 0.15, 0.1, 0.025)  # of them, from the top level down; the last is also for all lower levels
_FEW_TAIL = 0.07  # share of them at a third of the learning rate, and at a tenth
_FEW_RATE = 4e-3
_FEW_GENERATOR = 2.0  # learning rate of the generator with a palette, in that
_FEW_GAMMA = 5e-4  # per pixel, for images in [-1, 1]
_FEW_PALETTE = 12  # colours of an image
_FEW_PALETTE_LAYERS = 2  # between the latent and the colours
_FEW_SHARPNESS = 4.0  # of contours when drawing, in that of the training
_FEW_SUPERSAMPLING = 2  # points of a pixel, along each side, when drawing
_FEW_SMALL = 3  # highest top level of small batches (one more with a palette), of no patch scores and no sharpening
_FEW_RECONSTRUCTED = 3  # the same of a reconstruction, without a palette
_FEW_LEAST = 50  # pictures below which nothing but copies is to be hoped for

_KARRAS_LEVELS = 9  # 4x4 ... 1024x1024
_KARRAS_STAGE_IMAGES = 600_000
_KARRAS_LAST_IMAGES = 2_400_000  # what the official 12,000k images leave for the last level of 1024x1024
_KARRAS_BATCHES = (128, 128, 128, 64, 32, 16, 8, 4, 4)


def mel_icon(resolution: int = 256, *, channels: Sequence[int] | None = None, contrast: bool = False) -> Recipe:
    """Return the setup of the article "Mel Icon Generator version 2", as its program has it.

    Level 0 is held for 60,000 images; every further level fades in over 60,000; the last is then held for 30,000 at
    learning rate 5e-4 and for 30,000 at 1e-4. Batch 8. Its convolutions have He's constant in twice (``he_twice``).

    Differs: the program's MiniBatchStd has no epsilon; its 4x4 phase lasts one step longer; and its fall of the
    learning rate, which never happens for about 640 images, happens here as the article says.

    Args:
        resolution: Side of the images in pixels: 4 times a power of two.
        channels: Channels of each level, coarse first; None = the article's 256, 128, 64, 32, 16, 8, 4.
        contrast: Whether to train the article's variant: real images at contrast x1 to x2, twice the images per stage.

    Raises:
        ValueError: If the resolution is not such a number, or there are channels for fewer levels.

    Example:
        >>> recipe = mel_icon()
        >>> recipe.schedule.total_images
        480000
    """
    widths = _widths(resolution, channels, _MEL_ICON_CHANNELS, "mel_icon")
    images = _MEL_ICON_STAGE_IMAGES * (2 if contrast else 1)
    top = len(widths) - 1
    stages = [Stage(0, hold_images=images, learning_rate=5e-4)]
    stages += [Stage(level, fade_images=images, learning_rate=5e-4) for level in range(1, top + 1)]
    stages += [Stage(top, hold_images=images // 2, learning_rate=rate) for rate in (5e-4, 1e-4)]
    architecture = Architecture(
        channels=widths,
        latent_shape=(512, 4, 4),
        image_range=(0.0, 1.0),
        minibatch_std_group=8,
        minibatch_std_unbiased=True,
        padding="reflect",
        equalization="he_twice",
        equalized_ends=False,
        normalize_latent=False,
        norm_before_activation=True,
        norm_in_discriminator=True,
        norm_epsilon=1e-7,
        norm_epsilon_outside_root=True,
        output="sigmoid",
        widen_first=True,
        head_channels=2 * widths[0],
    )
    training = Training(
        order="generator_first",
        ema=Ema(0.995, batch=8, warm_up=True),
        augment_real=(Contrast(1.0, 2.0),) if contrast else (),
    )
    return Recipe(architecture, tuple(stages), training)


def karras2018(resolution: int = 1024, *, channels: Sequence[int] | None = None, fmap_base: int = 8192) -> Recipe:
    """Return the setup of the official program of Karras et al. 2018, for one GPU.

    Widths min(fmap_base / 2^(level + 1), 512); every level is held for 600,000 images and the next one fades in over
    600,000; at 1024x1024, 12,000,000 images in all.

    Differs: below 1024x1024 the last level is held as long as there, 2,400,000 images; the first dense layer has one
    bias per number, the official one per channel; with fmap_base below 1024 the discriminator's 3x3 convolution at 4x4
    is as wide as the dense layer behind it, min(fmap_base, 512), the official one min(fmap_base / 2, 512).

    Args:
        resolution: Side of the images in pixels: 4 times a power of two.
        channels: Channels of each level, coarse first; None = the official ones, for up to 1024x1024.
        fmap_base: Scale of the official channels.

    Raises:
        ValueError: If the resolution is not such a number, or there are channels for fewer levels.

    Example:
        >>> karras2018(1024).architecture.channels
        (512, 512, 512, 512, 256, 128, 64, 32, 16)
    """
    check_int("fmap_base", fmap_base, 1)
    official = tuple(min(fmap_base >> (level + 1), 512) for level in range(_KARRAS_LEVELS))
    widths = _widths(resolution, channels, official, "karras2018")
    top = len(widths) - 1
    stages = []
    for level in range(top + 1):
        stages.append(
            Stage(
                level,
                fade_images=_KARRAS_STAGE_IMAGES if level else 0,
                hold_images=_KARRAS_LAST_IMAGES if level == top else _KARRAS_STAGE_IMAGES,
                batch_size=_KARRAS_BATCHES[min(level, _KARRAS_LEVELS - 1)],
                learning_rate=1e-3 if level < _KARRAS_LEVELS - 1 else 1.5e-3,
            )
        )
    training = Training(adam=Adam(reset="level_and_fade"), ema=Ema(0.999), blend_real=True)
    return Recipe(
        Architecture(channels=widths, head_channels=_karras_head(channels, fmap_base)), tuple(stages), training
    )


def few_images(
    resolution: int = 64,
    n_images: int = 640,
    *,
    hours: float | None = None,
    total_images: int | None = None,
    channels: Sequence[int] | None = None,
    flat: bool = True,
    precision: Precision = "fp32",
    device: str | torch.device | None = None,
    run_dir: str | PathLike[str] | None = None,
) -> Recipe:
    """Return the recipe for good pictures from a few hundred images and a few hours: see the guide of this name.

    The networks of `karras2018` with narrow low levels and a latent of 128 numbers, which also modulates the features
    of each level. For pictures with flat colours, the latent determines a palette of 12 that pixels are mixtures of,
    and the generator learns at twice the critic's rate. The generator also learns to draw real images from codes of
    them; for pictures without flat colours, above 32x32, patches are scored beside whole images instead. The
    relativistic loss with lazy R1 and R2 penalties; small batches; most of the time at the top level; a light
    augmentation of all that the critic sees; and moving averages of three half-lives, of which the last judgement
    chooses the best.

    Args:
        resolution: Side of the images in pixels: 4 times a power of two.
        n_images: Number of different real images, which sets how often they are augmented.
        hours: Hours that the training may take: as many images are shown as this machine trains on in that time, which
            is measured here. None = total_images.
        total_images: Real images to show in all; None = 150,000 up to 64x64, and twice as many for each doubling.
        channels: Channels of each level, coarse first; None = 128, 96, 64, 48, 32, 24, 16.
        flat: Whether the pictures have flat colours, as many drawings do; False = shaded drawings and photographs, for
            which there is no palette. `progan.data.colour_verdict` tells.
        precision: Precision of the training; ``bf16`` is faster on CPUs with AVX-512 and on GPUs.
        device: Device that hours are measured on; None = the best available.
        run_dir: Run directory; if it holds a run of this recipe, hours are those of that run, so that the same program
            resumes it.

    Raises:
        TypeError: If an argument is of a wrong kind.
        ValueError: If the resolution is not such a number, there are channels for fewer levels, both hours and
            total_images are given, or total_images are too few for the stages.

    Warns:
        UserWarning: If there are so few images that nothing but copies is to be expected.

    Example:
        >>> recipe = few_images(64, 640)
        >>> recipe.schedule.total_images, recipe.architecture.channels
        (150000, (128, 96, 64, 48, 32))
    """
    check_int("n_images", n_images, 1)
    check_flag("flat", flat)
    widths = _widths(resolution, channels, _FEW_CHANNELS, "few_images")
    if hours is not None and total_images is not None:
        raise ValueError("pass hours= or total_images=, not both: each sets how many images are shown")
    if n_images < _FEW_LEAST:
        warn(
            f"{n_images} images are too few for new pictures: at best, the network learns them by heart; collect at "
            f"least {_FEW_LEAST}, better some hundreds"
        )
    top = len(widths) - 1
    if total_images is None:
        total_images = _FEW_IMAGES << max(0, top - 4)
    palette = _FEW_PALETTE * flat
    recipe = _few_recipe(widths, n_images, total_images, palette, precision)
    if hours is None:
        return recipe
    from progan.training.trainer import Trainer  # above everything else, and of no use to the other recipes

    scaled = Trainer.recipe_for_hours(recipe, hours, device=device, run_dir=run_dir)
    total_images = max(scaled.schedule.total_images, _few_least(top, palette))
    return _few_recipe(widths, n_images, total_images, palette, precision)


def _few_recipe(
    widths: tuple[int, ...], n_images: int, total_images: int, palette: int, precision: Precision
) -> Recipe:
    """Return the recipe of `few_images` for a number of images to show."""
    top = len(widths) - 1
    training = Training(
        objective=Relativistic(),
        regularizers=(R1(_FEW_GAMMA, every=16, per_pixel=True), R2(_FEW_GAMMA, every=16, per_pixel=True)),
        reconstruction=Reconstruction(weight=3.0, components=32) if palette or top <= _FEW_RECONSTRUCTED else None,
        adam=Adam(generator_factor=_FEW_GENERATOR if palette else 1.0),
        ema=Ema(0.5, batch=max(1000, total_images // 30), ramp_up=0.05, other_half_lives=(1 / 3, 3)),
        blend_real=True,
        augment_all=(Translate(0.125), Colour()),
        augment_strength=_few_strength(total_images / n_images),
        precision=precision,
    )
    drawn_sharply = bool(palette) and top > _FEW_SMALL
    architecture = Architecture(
        channels=widths,
        latent_shape=(128,),
        modulation=True,
        palette=palette,
        palette_layers=_FEW_PALETTE_LAYERS if palette else 0,
        sharpness=_FEW_SHARPNESS if drawn_sharply else 1.0,
        supersampling=_FEW_SUPERSAMPLING if drawn_sharply else 1,
        patch_scores=not palette and top > _FEW_SMALL,
    )
    return Recipe(architecture, _few_stages(top, total_images, palette), training)


def _few_least(top: int, palette: int) -> int:
    """Return the least number of images in all for levels up to the top one."""
    return 8 * _few_batch(top, palette) * (top + 3)


def _few_batch(top: int, palette: int) -> int:
    """Return the batch size for levels up to the top one."""
    return 4 if top <= _FEW_SMALL + bool(palette) else 8


def _few_stages(top: int, total_images: int, palette: int) -> tuple[Stage, ...]:
    """Return the stages of `few_images`: each level fades in over the first 30 % of its images."""
    least, batch = _few_least(top, palette), _few_batch(top, palette)
    check_int("total_images", total_images)
    if total_images < least:
        raise ValueError(
            f"few_images needs at least {least:,} images in all for {top + 1} levels, got {total_images:,}; pass more"
        )
    shares = [_FEW_SHARES[min(top - level, len(_FEW_SHARES) - 1)] for level in range(top + 1)]
    counts = [max(batch, round(total_images * share / sum(shares))) for share in shares]
    tail = max(batch, round(total_images * _FEW_TAIL))
    counts[top] = total_images - sum(counts[:top]) - 2 * tail
    fades = [round(0.3 * count) if level else 0 for level, count in enumerate(counts)]
    return (
        *(
            Stage(level, fade, count - fade, batch, _FEW_RATE)
            for level, (fade, count) in enumerate(zip(fades, counts, strict=True))
        ),
        Stage(top, 0, tail, batch, _FEW_RATE / 3),
        Stage(top, 0, tail, batch, _FEW_RATE / 10),
    )


def _few_strength(epochs: float) -> float:
    """Return the probability of augmentation: 0 up to 20 epochs, 0.2 at 230, at most 0.6."""
    return round(min(0.6, max(0.0, 0.19 * math.log10(max(epochs, 1) / 20))), 3)


def _karras_head(channels: Sequence[int] | None, fmap_base: int) -> int | None:
    """Return the width of the last dense layer where the official formula gives another than channels[0]."""
    return None if channels is not None else min(fmap_base, 512)


def _widths(resolution: int, channels: Sequence[int] | None, defaults: tuple[int, ...], preset: str) -> tuple[int, ...]:
    """Return the widths for a resolution, refusing one beyond them."""
    if not isinstance(resolution, int) or resolution < 4 or resolution % 4 or (resolution // 4).bit_count() != 1:
        raise ValueError(f"resolution must be 4 times a power of two (4, 8, 16, ...), got {resolution!r}")
    levels = (resolution // 4).bit_length()
    if channels is None:
        if levels > len(defaults):
            raise ValueError(
                f"{preset} has widths for up to {4 << (len(defaults) - 1)} px, got resolution={resolution}; pass "
                f"channels= with {levels} widths, coarse first, such as {(*defaults, *[4] * (levels - len(defaults)))}"
            )
        return defaults[:levels]
    widths = tuple_of("channels", channels, "ints")
    if len(widths) != levels:
        raise ValueError(f"resolution {resolution} has {levels} levels, got {len(widths)} widths in channels=")
    return widths
