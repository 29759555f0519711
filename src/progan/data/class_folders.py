"""Labels from the folders that pictures lie in: the first folder below the root names the class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from progan.storage.names import normalised, shown, sort_key

Labels = Literal["folders"]


class FolderLabels(NamedTuple):
    """The labels of pictures by their folders."""

    labels: Tensor
    """(N,), int64."""
    classes: tuple[str, ...]
    """Names of the classes, in sorted order, normalised to NFC."""


def check_labels(labels: str | None) -> None:
    """Raise ValueError if it is neither ``folders`` nor None."""
    if labels is not None and labels not in get_args(Labels):
        raise ValueError(f"labels must be 'folders' or None, got {labels!r}")


def folder_labels(paths: Sequence[str], folder: object) -> FolderLabels:
    """Return the class of each picture: the first folder of its path.

    Args:
        paths: Paths of the pictures, relative to a folder, with ``/``.
        folder: The folder, for the message.

    Raises:
        ValueError: If a picture lies in no sub-folder.
    """
    loose = [path for path in paths if "/" not in path]
    if loose:
        raise ValueError(
            f"{folder}: {len(loose):,} of {len(paths):,} pictures lie in no sub-folder, such as {shown(loose[0])}; "
            'with labels="folders", the first folder below names the class, so move each into the folder of its class'
        )
    found = [normalised(path.split("/")[0]) for path in paths]
    classes = tuple(sorted(set(found), key=sort_key))
    label_of = {name: label for label, name in enumerate(classes)}
    return FolderLabels(torch.tensor([label_of[name] for name in found], dtype=torch.int64), classes)
