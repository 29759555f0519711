"""One look for all charts: readable on a light page and on a dark one, on a desk and on a phone."""

from __future__ import annotations

from matplotlib import rc
from matplotlib.figure import Figure

GREY = "#7a7a7a"  # stands out alike, 4.3 : 1, from white and from the site's dark background
BLUE, ORANGE = "#2a7de1", "#d9622b"
WIDTH = 6  # inches; at the default of 100 pixels per inch a desk shows the picture as it is, a phone smaller


def new_chart(height: float) -> Figure:
    """Return an empty figure of that height in inches, with no background."""
    rc("text", color=GREY)
    rc("xtick", color=GREY)
    rc("ytick", color=GREY)
    rc("grid", color=GREY)
    rc("axes", edgecolor=GREY, labelcolor=GREY)
    rc("font", size=12)
    rc("legend", framealpha=0)
    rc("savefig", transparent=True)
    return Figure(figsize=(WIDTH, height), layout="constrained")
