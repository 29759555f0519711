"""What a run shows: the report page, sheets, films.

May import metrics, rendering, run directories and sampling.
"""

from progan.reports.report import write_report

__all__ = ["write_report"]
