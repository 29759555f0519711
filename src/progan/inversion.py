"""GAN inversion: the latent whose image is nearest to a given picture, by optimisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from progan.arguments import check_gradients_on, check_instance, check_int, check_number, check_tensor
from progan.networks.generator import ProgressiveGenerator
from progan.ops.resampling import downsample
from progan.runtime.progress import counted
from progan.sampling import GrownGenerator

_LEAST_SIDE = 4  # pixels, of the coarsest scale that is compared
_BATCH = 64
_DECAY = 0.1  # of the learning rate, from the first step to the last


@dataclass(frozen=True)
class FoundLatent:
    """The latent whose image is nearest to a picture, and how near it is.

    Distances are root mean square differences of pixels in [0, 1], averaged over all scales from the full size down to
    4 pixels: 0 = equal, about 0.3 = unrelated pictures.

    Attributes:
        z: The latent, latent_shape, float32, on the CPU.
        image: Its image, (C, H, W), float32 in [0, 1], on the CPU.
        distance: Distance of the image from the picture.
        nearest_sample: Distance of the nearest of the random samples, from which the search began.
        typical_sample: Median of the distances of the random samples.
        nearest_training: Distance of the nearest training image; None = no training images were given.
    """

    z: Tensor
    image: Tensor
    distance: float
    nearest_sample: float
    typical_sample: float
    nearest_training: float | None

    def __str__(self) -> str:
        """Return the distances in words."""
        text = (
            f"distance {self.distance:.3f} from the picture; a typical sample has {self.typical_sample:.3f}, the "
            f"nearest random sample {self.nearest_sample:.3f}"
        )
        if self.nearest_training is not None:
            text += f", the nearest training image {self.nearest_training:.3f}"
        return text


def find_latent(
    grown: GrownGenerator,
    image: Tensor,
    *,
    steps: int = 200,
    seed: int = 0,
    draws: int = 256,
    starts: int = 4,
    learning_rate: float = 0.05,
    training: Tensor | None = None,
) -> FoundLatent:
    """Find the latent whose image is nearest to a picture.

    Of random samples, those nearest to the picture are where the search starts. Each start is improved by Adam on the
    mean square difference of pixels at all scales (each the average of 2 x 2 pixels of the one before), and is put back
    on the sphere near which random latents lie after every step. The best latent that was met is returned. RGBA is
    compared with colours multiplied by their opacity.

    A generator shows only what it has learned: of a picture unlike its training images, it meets colours and outlines
    at most. The result states the distance, beside that of random samples.

    Args:
        grown: Trained generator; with classes, that of one class (`GrownGenerator.of_class`).
        image: Picture, (C, H, W) or (1, C, H, W), uint8 or floats in [0, 1], of the size that the generator makes.
        steps: Number of optimisation steps of each start.
        seed: Random seed of the samples, as in `GrownGenerator.sample`.
        draws: Number of random samples.
        starts: Number of starts, at most draws.
        learning_rate: Adam's first learning rate, relative to N(0, 1); it falls to a tenth.
        training: Training images, (N, C, H, W), uint8 or floats in [0, 1], of which the nearest is measured too.

    Returns:
        The latent, its image and the distances. Equal arguments give an equal result on one kind of device.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the picture or the training images have another shape than the generator's images, or values
            outside [0, 1].

    Example:
        >>> from progan import presets
        >>> grown = GrownGenerator(presets.karras2018(8, channels=(16, 16)).build()[0], level=1)
        >>> found = find_latent(grown, grown.sample(9, seed=5)[8], steps=50, draws=16, starts=2)
        >>> found.distance < found.nearest_sample < found.typical_sample
        True
    """
    check_instance("grown", grown, GrownGenerator, [(ProgressiveGenerator, "pass GrownGenerator(generator, level)")])
    grown.check_one_class("the images that find_latent searches")
    for name, value, least in (("steps", steps, 0), ("draws", draws, 1), ("starts", starts, 1)):
        check_int(name, value, least)
    check_number("learning_rate", learning_rate)
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be a finite number above 0, got {learning_rate!r}")
    check_gradients_on("find_latent improves a latent by its gradient")
    parameter = next(grown.generator.parameters())
    target = _picture(grown, "image", image[None] if isinstance(image, Tensor) and image.ndim == 3 else image)
    if len(target) != 1:
        raise ValueError(f"find_latent takes one picture, (C, H, W), got {len(target)}; call it for each")
    nearest_training = None if training is None else _nearest(grown, target, training)
    target = _floats(target.to(parameter.device))
    scales = _scales(target)
    parts = [range(begin, min(begin + _BATCH, draws)) for begin in range(0, draws, _BATCH)]
    distances = torch.cat([_distances(grown.images(grown.latents(part, seed=seed)), scales).cpu() for part in parts])
    order = torch.argsort(distances, stable=True)[: min(starts, draws)].tolist()
    best: tuple[float, Tensor] = float(distances[order[0]]), grown.latents(order[:1], seed=seed)
    if steps:
        z = grown.latents(order, seed=seed).to(parameter.device, parameter.dtype)
        best = min(best, _improved(grown, z, target, steps, learning_rate), key=lambda each: each[0])
    z = best[1]
    shown = grown.images(z)
    return FoundLatent(
        z[0],
        shown[0].cpu(),
        float(_distances(shown, scales)),
        float(distances.min()),
        float(distances.median()),
        nearest_training,
    )


def _improved(
    grown: GrownGenerator, z: Tensor, target: Tensor, steps: int, learning_rate: float
) -> tuple[float, Tensor]:
    """Return the least distance met by any of the starts, and its latent, (1, *latent_shape), float32, on the CPU."""
    low, high = grown.generator.architecture.image_range
    scales = _scales(target)
    # What a generator makes of black beyond 0, or of white beyond 1, is not an error.
    least_value = torch.where(target <= 0, 0.0, -math.inf)
    most_value = torch.where(target >= 1, 1.0, math.inf)
    radius = math.sqrt(z[0].numel())
    z = _on_sphere(z, radius).requires_grad_(True)
    adam = torch.optim.Adam([z], lr=learning_rate, betas=(0.9, 0.99))
    least = torch.full((len(z),), math.inf, dtype=torch.float32, device=z.device)
    best = z.detach().clone()
    for step in counted(range(steps + 1), steps + 1, "searching the latent"):
        images = ((grown(z) - low) / (high - low)).float()
        with torch.no_grad():
            errors = _errors(images.clamp(0, 1), scales)
            better = errors < least
            least = torch.where(better, errors, least)
            best[better] = z[better]
        if step == steps:
            break
        adam.param_groups[0]["lr"] = learning_rate * _DECAY ** (step / steps)
        loss = _errors(torch.clamp(images, least_value, most_value), scales).sum()
        (z.grad,) = torch.autograd.grad(loss, z)
        adam.step()
        with torch.no_grad():
            z.copy_(_on_sphere(z, radius))
    index = int(least.argmin())
    found = best[index : index + 1].float().cpu()
    return float(_distances(grown.images(found), scales)), found


def _on_sphere(z: Tensor, radius: float) -> Tensor:
    """Return latents at the norm that N(0, 1) has on average: (B, ...)."""
    norms = torch.linalg.vector_norm(z.flatten(1), dim=1).clamp_min(torch.finfo(z.dtype).tiny)
    scaled: Tensor = z * (radius / norms).reshape(-1, *[1] * (z.ndim - 1))
    return scaled


def _picture(grown: GrownGenerator, name: str, images: object) -> Tensor:
    """Return pictures, (N, C, H, W), uint8 or floats, having checked shape, dtype and values."""
    check_tensor(name, images)
    assert isinstance(images, Tensor)
    architecture = grown.generator.architecture
    expected = (architecture.image_channels, *grown.image_size)
    if images.ndim != 4 or tuple(images.shape[1:]) != expected or len(images) == 0:
        raise ValueError(
            f"{name} must have the shape of the generator's images, {expected} (C, H, W), got {tuple(images.shape)}; "
            "read pictures with progan.data.read_image, or resize them with progan.match_level"
        )
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise TypeError(f"{name} must be uint8 or floats in [0, 1], got {images.dtype}")
    low, high = (float(value) for value in images.detach().aminmax())
    if not (low >= 0 and high <= 1):  # NaN too
        raise ValueError(f"{name} must be floats in [0, 1], got values from {low:g} to {high:g}; or pass uint8")
    return images


def _nearest(grown: GrownGenerator, target: Tensor, training: object) -> float:
    """Return the least distance of any training image from the picture."""
    images = _picture(grown, "training", training)
    scales = _scales(_floats(target).to(images.device))
    return min(float(_distances(_floats(part), scales).min()) for part in torch.split(images, _BATCH))


def _floats(images: Tensor) -> Tensor:
    """Return images, uint8 or floats in [0, 1], as float32 in [0, 1]."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def _scales(x: Tensor) -> list[Tensor]:
    """Return images at all scales, full size first: (B, C, H, W), float32."""
    if x.shape[1] == 4:
        x = torch.cat([x[:, :3] * x[:, 3:], x[:, 3:]], dim=1)
    found = [x]
    while min(x.shape[2:]) >= 2 * _LEAST_SIDE and not (x.shape[2] % 2 or x.shape[3] % 2):
        x = downsample(x)
        found.append(x)
    return found


def _errors(images: Tensor, scales: list[Tensor]) -> Tensor:
    """Return the mean square differences of images from the picture, averaged over all scales: (B,), float32."""
    errors = [(x - y).square().flatten(1).mean(1) for x, y in zip(_scales(images), scales, strict=True)]
    return torch.stack(errors).mean(0)


def _distances(images: Tensor, scales: list[Tensor]) -> Tensor:
    """Return the root mean square differences of images from the picture over all scales: (B,), float32."""
    return _errors(images, scales).sqrt()
