"""What networks with classes have beside the others: a learned vector for each class, and checked labels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from progan.arguments import check_flag, check_int, check_label_values, check_number, check_tensor
from progan.networks.layers import Initial
from progan.ops.scaling import scale


class EqualizedEmbedding(nn.Module):
    """A learned vector for each class: a dense layer without bias on one-hot labels, equalised like the other layers.

    y = w[label] * gain / sqrt(fan_in), w ~ N(0, 1) at the start.

    Args:
        classes: Number of classes.
        features: Length of a vector.
        gain: Gain of the constant.
        fan_in: Number of terms of the sum that a vector is multiplied into: 1 for a vector that is used as it is, as
            one-hot labels have one number that is not 0; features for the inner product with as many features.
        equalized: Whether to equalise; else the constant is 1, and w ~ U(-b, b), b = gain / sqrt(fan_in).

    Example:
        >>> EqualizedEmbedding(10, 128)(torch.tensor([3, 7])).shape
        torch.Size([2, 128])
    """

    def __init__(
        self, classes: int, features: int, *, gain: float = 1.0, fan_in: int = 1, equalized: bool = True
    ) -> None:
        super().__init__()
        for name, value in (("classes", classes), ("features", features), ("fan_in", fan_in)):
            check_int(name, value, 1)
        check_number("gain", gain)
        check_flag("equalized", equalized)
        bound = gain / math.sqrt(fan_in)
        self.weight: nn.Parameter = nn.Parameter(torch.empty(classes, features))
        self.constant: float = bound if equalized else 1.0
        self.initial: dict[str, Initial] = {
            "weight": Initial("normal", 1.0) if equalized else Initial("uniform", bound)
        }
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw initial values again from torch's global random state."""
        if self.weight.is_meta:
            return
        distribution, scale = self.initial["weight"]
        with torch.no_grad():
            if distribution == "normal":
                self.weight.normal_(0.0, scale)
            else:
                self.weight.uniform_(-scale, scale)

    @override
    def extra_repr(self) -> str:
        classes, features = self.weight.shape
        return f"{classes}, {features}"

    def forward(self, labels: Tensor) -> Tensor:
        """Return the vector of each label: (B,), int64 -> (B, features)."""
        check_tensor("labels", labels)
        if labels.ndim != 1 or labels.dtype != torch.int64:
            raise ValueError(f"labels must be (B,), int64, got {tuple(labels.shape)} of {labels.dtype}")
        vectors: Tensor = F.embedding(labels, scale(self.weight, self.constant))
        return vectors


def check_labels(classes: int, labels: object, n: int) -> None:
    """Raise if labels do not fit networks with this many classes, or n images."""
    if classes == 0:
        if labels is not None:
            raise ValueError("the networks have no classes, and labels were passed; leave them out, or pass classes=")
        return
    if labels is None:
        raise ValueError(f"the networks have {classes} classes; pass labels=, each 0 to {classes - 1}")
    check_tensor("labels", labels)
    assert isinstance(labels, Tensor)
    if labels.dtype != torch.int64:
        raise TypeError(f"labels must be int64, got {labels.dtype}")
    if tuple(labels.shape) != (n,):
        raise ValueError(f"labels must be ({n},), one for each image, got {tuple(labels.shape)}")
    check_label_values(labels, classes)
