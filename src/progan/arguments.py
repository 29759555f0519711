"""Checks of argument types: each error states what was expected, what came, and the remedy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

_LONGEST = 80  # characters of a value that are quoted


def described(value: object) -> str:
    """Return a short description of a value.

    Example:
        >>> described(3), described([3]), described(int), described(len)
        ('3', 'a list', 'the class int', 'the function len')
    """
    if value is None or isinstance(value, str | bytes | bool | Real):
        text = repr(value)
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    if isinstance(value, np.ndarray):
        return f"a numpy array {value.shape} of {value.dtype}"
    name = type(value).__name__
    if callable(value) and hasattr(value, "__qualname__") and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    return f"an {name}" if name[0] in "AEIOaeio" else f"a {name}"


def wrong_type(name: str, expected: str, value: object, remedy: str = "") -> TypeError:
    """Return the error for an argument of a wrong type.

    Args:
        name: Name of the argument.
        expected: What it must be, with an article.
        value: What came.
        remedy: What to do instead; empty if the rest makes it clear.
    """
    return TypeError(f"{name} must be {expected}, got {described(value)}{f'; {remedy}' if remedy else ''}")


def check_instance(name: str, value: object, kind: type, remedies: Iterable[tuple[type, str]] = ()) -> None:
    """Raise TypeError if an argument is not an instance of a class.

    Args:
        name: Name of the argument.
        value: What came.
        kind: Class that it must be an instance of.
        remedies: What to do instead, for values of some classes; the first match is used.
    """
    if isinstance(value, kind):
        return
    remedy = next((text for other, text in remedies if isinstance(value, other)), "")
    if isinstance(value, type):
        remedy = f"pass an instance of it, such as {value.__name__}(...)"
    elif described(value).startswith("the function"):
        remedy = f"pass what it returns: {getattr(value, '__name__', 'function')}(...)"
    raise wrong_type(name, f"{'an' if kind.__name__[0] in 'AEIO' else 'a'} {kind.__name__}", value, remedy)


def check_number(name: str, value: object) -> None:
    """Raise TypeError if an argument is not a real number; NaN is accepted."""
    if not isinstance(value, Real) or isinstance(value, bool | np.bool_):
        raise wrong_type(name, "a number", value)


def check_int(name: str, value: object, least: int | None = None) -> None:
    """Raise TypeError if an argument is not an int, and ValueError if it is below a bound."""
    if not isinstance(value, Integral) or isinstance(value, bool | np.bool_):
        raise wrong_type(name, "an int", value)
    if least is not None and int(value) < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def check_weight(name: str, value: Any, *, above_0: bool = False) -> None:
    """Raise where an argument is not a finite number of at least 0, or above 0: TypeError or ValueError."""
    check_number(name, value)
    if not 0 <= value < math.inf or (above_0 and value == 0):
        raise ValueError(f"{name} must be {'above' if above_0 else 'at least'} 0 and finite, got {value!r}")


def check_shares(part: object, *names: str) -> None:
    """Raise where a setting of a part is not a number in [0, 1]: TypeError or ValueError."""
    kind = type(part).__name__
    for name in names:
        value = getattr(part, name)
        check_number(f"{kind}.{name}", value)
        if not 0 <= value <= 1:
            raise ValueError(f"{kind} takes 0 <= {name} <= 1, got {name}={value!r}")


def check_flag(name: str, value: object) -> None:
    """Raise TypeError if an argument is not True or False; a text such as "no" would count as True."""
    if not isinstance(value, bool | np.bool_):
        raise wrong_type(name, "True or False", value)


def check_size(name: str, value: Any) -> None:
    """Raise TypeError if an argument is not (height, width)."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise wrong_type(name, "(height, width)", value)
    for side in value:
        check_int(f"a side of {name}", side, 1)


def check_tensor(name: str, value: object) -> None:
    """Raise TypeError if an argument is not a tensor."""
    if not isinstance(value, Tensor):
        remedy = f"pass torch.from_numpy({name})" if isinstance(value, np.ndarray) else ""
        raise wrong_type(name, "a tensor", value, remedy)


def tuple_of(name: str, value: Any, what: str) -> tuple[Any, ...]:
    """Return a sequence as a tuple.

    Raises:
        TypeError: If it is not a sequence, or a text.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise wrong_type(name, f"a sequence of {what}", value)
    return tuple(value)


def check_alpha(alpha: float | Tensor) -> None:
    """Raise if alpha is a number outside [0, 1]; a tensor is not checked, since this would wait for the device."""
    if isinstance(alpha, Tensor):
        return
    check_number("alpha", alpha)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is the weight of the newest level, in [0, 1], got {alpha!r}; None means fully grown")


def check_label_values(labels: Tensor, classes: int) -> None:
    """Raise ValueError if a label is not 0 to classes - 1; labels on a device are not read, which would wait for it."""
    if labels.device.type != "cpu" or torch.compiler.is_compiling() or not labels.numel():
        return
    low, high = (int(bound) for bound in labels.aminmax())
    if not 0 <= low <= high < classes:
        raise ValueError(
            f"labels must be 0 to {classes - 1}, since the networks have {classes} classes, got {low} to {high}"
        )


def check_critic(critic: object) -> None:
    """Raise TypeError where a critic cannot be called."""
    if not callable(critic):
        raise wrong_type(
            "critic", "a callable, images to scores", critic, "pass the network, or a function that calls it"
        )


def check_gradients_on(why: str) -> None:
    """Raise RuntimeError where torch takes no gradients; the message begins with why they are needed."""
    if not torch.is_grad_enabled():
        raise RuntimeError(f"{why}; call it outside torch.no_grad() and torch.inference_mode()")
