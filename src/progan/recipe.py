"""A whole recipe: the networks' architecture, the stages, and how a step trains. JSON can hold all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import torch

from progan.arguments import check_flag, check_instance, check_int, check_weight
from progan.augment.augmentation import Augmentation
from progan.compatibility import check_fit, shared_stages
from progan.losses.critic import Objective, Regularizer, check_regularizer, reported_name
from progan.losses.objectives import Wasserstein
from progan.losses.regularizers import GradientPenalty
from progan.networks.architecture import Architecture
from progan.networks.discriminator import ProgressiveDiscriminator
from progan.networks.generator import ProgressiveGenerator
from progan.optimization import Adam, Ema
from progan.parts import about_hue, build, check_once, check_part, several
from progan.randomness import key
from progan.recipe_json import networks_from_json, training_from_json, training_to_json
from progan.reconstruction import Reconstruction
from progan.schedule import Schedule, Stage

Order = Literal["critic_first", "generator_first"]
Precision = Literal["fp32", "tf32", "bf16"]


@dataclass(frozen=True)
class Training:
    """How a step trains.

    Objectives, regularisers and augmentations may be of one's own: instances of frozen dataclasses that follow the
    protocols `Objective`, `Regularizer` and `Augmentation`.

    Args:
        objective: Losses of both networks, as functions of scores.
        regularizers: Penalties on the critic, each kind at most once; a lone one is taken as a tuple of one.
        reconstruction: Whether and how the generator also learns to draw real images from codes; None = it does not.
        order: Network that is updated first; the EMA takes the generator in between.
        adam: Settings of both optimizers.
        ema: Settings of the generator's moving average, and of those beside it.
        blend_real: Whether real images are blended with their lower level, with the same alpha, while a level fades in.
        augment_real: Augmentations of real images, in this order, each kind at most once.
        augment_all: Augmentations of all images that the critic sees, real and generated, in both networks' updates.
        augment_strength: Strength of ``augment_all`` when the run begins, at least 0.
        balance_classes: Whether every class is shown equally often, whatever its number of images; for networks with
            classes. See `progan.data.Feed`.
        precision: ``fp32``, ``tf32``, on GPUs of NVIDIA, or ``bf16`` (autocast).

    Raises:
        TypeError: If a part is of a wrong kind, or has settings that JSON cannot hold.
        ValueError: If a setting is unknown or out of its range.
    """

    objective: Objective = Wasserstein()  # noqa: RUF009 (frozen, so shared safely, as all here)
    regularizers: tuple[Regularizer, ...] = (GradientPenalty(10.0),)
    reconstruction: Reconstruction | None = None
    order: Order = "critic_first"
    adam: Adam = Adam()  # noqa: RUF009
    ema: Ema = Ema()  # noqa: RUF009
    blend_real: bool = False
    augment_real: tuple[Augmentation, ...] = ()
    augment_all: tuple[Augmentation, ...] = ()
    augment_strength: float = 1.0
    balance_classes: bool = False
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        """Check each setting once, here."""
        check_instance("Training.adam", self.adam, Adam, [(Mapping, "pass Adam(...) of it")])
        check_instance("Training.ema", self.ema, Ema, [(Mapping, "pass Ema(...) of it"), (float, "pass Ema(decay)")])
        if self.reconstruction is not None:
            check_instance("Training.reconstruction", self.reconstruction, Reconstruction)
        check_flag("Training.blend_real", self.blend_real)
        check_flag("Training.balance_classes", self.balance_classes)
        check_weight("Training.augment_strength", self.augment_strength)
        for name, allowed in (("order", get_args(Order)), ("precision", get_args(Precision))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"Training.{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("regularizers", "augment_real", "augment_all"):
            object.__setattr__(self, name, several(getattr(self, name)))
        check_part("Training.objective", self.objective, "an Objective", ("critic", "generator"))
        for regularizer in self.regularizers:
            check_part("each of Training.regularizers", regularizer, "a Regularizer", ("weight", "every", "__call__"))
            check_regularizer(regularizer)
        check_once("Training.regularizers", list(map(reported_name, self.regularizers)))
        for role in ("augment_real", "augment_all"):
            for augmentation in getattr(self, role):
                needs, remedy = ("draws_per_image", "__call__"), about_hue(augmentation)
                check_part(f"each of Training.{role}", augmentation, "an Augmentation", needs, remedy)
                check_int(f"{type(augmentation).__name__}.draws_per_image", augmentation.draws_per_image, 0)
            check_once(f"Training.{role}", [type(augmentation).__name__ for augmentation in getattr(self, role)])


@dataclass(frozen=True)
class Recipe:
    """All that defines a training but its data and its seed.

    Args:
        architecture: Architecture of both networks.
        stages: Stages of the schedule.
        training: How a step trains.

    Raises:
        TypeError: If a part is of a wrong kind.
        ValueError: If the stages do not make a schedule, use a level that the networks lack, or a batch that does not
            fit the MiniBatchStd groups.
    """

    architecture: Architecture
    stages: tuple[Stage, ...]
    training: Training = Training()

    def __post_init__(self) -> None:
        """Check that the parts fit."""
        ways = [(Sequence, "pass Architecture(...) first, then the stages"), (torch.nn.Module, "pass its architecture")]
        check_instance("architecture", self.architecture, Architecture, ways)
        check_instance("training", self.training, Training, [(Mapping, "pass Training(...) of it")])
        object.__setattr__(self, "stages", Schedule(self.stages).stages)
        check_fit(self.architecture, self.schedule)
        if self.training.balance_classes and not self.architecture.classes:
            raise ValueError("Training.balance_classes is for networks with classes; pass Architecture(classes=...)")

    def with_classes(self, classes: int, *, balanced: bool = False) -> Recipe:
        """Return the recipe for networks with classes.

        Args:
            classes: Number of classes, such as ``len(data.classes)``.
            balanced: Whether every class is shown equally often, `Training`'s ``balance_classes``.

        Example:
            >>> from progan import presets
            >>> presets.karras2018(8).with_classes(3).architecture.classes
            3
        """
        architecture = replace(self.architecture, classes=classes)
        return Recipe(architecture, self.stages, replace(self.training, balance_classes=balanced))

    def starting_at(self, level: int, *, fade: bool = False) -> Recipe:
        """Return the recipe without the stages below a level, for networks that start from a trained run.

        Args:
            level: Level of the first stage, such as 4 for 64x64.
            fade: Whether the level fades in, as for a run that has grown to the level below; see
                `Schedule.starting_at`.

        Raises:
            ValueError: If no stage is at the level, or it is to fade in and does not.

        Example:
            >>> from progan import presets
            >>> recipe = presets.mel_icon(256)
            >>> recipe.starting_at(6, fade=True).stages[0].fade_images  # after a run at 128x128
            60000
        """
        return replace(self, stages=self.schedule.starting_at(level, fade=fade).stages)

    def for_processes(self, processes: int) -> Recipe:
        """Return the recipe with batches that several processes can share, in whole MiniBatchStd groups.

        Batches that they can share stay; others become the next larger ones that they can. The number of real images
        shown stays, so larger batches take fewer steps.

        Args:
            processes: Number of processes, such as GPUs.

        Raises:
            TypeError: If it is not an int.
            ValueError: If it is below 1; the networks compare all images of a batch, or consecutive ones
                (``minibatch_std_group=None``, ``minibatch_std_consecutive=True``); or a stage has fewer images than
                such a batch.

        Example:
            >>> from progan import presets
            >>> [stage.batch_size for stage in presets.few_images(8, total_images=1000).for_processes(2).stages]
            [8, 8, 8, 8]
        """
        return replace(self, stages=shared_stages(self.architecture, self.schedule, processes))

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
        return {
            "architecture": asdict(self.architecture),
            "stages": [asdict(stage) for stage in self.stages],
            "training": training_to_json(self.training),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], parts: Sequence[type] = ()) -> Recipe:
        """Rebuild a recipe from what `to_json` returned.

        Args:
            data: The recipe as JSON.
            parts: Classes of the user's own objectives, regularisers and augmentations that the recipe names.

        Raises:
            TypeError: If parts are not classes.
            ValueError: If a part is missing, unknown or refused.
        """
        architecture, schedule = networks_from_json(data)
        return cls(architecture, schedule.stages, build(Training, training_from_json(data, parts)))
