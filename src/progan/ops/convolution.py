"""Convolutions at stride 1."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from progan.ops.bilinear import bilinear
from progan.ops.dispatch import choose
from progan.ops.linear import linear
from progan.ops.padding import reflect
from progan.ops.precision import computing_dtype
from progan.ops.scaling import taken

Padding = Literal["zeros", "reflect"]


def convolve(x: Tensor, weight: Tensor, bias: Tensor, margin: int = 0, padding: Padding = "zeros") -> Tensor:
    """Convolve at stride 1: (B, C, H, W) -> (B, K, H - k + 1 + 2 margin, W - k + 1 + 2 margin).

    Args:
        x: Features.
        weight: Kernel, (K, C, k, k).
        bias: Bias, (K,).
        margin: Number of pixels added on each side.
        padding: Values of these pixels: zeros, or the mirror image.
    """
    path = choose(
        "convolution",
        x,
        channels=(weight.shape[1], weight.shape[0]),
        kernel=weight.shape[2],
        padding=margin,
        pixels=_pixels(x),
    )
    return _PATHS[path](x, weight, taken(bias), margin, padding)


def _reference(x: Tensor, weight: Tensor, bias: Tensor, margin: int, padding: Padding) -> Tensor:
    if padding == "reflect" and margin > 0:
        x, margin = F.pad(x, (margin,) * 4, mode="reflect"), 0
    return F.conv2d(x, weight, bias, padding=margin)


def _batched_product(x: Tensor, weight: Tensor, bias: Tensor, margin: int, padding: Padding) -> Tensor:
    """Convolve with a 1x1 kernel; with 4 channels this takes an eighth of the time of torch's convolution."""
    product = torch.baddbmm(bias[:, None], weight.flatten(1).expand(len(x), -1, -1), x.flatten(2))
    return product.view(len(x), len(bias), *x.shape[2:])


def _patches_product(x: Tensor, weight: Tensor, bias: Tensor, margin: int, padding: Padding) -> Tensor:
    """Convolve images of few pixels by one product of matrices.

    At 4x4 pixels torch's kernels for a CPU reach half of its speed, above all for the weight's gradient.
    """
    if padding == "reflect":
        x = _reflected(x, margin)
    elif margin > 0:
        x = F.pad(x, (margin,) * 4)
    size = weight.shape[2]
    patches = F.unfold(x, size).transpose(1, 2).flatten(0, 1)
    y = linear(patches, weight, bias)
    return y.view(len(x), x.shape[2] - size + 1, x.shape[3] - size + 1, len(weight)).permute(0, 3, 1, 2)


def _by_triton(x: Tensor, weight: Tensor, bias: Tensor, margin: int, padding: Padding) -> Tensor:
    x = x.to(computing_dtype(x))  # the kernels round the weight themselves
    convolution = _TritonConvolution(padding)
    if torch.is_grad_enabled() and any(each.requires_grad for each in (x, weight, bias)):
        return bilinear(convolution, x, weight, bias)
    return convolution.product(x, weight, bias)


def _bilinear(x: Tensor, weight: Tensor, bias: Tensor, margin: int, padding: Padding) -> Tensor:
    last = weight.shape[2] > 1 and choose("convolution_layout", x, dtype=computing_dtype(x)) == "channels_last"
    if padding == "reflect" and margin > 0:
        x, margin = _reflected(x, margin, channels_last=last), 0
    if last:
        x, weight = _channels_last(x), _channels_last(weight)
    convolution = _TorchConvolution(margin)
    if torch.is_grad_enabled() and (weight.requires_grad or bias.requires_grad):
        # Autocast does not apply within autograd functions.
        x, weight, bias = (each.to(computing_dtype(each)) for each in (x, weight, bias))
        return bilinear(convolution, x, weight, bias)
    return convolution.product(x, weight, bias)


_PATHS = {
    "reference": _reference,
    "batched_product": _batched_product,
    "patches_product": _patches_product,
    "triton": _by_triton,
    "bilinear": _bilinear,
}


