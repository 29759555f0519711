"""Images at the size of a level."""

from __future__ import annotations

from torch import Tensor

from progan.arguments import check_int, check_size, check_tensor
from progan.ops.resampling import blend_with_lower, downsample


def match_level(
    images: Tensor,
    level: int,
    alpha: float | Tensor | None = None,
    *,
    blend: bool = False,
    base_size: tuple[int, int] = (4, 4),
) -> Tensor:
    """Average images down to a level's size.

    Args:
        images: Images, (B, C, H, W), floats in any range; H and W are the base size times one power of two.
        level: Level whose size the result has.
        alpha: Weight of the level while it fades in.
        blend: Whether to also blend with the lower level while the level fades in, as the official program does.
        base_size: (height, width) at level 0.

    Returns:
        (B, C, height, width) at the level.

    Raises:
        TypeError: If the images are not floats.
        ValueError: If the images are smaller than the level, or not larger by a power of two.

    Example:
        >>> import torch
        >>> match_level(torch.zeros(2, 3, 64, 64), level=3).shape
        torch.Size([2, 3, 32, 32])
    """
    check_tensor("images", images)
    check_int("level", level, 0)
    check_size("base_size", base_size)
    if images.ndim != 4:
        raise ValueError(f"images must be (B, C, H, W), got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise TypeError(f"match_level averages floats, got {images.dtype}; divide uint8 images by 255 first")
    height, width = (side << level for side in base_size)
    factor = images.shape[2] // height
    if factor < 1 or factor.bit_count() != 1 or tuple(images.shape[2:]) != (height * factor, width * factor):
        raise ValueError(
            f"level {level} is {height}x{width}; images must be that or a power of two larger, got "
            f"{images.shape[2]}x{images.shape[3]}; resize them, or read them with ImageFolder(path, size)"
        )
    images = downsample(images, factor)
    return blend_with_lower(images, alpha) if blend and alpha is not None else images
