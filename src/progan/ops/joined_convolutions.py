"""Convolutions merged with the operation before them: an upsampling, or a 1x1 convolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from progan.ops.convolution import Padding, convolve
from progan.ops.dispatch import REFERENCE, choose
from progan.ops.interleaving import interleave
from progan.ops.resampling import upsample
from progan.ops.scaling import taken
from progan.ops.weight_cache import cached


def convolve_upsampled(x: Tensor, weight: Tensor, bias: Tensor, margin: int, padding: Padding = "zeros") -> Tensor:
    """Return ``convolve(upsample(x), ...)``: (B, C, H, W) -> (B, K, 2 H, 2 W) at the margin that keeps the size.

    A 3x3 kernel at a repeated pixel covers a window of 2x2 original pixels, so some of its numbers can be added first.
    Which ones depends on the position: four kernels of 2x2, one for every second row and column, give the same result
    with 4/9 of the products.

    Args:
        x: Features.
        weight: Kernel, (K, C, k, k).
        bias: Bias, (K,).
        margin: Number of pixels added on each side, after upsampling.
        padding: Values of these pixels: zeros, or the mirror image.
    """
    pixels = x.shape[2] * x.shape[3]
    path = choose("upsampled_convolution", x, kernel=weight.shape[2], padding=margin, pixels=pixels)
    if path == REFERENCE:
        return convolve(upsample(x), weight, bias, margin, padding)

    def halve() -> Tensor:
        halves = weight.new_tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
        four = torch.einsum("aki,blj,ocij->abockl", halves, halves, weight)
        return four.reshape(-1, four.shape[3], 2, 2).contiguous()

    four = cached("four kernels", [weight], halve)
    # The mirror image of a row of repeated pixels begins with the pixel at its edge.
    x = F.pad(x, (1, 1, 1, 1), mode="replicate" if padding == "reflect" else "constant")
    return interleave(convolve(x, four, taken(bias).repeat(4)))


def convolve_projected(
    x: Tensor, projection: tuple[Tensor, Tensor], weight: Tensor, bias: Tensor, margin: int
) -> Tensor:
    """Return ``convolve(convolve(x, *projection), ..., "reflect")``: (B, I, H, W) -> (B, K, H', W').

    Two convolutions with nothing between them are one convolution.

    Args:
        x: Images.
        projection: Weight and bias of the first convolution, (C, I, 1, 1) and (C,).
        weight: Kernel of the second one, (K, C, k, k).
        bias: Bias of the second one, (K,).
        margin: Number of pixels added on each side.
    """
    if choose("projected_convolution", x) == REFERENCE:
        return convolve(convolve(x, *projection), weight, bias, margin, "reflect")
    bias, first, first_bias = taken(bias), projection[0], taken(projection[1])

    def join() -> tuple[Tensor, Tensor]:
        joined_bias = bias + weight.sum((2, 3)) @ first_bias
        joined = torch.einsum("ocij,cr->orij", weight, first.flatten(1))
        return joined.contiguous(), joined_bias  # otherwise all that follows would be channels-last

    return convolve(x, *cached("joined kernels", [weight, bias, first, first_bias], join), margin, "reflect")
