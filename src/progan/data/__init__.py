"""Input images: check, curate, read or pack a folder; open a data set as batches; resize images to a level."""

from progan.data.batch import Batch
from progan.data.curation.check import Report, check
from progan.data.curation.curate import Curation, curate
from progan.data.curation.flips import FlipVerdict, flip_verdict
from progan.data.decoding.read import read_image
from progan.data.decoding.reading import Reading
from progan.data.feed import Conversion, Feed
from progan.data.folder import ImageFolder
from progan.data.levels import match_level
from progan.data.open_feed import open_feed
from progan.data.pack import Pack, pack

__all__ = [
    "Batch",
    "Conversion",
    "Curation",
    "Feed",
    "FlipVerdict",
    "ImageFolder",
    "Pack",
    "Reading",
    "Report",
    "check",
    "curate",
    "flip_verdict",
    "match_level",
    "open_feed",
    "pack",
    "read_image",
]
