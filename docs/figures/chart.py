"""The common style of all charts, readable on light and dark pages, on desktop and phone screens."""

from __future__ import annotations

from matplotlib import rc
from matplotlib.figure import Figure

GREY = "#7a7a7a"  # contrast 4.3 : 1 on white and on the site's dark background
BLUE, ORANGE = "#2a7de1", "#d9622b"
WIDTH = 6  # inches; at the default of 100 pixels per inch a desktop shows the full size, a phone scales it down


def new_chart(height: float) -> Figure:
    """Return an empty figure of the given height in inches, without a background."""
    rc("text", color=GREY)
    rc("xtick", color=GREY)
    rc("ytick", color=GREY)
    rc("grid", color=GREY)
    rc("axes", edgecolor=GREY, labelcolor=GREY)
    rc("font", size=12)
    rc("legend", framealpha=0)
    rc("savefig", transparent=True)
    return Figure(figsize=(WIDTH, height), layout="constrained")
