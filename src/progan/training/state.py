"""All tensors that change while training: named, and taken over from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from progan.errors import CheckpointError
from progan.training.step import TrainingStep


def tensors_of(step: TrainingStep) -> dict[str, Tensor]:
    """Return the tensors, not copies, of both networks, the average and Adam: ``generator/blocks.0...``."""
    networks: dict[str, nn.Module] = {"generator": step.generator, "discriminator": step.discriminator}
    if step.average is not None:
        networks["average"] = step.average.module
    tensors = {
        f"{role}/{name}": tensor for role, network in networks.items() for name, tensor in network.state_dict().items()
    }
    return tensors | step.adam_tensors()


def load_tensors(step: TrainingStep, tensors: Mapping[str, Tensor]) -> None:
    """Give a step the values that `tensors_of` returned. All of them are checked before anything is changed.

    Raises:
        CheckpointError: if they do not fit these networks.
    """
    own = {name: tensor for name, tensor in tensors_of(step).items() if not _is_adams(name)}
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
    step.check_adam_tensors(moments)
    with torch.no_grad():
        for name, tensor in theirs.items():
            own[name].copy_(tensor)
    step.load_adam_tensors(moments)
    step.watch.forget()


def _is_adams(name: str) -> bool:
    return name.startswith("adam_")
