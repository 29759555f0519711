"""The optimizer of a network: Adam (Kingma and Ba 2015).

The computation is torch's, by `torch.optim.adam.adam`. Its class `torch.optim.Adam` is not used: it imports torch's
compiler, which takes a second and 80 MB of memory (140 MB in a build for CUDA) and which no step needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from progan.optimization import Adam


class Moments(NamedTuple):
    """What Adam keeps for one parameter."""

    step: Tensor
    """Number of steps, 0-d, float32; on the parameter's device where the kernel is fused, else on the CPU."""
    exp_avg: Tensor
    """Running mean of the gradient, in the parameter's memory layout."""
    exp_avg_sq: Tensor
    """Running mean of the squared gradient, in the parameter's memory layout."""


class AdamOptimizer:
    """Adam for the parameters of a network: one fused kernel where the device has it; on CUDA one that can be captured.

    Gradients are arguments; ``.grad`` of the parameters is neither read nor set.

    Args:
        device: Device of the parameters.
        settings: Decays of the moments, and epsilon.
        factor: Factor of all learning rates.

    Attributes:
        moments: Moments of each parameter that a step has moved; updated in place.
    """

    def __init__(self, device: torch.device, settings: Adam, factor: float = 1.0) -> None:
        self.moments: dict[nn.Parameter, Moments] = {}
        self._settings = settings
        self._factor = factor
        self._fused = device.type in ("cpu", "cuda")
        self._capturable = device.type == "cuda"
        self._counts_on = device if self._fused else torch.device("cpu")

    @torch.no_grad()
    def step(self, gradients: Mapping[nn.Parameter, Tensor], learning_rate: float | Tensor) -> None:
        """Move parameters along their gradients.

        Args:
            gradients: Gradient of each parameter that moves; at least one.
            learning_rate: Learning rate before the factor; on CUDA a 0-d float32 tensor, where a captured step would
                freeze a number.
        """
        moments = [self._moments_of(parameter) for parameter in gradients]
        beta1, beta2 = self._settings.betas
        adam(
            list(gradients),
            [_laid_out_like(parameter, gradient) for parameter, gradient in gradients.items()],
            [each.exp_avg for each in moments],
            [each.exp_avg_sq for each in moments],
            [],
            [each.step for each in moments],
            fused=self._fused,
            capturable=self._capturable,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=learning_rate * self._factor,
            weight_decay=0.0,
            eps=self._settings.eps,
            maximize=False,
        )

    def load(self, parameter: nn.Parameter, moments: Moments) -> None:
        """Set the moments of a parameter to copies of these."""
        self.moments[parameter] = Moments(
            moments.step.to(self._counts_on, copy=True),
            torch.empty_like(parameter).copy_(moments.exp_avg),
            torch.empty_like(parameter).copy_(moments.exp_avg_sq),
        )

    def _moments_of(self, parameter: nn.Parameter) -> Moments:
        """Return the moments of a parameter, which begin as zeros."""
        if parameter not in self.moments:
            count = torch.zeros((), dtype=torch.float32, device=self._counts_on)
            self.moments[parameter] = Moments(count, torch.zeros_like(parameter), torch.zeros_like(parameter))
        return self.moments[parameter]


def _laid_out_like(parameter: Tensor, gradient: Tensor) -> Tensor:
    """Return a gradient in the memory layout of its parameter: the fused kernel walks both memories alike."""
    return gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)
