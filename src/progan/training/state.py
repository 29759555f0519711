"""Everything that changes while a run trains: named tensors and a few numbers, loaded all or nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from progan.errors import CheckpointError
from progan.networks.architecture import Architecture
from progan.networks.discriminator import ProgressiveDiscriminator
from progan.networks.generator import ProgressiveGenerator
from progan.optimization import FIRST_AVERAGE, Adam
from progan.recipe import Training
from progan.reconstruction import PrincipalCodes
from progan.runs.average_choice import AverageChoice
from progan.runs.recovery import RecoveryRecord
from progan.training.adam import AdamOptimizer, Moments
from progan.training.ema import EmaGenerator

Network = ProgressiveGenerator | ProgressiveDiscriminator
_CODE_LEVEL = 2  # of the images that codes are made of, if the networks have it: 16x16


class TrainingState:
    """The networks, the EMA, both optimizers and the count of images of a run.

    Args:
        generator: Generator, on its device.
        discriminator: Discriminator, on the same device.
        ema: Moving average of the generator; or several by name, of which that named ``ema`` is the first; or None.
        adam: Settings of both optimizers.
        augment_strength: Strength of `Training.augment_all`; None where there are no such augmentations.
        codes: Codes of real images for `Training.reconstruction`, fitted or not; None where there is none.

    Attributes:
        averages: Moving averages of the generator by name.
        choice: Choice among the averages, of the count of images that it names; None = there has been none.
        augment_strength: Strength of `Training.augment_all`, 0-d, float32, on the device; changed in place. Or None.
        codes: Codes of real images, on the device; or None.
        images_seen: Real images shown to the critic so far.
        recovery: Record of the setbacks, by which the learning rate is lowered.
        adam_version: Number of times that Adam's state was replaced; a captured step still points at the one before.
    """

    def __init__(
        self,
        generator: ProgressiveGenerator,
        discriminator: ProgressiveDiscriminator,
        ema: EmaGenerator | Mapping[str, EmaGenerator] | None,
        adam: Adam,
        augment_strength: float | None = None,
        codes: PrincipalCodes | None = None,
    ) -> None:
        self.generator = generator
        self.discriminator = discriminator
        named = {} if ema is None else {FIRST_AVERAGE: ema} if isinstance(ema, EmaGenerator) else dict(ema)
        self.averages: dict[str, EmaGenerator] = named
        self.choice: AverageChoice | None = None
        self.augment_strength: Tensor | None = None
        if augment_strength is not None:
            self.augment_strength = torch.tensor(augment_strength, dtype=torch.float32, device=_device_of(generator))
        self.codes: PrincipalCodes | None = None if codes is None else codes.to(_device_of(generator))
        self.images_seen: int = 0
        self.recovery: RecoveryRecord = RecoveryRecord()
        self.adam_version: int = 0
        self.adam_generator: AdamOptimizer = AdamOptimizer(_device_of(generator), adam, adam.generator_factor)
        self.adam_discriminator: AdamOptimizer = AdamOptimizer(_device_of(discriminator), adam)

    @classmethod
    def for_training(
        cls,
        generator: ProgressiveGenerator,
        discriminator: ProgressiveDiscriminator,
        averages: Mapping[str, EmaGenerator],
        training: Training,
    ) -> TrainingState:
        """Return the state of a training that begins, with a strength and codes where the training needs them."""
        strength = training.augment_strength if training.augment_all else None
        codes, architecture = None, generator.architecture
        if training.reconstruction is not None:
            size = architecture.image_channels, *architecture.size(code_level(architecture))
            codes = PrincipalCodes(size, min(training.reconstruction.components, math.prod(architecture.latent_shape)))
        return cls(generator, discriminator, averages, training.adam, strength, codes)

    @property
    def ema(self) -> EmaGenerator | None:
        """The first of the averages, if there are any."""
        return self.averages.get(FIRST_AVERAGE)

    def average(self, name: str | None = None) -> EmaGenerator:
        """Return an average by its name; None = the one chosen at this count of images, else the first one.

        Raises:
            ValueError: If there is no such average.
        """
        if name is None:
            name = FIRST_AVERAGE if self.current_choice is None else self.current_choice.chosen
        if name not in self.averages:
            raise ValueError(f"the averages are {', '.join(self.averages)}, got {name!r}")
        return self.averages[name]

    @property
    def current_choice(self) -> AverageChoice | None:
        """The choice among the averages, if there is one at the current count of images."""
        return self.choice if self.choice is not None and self.choice.images_seen == self.images_seen else None

    def update_averages(self, weights: Sequence[float | Tensor]) -> None:
        """Take one step of the generator into each average, with a weight of the generator for each."""
        for average, weight in zip(self.averages.values(), weights, strict=True):
            average.blend(self.generator, weight)

    def set_warm_up(self, warm_up: bool) -> None:
        """Set whether the averages begin as a plain mean."""
        for average in self.averages.values():
            average.warm_up = warm_up

    def optimizers(self) -> dict[str, tuple[AdamOptimizer, Network]]:
        """Return each optimizer with its network, by role."""
        return {
            "adam_generator": (self.adam_generator, self.generator),
            "adam_discriminator": (self.adam_discriminator, self.discriminator),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors, not copies, by name: ``generator/blocks.0...``, ``ema/...``, ``codes/mean``."""
        networks: dict[str, nn.Module] = {"generator": self.generator, "discriminator": self.discriminator}
        networks |= {name: average.module for name, average in self.averages.items()}
        tensors = {
            f"{role}/{name}": tensor
            for role, network in networks.items()
            for name, tensor in network.state_dict().items()
        }
        if self.augment_strength is not None:
            tensors["augment/strength"] = self.augment_strength
        if self.codes is not None:
            tensors |= {f"codes/{name}": tensor for name, tensor in self.codes.tensors().items()}
        return tensors | self.adam_tensors()

    def numbers(self) -> dict[str, Any]:
        """Return what changes while training and is not a tensor, beside images_seen."""
        numbers: dict[str, Any] = {} if self.ema is None else {"ema_warm_up": self.ema.warm_up}
        if self.current_choice is not None:
            numbers["average_choice"] = self.current_choice.to_json()
        return numbers if self.recovery.is_empty() else numbers | {"recovery": self.recovery.to_json()}

    def to_dict(self) -> dict[str, Any]:
        """Return images_seen, `numbers` and `tensors` by these names."""
        return {"images_seen": self.images_seen, "numbers": self.numbers(), "tensors": self.tensors()}

    def load(self, images_seen: int, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Load what `tensors` and `numbers` returned. All of it is checked before anything is changed.

        Raises:
            CheckpointError: If it does not fit these networks.
        """
        warm_up = numbers.get("ema_warm_up") if isinstance(numbers, Mapping) else None
        if self.ema is not None and not isinstance(warm_up, bool):
            raise CheckpointError(f"numbers must be a mapping, and ema_warm_up in it a bool, got {numbers!r}")
        recovery = RecoveryRecord()
        try:
            recovery.load(numbers.get("recovery") if isinstance(numbers, Mapping) else None)
        except ValueError as error:
            raise CheckpointError(f"the state's record of recovery is not valid: {error}") from None
        choice = self._choice_in(numbers)
        self._load_tensors(tensors)
        if isinstance(warm_up, bool):
            self.set_warm_up(warm_up)
        self.recovery.load(recovery.to_json())
        self.choice = choice
        self.images_seen = images_seen

    def _choice_in(self, numbers: Mapping[str, Any]) -> AverageChoice | None:
        """Return the choice among these averages that `numbers` returned, if any."""
        try:
            choice = AverageChoice.from_json(numbers.get("average_choice") if isinstance(numbers, Mapping) else None)
        except ValueError as error:
            raise CheckpointError(f"the state's choice among averages is not valid: {error}") from None
        if choice is not None and choice.values.keys() != self.averages.keys():
            raise CheckpointError(
                f"the state's choice is among {', '.join(choice.values)}, and there are {', '.join(self.averages)}"
            )
        return choice

    def _load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        own = {name: tensor for name, tensor in self.tensors().items() if not _is_adams(name)}
        theirs = {name: tensor for name, tensor in tensors.items() if not _is_adams(name)}
        moments = {name: tensor for name, tensor in tensors.items() if _is_adams(name)}
        if missing := sorted(own.keys() - theirs.keys()):
            raise CheckpointError(f"the state lacks {len(missing)} tensors, such as {missing[0]}")
        if unknown := sorted(theirs.keys() - own.keys()):
            raise CheckpointError(
                f"the state has {len(unknown)} tensors that are not known here, such as {unknown[0][:200]}"
            )
        for name, tensor in theirs.items():
            if tensor.shape != own[name].shape or tensor.dtype != own[name].dtype:
                raise CheckpointError(
                    f"{name} must be {tuple(own[name].shape)} of {own[name].dtype}, "
                    f"got {tuple(tensor.shape)} of {tensor.dtype}"
                )
        self._check_adam_tensors(moments)
        with torch.no_grad():
            for name, tensor in theirs.items():
                own[name].copy_(tensor)
        self.load_adam_tensors(moments)

    def moved(self) -> dict[str, list[Tensor]]:
        """Return all tensors that a step changes in place, by what they are."""
        networks = {"generator": self.generator, "discriminator": self.discriminator, **self.averages}
        found = {name: [*network.parameters(), *network.buffers()] for name, network in networks.items()}
        for name, tensor in self.adam_tensors().items():
            found.setdefault(name.rsplit("/", 1)[0], []).append(tensor)
        return found

    def reset_adam(self) -> None:
        """Forget the moments of both optimizers."""
        self.adam_version += 1
        for optimizer, _ in self.optimizers().values():
            optimizer.moments.clear()

    def adam_tensors(self) -> dict[str, Tensor]:
        """Return both optimizers' state by parameter name: ``adam_generator/exp_avg/blocks.0...``."""
        tensors: dict[str, Tensor] = {}
        for role, (optimizer, network) in self.optimizers().items():
            for name, parameter in network.named_parameters():
                if moments := optimizer.moments.get(parameter):
                    tensors |= {f"{role}/{part}/{name}": tensor for part, tensor in moments._asdict().items()}
        return tensors

    def _check_adam_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise CheckpointError where `load_adam_tensors` would find something missing, unknown or of another shape."""
        known: dict[str, nn.Parameter] = {}
        for role, (_, network) in self.optimizers().items():
            for name, parameter in network.named_parameters():
                parts = {f"{role}/{part}/{name}": parameter for part in Moments._fields}
                if 0 < len(parts.keys() & tensors.keys()) < len(parts):
                    raise CheckpointError(f"the state has {role} of {name} in part only")
                known |= parts
        for name, tensor in tensors.items():
            if name not in known:
                raise CheckpointError(f"the state has {name[:200]}, which is not known here")
            shape = () if "/step/" in name else known[name].shape
            dtype = torch.float32 if "/step/" in name else known[name].dtype
            if tensor.shape != shape or tensor.dtype != dtype:
                raise CheckpointError(
                    f"{name} must be {tuple(shape)} of {dtype}, got {tuple(tensor.shape)} of {tensor.dtype}"
                )

    def load_adam_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Load a state that `adam_tensors` returned; parameters that are not in it start anew."""
        self.reset_adam()
        for role, (optimizer, network) in self.optimizers().items():
            for name, parameter in network.named_parameters():
                if f"{role}/step/{name}" in tensors:
                    optimizer.load(parameter, Moments(*(tensors[f"{role}/{part}/{name}"] for part in Moments._fields)))


def code_level(architecture: Architecture) -> int:
    """Return the level of the images that codes are made of."""
    return min(_CODE_LEVEL, architecture.top_level)


def _device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _is_adams(name: str) -> bool:
    return name.startswith("adam_")
