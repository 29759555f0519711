"""Checks of what a trainer is made from."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from types import ModuleType

from torch import nn

from progan.arguments import check_instance, check_int
from progan.networks.discriminator import ProgressiveDiscriminator
from progan.networks.generator import ProgressiveGenerator
from progan.recipe import Recipe, Training
from progan.runs.directory import differences
from progan.schedule import Schedule

# Attributes of a trainer that others are made from, and what to do instead of replacing them.
_FIXED = {
    "generator": "load weights with trainer.generator.load_state_dict, or pass start=",
    "discriminator": "load weights with trainer.discriminator.load_state_dict, or pass start=",
    "ema": "load weights with trainer.ema.module.load_state_dict",
    "averages": "load weights with trainer.averages[name].module.load_state_dict",
    **dict.fromkeys(("recipe", "schedule", "training"), "to train on with other settings, pass start="),
    "seed": "pass seed=",
    "device": "pass device=",
    "run_dir": "pass run_dir=",
}


def set_attribute(trainer: object, name: str, value: object) -> None:
    """Set an attribute of a trainer, unless others were made from it.

    Raises:
        AttributeError: If others were.
    """
    if name in _FIXED and name in vars(trainer):
        remedy = _FIXED[name] + " to a new Trainer" * _FIXED[name].endswith("=")
        raise AttributeError(
            f"trainer.{name} cannot be replaced, since other parts of the trainer depend on it; {remedy}"
        )
    object.__setattr__(trainer, name, value)


def check_parts(
    generator: ProgressiveGenerator, discriminator: ProgressiveDiscriminator, schedule: Schedule, training: Training
) -> None:
    """Check what a trainer is made from.

    Raises:
        TypeError: If a part is not of its class.
        ValueError: If the networks cannot train together.
    """
    _check_classes(generator, discriminator)
    check_instance(
        "schedule", schedule, Schedule, [(Sequence, "pass Schedule(stages)"), (Recipe, "pass recipe.schedule")]
    )
    check_instance("training", training, Training, [(Mapping, "pass Training(**it)"), (Recipe, "pass recipe.training")])
    _check_trainable(generator, discriminator)


def _check_trainable(generator: ProgressiveGenerator, discriminator: ProgressiveDiscriminator) -> None:
    """Raise ValueError where two networks cannot train together."""
    if generator.architecture != discriminator.architecture:
        raise ValueError(
            "generator and discriminator must have one architecture; differing: "
            + differences(vars(generator.architecture), vars(discriminator.architecture))
        )
    for role, network in (("generator", generator), ("discriminator", discriminator)):
        if any(parameter.is_inference() for parameter in network.parameters()):
            raise ValueError(f"the {role} was made under torch.inference_mode() and cannot train; make it outside")
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise ValueError(f"the {role} is frozen, nothing in it would train; call {role}.requires_grad_(True)")
    dtypes = {parameter.dtype for network in (generator, discriminator) for parameter in network.parameters()}
    if len(dtypes) != 1:
        raise ValueError(
            f"generator and discriminator must have one dtype, got {', '.join(sorted(map(str, dtypes)))}; "
            "convert both alike, such as with .float()"
        )


def _check_classes(generator: object, discriminator: object) -> None:
    """Raise TypeError where the networks are not two of progan's, in this order."""
    kinds = {"generator": ProgressiveGenerator, "discriminator": ProgressiveDiscriminator}
    for (role, kind), network in zip(kinds.items(), (generator, discriminator), strict=True):
        if isinstance(network, kind):
            continue
        remedy = ""
        if isinstance(network, (*kinds.values(),)):
            remedy = "the generator comes first, then the discriminator"
        elif isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            remedy = "pass the network in it, its module; several GPUs train under torchrun, see docs/processes.md"
        elif isinstance(getattr(network, "_orig_mod", None), kind):
            remedy = "pass the network before torch.compile: the critic is differentiated twice, which compilers refuse"
        elif isinstance(network, Recipe):
            remedy = "pass a recipe to Trainer.from_recipe"
        elif isinstance(network, tuple):
            remedy = "pass the networks one by one, as in Trainer(*recipe.build(), recipe.schedule)"
        elif isinstance(getattr(network, "generator", None), kind):
            remedy = f"pass its {role}, once requires_grad_(True) was called on it"
        elif isinstance(getattr(network, "module", None), kind):
            remedy = "pass its module"
        check_instance(role, network, kind, [(object, remedy)])


def check_recipe(recipe: object) -> None:
    """Raise TypeError where an argument is not a recipe."""
    remedies = [
        (str, "pass what a preset returns, such as presets.mel_icon()"),
        (ModuleType, "pass what one of its functions returns, such as presets.mel_icon()"),
        (Schedule, "pass Recipe(architecture, schedule.stages, training)"),
        (Mapping, "pass Recipe.from_json of it"),
    ]
    check_instance("recipe", recipe, Recipe, remedies)


def last_count(until: int | None, schedule: Schedule) -> int:
    """Return the count of real images at which fit ends.

    Raises:
        TypeError: If until is not an int.
    """
    if until is None:
        return schedule.total_images
    check_int("until", until)
    return min(operator.index(until), schedule.total_images)
