"""Images in: read a folder, take a data set in, match a level's size."""

from progan.data.curate import Curation, curate
from progan.data.feed import Feed, open_feed
from progan.data.folder import ImageFolder
from progan.data.levels import match_level
from progan.data.read import Reading, read_image

__all__ = ["Curation", "Feed", "ImageFolder", "Reading", "curate", "match_level", "open_feed", "read_image"]
