"""What the importers share: the tensors of a foreign network, and progan's networks filled with them.

Programs differ in the constant that a layer multiplies its weight by at run time. What differs is folded into the
weight, so that outputs agree.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from progan.errors import CheckpointError
from progan.networks.architecture import Architecture
from progan.networks.discriminator import ProgressiveDiscriminator
from progan.networks.generator import ProgressiveGenerator
from progan.networks.layers import EqualizedConv2d, EqualizedLinear
from progan.runs.rebuild import without_memory

Network = TypeVar("Network", ProgressiveGenerator, ProgressiveDiscriminator)
Parts = dict[str, tuple[Any, Mapping[str, Any]]]  # state dict and settings, by role
_DTYPES = (torch.float32, torch.float64)


class Layer(NamedTuple):
    """A layer of a foreign network.

    Attributes:
        name: Name without ``.weight`` and ``.bias``.
        shape: Shape of its weight where that is not the shape of progan's.
        gain: Its weight is multiplied by gain / sqrt(fan_in) at run time; None = by the same constant as progan's.
        scaled_bias: Whether its bias is multiplied by that constant too.
        transposed: Whether it is a transposed convolution of a latent, (in, out, height, width), with one bias for each
            channel.
    """

    name: str
    shape: tuple[int, ...] | None = None
    gain: float | None = None
    scaled_bias: bool = False
    transposed: bool = False


@dataclass
class ForeignState:
    """The tensors of one network in a file, by name.

    Args:
        tensors: State dict as the file holds it.
        what: Name of the network in the file, for messages.
        path: Path of the file, for messages.
        settings: Settings that the file has beside it, if any.

    Raises:
        CheckpointError: If it is not a dict of tensors.
    """

    tensors: Mapping[str, Any]
    what: str
    path: Path
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tensors = self.tensors
        if not isinstance(tensors, dict) or not tensors or not all(isinstance(name, str) for name in tensors):
            raise self.error("it is not a dict of tensors by name")
        for name, tensor in tensors.items():
            if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided:
                raise self.error(f"{name[:100]!r} is not a tensor")
        if all(name.startswith("module.") for name in tensors):  # of nn.DataParallel
            tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
        self.tensors = tensors

    def error(self, reason: str) -> CheckpointError:
        """Return an error about this network."""
        return CheckpointError(f"{self.path}: its {self.what} cannot be imported: {reason}")

    def shape(self, layer: str, sides: int) -> tuple[int, ...]:
        """Return the shape of a layer's weight, which must have this many sides, none of them 0."""
        shape = tuple(self._tensor(f"{layer}.weight").shape)
        if len(shape) != sides or not all(shape):
            raise self.error(f"{layer}.weight must have {sides} sides of at least 1, got {shape}")
        return shape

    def count(self, pattern: str) -> int:
        """Return how many layers are named by a pattern with a number in place of ``{}``, from 0 on."""
        number = re.compile(re.escape(f"{pattern}.weight").replace(r"\{\}", r"(\d{1,3})"))
        found = {int(match[1]) for match in map(number.fullmatch, self.tensors) if match}
        if found != set(range(len(found))) or not found:
            raise self.error(f"its layers {pattern} must be numbered from 0 on, got {sorted(found)[:20]}")
        return len(found)

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return a tensor of a shape, checked, as float32."""
        tensor = self._tensor(name)
        if tuple(tensor.shape) != shape:
            raise self.error(f"{name} must be {shape}, got {tuple(tensor.shape)}")
        if tensor.dtype not in _DTYPES:
            raise self.error(f"{name} must be of float32 or float64, got {tensor.dtype}")
        if not tensor.is_contiguous():
            raise self.error(f"{name} is a view with strides {tensor.stride()}; save a contiguous copy of it")
        tensor = tensor.detach().float()
        if not torch.isfinite(tensor).all():
            raise self.error(f"{name} has values that are not finite in float32")
        return tensor

    def _tensor(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise self.error(f"it lacks {name}")
        tensor: Tensor = self.tensors[name]
        return tensor


@dataclass(frozen=True)
class Program:
    """A foreign program: how its checkpoints are recognised, and what their layers are in progan's networks.

    Attributes:
        name: Name of the program.
        parts: Returns the state dict of each role, with the settings beside it, from what a file holds; empty where the
            file is not of this program.
        architecture: Returns the architecture from the shapes of the generator's and the discriminator's layers.
        generator: Returns the layers of the generator by progan's names.
        discriminator: Returns the layers of the discriminator by progan's names.
    """

    name: str
    parts: Callable[[Mapping[str, Any]], Parts]
    architecture: Callable[[ForeignState, ForeignState | None], Architecture]
    generator: Callable[[ForeignState, Architecture], dict[str, Layer]]
    discriminator: Callable[[ForeignState, Architecture], dict[str, Layer]]


def filled(
    kind: type[Network], architecture: Architecture, state: ForeignState, layers: Mapping[str, Layer]
) -> Network:
    """Build a network from a foreign one.

    Args:
        kind: Class of the network.
        architecture: Architecture of the network.
        state: Tensors of the foreign network.
        layers: Foreign layers by the names of the network's.

    Raises:
        CheckpointError: If tensors are missing, unknown, or of another shape than the architecture's.
    """
    network = without_memory(kind, architecture, state.path)
    known = {f"{layer.name}.{part}" for layer in layers.values() for part in ("weight", "bias")}
    if unknown := sorted(set(state.tensors) - known):
        raise state.error(f"it has {unknown[0][:100]!r}, which progan's network has no layer for")
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = _converted(network.get_submodule(name), layer, state)
    network.load_state_dict(tensors, assign=True)
    return network


def check_apart(states: Iterable[ForeignState]) -> None:
    """Raise CheckpointError if two tensors share memory: training one would change the other."""
    tensors = [(state, name, tensor) for state in states for name, tensor in state.tensors.items() if tensor.nbytes]
    spans = sorted((tensor.data_ptr(), index) for index, (_, _, tensor) in enumerate(tensors))
    for (_, one), (begin, other) in itertools.pairwise(spans):
        if tensors[one][2].data_ptr() + tensors[one][2].nbytes > begin:
            state = tensors[other][0]
            names = sorted((tensors[one][1], tensors[other][1]))
            raise state.error(f"{names[0][:100]} and {names[1][:100]} share memory")


def _converted(module: nn.Module, layer: Layer, state: ForeignState) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a layer of progan's from those of the foreign one."""
    assert isinstance(module, EqualizedConv2d | EqualizedLinear)
    shape = tuple(module.weight.shape)
    weight = state.take(f"{layer.name}.weight", layer.shape or shape)
    constant = module.constant if layer.gain is None else layer.gain / math.sqrt(math.prod(shape[1:]))
    channels = weight.shape[1] if layer.transposed else weight.shape[0]
    bias = state.take(f"{layer.name}.bias", (channels,))
    if layer.transposed:
        weight = weight.permute(1, 2, 3, 0)
        bias = bias.repeat_interleave(shape[0] // channels)
    factor = constant / module.constant
    if not math.isclose(factor, 1.0, rel_tol=1e-12):
        weight = weight * factor
    if layer.scaled_bias:
        bias = bias * constant
    return weight.reshape(shape).contiguous(), bias
