"""Detection of weights that were changed from outside, without reading their values.

A trainer derives the moving average, Adam's moments and the state that ranks agree on from the weights. torch counts
the in-place changes of each tensor (``_version``), and new memory has another address; both are numbers on the host.
They are recorded whenever the trainer itself has changed the weights, and compared before it continues. A change that
torch does not count, such as ``parameter.data.add_(...)``, is not detected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

Stamp = tuple[int, int]


class _Kind(NamedTuple):
    """What the optimizers, the average and the buffers of a step depend on."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    stride: tuple[int, ...]


class ParameterTracker:
    """A record of a trainer's parameters, as the trainer last left them.

    Args:
        trained: Networks with optimizers, by role. Their parameters must stay the same objects.
        averages: Moving averages of the generator by name. Their parameters may be replaced.

    Attributes:
        trusts: Whether all current changes count as the trainer's own.
    """

    def __init__(self, trained: Mapping[str, nn.Module], averages: Mapping[str, nn.Module]) -> None:
        self.trusts: bool = False
        self._trained: dict[str, nn.Module] = dict(trained)
        self._averages: dict[str, nn.Module] = dict(averages)
        self._named: dict[str, dict[str, nn.Parameter]] = {
            role: dict(network.named_parameters()) for role, network in trained.items()
        }
        self._links = [
            (module._parameters, name, parameter)
            for network in trained.values()
            for module in network.modules()
            for name, parameter in module._parameters.items()
            if parameter is not None
        ]
        self._parameters: dict[str, list[nn.Parameter]] = {}
        self._stamps: dict[str, list[Stamp]] = {}
        self._flags: list[bool] = []
        self._kinds: dict[str, list[_Kind]] = {role: _kinds(named.values()) for role, named in self._named.items()}
        self.record()

    def record(self) -> None:
        """Record the current weights as those that the trainer has set."""
        self._parameters = {role: list(named.values()) for role, named in self._named.items()}
        self._parameters |= {name: list(average.parameters()) for name, average in self._averages.items()}
        self._averaged = self._modules_of_averages()
        self._stamps = {role: _stamps(parameters) for role, parameters in self._parameters.items()}
        self._flags = self._trains()

    @contextmanager
    def own_changes(self) -> Iterator[None]:
        """Count all changes within the context, including those of callbacks, as the trainer's own."""
        self.trusts = True
        try:
            yield
        finally:
            self.trusts = False
            self.record()

    def changed(self) -> set[str]:
        """Return the roles and averages whose weights were set from outside since the last `record`.

        Nothing is read from the device. A change of the memory layout alone is not a change of the weights.
        """
        changed = {
            role
            for role, parameters in self._parameters.items()
            if _stamps(parameters) != self._stamps[role] and self._has_new_values(role)
        }
        for name, average in self._averages.items():
            known = {id(parameter) for parameter in self._parameters[name]}
            if any(id(parameter) not in known for parameter in average.parameters()):
                changed.add(name)
        return changed

    def is_untouched(self) -> bool:
        """Return whether all parameters are the same objects with the same contents in the same memory.

        This is a cheap check. It includes whether each parameter trains, since a captured step would not adapt.
        """
        return (
            all(there.get(name) is parameter for there, name, parameter in self._links)
            and all(_stamps(parameters) == self._stamps[role] for role, parameters in self._parameters.items())
            and self._trains() == self._flags
            and self._averaged == self._modules_of_averages()
        )

    def check(self) -> bool:
        """Check that the networks are still what the optimizers and the average were made for.

        Returns:
            Whether parameters have another memory layout than before, which is then recorded.

        Raises:
            ValueError: If a network has gained or lost parameters, or has parameters of another shape, dtype or device,
                or an average no longer has the generator's parameters.
        """
        relaid = False
        for role, network in self._trained.items():
            now, before = dict(network.named_parameters()), self._named[role]
            kind = type(network).__name__
            known = {id(parameter) for parameter in before.values()}
            if new := [name for name, parameter in now.items() if id(parameter) not in known]:
                raise ValueError(
                    f"{kind} has gained parameters since the trainer was made, such as {new[0]}, "
                    "which would not train; change networks before, and load weights without assign=True"
                )
            if lost := [name for name in before if name not in now]:
                raise ValueError(
                    f"{kind} no longer has the parameters that the trainer was made with, such as {lost[0]}; replace "
                    "layers, and register parametrizations, before you make the trainer"
                )
            kinds = _kinds(before.values())
            for name, was, is_now in zip(before, self._kinds[role], kinds, strict=True):
                if was[:3] != is_now[:3]:
                    raise ValueError(
                        f"the {role}'s {name} has become {_described(is_now)} since the trainer was made, and was "
                        f"{_described(was)}; convert or move networks before you make the trainer"
                    )
            relaid |= kinds != self._kinds[role]
            self._kinds[role] = kinds
        for role, average in self._averages.items():
            _check_average(self._trained["generator"], average, role)
        return relaid

    def changed_beside_hooks(self, roles: set[str]) -> set[str]:
        """Return those of some roles that have a changed parameter which no forward hook can have changed.

        A hook may set the weights of its module in any forward pass, such as one for sample images.
        """
        found = set()
        for role in roles & self._trained.keys():
            in_reach = {
                id(parameter)
                for module in self._trained[role].modules()
                if module._forward_hooks or module._forward_pre_hooks
                for parameter in module.parameters()
            }
            parameters = self._parameters[role]
            pairs = zip(parameters, _stamps(parameters), self._stamps[role], strict=True)
            if any(now != before and id(parameter) not in in_reach for parameter, now, before in pairs):
                found.add(role)
        return found

    def _has_new_values(self, role: str) -> bool:
        """Return whether a changed stamp means more than another memory layout of the same values."""
        parameters, kinds = self._parameters[role], self._kinds.get(role)
        pairs = zip(_stamps(parameters), self._stamps[role], strict=True)
        for number, (parameter, (now, before)) in enumerate(zip(parameters, pairs, strict=True)):
            relaid = kinds is not None and parameter.stride() != kinds[number].stride
            if now[0] != before[0] or (now != before and not relaid):
                return True
        return False

    def _modules_of_averages(self) -> dict[str, dict[str, nn.Module | None]]:
        return {name: dict(average._modules) for name, average in self._averages.items()}

    def _trains(self) -> list[bool]:
        return [parameter.requires_grad for role in self._trained for parameter in self._parameters[role]]


