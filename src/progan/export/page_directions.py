"""The principal directions in which latents change images: what the sliders of the page move along."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from progan.randomness import normal
from progan.sampling import GrownGenerator

_SAMPLES = 256  # at which the change is measured
_AT_ONCE = 16
_SIDE = 16  # pixels of the small images, at most


def principal_directions(grown: GrownGenerator, n: int, *, seed: int = 0) -> Tensor:
    """Return the directions in which a generator's latents change its images the most.

    Args:
        grown: Generator; of several classes, with labels as they occur in the data.
        n: Number of directions, at most the length of a latent.
        seed: Random seed of the latents and the probes.

    Returns:
        As `directions_of_change`, for images that are averaged to about 16 pixels a side: details do not count.
    """
    parameter = next(grown.generator.parameters())
    side = max(1, min(grown.image_size) // _SIDE)
    labels = grown.labels(_SAMPLES, seed=seed)

    def small_images(z: Tensor, which: slice) -> Tensor:
        given = () if labels is None else (labels[which].to(parameter.device),)
        images: Tensor = grown(z.to(parameter.device, parameter.dtype), *given)
        return torch.nn.functional.avg_pool2d(images.float(), side)

    return directions_of_change(small_images, grown.generator.architecture.latent_shape, n, seed=seed)


def directions_of_change(
    images: Callable[[Tensor, slice], Tensor], latent_shape: tuple[int, ...], n: int, *, seed: int = 0
) -> Tensor:
    """Return the leading eigenvectors of E[J^T J], J the Jacobian of images with respect to latents on the sphere.

    A random probe p ~ N(0, I) in the space of images gives the vector J^T p, whose second moment is J^T J. The leading
    right singular vectors of such vectors, one for each of 256 latents, estimate the eigenvectors. Of each vector, only
    the part that is perpendicular to its latent counts, since the page moves latents on the sphere.

    Args:
        images: Function of latents (B, *latent_shape), which require gradients, and of the slice of all latents that
            they are.
        latent_shape: Shape of a latent.
        n: Number of directions, at most the length of a latent.
        seed: Random seed of the latents and the probes.

    Returns:
        (n, *latent_shape), float32: perpendicular unit vectors, the one that changes images the most first; the largest
        number of each is positive.
    """
    latents = normal((_SAMPLES, *latent_shape), seed, "direction", "latents")
    probes: Tensor | None = None
    rows = []
    for begin in range(0, _SAMPLES, _AT_ONCE):
        which = slice(begin, begin + _AT_ONCE)
        z = latents[which].clone().requires_grad_()
        with torch.enable_grad():
            changed = images(z, which)
        if probes is None:
            probes = normal((_SAMPLES, *changed.shape[1:]), seed, "direction", "probes")
        (row,) = torch.autograd.grad(changed, z, probes[which].to(changed.device, changed.dtype))
        rows.append(row.detach().cpu().double().flatten(1))
    changes, along = torch.cat(rows), latents.double().flatten(1)
    along = along / torch.linalg.vector_norm(along, dim=1, keepdim=True)
    changes = changes - (changes * along).sum(1, keepdim=True) * along
    directions = torch.linalg.svd(changes, full_matrices=False).Vh[:n]
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    found: Tensor = directions * largest.sign()
    return found.float().reshape(-1, *latent_shape)
