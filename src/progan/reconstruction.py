"""Reconstruction: the generator learns to draw real images from codes that are made of them.

A generator that learns from the critic alone has to find out by trial what its latents may mean. Here, for half of each
batch, some numbers of the latent are a code of a real image, and the generator also learns to come close to that image,
as in generative latent optimization (Bojanowski et al. 2018), where each image's latent is learned. A code here needs
no learning: it is the leading principal components of the image, with which that article's learning begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from progan.arguments import check_int, check_tensor, check_weight
from progan.ops.resampling import downsample


@dataclass(frozen=True)
class Reconstruction:
    """The mean absolute difference between real images and those generated from their codes; ``reconstruction``.

    In the generator's update, the latents of the first half of the batch begin with the `PrincipalCodes` of real images
    of the same batch, and this loss is added, with its weight, to that of the objective, which sees the whole batch.
    It applies at the level of the codes, 16x16, and above.

    Args:
        weight: Weight in the generator's loss, at least 0; of differences in the networks' range of values.
        components: Numbers of a latent that are the code, at least 1, of as many as it has; the others stay random.

    Raises:
        TypeError: If a setting is not a number.
        ValueError: If a setting is out of its range.

    Example:
        >>> images = torch.zeros(4, 3, 16, 16)
        >>> Reconstruction()(images, images + 0.25, torch.tensor([2.0, 2.0, 0.0, 0.0]))
        tensor(0.2500)
    """

    weight: float = 3.0
    components: int = 32

    def __post_init__(self) -> None:
        """Check each setting once, here."""
        check_weight("Reconstruction.weight", self.weight)
        check_int("Reconstruction.components", self.components, 1)

    def __call__(self, fake: Tensor, real: Tensor, shares: Tensor) -> Tensor:
        """Return the loss before its weight, 0-d.

        Args:
            fake: Generated images, (B, C, H, W).
            real: Real images, (B, C, H, W).
            shares: Share of each image in the mean, (B,): 0 where it has no code; in a whole batch their mean is 1.
        """
        return (shares * (fake - real).abs().mean(dim=(1, 2, 3))).mean()


def half_of(batch_size: int) -> Tensor:
    """Return the shares of a batch's images in a mean over its first half: (B,), their mean is 1.

    Example:
        >>> half_of(4)
        tensor([2., 2., 0., 0.])
    """
    half = (batch_size + 1) // 2
    return (torch.arange(batch_size) < half) * (batch_size / half)


class PrincipalCodes:
    """Codes of images: their leading principal components, of variance 1.

    Args:
        size: Channels, height and width of the images.
        components: Number of components, k.

    Attributes:
        size: Channels, height and width of the images.
        mean: Mean image, (C * H * W,), float32.
        basis: Principal directions, divided by the deviation along them, (C * H * W, k), float32; 0 where the data has
            fewer dimensions.

    Example:
        >>> codes = PrincipalCodes((1, 2, 2), components=1)
        >>> images = torch.tensor([0.0, 0.5, 1.0]).reshape(3, 1, 1, 1).expand(3, 1, 2, 2)
        >>> codes.fit(images)
        >>> codes(images, torch.zeros(3, 3))[:, 0]
        tensor([-1.2247,  0.0000,  1.2247])
    """

    def __init__(self, size: tuple[int, int, int], components: int) -> None:
        n = math.prod(size)
        self.size = size
        self.mean: Tensor = torch.zeros(n)
        self.basis: Tensor = torch.zeros(n, components)

    @property
    def is_fitted(self) -> bool:
        """Whether they are of some data."""
        return bool(self.mean.any() or self.basis.any())

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors, not copies, by name."""
        return {"mean": self.mean, "basis": self.basis}

    def to(self, device: torch.device) -> PrincipalCodes:
        """Move them to a device, in place."""
        self.mean, self.basis = self.mean.to(device), self.basis.to(device)
        return self

    def fit(self, images: Tensor) -> None:
        """Take the principal components of some data, in place.

        Args:
            images: (N, C, H, W), floats; all of the data, or some hundred images of it.

        Raises:
            ValueError: If they are of another size.
        """
        x = self._flat(images).cpu().double()
        mean = x.mean(dim=0)
        _, lengths, directions = torch.linalg.svd(x - mean, full_matrices=False)
        k = self.basis.shape[1]
        used = lengths[:k] > 1e-6 * len(x) ** 0.5  # a deviation far below one step of 8 bits is none
        directions, lengths = directions[:k][used], lengths[:k][used]
        largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
        directions = directions * largest.sign()  # otherwise their sign is arbitrary
        self.mean.copy_(mean.float())
        self.basis.zero_()
        self.basis[:, : len(directions)] = (directions * (len(x) ** 0.5 / lengths)[:, None]).T.float()

    def __call__(self, images: Tensor, z: Tensor) -> Tensor:
        """Return latents that begin with the codes of images: (B, C, H, W) and (B, ...) -> (B, ...).

        Args:
            images: Images of the codes' size.
            z: Latents. Numbers behind the code stay as they are, as do those for which the data has no dimension.

        Raises:
            ValueError: If the images are of another size.
        """
        mean, basis = self.mean.to(z.dtype), self.basis.to(z.dtype)
        numbers, k = z.flatten(1), basis.shape[1]
        code = torch.where(basis.any(dim=0), (self._flat(images) - mean) @ basis, numbers[:, :k])
        return torch.cat([code, numbers[:, k:]], dim=1).reshape(z.shape)

    def _flat(self, images: Tensor) -> Tensor:
        check_tensor("images", images)
        if tuple(images.shape[1:]) != self.size:
            raise ValueError(f"codes are of images (N, {', '.join(map(str, self.size))}), got {tuple(images.shape)}")
        return images.flatten(1)


Added = Callable[[Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]


def coded(
    reconstruction: Reconstruction | None, codes: PrincipalCodes | None, real: Tensor, draws: Mapping[str, Tensor]
) -> tuple[Tensor, Added]:
    """Return the latents of a step, and the function that adds the loss of reconstruction to the generator's.

    Args:
        reconstruction: Settings; None = there is none.
        codes: Codes of the data; None = there are none.
        real: Real images of the step, (B, C, H, W); below the size of codes, nothing is reconstructed.
        draws: ``z_generator``: latents, (B, ...); and ``coded``: shares of the images in the loss, as of `half_of`, of
            which those with none keep their latents.

    Returns:
        Latents, (B, ...); and a function of the generated images and the loss so far, 0-d, which returns the loss with
        what is added, and what to report of it by name.
    """
    z = draws["z_generator"]
    if reconstruction is None or codes is None or real.shape[2] < codes.size[1]:
        return z, lambda fake, loss: (loss, {})
    shares = draws["coded"]
    small = downsample(real, real.shape[2] // codes.size[1])
    z = torch.where((shares > 0).reshape(-1, *[1] * (z.ndim - 1)), codes(small, z), z)

    def added(fake: Tensor, loss: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        difference = reconstruction(fake, real, shares)
        return loss + reconstruction.weight * difference, {"reconstruction": difference}

    return z, added
