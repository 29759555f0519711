"""The settings that determine both networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from progan.arguments import check_alpha, tuple_of
from progan.networks.architecture_checks import check_settings
from progan.networks.layers import Equalization
from progan.ops.convolution import Padding


@dataclass(frozen=True)
class Architecture:
    """Settings that determine both networks: numbers, strings and tuples, so that JSON can store them.

    Args:
        channels: Number of channels of each level, coarse first; there are as many levels as entries.
        latent_shape: (512,) for a vector, which a dense layer maps to the base size, or (512, 4, 4) for an image of
            noise, which goes into a convolution.
        image_channels: Channels of the images: 1 grey, 3 RGB, 4 RGBA.
        base_size: (height, width) of level 0 in pixels; (6, 4) makes images of 3:2.
        image_range: Values of black and white in the networks' images.
        minibatch_std_group: Images per MiniBatchStd group; a smaller batch is one group; None = always the whole batch.
        minibatch_std_unbiased: Divide by group - 1.
        minibatch_std_consecutive: Whether consecutive images make a group, see `MiniBatchStd`.
        padding: Padding of the 3x3 convolutions: ``zeros`` or ``reflect``.
        equalization: Equalisation of the convolutions: ``he`` (the paper's) or ``he_twice`` (the article's), see
            `EqualizedConv2d`.
        equalized_ends: Equalise the layers to RGB, from RGB and to the score, with a LeakyReLU after the one from RGB;
            else they are plain layers without an activation.
        normalize_latent: Divide the latent by its root mean square.
        norm_before_activation: Apply PixelNorm before the LeakyReLU; else after it.
        norm_in_discriminator: Use PixelNorm in both networks; else in the generator only.
        norm_first_layer: Apply PixelNorm after every layer of the generator; else not after its first one, which takes
            the latent.
        norm_epsilon: Epsilon of PixelNorm.
        norm_epsilon_outside_root: Where PixelNorm adds its epsilon, see `PixelNorm`.
        output: ``linear``, or ``sigmoid`` after the fade (then image_range must be (0, 1)).
        widen_first: Increase the channels in the first convolution of the discriminator's blocks; else in the second.
        head_channels: Channels of the discriminator's last two layers; None = channels[0].
        modulation: Multiply each feature map of the generator's levels above 0 by a number that a dense layer makes of
            the latent, a vector: the scale of FiLM (Perez et al. 2018), as the styles of Karras et al. 2019 do.
        palette: Number of colours that the pixels of an image are mixtures of, 2 to 64: see `ProgressiveGenerator`. 0 =
            a 1x1 convolution to RGB.
        palette_layers: Dense layers, each with a LeakyReLU, between the latent and the layer that makes the colours of
            the palette, at least 0: see `ProgressiveGenerator`.
        sharpness: Factor of what the palette's sparsemax is given when a `GrownGenerator` draws: above 1, contours are
            sharper than in training. Without a palette it has no effect.
        supersampling: Points of a pixel, along each side, at which the palette's weights are then computed; the pixel
            has their mean, which makes contours smooth. 1 = one in its middle, as in training.
        patch_scores: Score the patches of an image beside the whole, from level 2 on: see `ProgressiveDiscriminator`.
        classes: Number of classes that the networks tell apart, each a label from 0 on; 0 = unconditional networks,
            without labels. See `ProgressiveGenerator` and `ProgressiveDiscriminator`.
        class_embedding: Length of the vector that stands for a class in the generator.

    Raises:
        TypeError: If a setting has the wrong type.
        ValueError: If the settings do not determine a valid pair of networks.
    """

    channels: tuple[int, ...]
    latent_shape: tuple[int, ...] = (512,)
    image_channels: int = 3
    base_size: tuple[int, int] = (4, 4)
    image_range: tuple[float, float] = (-1.0, 1.0)
    minibatch_std_group: int | None = 4
    minibatch_std_unbiased: bool = False
    minibatch_std_consecutive: bool = False
    padding: Padding = "zeros"
    equalization: Equalization = "he"
    equalized_ends: bool = True
    normalize_latent: bool = True
    norm_before_activation: bool = False
    norm_in_discriminator: bool = False
    norm_first_layer: bool = True
    norm_epsilon: float = 1e-8
    norm_epsilon_outside_root: bool = False
    output: Literal["linear", "sigmoid"] = "linear"
    widen_first: bool = False
    head_channels: int | None = None
    modulation: bool = False
    palette: int = 0
    palette_layers: int = 0
    sharpness: float = 1.0
    supersampling: int = 1
    patch_scores: bool = False
    classes: int = 0
    class_embedding: int = 128

    def __post_init__(self) -> None:
        """Check the settings without building anything."""
        for name in ("channels", "latent_shape", "base_size", "image_range"):
            object.__setattr__(self, name, tuple_of(f"Architecture.{name}", getattr(self, name), "numbers"))
        check_settings(self)

    @property
    def top_level(self) -> int:
        """Index of the highest level."""
        return len(self.channels) - 1

    @property
    def ends_equalization(self) -> Equalization:
        """Equalisation of the layers to RGB, from RGB and to the scores."""
        return "he" if self.equalized_ends else "none"

    @property
    def joined_channels(self) -> int:
        """Channels of the latent with the vector of its class, if there are classes."""
        return self.latent_shape[0] + (self.class_embedding if self.classes else 0)

    def size(self, level: int) -> tuple[int, int]:
        """Return (height, width) of the images at a level, in pixels."""
        return self.base_size[0] << level, self.base_size[1] << level

    def check_level(self, level: int) -> None:
        """Raise if the networks do not have a level."""
        if not isinstance(level, int) or isinstance(level, bool):
            raise TypeError(f"level must be an int, got {level!r}")
        if not 0 <= level <= self.top_level:
            raise ValueError(
                f"the networks have levels 0 to {self.top_level} ({len(self.channels)} widths in channels), got "
                f"level {level}"
            )

    def check_growth(self, level: int, alpha: float | Tensor | None) -> None:
        """Raise if the networks cannot run at this level and alpha."""
        self.check_level(level)
        if alpha is not None:
            check_alpha(alpha)
            if level == 0:
                raise ValueError("level 0 has no level below to fade from; pass alpha=None")

    def level_of(self, height: int, width: int) -> int:
        """Return the level whose images have this size.

        Raises:
            ValueError: If there is none.
        """
        for level in range(len(self.channels)):
            if self.size(level) == (height, width):
                return level
        sizes = ", ".join("x".join(map(str, self.size(level))) for level in range(len(self.channels)))
        raise ValueError(f"images of {height}x{width} fit no level; the networks take {sizes} (height x width)")
