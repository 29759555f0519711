"""The settings of a recipe as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from progan.arguments import wrong_type
from progan.augment.colour import Colour
from progan.augment.geometric import HorizontalFlip, Translate
from progan.augment.photometric import Contrast
from progan.compatibility import check_fit
from progan.losses.logistic import NonSaturating, Relativistic
from progan.losses.objectives import Wasserstein
from progan.losses.regularizers import GradientPenalty
from progan.losses.zero_centered import R1, R2
from progan.networks.architecture import Architecture
from progan.optimization import Adam, Ema
from progan.parts import build, part_from_json, part_to_json, settings_of, several
from progan.reconstruction import Reconstruction
from progan.schedule import Schedule, Stage

# The built-in parts that a file may name; all others are passed as classes.
_PARTS: dict[str, dict[str, type[Any]]] = {
    "objective": {"NonSaturating": NonSaturating, "Relativistic": Relativistic, "Wasserstein": Wasserstein},
    "regularizers": {"GradientPenalty": GradientPenalty, "R1": R1, "R2": R2},
    "augment_real": {
        "Colour": Colour,
        "Contrast": Contrast,
        "HorizontalFlip": HorizontalFlip,
        "Translate": Translate,
    },
}
_PARTS["augment_all"] = _PARTS["augment_real"]
_GROUPS: dict[str, type[Any]] = {"adam": Adam, "ema": Ema, "reconstruction": Reconstruction}


def training_to_json(training: Any) -> dict[str, Any]:
    """Return the settings of a `Training` as a dict that `json.dump` takes."""
    parts = {name: list(map(part_to_json, several(getattr(training, name)))) for name in _PARTS}
    groups = {name: settings_of(group) for name in _GROUPS if (group := getattr(training, name)) is not None}
    return settings_of(training) | groups | parts | {"objective": parts["objective"][0]}


def training_from_json(data: Mapping[str, Any], parts: Sequence[type]) -> dict[str, Any]:
    """Return the settings of the `Training` in a recipe as JSON, its parts built.

    Args:
        data: The recipe as JSON.
        parts: Classes of a user's own that it may name.

    Raises:
        TypeError: If parts are not classes.
        ValueError: If a part is missing, unknown or refused.
    """
    for part in parts:
        if not isinstance(part, type):
            raise wrong_type("each of parts", "a class", part)
    settings = dict(_mapping(data, "training"))
    for name, known in _PARTS.items():
        if name in settings:
            role = f"Training.{name}"
            built = [part_from_json(role, part, known, parts) for part in several(settings[name])]
            if name == "objective" and len(built) != 1:
                raise ValueError(f"{role} must be one part, got {len(built)}")
            settings[name] = built if name != "objective" else built[0]
    for name, kind in _GROUPS.items():
        if settings.get(name) is not None:
            settings[name] = build(kind, settings[name])
    return settings


def with_later_settings(recipe: Mapping[str, Any], training: Any) -> dict[str, Any]:
    """Return a recipe as JSON with the settings that came after it was written, which stand for what was done before.

    Args:
        recipe: The recipe as JSON, of this version or an earlier one.
        training: `Training` with all settings at their defaults.

    Raises:
        ValueError: If a part is missing, unknown or refused.
    """
    settings = {**training_to_json(training), **_mapping(recipe, "training")}
    for name, kind in _GROUPS.items():
        if settings[name] is not None:
            settings[name] = settings_of(build(kind, settings[name]))
    architecture = settings_of(build(Architecture, _mapping(recipe, "architecture")))
    completed: dict[str, Any] = json.loads(json.dumps({**recipe, "architecture": architecture, "training": settings}))
    return completed


def networks_from_json(data: Mapping[str, Any]) -> tuple[Architecture, Schedule]:
    """Return the architecture and the schedule of a recipe as JSON: all that is needed where nothing is trained.

    Raises:
        ValueError: If a part is missing, unknown or refused.
    """
    if not isinstance(data, Mapping):
        raise wrong_type("a recipe", "a JSON object, as Recipe.to_json returns", data, "read a file with json.load")
    if unknown := sorted(set(data) - {"architecture", "stages", "training"}):
        raise ValueError(f"a recipe has no {', '.join(unknown)}; was this written by a later version of progan?")
    architecture = build(Architecture, _mapping(data, "architecture"))
    if not isinstance(data.get("stages"), Sequence):
        raise ValueError("the recipe lacks its list of stages")
    schedule = Schedule([build(Stage, stage) for stage in data["stages"]])
    _mapping(data, "training")
    check_fit(architecture, schedule)
    return architecture, schedule


def _mapping(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an entry that must be a JSON object."""
    value = data.get(name)
    if not isinstance(value, Mapping):
        raise ValueError(f"the recipe lacks its {name}")
    return value