class _TorchConvolution(NamedTuple):
    """A convolution by torch's kernels, with zeros around the image; see `progan.ops.bilinear.Bilinear`.

    Torch computes a convolution's second derivative by the weight as a convolution whose kernel is as large as the
    image. It equals the first derivative by the weight at another input, which is many times faster.
    """

    margin: int

    def shape(self, x: Tensor, weight: Tensor) -> tuple[int, ...]:
        height, width = (side - weight.shape[2] + 1 + 2 * self.margin for side in x.shape[2:])
        return len(x), len(weight), height, width

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, padding=self.margin)

    def by_input(self, gradient: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        if _path("convolution_by_input", x, weight, _pixels(gradient)) == "channels_last":
            x = torch.empty_like(x, memory_format=torch.channels_last)
            gradient, weight = _channels_last(gradient), _channels_last(weight)
            return _backward(gradient, x, weight, self.margin, 0).contiguous()
        return _backward(gradient, x, weight, self.margin, 0)

    def by_weight(self, gradient: Tensor, x: Tensor, weight: Tensor, *, bias: bool) -> tuple[Tensor, Tensor | None]:
        path = _path("convolution_by_weight", x, weight, _pixels(gradient))
        by_bias = gradient.sum((0, 2, 3)) if bias else None
        if path == "gradient_as_kernel":
            features, kernel = (each.transpose(0, 1).contiguous() for each in (x, gradient))
            # The result is not contiguous: one copy after the sum of all gradients is enough.
            return F.conv2d(features, kernel, padding=self.margin).transpose(0, 1), by_bias
        if path == "channels_last":
            gradient, x, weight = (_channels_last(each) for each in (gradient, x, weight))
            return _backward(gradient, x, weight, self.margin, 1).contiguous(), by_bias
        return _backward(gradient, x, weight, self.margin, 1), by_bias


class _TritonConvolution(NamedTuple):
    """A convolution of few channels by our own kernels, 3x3 with a margin of 1; see `progan.ops.bilinear.Bilinear`.

    Autograd cannot differentiate the kernels; if it has to, torch's operations are used instead.
    """

    padding: Padding

    def shape(self, x: Tensor, weight: Tensor) -> tuple[int, ...]:
        return len(x), len(weight), *x.shape[2:]

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in (x, weight, bias)):
            return F.conv2d(self._padded(x), weight.to(x.dtype), bias)
        from progan.ops.triton import convolve

        return convolve(x, weight, bias, reflect=self.padding == "reflect")

    def by_input(self, gradient: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        from progan.ops.triton import by_input

        return by_input(gradient, weight, reflect=self.padding == "reflect")

    def by_weight(self, gradient: Tensor, x: Tensor, weight: Tensor, *, bias: bool) -> tuple[Tensor, Tensor | None]:
        if torch.is_grad_enabled():
            return _TorchConvolution(0).by_weight(gradient, self._padded(x), weight.to(x.dtype), bias=bias)
        from progan.ops.triton import by_weight

        weights, biases = by_weight(gradient, x, reflect=self.padding == "reflect")
        return weights, biases if bias else None

    def _padded(self, x: Tensor) -> Tensor:
        return reflect(x) if self.padding == "reflect" else F.pad(x, (1, 1, 1, 1))


def _path(operation: str, x: Tensor, weight: Tensor, pixels: int) -> str:
    return choose(operation, x, channels=(weight.shape[1], weight.shape[0]), pixels=pixels)


def _pixels(x: Tensor) -> int:
    return x.shape[2] * x.shape[3]


def _reflected(x: Tensor, margin: int, *, channels_last: bool = False) -> Tensor:
    if margin == 1:
        return reflect(x, channels_last=channels_last)
    return F.pad(x, (margin,) * 4, mode="reflect")


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _backward(gradient: Tensor, x: Tensor, weight: Tensor, margin: int, wanted: int) -> Tensor:
    """Return torch's gradient by the input (0) or by the weight (1)."""
    mask = [wanted == 0, wanted == 1, False]
    gradients: Any = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [1, 1], [margin] * 2, [1, 1], False, [0, 0], 1, mask
    )
    by: Tensor = gradients[wanted]
    return by
