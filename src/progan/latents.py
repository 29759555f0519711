"""Paths through the space of latents, on the sphere near which N(0, 1) of many dimensions lies."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from progan.arguments import check_number

_TINY = torch.finfo(torch.float64).tiny
_AT_ONCE = 1 << 22  # weights that are held, while a walk is measured
_POINTS = 256  # on the way from one key point to the next, at which a walk is measured


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
    for name, given in (("start", start), ("end", end)):
        if not isinstance(given, Tensor) or not given.is_floating_point():
            got = given.dtype if isinstance(given, Tensor) else type(given).__name__
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
    first, last = (z.detach().to("cpu", torch.float64).flatten(1) for z in (start, end))
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


def walk_weights(keys: Tensor, n: int) -> Tensor:
    """Return n latents on a smooth closed curve, in equal steps of the angle, as weighted sums of key points.

    Key point j of K stands at the time j / K of a round. Between them the curve is their trigonometric interpolation,
    z(t) = sum_j D(t - j / K) key_j with the Dirichlet kernel D: of all curves of period 1 through the key points, the
    one with the lowest frequencies. Its squared weights add up to 1 (for an odd K; nearly for an even one), so where
    the key points are N(0, 1), each z(t) is too. Each latent is then brought to the norm of the key points beside it,
    and the curve is divided into equal angles. Through two key points, the curve is the great circle through both.

    Args:
        keys: Key points, (K, ...), floats, K at least 2.
        n: Number of latents, at least 1; one more would be the first again.

    Returns:
        Weights of the key points, (n, K), float64, on the CPU; the first latent is the first key point.

    Raises:
        ValueError: If the key points do not determine a curve: they are all alike, or the curve runs through 0.
    """
    points = keys.detach().to("cpu", torch.float64).flatten(1)
    gram = points @ points.T  # all that angles and norms take: no fine curve of long latents is held
    if len(points) == 2:
        gram = torch.cat([torch.cat([gram, -gram], dim=1), torch.cat([-gram, gram], dim=1)])
    count = len(gram)
    times = torch.linspace(0, 1, _POINTS * count + 1, dtype=torch.float64)
    norms = gram.diagonal().sqrt()
    rows = max(1, _AT_ONCE // count)
    begins = range(0, _POINTS * count, rows)
    parts = [times[begin : begin + rows + 1] for begin in begins]  # each ends where the next one begins
    angles = torch.cat([_angles(_dirichlet(part, count), gram, 1e-6 * float(norms.max())) for part in parts])
    if float(angles.sum()) < 1e-6:
        raise ValueError("the key points of a walk are all alike; pass at least 2 different ones")
    way = torch.cat([angles.new_zeros(1), angles.cumsum(0)])
    chosen = _interpolated(torch.arange(n, dtype=torch.float64) * (way[-1] / n), way, times)
    weights = _dirichlet(chosen, count)
    beside = torch.cat([norms, norms[:1]])
    radius = _interpolated(chosen, torch.linspace(0, 1, len(beside), dtype=torch.float64), beside)
    weights *= (radius / _norms(weights, gram))[:, None]
    weights[0] = torch.eye(count, dtype=torch.float64)[0]
    return weights[:, :2] - weights[:, 2:] if len(points) == 2 else weights


def _dirichlet(times: Tensor, n: int) -> Tensor:
    """Return the weights of n points at regular times of a period of 1 in their trigonometric interpolation: (T, n).

    They are the Dirichlet kernel sin(n x) / (n sin x), where x is pi times the time from the point; for an even n, of
    whose highest frequency there is the cosine only, that times cos x.
    """
    shifts = times[:, None] - torch.arange(n, dtype=torch.float64) / n
    shifts = math.pi * (shifts - shifts.round())  # sin is exact to the last bits near 0 only
    sines = torch.sin(shifts)
    kernel = torch.sin(n * shifts) / (n * sines)
    return torch.where(sines == 0, 1.0, kernel if n % 2 else kernel * torch.cos(shifts))


def _angles(weights: Tensor, gram: Tensor, least: float) -> Tensor:
    """Return the angles between successive weighted sums of points, (T - 1,); their norms must be above the least."""
    lengths = _norms(weights, gram)
    if float(lengths.min()) <= least:
        raise ValueError("the key points of a walk are 0 or opposite to one another: the walk would pass through 0")
    directions = weights / lengths[:, None]
    return 2 * torch.asin((_norms(directions[1:] - directions[:-1], gram) / 2).clamp(max=1))


def _norms(weights: Tensor, gram: Tensor) -> Tensor:
    """Return the norms of weighted sums of points, of which the inner products are given: (T, n), (n, n) -> (T,)."""
    return ((weights @ gram) * weights).sum(1).clamp_min(0).sqrt()


def _interpolated(x: Tensor, known: Tensor, values: Tensor) -> Tensor:
    """Interpolate linearly between values at known, rising places."""
    right = torch.searchsorted(known, x, right=True).clamp(1, len(known) - 1)
    low, high = known[right - 1], known[right]
    share = (x - low) / (high - low).clamp_min(_TINY)
    return torch.lerp(values[right - 1], values[right], share)
