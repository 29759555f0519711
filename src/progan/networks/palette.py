"""The generator's last layer for flat colours: a palette for each image, of which each pixel is a mixture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from progan.networks.architecture import Architecture
from progan.networks.blocks import SLOPE
from progan.networks.drawing import AS_TRAINED, Drawing, drawn_weights
from progan.networks.layers import EqualizedConv2d, EqualizedLinear, Initial
from progan.ops.precision import widened

_SHARPNESS = 3.0  # standard deviation of what sparsemax is given, at the start: most pixels are of one or two colours
_SPREAD = 0.5  # standard deviation of the colours at the start, in halves of the image range
_GAIN = 0.2  # the same of a latent's colours about these: each keeps its part, be it skin or background


class Palette(nn.Module):
    """Features to images whose pixels are mixtures of a few colours, which the latent determines.

    The weights of the colours are sparsemax(smooth(conv1x1(features))), so most of them are exactly 0. Where one colour
    is left, the area is flat, without the faint noise of a convolution to RGB; edges and shades are mixtures. Smoothing
    with [1, 2, 1] / 4 in both directions keeps single pixels from changing their colour, and leaves contours sharp,
    since sparsemax comes after it.

    The colours are dense(h), where h is the latent after some dense layers with a LeakyReLU. Without these, each colour
    is a linear function of the latent, so its values in all images make one cloud. Pictures have a few kinds of skin
    instead, and the generator would draw them by mixing two colours in the image, in blotches. Layers can tell kinds
    apart, once for the whole image, as the mapping network of Karras et al. 2019 does.

    Args:
        architecture: Settings of both networks, with a palette.
        in_channels: Channels of the features.

    Example:
        >>> layer = Palette(Architecture((16, 8), latent_shape=(32,), modulation=True, palette=6), 8)
        >>> layer(torch.zeros(2, 8, 4, 4), torch.zeros(2, 32)).shape
        torch.Size([2, 3, 4, 4])
    """

    def __init__(self, architecture: Architecture, in_channels: int) -> None:
        super().__init__()
        ends = architecture.ends_equalization
        n, values = architecture.palette, architecture.palette * architecture.image_channels
        width = architecture.joined_channels
        self.weights: EqualizedConv2d = EqualizedConv2d(in_channels, n, 1, gain=_SHARPNESS, equalization=ends)
        self.hidden: nn.ModuleList = nn.ModuleList(
            EqualizedLinear(width, width, equalization=ends) for _ in range(architecture.palette_layers)
        )
        self.colours: EqualizedLinear = EqualizedLinear(width, values, gain=_GAIN, equalization=ends)
        self.colours.initial["bias"] = Initial("normal", _SPREAD)
        self.colours.reset_parameters()
        self._shape = n, architecture.image_channels
        low, high = architecture.image_range
        self._middle, self._half = (low + high) / 2, (high - low) / 2

    @override
    def forward(self, x: Tensor, latent: Tensor, drawing: Drawing = AS_TRAINED) -> Tensor:
        """Return images: (B, in_channels, h, w), and latents, (B, n) -> (B, image_channels, h, w), times its scale.

        Args:
            x: Features.
            latent: Latents as the stem takes them, normalised.
            drawing: How the weights are drawn.
        """
        weights = drawn_weights(_smoothed(_smoothed(widened(self.weights(x)), 3), 2), drawing)
        for layer in self.hidden:
            latent = F.leaky_relu(layer(latent), SLOPE)
        colours = widened(self.colours(latent)).view(-1, *self._shape)
        mixtures = [(weights * values[:, :, None, None]).sum(dim=1) for values in colours.unbind(dim=2)]
        images = self._middle + self._half * torch.stack(mixtures, dim=1)
        return images.to(self.weights.weight.dtype)  # under autocast, that is float32


def _smoothed(x: Tensor, dim: int) -> Tensor:
    """Return x convolved with [1, 2, 1] / 4 along a dimension; the numbers at both ends are repeated."""
    n = x.shape[dim]
    # A padding by repetition has a gradient that adds with atomics on a GPU.
    x = torch.cat([x.narrow(dim, 0, 1), x, x.narrow(dim, n - 1, 1)], dim)
    return (x.narrow(dim, 0, n) + 2 * x.narrow(dim, 1, n) + x.narrow(dim, 2, n)) / 4
