"""Two recipes: the Mel Icon article's, and the official program's of Karras et al. 2018."""

from __future__ import annotations

from collections.abc import Sequence

from progan.arguments import check_int, tuple_of
from progan.augment.photometric import Contrast
from progan.networks.architecture import Architecture
from progan.optimization import Adam, Ema
from progan.recipe import Recipe, Training
from progan.schedule import Stage

_MEL_ICON_CHANNELS = (256, 128, 64, 32, 16, 8, 4)
_MEL_ICON_STAGE_IMAGES = 60_000  # 7500 iterations at batch 8

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
