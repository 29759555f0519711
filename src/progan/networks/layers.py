"""The layers of a progressive GAN; each works alone.

Equalised layers keep He's constant out of the stored weights and apply it at run time, so that Adam moves every weight
by the same relative amount (Karras et al. 2018, section 4.1). PixelNorm (section 4.2) keeps magnitudes from escalating,
MiniBatchStd (section 3) lets the critic see how much a batch varies, FadeIn (figure 2) brings a new level in smoothly.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from progan.arguments import check_flag, check_int, check_number, check_tensor
from progan.ops.convolution import Padding, convolve
from progan.ops.linear import linear
from progan.ops.pixel_norm import pixel_norm
from progan.ops.precision import widened
from progan.ops.resampling import fade
from progan.ops.scaling import scale

Equalization = Literal["he", "he_twice", "none"]


class Initial(NamedTuple):
    """Initial distribution of a parameter: N(0, scale^2), U(-scale, scale), or 0 everywhere."""

    distribution: Literal["normal", "uniform", "zeros"]
    scale: float = 0.0


class _Equalized(nn.Module):
    """The base class of the equalised layers: parameters, their initial values, the run-time constant.

    - ``he``: weights start from N(0, 1), biases from 0; weights are multiplied by gain / sqrt(fan_in) at run time.
    - ``he_twice``: He's constant is part of the initial weights, N(0, gain^2 / fan_in), *and* gain / sqrt(in_features)
      is applied at run time; biases start as torch's do. The program of the Mel Icon article does this.
    - ``none``: a plain layer with torch's initial values.
    """

    weight: nn.Parameter
    bias: nn.Parameter
    constant: float
    initial: dict[str, Initial]

    def __init__(self, shape: tuple[int, ...], gain: float, equalization: Equalization, in_features: int) -> None:
        super().__init__()
        check_number("gain", gain)
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(shape[0]))
        fan_in = math.prod(shape[1:])
        torch_bound = 1 / math.sqrt(fan_in)
        if equalization == "he":
            self.constant = gain / math.sqrt(fan_in)
            self.initial = {"weight": Initial("normal", 1.0), "bias": Initial("zeros")}
        elif equalization == "he_twice":
            self.constant = gain / math.sqrt(in_features)
            self.initial = {
                "weight": Initial("normal", gain / math.sqrt(fan_in)),
                "bias": Initial("uniform", torch_bound),
            }
        elif equalization == "none":
            self.constant = 1.0
            self.initial = {"weight": Initial("uniform", torch_bound), "bias": Initial("uniform", torch_bound)}
        else:
            raise ValueError(f"equalization must be 'he', 'he_twice' or 'none', got {equalization!r}")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw initial values again from torch's global random state."""
        if self.weight.is_meta:  # nothing to fill, and torch would load 800 modules to find that out
            return
        with torch.no_grad():
            for name, (distribution, scale) in self.initial.items():
                parameter = getattr(self, name)
                if distribution == "normal":
                    parameter.normal_(0.0, scale)
                elif distribution == "uniform":
                    parameter.uniform_(-scale, scale)
                else:
                    parameter.zero_()


class EqualizedConv2d(_Equalized):
    """Convolution at stride 1 that keeps the image size, with a learning rate equalised per layer.

    y = conv(x, w * gain / sqrt(fan_in)) + b, w ~ N(0, 1) at the start (Karras et al. 2018, section 4.1).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel in pixels, an odd number.
        gain: Gain of the constant: sqrt(2) before a LeakyReLU (He's constant), 1 if no activation follows.
        equalization: ``he`` as in the paper, ``he_twice`` or ``none``, a plain layer; see docs/differences.md.
        padding: Pixels outside the image: ``zeros``, or its mirror image (``reflect``).

    Example:
        >>> EqualizedConv2d(3, 8, 3)(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 8, 16, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        gain: float = math.sqrt(2),
        equalization: Equalization = "he",
        padding: Padding = "zeros",
    ) -> None:
        check_int("in_channels", in_channels, 1)
        check_int("out_channels", out_channels, 1)
        check_int("kernel_size", kernel_size)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, so that the image keeps its size, got {kernel_size}")
        if padding not in ("zeros", "reflect"):
            raise ValueError(f"padding must be 'zeros' or 'reflect', got {padding!r}")
        if padding == "reflect" and kernel_size > 3:
            raise ValueError(f"reflect padding is for kernels of 1 or 3, got {kernel_size}; use padding='zeros'")
        super().__init__((out_channels, in_channels, kernel_size, kernel_size), gain, equalization, in_channels)
        self.margin: int = kernel_size // 2
        self.padding: Padding = padding

    @override
    def extra_repr(self) -> str:
        out_channels, in_channels, kernel_size, _ = self.weight.shape
        return f"{in_channels}, {out_channels}, kernel_size={kernel_size}, padding={self.padding!r}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved features: (B, in_channels, H, W) -> (B, out_channels, H, W)."""
        check_tensor("x", x)
        if x.ndim != 4 or x.shape[1] != self.weight.shape[1]:
            raise ValueError(f"x must be (B, {self.weight.shape[1]}, H, W), got {tuple(x.shape)}")
        return convolve(x, scale(self.weight, self.constant), self.bias, self.margin, self.padding)