def _check_average(generator: nn.Module, average: nn.Module, role: str) -> None:
    """Raise ValueError if the parameters of an average do not match those of its generator."""
    remedy = f"load weights into it with trainer.averages[{role!r}].module.load_state_dict"
    ours = {f"module.{name}": parameter for name, parameter in generator.named_parameters()}
    theirs = dict(average.named_parameters())
    if list(ours) != list(theirs):
        differing = sorted(ours.keys() ^ theirs.keys()) or list(theirs)
        raise ValueError(f"the average does not have the generator's parameters; differing: {differing[0]}; {remedy}")
    for name, parameter in ours.items():
        own, other = _described(_kind(parameter)), _described(_kind(theirs[name]))
        if own != other:
            raise ValueError(
                f"the average's {name.removeprefix('module.')} must be {own}, as the generator's is, got {other}; "
                f"{remedy}"
            )


def _stamps(parameters: Sequence[nn.Parameter]) -> list[Stamp]:
    return [(parameter._version, parameter.data_ptr()) for parameter in parameters]


def _kind(parameter: nn.Parameter) -> _Kind:
    return _Kind(parameter.shape, parameter.dtype, parameter.device, parameter.stride())


def _kinds(parameters: Iterable[nn.Parameter]) -> list[_Kind]:
    return [_kind(parameter) for parameter in parameters]


def _described(kind: _Kind) -> str:
    return f"{tuple(kind.shape)} of {kind.dtype} on {kind.device}"
