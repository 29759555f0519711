"""Which images a run was trained on, and from when on: its data may grow, or be replaced, between two calls of fit."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

_MOST = 1000  # changes that are recorded


@dataclass(frozen=True)
class DataRecord:
    """A record of the images that a run was trained on from one count on, up to the next record.

    Attributes:
        images_seen: Real images shown when training on them began.
        n_images: Number of different images, those that are held out included; None = unknown.
        content: Hash of all that identifies the data set, 32 hexadecimal digits.
    """

    images_seen: int
    n_images: int | None
    content: str

    @classmethod
    def of(cls, images_seen: int, fingerprint: Mapping[str, Any]) -> DataRecord:
        """Return the record of a data set, whose fingerprint may come from a file.

        Example:
            >>> DataRecord.of(800, {"kind": "images", "shape": [640, 3, 64, 64], "content": "5fe0"}).n_images
            640
        """
        shape = fingerprint.get("shape")
        n_images = shape[0] if isinstance(shape, list) and shape else None
        if type(n_images) is not int or n_images < 0:
            n_images = None
        text = json.dumps(fingerprint, sort_keys=True)
        return cls(images_seen, n_images, hashlib.blake2b(text.encode(), digest_size=16).hexdigest())

    def counted(self) -> str:
        """Return the number of images in words."""
        return "an unknown number of images" if self.n_images is None else f"{self.n_images:,} images"

    def to_json(self) -> dict[str, Any]:
        """Return a dict that `json.dump` accepts."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> DataRecord:
        """Rebuild a record from what `to_json` returned.

        Raises:
            ValueError: If the data is not such a record.
        """
        if not isinstance(data, Mapping) or set(data) != {"images_seen", "n_images", "content"}:
            raise ValueError(f"a record of data must have images_seen, n_images and content, got {data!r}")
        images_seen, n_images, content = data["images_seen"], data["n_images"], data["content"]
        for count in (images_seen, 0 if n_images is None else n_images):
            if type(count) is not int or count < 0:
                raise ValueError(f"the counts of a record of data must be ints of at least 0, got {count!r}")
        if not isinstance(content, str) or not re.fullmatch("[0-9a-f]{32}", content):
            raise ValueError(f"the content of a record of data must be 32 hexadecimal digits, got {content!r}")
        return cls(images_seen, n_images, content)


def history_from_json(data: Any) -> tuple[DataRecord, ...]:
    """Rebuild the history of a run's data, which a file has only where the data has changed.

    Raises:
        ValueError: If it is not a list of records by rising counts.
    """
    if data is None:
        return ()
    if not isinstance(data, list) or len(data) > _MOST:
        raise ValueError(f"data_history must be a list of at most {_MOST} records")
    records = tuple(map(DataRecord.from_json, data))
    if any(one.images_seen >= other.images_seen for one, other in pairwise(records)):
        raise ValueError("the records of data_history must have rising counts")
    return records


def with_change(
    history: Sequence[DataRecord], before: Mapping[str, Any], after: Mapping[str, Any], images_seen: int
) -> tuple[DataRecord, ...]:
    """Return the history of a run that trains on another data set from a count on.

    Sets that no image was shown of are left out; a single one needs no history.

    Args:
        history: History so far; empty where the data has not changed yet.
        before: Fingerprint of the data so far.
        after: Fingerprint of the new data.
        images_seen: Real images shown when it changes.

    Example:
        >>> old, new = ({"shape": [n, 3, 8, 8], "content": f"of {n}"} for n in (20, 25))
        >>> [(record.images_seen, record.n_images) for record in with_change((), old, new, 480)]
        [(0, 20), (480, 25)]
        >>> with_change((), old, new, 0)
        ()
    """
    shown = [record for record in history or [DataRecord.of(0, before)] if record.images_seen < images_seen]
    new = DataRecord.of(images_seen, after)
    if not shown or shown[-1].content != new.content:
        shown.append(new)
    return tuple(shown[-_MOST:]) if len(shown) > 1 else ()
