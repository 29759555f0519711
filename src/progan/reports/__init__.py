"""What a run shows: the report page, sheets, films.

May import metrics, rendering, run directories and sampling.
"""

from progan.reports.film_file import Film, write_film
from progan.reports.films import time_lapse, walk_film
from progan.reports.report import write_report
from progan.reports.sheets import class_sheet, corner_sheet, interpolation_sheet, sample_sheet

__all__ = [
    "Film",
    "class_sheet",
    "corner_sheet",
    "interpolation_sheet",
    "sample_sheet",
    "time_lapse",
    "walk_film",
    "write_film",
    "write_report",
]
