"""Settings and parts of a recipe as JSON, built-in ones and those of a user's own.

A part is an objective, a regulariser or an augmentation: a frozen dataclass, recorded by its name and its fields.
Nothing is ever imported by a name that a file holds: built-in classes are looked up in a table, all others are passed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from progan.arguments import described, wrong_type

Built = TypeVar("Built")


def check_part(role: str, part: object, protocol: str, attributes: Sequence[str], remedy: str = "") -> None:
    """Raise TypeError where a part does not follow its protocol, or could not be recorded and built again.

    Args:
        role: Name of the setting.
        part: What came.
        protocol: What it must be, with its article.
        attributes: Names of what it must have.
        remedy: What to do instead; empty where the rest says so.
    """
    if isinstance(part, type):
        raise wrong_type(role, protocol, part, remedy or f"pass an instance of it, such as {part.__name__}(...)")
    if not all(hasattr(part, name) for name in attributes):
        raise wrong_type(role, f"{protocol}, with {' and '.join(attributes)}", part, remedy)
    kind = type(part)
    if not is_dataclass(part) or not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise wrong_type(
            role, "a frozen dataclass, whose settings a run can record", part, "write @dataclass(frozen=True) above it"
        )
    settings = settings_of(part)
    for name, value in settings.items():
        if not _is_plain(value):
            raise TypeError(
                f"{role}: {kind.__name__}.{name} must be a value that JSON can hold (None, a bool, an int, a finite "
                f"float, a str, or a tuple of such), got {described(value)}"
            )
    try:
        again = settings_of(kind(**settings))
    except Exception as error:
        raise TypeError(
            f"{role}: {kind.__name__} cannot be built again from its fields ({error}), as resuming a run does; let "
            "its constructor take each field, and nothing else"
        ) from error
    if again != settings:
        raise TypeError(f"{role}: {kind.__name__} built again from {settings} has {again}; keep fields as they come")


def several(value: Any) -> tuple[Any, ...]:
    """Return a tuple of what came as a tuple, as a list, alone or as None."""
    return tuple(value) if isinstance(value, tuple | list) else () if value is None else (value,)


def check_once(role: str, names: Sequence[str]) -> None:
    """Raise ValueError where two parts would draw the same numbers, or be reported under one name."""
    if len(set(names)) < len(names):
        raise ValueError(f"{role} takes each kind at most once, got {', '.join(names)}")


def about_hue(augmentation: object) -> str:
    """Return why not to augment by hue, where a name says that it is what came."""
    own = getattr(augmentation, "__name__", type(augmentation).__name__)  # of a function, else of the type
    name = str(augmentation if isinstance(augmentation, str) else own).lower().replace("_", "").replace(" ", "")
    if any(word in name for word in ("hue", "colorjitter", "colourjitter")):
        return (
            "changes of hue give strange colours, as the Mel Icon article found, and the generator learns to draw "
            "them; use Contrast(), x1 to x2, which did little harm there"
        )
    return ""


def settings_of(part: object) -> dict[str, Any]:
    """Return the fields of a dataclass by name."""
    return {field.name: getattr(part, field.name) for field in fields(part)}  # type: ignore[arg-type]


def recorded_name(kind: type) -> str:
    """Return the name that a run records of a class: the qualified one, or a built-in class's own."""
    return kind.__name__ if kind.__module__.startswith("progan.") else f"{kind.__module__}.{kind.__qualname__}"


def part_to_json(part: object) -> dict[str, Any]:
    """Return a part as a dict that `json.dump` takes."""
    return {"name": recorded_name(type(part)), "settings": settings_of(part)}


def part_from_json(role: str, data: Any, known: Mapping[str, type[Any]], own: Sequence[type]) -> Any:
    """Build a part from what `part_to_json` returned.

    Args:
        role: Name of the setting.
        data: The part as JSON.
        known: Built-in classes by name.
        own: Classes of a user's own that the data may name.

    Raises:
        ValueError: If the data is not of a part, or names a class that is not there.
    """
    if not isinstance(data, Mapping) or set(data) != {"name", "settings"} or not isinstance(data["name"], str):
        raise ValueError(f"{role} must be a JSON object with name and settings, got {_shortened(data)}")
    name, settings = data["name"], data["settings"]
    if name in known:
        return build(known[name], settings)
    for kind in own:
        if same_class(recorded_name(kind), name):
            return _build_own(kind, settings)
    if "." not in name:
        raise ValueError(
            f"{role} {_shortened(name)} is unknown; known: {', '.join(known)}; was this written by a later version of "
            "progan?"
        )
    raise ValueError(
        f"{role} is of the class {_shortened(name)}, which is not progan's; pass the class in parts=, such as "
        f"parts=({_shortened(name.rpartition('.')[2])[1:-1]},)"
    )


def same_class(one: str, other: str) -> bool:
    """Return whether two qualified names can be of one class: a script's own is in ``__main__`` while it runs.

    Example:
        >>> same_class("__main__.Block", "train.Block"), same_class("other.Block", "train.Block")
        (True, False)
    """
    if one == other:
        return True
    first, second = one.split(".", 1), other.split(".", 1)
    return "__main__" in (first[0], second[0]) and one.rsplit(".", 1)[-1] == other.rsplit(".", 1)[-1]


def with_recorded_names(own: Any, recorded: Any) -> Any:
    """Return settings as JSON, in which classes that can be the recorded ones have the recorded names."""
    if isinstance(own, dict) and isinstance(recorded, dict):
        renamed = {key: with_recorded_names(value, recorded.get(key)) for key, value in own.items()}
        name, recorded_one = own.get("name"), recorded.get("name")
        if isinstance(name, str) and isinstance(recorded_one, str) and same_class(name, recorded_one):
            renamed["name"] = recorded_one
        return renamed
    if isinstance(own, list) and isinstance(recorded, list) and len(own) == len(recorded):
        return [with_recorded_names(*pair) for pair in zip(own, recorded, strict=True)]
    return own


def build(kind: type[Built], data: Any) -> Built:
    """Build one of progan's dataclasses from JSON, naming what is unknown or missing.

    Raises:
        ValueError: If the data does not fit the dataclass.
    """
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


def _build_own(kind: type, data: Any) -> Any:
    """Build a dataclass of a user's own from JSON; its constructor knows what it takes."""
    if not isinstance(data, Mapping):
        raise ValueError(f"the settings of {kind.__name__} must be a JSON object, got {_shortened(data)}")
    try:
        return kind(**{name: _with_tuples(value) for name, value in data.items()})
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{kind.__name__} does not take the settings that the run has: {error}") from None


def _is_of(value: Any, hint: Any) -> bool:
    """Return whether a value from JSON is of a field's type; floats are finite, and ints are floats too."""
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
    return type(value) is hint or is_dataclass(hint) or getattr(hint, "_is_protocol", False)


def _is_plain(value: Any) -> bool:
    """Return whether JSON can hold a value so that the same comes back."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, int | str) or (isinstance(value, float) and math.isfinite(value))


def _with_tuples(value: Any) -> Any:
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
