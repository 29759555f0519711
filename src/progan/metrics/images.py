"""Sets of images as the measures take them: checked once, and handed out in batches of floats."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from progan.arguments import wrong_type

CHANNELS = (1, 3, 4)  # grey, RGB, RGBA
LEAST_SIZE = 16  # pixels: the coarsest level of the pyramid


class MapDataset(Protocol):
    """A map-style data set."""

    def __len__(self) -> int:
        """Number of items."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """One item: an image (C, H, W), or a tuple that begins with one."""
        ...


Images = Tensor | MapDataset


class ImageSet:
    """A set of images, checked: a tensor, or a map-style data set that is read batch by batch.

    Args:
        name: Name of the argument, for errors.
        images: (N, C, H, W), uint8 or floats in [0, 1]; or a map-style data set, such as an `ImageFolder`, whose items
            are images (C, H, W) or tuples that begin with one.
        least: Least number of images.

    Attributes:
        shape: (C, H, W).
        source: The images as they came; of a folder, its tensor.

    Raises:
        TypeError: If images is neither, or of another dtype.
        ValueError: If there are too few images, or they have another shape, values outside [0, 1], or NaN.
    """

    def __init__(self, name: str, images: Images, *, least: int = 2) -> None:
        held = getattr(images, "images", None)  # of a folder or a pack
        self._images: Images = held if isinstance(held, Tensor) else images
        if isinstance(self._images, Tensor):
            self._images = self._images.detach()
        self._dtype: torch.dtype | None = None  # of a data set's items
        self.name = name
        self.source: Images = self._images
        if isinstance(self._images, Tensor):
            if self._images.ndim != 4:
                raise ValueError(f"{name} must be images (N, C, H, W), got {tuple(self._images.shape)}")
        elif not hasattr(images, "__len__") or not hasattr(images, "__getitem__") or isinstance(images, str | bytes):
            raise wrong_type(name, "a tensor (N, C, H, W) or a map-style data set of images", images)
        if len(self) < least:
            raise ValueError(f"{name} must be at least {least} images, got {len(self)}")
        self.shape: tuple[int, int, int] = self._checked(self._read(range(1)), None)
        channels, height, width = self.shape
        if channels not in CHANNELS:
            raise ValueError(f"{name} must have 1 (grey), 3 (RGB) or 4 (RGBA) channels, (N, C, H, W), got {self.shape}")
        if min(height, width) < LEAST_SIZE:
            raise ValueError(
                f"{name} must be at least {LEAST_SIZE} px high and wide, got {height}x{width}; "
                "enlarge them with progan.upsample, or judge a higher level"
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def batches(self, batch_size: int = 64, indices: range | Tensor | None = None) -> Iterator[Tensor]:
        """Yield (B, C, H, W), float32 in [0, 1], on the device of the images.

        Args:
            batch_size: Images at once.
            indices: Indices of the images wanted, in order; None = all.
        """
        chosen = range(len(self)) if indices is None else indices
        for begin in range(0, len(chosen), batch_size):
            batch = self._read(chosen[begin : begin + batch_size])
            self._checked(batch, self.shape)
            yield batch / 255 if batch.dtype == torch.uint8 else batch.float()

    def _read(self, indices: range | Tensor) -> Tensor:
        if isinstance(self._images, Tensor):
            if isinstance(indices, range):
                return self._images[indices.start : indices.stop : indices.step]
            return self._images[indices.to(self._images.device)]
        items: list[Tensor] = []
        for index in indices:
            item = self._images[int(index)]
            item = item[0] if isinstance(item, tuple | list) else item
            if not isinstance(item, Tensor):
                remedy = "pass torch.from_numpy of it" if isinstance(item, np.ndarray) else ""
                raise wrong_type(f"each item of {self.name}", "a tensor (C, H, W)", item, remedy)
            if items and item.shape != items[0].shape:
                raise ValueError(
                    f"{self.name} must be images of one size, got {tuple(items[0].shape)} and {tuple(item.shape)}"
                )
            self._dtype = item.dtype if self._dtype is None else self._dtype
            if item.dtype != self._dtype:  # whose values have another range
                raise TypeError(f"{self.name} must be images of one dtype, got {self._dtype} and {item.dtype}")
            items.append(item.detach())
        return torch.stack(items)

    def _checked(self, batch: Tensor, shape: tuple[int, int, int] | None) -> tuple[int, int, int]:
        """Return the shape of one image, having checked a batch's shape, dtype and values."""
        if batch.ndim != 4 or (shape is not None and tuple(batch.shape[1:]) != shape):
            expected = "(C, H, W)" if shape is None else str(shape)
            raise ValueError(f"{self.name} must be images {expected}, got {tuple(batch.shape[1:])}")
        if batch.dtype != torch.uint8:
            if not batch.is_floating_point():
                raise TypeError(f"{self.name} must be uint8 or floats in [0, 1], got {batch.dtype}")
            low, high = batch.detach().aminmax()
            if math.isnan(float(low)):
                raise ValueError(f"{self.name} must be floats in [0, 1], got NaN")
            if not (float(low) >= 0 and float(high) <= 1):
                raise ValueError(
                    f"{self.name} must be floats in [0, 1], got values from {float(low):g} to {float(high):g}; "
                    "clamp or scale them, or pass uint8"
                )
        channels, height, width = batch.shape[1:]
        return channels, height, width


def check_same_shape(first: ImageSet, second: ImageSet) -> None:
    """Raise ValueError where two sets have images of different shapes."""
    if first.shape != second.shape:
        remedy = "resize one of them with progan.match_level or progan.ImageFolder"
        if first.shape[0] != second.shape[0]:
            remedy = "read both with the same channels= of progan.ImageFolder"
        raise ValueError(
            f"{first.name} and {second.name} must have one size and as many channels, got {first.shape} and "
            f"{second.shape} (C, H, W); {remedy}"
        )
