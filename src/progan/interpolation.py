"""Paths between latents: spherical linear interpolation."""

from __future__ import annotations

import torch
from torch import Tensor

from progan.arguments import check_number

_TINY = torch.finfo(torch.float64).tiny


def slerp(start: Tensor, end: Tensor, weight: float | Tensor) -> Tensor:
    """Interpolate between latents on the sphere.

    With u and v the directions of start and end, omega the angle between them, and t the weight, the direction is
    sin((1 - t) omega) / sin(omega) u + sin(t omega) / sin(omega) v (Shoemake 1985; for latents: White 2016, "Sampling
    Generative Networks"), and the norm goes linearly from one to the other. Latents of many dimensions have norms close
    to one another; a straight line passes through norms that the generator has never seen, and this path does not. A
    latent of any shape counts as one vector.

    Args:
        start: Latents, (B, ...), floats.
        end: Latents of the same shape; a batch of 1 on either side goes with all of the other.
        weight: 0 for start, 1 for end: a number, or one for each pair, (B,). Above 1 and below 0 the path goes on.

    Returns:
        (B, ...), in start's dtype and on its device; equal to start and end where the weight is 0 and 1. Where start
        and end are opposite, many paths are shortest, and the same one is taken each time.

    Raises:
        TypeError: If start or end is not a tensor of floats.
        ValueError: If the shapes do not fit.

    Example:
        >>> slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]), torch.tensor([0.0, 0.5, 1.0]))
        tensor([[1.0000, 0.0000],
                [1.0607, 1.0607],
                [0.0000, 2.0000]])
    """
    for name, latents in (("start", start), ("end", end)):
        if not isinstance(latents, Tensor) or not latents.is_floating_point():
            got = latents.dtype if isinstance(latents, Tensor) else type(latents).__name__
            raise TypeError(f"{name} must be a tensor of floats, got {got}; GrownGenerator.latents draws some")
    if not isinstance(weight, Tensor):
        check_number("weight", weight)
    weights = torch.as_tensor(weight, dtype=torch.float64, device="cpu").detach()
    sizes = {len(part) for part in (start, end, weights) if part.ndim} - {1}
    if min(start.ndim, end.ndim) < 2 or start.shape[1:] != end.shape[1:] or weights.ndim > 1 or len(sizes) > 1:
        raise ValueError(
            "slerp takes start and end (B, ...) of one shape and a weight, a number or (B,), got "
            f"{tuple(start.shape)}, {tuple(end.shape)} and {tuple(weights.shape)}; pass z[None] for one latent"
        )
    # In float64, which not all devices have.
    first, last = (latents.detach().to("cpu", torch.float64).flatten(1) for latents in (start, end))
    t = weights.reshape(-1, 1)
    norms = [torch.linalg.vector_norm(each, dim=1, keepdim=True) for each in (first, last)]
    u, v = first / norms[0].clamp_min(_TINY), last / norms[1].clamp_min(_TINY)
    u, v = torch.where(norms[0] > 0, u, v), torch.where(norms[1] > 0, v, u)  # 0 has no direction: that of the other
    side = _perpendicular(u, v)
    angle = torch.atan2((side * v).sum(1, keepdim=True).clamp_min(0), (u * v).sum(1, keepdim=True))
    direction = torch.cos(t * angle) * u + torch.sin(t * angle) * side
    path = ((1 - t) * norms[0] + t * norms[1]) * direction
    path = torch.where(t == 0, first, torch.where(t == 1, last, path))
    return path.reshape(-1, *start.shape[1:]).to(start.device, start.dtype)


def _perpendicular(u: Tensor, v: Tensor) -> Tensor:
    """Return unit vectors perpendicular to u in the plane of u and v; in any plane where they span none: (B, D)."""
    u = u.expand(max(len(u), len(v)), -1)
    # Of the axes, the one that u lies along the least.
    axis = torch.nn.functional.one_hot(u.abs().argmin(1), u.shape[1]).to(u.dtype)
    side = v - (u * v).sum(1, keepdim=True) * u
    flat = torch.linalg.vector_norm(side, dim=1, keepdim=True) < 1e-14
    side = torch.where(flat, axis, side)
    for _ in range(2):  # the second time takes away what rounding left of u
        side = side - (u * side).sum(1, keepdim=True) * u
        side = side / torch.linalg.vector_norm(side, dim=1, keepdim=True).clamp_min(_TINY)
    return side