class EqualizedLinear(_Equalized):
    """Dense layer with a learning rate equalised per layer.

    Args:
        in_features: Length of the input.
        out_features: Length of the output.
        gain: Gain, as for `EqualizedConv2d`.
        equalization: Equalisation, as for `EqualizedConv2d`.
        in_channels: Channels of the image if the input is a flattened one (``he_twice`` counts those); else
            in_features.

    Example:
        >>> EqualizedLinear(512, 1, gain=1.0)(torch.zeros(2, 512)).shape
        torch.Size([2, 1])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        gain: float = math.sqrt(2),
        equalization: Equalization = "he",
        in_channels: int | None = None,
    ) -> None:
        check_int("in_features", in_features, 1)
        check_int("out_features", out_features, 1)
        if in_channels is not None:
            check_int("in_channels", in_channels, 1)
        super().__init__((out_features, in_features), gain, equalization, in_channels or in_features)

    @override
    def extra_repr(self) -> str:
        out_features, in_features = self.weight.shape
        return f"{in_features}, {out_features}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the product: (..., in_features) -> (..., out_features)."""
        check_tensor("x", x)
        if x.ndim < 1 or x.shape[-1] != self.weight.shape[1]:
            raise ValueError(f"x must be (..., {self.weight.shape[1]}), got {tuple(x.shape)}")
        return linear(x * self.constant, self.weight, self.bias)  # of weight and input, the input is the smaller one


class PixelNorm(nn.Module):
    """Normalisation of every pixel's feature vector by its root mean square.

    y = x / sqrt(mean_c(x^2) + epsilon) (Karras et al. 2018, section 4.2). Half types are widened to float32 for the
    mean.

    Args:
        epsilon: Small number that prevents a division by 0.
        epsilon_outside_root: Use y = x / (sqrt(mean_c(x^2)) + epsilon), as the program of the Mel Icon article does.

    Example:
        >>> PixelNorm()(torch.full((1, 4, 1, 1), 5.0)).flatten()
        tensor([1., 1., 1., 1.])
    """

    def __init__(self, epsilon: float = 1e-8, *, epsilon_outside_root: bool = False) -> None:
        super().__init__()
        check_number("epsilon", epsilon)
        check_flag("epsilon_outside_root", epsilon_outside_root)
        self.epsilon = epsilon
        self.epsilon_outside_root = epsilon_outside_root

    def forward(self, x: Tensor, slope: float = 1.0) -> Tensor:
        """Return the normalised features, of x's shape and dtype: (B, C, ...).

        Args:
            x: Features.
            slope: Slope below 0 of a LeakyReLU applied after the normalisation; 1 = none.
        """
        check_tensor("x", x)
        return pixel_norm(x, self.epsilon, outside_root=self.epsilon_outside_root, slope=slope)


