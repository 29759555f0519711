"""What a run shows: the report page, sheets, films.

May import metrics, rendering, run directories and sampling.
"""
