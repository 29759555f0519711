"""The classes of a data set: how many images each has, what they are called, and which one a sample is of."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from progan.arguments import check_int, wrong_type
from progan.randomness import uniform

_LONGEST = 200_000  # characters of all names in JSON, which each checkpoint records
_LISTED = 8  # classes in a message

Purpose = Literal["sample", "preview", "metrics"]


@dataclass(frozen=True)
class Classes:
    """The classes of a data set, in the order of their labels 0, 1, ...

    Args:
        counts: Number of images of each class.
        names: Name of each class; None = they have none.

    Raises:
        ValueError: If there is no class, a count is below 1, or the names are not as many different ones.

    Example:
        >>> classes = Classes((30, 10), ("cats", "dogs"))
        >>> classes.index("dogs"), str(classes)
        (1, "2 classes ('cats', 'dogs')")
    """

    counts: tuple[int, ...]
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check the counts and the names."""
        if not self.counts or not all(type(count) is int and count >= 1 for count in self.counts):
            raise ValueError(f"each class must have at least one image, got counts {self.counts!r}")
        if self.names is None:
            return
        if not all(isinstance(name, str) for name in self.names):
            raise ValueError("the names of classes must be texts")
        if len(set(self.names)) != len(self.names) or len(self.names) != len(self.counts):
            raise ValueError(f"{len(self.counts)} classes must have as many different names, got {self.names!r}")
        if len(json.dumps(self.names)) > _LONGEST:
            raise ValueError(f"the names of the classes are longer than {_LONGEST:,} characters; use shorter ones")

    def __len__(self) -> int:
        return len(self.counts)

    def __str__(self) -> str:
        """Return how many there are, and the first few names."""
        return f"{len(self)} class{'es' * (len(self) > 1)}{_listed(self.names)}"

    @property
    def most_frequent(self) -> int:
        """Label of the class with the most images; of several, the first."""
        return self.counts.index(max(self.counts))

    def index(self, label: int | str) -> int:
        """Return the label of a class, given by its name or its label.

        Raises:
            TypeError: If it is neither.
            ValueError: If there is no such class.
        """
        if isinstance(label, str):
            if self.names is None:
                raise ValueError(f"the classes have no names; pass a label, 0 to {len(self) - 1}, not {label!r}")
            if label not in self.names:
                raise ValueError(f"there is no class {label!r}, there are {self}")
            return self.names.index(label)
        try:
            check_int("label", label)
        except TypeError:
            raise wrong_type("label", "the name of a class or its number", label) from None
        if not 0 <= label < len(self):
            raise ValueError(f"label must be 0 to {len(self) - 1}, of {self}, got {label}")
        return int(label)

    def draw(self, indices: Iterable[int], seed: int, purpose: Purpose) -> Tensor:
        """Draw a label for each sample, with the frequencies of the data; each is keyed by its own index.

        Returns:
            int64, (n,), on the CPU.
        """
        bounds = list(accumulate(self.counts))
        draws = (float(uniform((), seed, "label", f"{purpose} {index}")) for index in indices)
        return torch.tensor([bisect_right(bounds, int(draw * bounds[-1])) for draw in draws], dtype=torch.int64)

    @classmethod
    def from_json(cls, data: object, n: int) -> Classes:
        """Rebuild the classes that a file records.

        Args:
            data: Record of the labels in the fingerprint of a data set: names and counts.
            n: Number of classes of the networks.

        Raises:
            ValueError: If these are not n classes.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("counts"), list):
            raise ValueError("the data has no record of its classes")
        names = data.get("names")
        if not isinstance(names, list | None):
            raise ValueError("the names of the classes must be a list or null")
        found = cls(tuple(data["counts"]), None if names is None else tuple(names))
        if len(found) != n:
            raise ValueError(f"the data has {found}, and the networks have {n}")
        return found


def label_counts(
    labels: np.ndarray[tuple[int], np.dtype[np.int64]], n: int, names: tuple[str, ...] | None
) -> list[int]:
    """Return the number of images of each class.

    Args:
        labels: Label of each image, (N,).
        n: Number of classes of the networks.
        names: Names of the classes that the data has, if it has names.

    Raises:
        ValueError: If the data has another number of classes, or a label is out of range.
    """
    if names is not None and len(names) != n:
        raise ValueError(
            f"the networks have {n} classes, and the data has {len(names)}{_listed(names)}; "
            f"build the networks with classes={len(names)}"
        )
    low, high = int(labels.min()), int(labels.max())
    if not 0 <= low <= high < n:
        raise ValueError(
            f"the networks have {n} classes, so labels must be 0 to {n - 1}, and the data has labels from {low} to "
            f"{high}; number the classes from 0 on, or build the networks with as many classes"
        )
    counts: list[int] = np.bincount(labels, minlength=n).tolist()
    return counts


def count_classes(labels: np.ndarray[tuple[int], np.dtype[np.int64]], n: int, names: tuple[str, ...] | None) -> Classes:
    """Return the classes of images to train on, each of which must have one.

    Args:
        labels: Label of each image, (N,).
        n: Number of classes of the networks.
        names: Names of the classes that the data has, if it has names.

    Raises:
        ValueError: As for `label_counts`, or if a class has no image.
    """
    counts = label_counts(labels, n, names)
    if missing := [index if names is None else names[index] for index, count in enumerate(counts) if not count]:
        more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        raise ValueError(
            f"the networks have {n} classes, and no image to train on is of class "
            f"{', '.join(map(repr, missing[:_LISTED]))}{more}; add images, or build the networks with fewer classes"
        )
    return Classes(tuple(counts), names)


def _listed(names: tuple[str, ...] | None) -> str:
    """Return the first few names in brackets."""
    if names is None:
        return ""
    more = ", ..." if len(names) > _LISTED else ""
    return f" ({', '.join(map(repr, names[:_LISTED]))}{more})"