class MiniBatchStd(nn.Module):
    """An extra channel that measures how much the images of a group differ.

    It contains the standard deviation over the group at each channel and pixel, averaged over channels and pixels: one
    number per group (Karras et al. 2018, section 3). Image i of a batch is in group i mod (B / group_size), as in the
    official program; a batch smaller than a group is one group.

    Args:
        group_size: Images per group; None = the whole batch.
        unbiased: Divide by group_size - 1 (the Mel Icon article's program), not by group_size (the official one).
        consecutive: Put image i in group i // group_size, as pytorch_GAN_zoo does, not i mod (B / group_size).

    Raises:
        ValueError: If a larger batch is not a multiple of the group size, or the tensor does not consist of whole
            batches, or has no image.

    Example:
        >>> MiniBatchStd()(torch.zeros(8, 16, 4, 4)).shape
        torch.Size([8, 17, 4, 4])
    """

    def __init__(self, group_size: int | None = 4, *, unbiased: bool = False, consecutive: bool = False) -> None:
        super().__init__()
        if group_size is not None:
            check_int("group_size", group_size)
        check_flag("unbiased", unbiased)
        check_flag("consecutive", consecutive)
        if group_size is not None and group_size < 1:
            raise ValueError(f"group_size must be at least 1, or None for the whole batch, got {group_size}")
        self.group_size = group_size
        self.unbiased = unbiased
        self.consecutive = consecutive

    def forward(self, x: Tensor, batches: int = 1) -> Tensor:
        """Return x with the extra channel: (B, C, H, W) -> (B, C + 1, H, W).

        Args:
            x: Features.
            batches: Number of batches of equal size that are concatenated in x; statistics never cross between them.
        """
        check_tensor("x", x)
        check_int("batches", batches)
        if x.ndim != 4:
            raise ValueError(f"x must be (B, C, H, W), got {tuple(x.shape)}")
        if len(x) == 0:
            raise ValueError(f"there is no image to compare, got {tuple(x.shape)}; pass at least one")
        if batches < 1 or x.shape[0] % batches:
            raise ValueError(
                f"{x.shape[0]} images are not {batches} batches of equal size; pass batches= as they lie in x"
            )
        batch = x.shape[0] // batches
        group_size = fitting_group_size(batch, self.group_size)
        if self.consecutive:
            groups = widened(x).reshape(batches, batch // group_size, group_size, *x.shape[1:]).transpose(1, 2)
        else:
            groups = widened(x).reshape(batches, group_size, batch // group_size, *x.shape[1:])
        deviation = groups - groups.mean(dim=1, keepdim=True)
        count = max(group_size - 1, 1) if self.unbiased else group_size
        # Differs: the article's program has no epsilon, so equal images give NaN gradients there.
        std = (deviation.square().sum(dim=1) / count + 1e-8).sqrt()
        statistic = std.mean(dim=(2, 3, 4)).to(x.dtype)
        spread = statistic[:, None, :].expand(-1, group_size, -1)
        spread = (spread.transpose(1, 2) if self.consecutive else spread).reshape(-1, 1, 1, 1)
        return torch.cat([x, spread.expand(-1, 1, *x.shape[2:])], dim=1)


def fitting_group_size(batch: int, group_size: int | None) -> int:
    """Return the images per MiniBatchStd group in a batch.

    Raises:
        ValueError: If a batch larger than a group is not a multiple of it.
    """
    if group_size is None or batch <= group_size:
        return batch
    if batch % group_size:
        raise ValueError(
            f"a batch of {batch} images cannot be split into MiniBatchStd groups of {group_size}; "
            f"use a batch of at most {group_size} or a multiple of it, or another group size (minibatch_std_group)"
        )
    return group_size


class FadeIn(nn.Module):
    """Blend of the old path and the new one: (1 - alpha) * old + alpha * new (Karras et al. 2018, figure 2).

    Exact at both ends: alpha 0 returns old and alpha 1 returns new, bit for bit.

    Example:
        >>> FadeIn()(torch.zeros(2), torch.ones(2), 0.25)
        tensor([0.2500, 0.2500])
    """

    def forward(self, old: Tensor, new: Tensor, alpha: float | Tensor) -> Tensor:
        """Return the blend, in the wider dtype of the two.

        Args:
            old: Result of the path through the level below, any shape.
            new: Result of the path through the newest level, of old's shape.
            alpha: Weight of new, in [0, 1]; a float, or a 0-d tensor, whose value is not checked.

        Raises:
            ValueError: If alpha is a float outside [0, 1].
        """
        return fade(old, new, alpha)
