"""A whole recipe, once: the networks' architecture, the stages, and how a step trains. All of it is JSON-able."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import torch
from torch import nn

from progan.arguments import check_flag, check_instance, check_int, check_number, described, tuple_of, wrong_type
from progan.augment.augmentations import Augmentation, Contrast, HorizontalFlip
from progan.losses.wgan_gp import Loss, WganGp
from progan.networks.architecture import Architecture
from progan.networks.discriminator import ProgressiveDiscriminator
from progan.networks.generator import ProgressiveGenerator
from progan.networks.layers import fitting_group_size
from progan.randomness import key
from progan.schedule import Growth, Schedule, Stage

Order = Literal["critic_first", "generator_first"]
AdamReset = Literal["never", "level", "level_and_fade"]
Precision = Literal["fp32", "tf32", "bf16"]

# What a config.json may name; nothing is looked up by a name from a file anywhere else.
LOSSES: dict[str, type[WganGp]] = {"WganGp": WganGp}
AUGMENTATIONS: dict[str, type[Augmentation]] = {"Contrast": Contrast, "HorizontalFlip": HorizontalFlip}


def _several(value: Any) -> tuple[Any, ...]:
    """Return a tuple of what came as a tuple, as a list, alone or as None."""
    return tuple(value) if isinstance(value, tuple | list) else () if value is None else (value,)


def _refuse_hue(augmentation: object) -> None:
    """Raise where an augmentation's name, or that of its type, says that it changes hue."""
    own = getattr(augmentation, "__name__", type(augmentation).__name__)  # of a function or a class, else of the type
    name = str(augmentation if isinstance(augmentation, str) else own).lower().replace("_", "").replace(" ", "")
    if any(word in name for word in ("hue", "colorjitter", "colourjitter")):
        raise ValueError(
            f"Training.augment refuses {augmentation!r}: changes of hue give strange colours, as the Mel Icon article "
            "found, and the generator learns to draw them; use Contrast(), x1 to x2, which did little harm there"
        )


@dataclass(frozen=True)
class Adam:
    """The settings of both optimizers (Kingma and Ba 2015).

    Args:
        betas: Decay of the first and of the second moment, in [0, 1).
        eps: Added to the root of the second moment, positive.
        reset: When the moments are forgotten: ``never``, at a new ``level``, or at a new level and the end of its fade.

    Raises:
        TypeError: If a setting is of a wrong kind.
        ValueError: If a setting is out of its range.

    Example:
        >>> Adam(reset="level").resets(Growth(0, 0, None, 1e-3, 8), Growth(1, 1, 0.0, 1e-3, 8))
        True
    """

    betas: tuple[float, float] = (0.0, 0.99)
    eps: float = 1e-8
    reset: AdamReset = "never"

    def __post_init__(self) -> None:
        """Check each setting once, here."""
        object.__setattr__(self, "betas", tuple_of("Adam.betas", self.betas, "two numbers"))
        for beta in self.betas:
            check_number("each of Adam.betas", beta)
        check_number("Adam.eps", self.eps)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"Adam.betas must be two numbers in [0, 1), got {self.betas!r}")
        if not self.eps > 0:
            raise ValueError(f"Adam.eps must be positive, got {self.eps!r}")
        if self.reset not in get_args(AdamReset):
            raise ValueError(f"Adam.reset must be one of {', '.join(get_args(AdamReset))}, got {self.reset!r}")

    def resets(self, before: Growth, after: Growth) -> bool:
        """Return whether the moments are forgotten between two steps."""
        if self.reset == "never":
            return False
        fade_ended = before.alpha is not None and after.alpha is None
        return after.level != before.level or (self.reset == "level_and_fade" and fade_ended)


@dataclass(frozen=True)
class Ema:
    """The settings of the exponential moving average of the generator; see `EmaGenerator`.

    Args:
        decay: Weight of the old average in each step, in [0, 1).
        batch: Batch size for which decay is meant; None = decay per step, whatever the batch.
        warm_up: Whether the average begins as a plain mean.

    Raises:
        TypeError: If a setting is of a wrong kind.
        ValueError: If a setting is out of its range.
    """

    decay: float = 0.999
    batch: int | None = None
    warm_up: bool = False

    def __post_init__(self) -> None:
        """Check each setting once, here."""
        check_number("Ema.decay", self.decay)
        if self.batch is not None:
            check_int("Ema.batch", self.batch)
        check_flag("Ema.warm_up", self.warm_up)
        if not 0 <= self.decay < 1:
            raise ValueError(f"Ema.decay must be in [0, 1), got {self.decay!r}")
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"Ema.batch must be at least 1, or None, got {self.batch!r}")


