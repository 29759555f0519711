"""Checkpoints of other programs as progan's networks, one module for each program.

May import ``recipe``, ``networks``, ``runs``, ``sampling`` and ``storage``; knows nothing of training. The only place
in progan that reads pickles: ``foreign_file`` checks a file before torch opens it.
"""

from progan.importers.imported import Imported, load

__all__ = ["Imported", "load"]
