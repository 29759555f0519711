"""Input images: check, curate, read or pack a folder; open a data set as batches; resize images to a level."""

from typing import TYPE_CHECKING, Any

from progan.data.batch import Batch
from progan.data.curation.flat_colours import ColourVerdict, colour_verdict
from progan.data.curation.flips import FlipVerdict, flip_verdict
from progan.data.decoding.read import read_image
from progan.data.decoding.reading import Reading
from progan.data.feed import Conversion, Feed
from progan.data.folder import ImageFolder
from progan.data.levels import match_level
from progan.data.open_feed import open_feed
from progan.data.pack import Pack, pack
from progan.data.unpack import unpack

if TYPE_CHECKING:
    from progan.data.curation.check import Report, check
    from progan.data.curation.curate import Curation, curate

__all__ = [
    "Batch",
    "ColourVerdict",
    "Conversion",
    "Curation",
    "Feed",
    "FlipVerdict",
    "ImageFolder",
    "Pack",
    "Reading",
    "Report",
    "check",
    "colour_verdict",
    "curate",
    "flip_verdict",
    "match_level",
    "open_feed",
    "pack",
    "read_image",
    "unpack",
]


def __getattr__(name: str) -> Any:
    """Import the check of a folder when it is first used: a program that trains starts sooner without it."""
    if name in ("Report", "check"):
        from progan.data.curation import check as module

        return getattr(module, name)
    if name in ("Curation", "curate"):
        from progan.data.curation import curate as module_of_choice

        return getattr(module_of_choice, name)
    raise AttributeError(f"module 'progan.data' has no attribute {name!r}")