@dataclass(frozen=True)
class Training:
    """Hold how a step trains.

    Args:
        loss: of both networks.
        order: Network that is updated first; the EMA takes the generator in between.
        adam: Settings of both optimizers.
        ema: Settings of the generator's moving average.
        blend_real: while a level fades in, real images are blended with their lower level with the same alpha.
        augment: of the real images, in this order, each kind at most once; a lone one is taken as a tuple of one.
        precision: ``fp32``, ``tf32`` (CUDA only) or ``bf16`` (autocast).

    Raises:
        ValueError: if a setting is unknown or out of its range, or an augmentation changes hue.
        TypeError: if loss or an augmentation is not one of progan's.
    """

    loss: Loss = WganGp()  # noqa: RUF009 (frozen, so shared safely)
    order: Order = "critic_first"
    adam: Adam = Adam()
    ema: Ema = Ema()
    blend_real: bool = False
    augment: tuple[Augmentation, ...] = ()
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        """Check each setting once, here."""
        check_instance("Training.adam", self.adam, Adam, [(Mapping, "pass Adam(...) of it")])
        check_instance("Training.ema", self.ema, Ema, [(Mapping, "pass Ema(...) of it"), (float, "pass Ema(decay)")])
        check_flag("Training.blend_real", self.blend_real)
        object.__setattr__(self, "augment", _several(self.augment))
        for name, allowed in (
            ("order", get_args(Order)),
            ("precision", get_args(Precision)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"Training.{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if type(self.loss) not in LOSSES.values():
            remedy = "; pass an instance" if isinstance(self.loss, type) else ""
            raise TypeError(f"Training.loss must be one of {', '.join(LOSSES)}, got {described(self.loss)}{remedy}")
        for augmentation in self.augment:
            if type(augmentation) not in AUGMENTATIONS.values():
                _refuse_hue(augmentation)
                remedy = "; pass an instance" if isinstance(augmentation, type) else ""
                raise TypeError(
                    f"Training.augment takes {' and '.join(AUGMENTATIONS)} only, got {described(augmentation)}{remedy}"
                )
        if len({type(augmentation) for augmentation in self.augment}) < len(self.augment):
            raise ValueError(f"Training.augment takes each kind at most once, got {self.augment!r}")


@dataclass(frozen=True)
class Recipe:
    """Hold all that defines a training but its data and its seed.

    Args:
        architecture: of both networks.
        stages: of the schedule.
        training: how a step trains.

    Raises:
        TypeError: If a part is of a wrong kind.
        ValueError: if the stages do not make a schedule, use a level that the networks lack, or a batch that does not
            fit the MiniBatchStd groups.
    """

    architecture: Architecture
    stages: tuple[Stage, ...]
    training: Training = Training()

    def __post_init__(self) -> None:
        """Check that the parts fit."""
        remedies = [(Sequence, "pass Architecture(...) first, then the stages"), (nn.Module, "pass its architecture")]
        check_instance("architecture", self.architecture, Architecture, remedies)
        check_instance("training", self.training, Training, [(Mapping, "pass Training(...) of it")])
        object.__setattr__(self, "stages", Schedule(self.stages).stages)
        check_fit(self.architecture, self.schedule)

    @property
    def schedule(self) -> Schedule:
        """The stages as a schedule."""
        return Schedule(self.stages)

    def build(self, *, seed: int = 0) -> tuple[ProgressiveGenerator, ProgressiveDiscriminator]:
        """Build both networks with weights keyed by the seed; torch's random state is left as it is."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(key(seed, "weights", "construction") & (2**63 - 1))
            networks = ProgressiveGenerator(self.architecture), ProgressiveDiscriminator(self.architecture)
        for network in networks:
            network.initialize(seed)
        return networks

    def to_json(self) -> dict[str, Any]:
        """Return a dict that `json.dump` takes."""
        named = {"loss": _to_named(self.training.loss), "augment": [_to_named(one) for one in self.training.augment]}
        return {
            "architecture": asdict(self.architecture),
            "stages": [asdict(stage) for stage in self.stages],
            "training": asdict(self.training) | named,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """Rebuild a recipe from what `to_json` returned.

        Raises:
            ValueError: if a part is missing, unknown or refused.
        """
        if not isinstance(data, Mapping):
            raise wrong_type("a recipe", "a JSON object, as Recipe.to_json returns", data, "read a file with json.load")
        if unknown := sorted(set(data) - {"architecture", "stages", "training"}):
            raise ValueError(f"a recipe has no {', '.join(unknown)}; was this written by a later version of progan?")
        architecture = _build(Architecture, _mapping(data, "architecture"))
        if not isinstance(data.get("stages"), Sequence):
            raise ValueError("the recipe lacks its list of stages")
        stages = tuple(_build(Stage, stage) for stage in data["stages"])
        training = dict(_mapping(data, "training"))
        if training.get("loss") is not None:
            training["loss"] = _from_named("loss", _mapping(training, "loss"), LOSSES)
        augment = _several(training.get("augment"))
        for settings in augment:
            _refuse_hue(settings.get("name") if isinstance(settings, Mapping) else settings)
        for name, kind in (("adam", Adam), ("ema", Ema)):
            if name in training:
                training[name] = _build(kind, training[name])
        training["augment"] = [_from_named("augment", settings, AUGMENTATIONS) for settings in augment]
        return cls(architecture, stages, _build(Training, training))


def check_fit(architecture: Architecture, schedule: Schedule) -> None:
    """Raise where a schedule asks of the networks what they cannot do."""
    for index, stage in enumerate(schedule.stages):
        if stage.level > architecture.top_level:
            raise ValueError(
                f"stage {index} is at level {stage.level}, but the networks have levels 0 to {architecture.top_level}; "
                f"pass channels= with {stage.level + 1} widths or drop the stage"
            )
        try:
            fitting_group_size(stage.batch_size, architecture.minibatch_std_group)
        except ValueError as error:
            raise ValueError(f"stage {index}: {error}") from None


def check_ranks(architecture: Architecture, schedule: Schedule, ranks: int) -> None:
    """Raise where processes cannot share a schedule's batches so that each MiniBatchStd group lies on one of them."""
    for index, stage in enumerate(schedule.stages):
        group = fitting_group_size(stage.batch_size, architecture.minibatch_std_group)
        groups = stage.batch_size // group
        if groups % ranks:
            many = f"{groups} MiniBatchStd group{'s' * (groups > 1)} of {group} images"
            remedy = (
                "give the architecture a minibatch_std_group; None makes the whole batch one group"
                if architecture.minibatch_std_group is None
                else f"use a batch_size that is a multiple of {ranks * architecture.minibatch_std_group} in every stage"
            )
            raise ValueError(
                f"stage {index} has a batch of {stage.batch_size}: {many}, which {ranks} processes cannot share "
                f"evenly; {remedy}, or start another number of processes"
            )


def _to_named(part: Any) -> dict[str, Any]:
    return {"name": type(part).__name__, **asdict(part)}


Built = TypeVar("Built")


def _from_named(role: str, data: Any, table: Mapping[str, type[Built]]) -> Built:
    """Make what `_to_named` wrote, looked up in a table."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{role} must be a JSON object, got {data!r}")
    settings = dict(data)
    name = settings.pop("name", None)
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"{role} {name!r} is unknown; known: {', '.join(table)}")
    return _build(table[name], settings)


def _build(kind: type[Built], data: Mapping[str, Any]) -> Built:
    """Make a dataclass from JSON, naming what is unknown or missing."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{kind.__name__} must be a JSON object, got {data!r}")
    known = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(data) - set(known)):
        raise ValueError(f"{kind.__name__} has no {', '.join(unknown)}; was this written by a later version of progan?")
    # JSON has lists where the dataclasses have tuples.
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    hints = get_type_hints(kind)
    for name, value in values.items():
        if not _is_of(value, hints[name]):
            raise ValueError(f"{kind.__name__}.{name} must be {known[name]}, got {data[name]!r}")
    try:
        return kind(**values)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{kind.__name__}: {error}") from None


def _is_of(value: Any, hint: Any) -> bool:
    """Tell whether a value from JSON is of a field's type; floats are finite, and ints are floats too."""
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return isinstance(value, str)  # the dataclass says which there are
    if get_origin(hint) is tuple:
        if not isinstance(value, tuple):
            return False
        wanted = parts[:1] * len(value) if parts[-1] is ... else parts
        return len(value) == len(wanted) and all(map(_is_of, value, wanted))
    if parts:
        return any(_is_of(value, part) for part in parts)
    if hint is float:
        return type(value) in (int, float) and abs(value) < math.inf
    return type(value) is hint or hint is Loss or is_dataclass(hint)


def _mapping(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an entry that must be a JSON object."""
    value = data.get(name)
    if not isinstance(value, Mapping):
        raise ValueError(f"the recipe lacks its {name}")
    return value
