"""Plot how the presets grow: resolution against the number of real images, from their schedules."""

from __future__ import annotations

from collections.abc import Sequence

from chart import BLUE, new_chart
from command_line import parse
from matplotlib.axes import Axes

from progan import Recipe, presets


def draw_growth(axes: Axes, recipe: Recipe, title: str) -> None:
    """Plot one line, horizontal at a grown level and rising while the next level fades in."""
    schedule = recipe.schedule
    counts, heights = [0], [schedule.stages[0].level]
    for start, stage in zip(schedule.starts, schedule.stages, strict=True):
        counts += [start + stage.fade_images, start + stage.images]
        heights += [stage.level, stage.level]
    axes.plot([count / 1000 for count in counts], heights, color=BLUE, linewidth=2)
    levels = range(recipe.architecture.top_level + 1)
    axes.set_yticks(levels, [f"{recipe.architecture.size(level)[0]} px" for level in levels])
    axes.set_xlabel("real images, thousands")
    axes.set_title(title)
    axes.grid(alpha=0.3)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    out = parse(__doc__, arguments).out
    figure = new_chart(height=6)
    above, below = figure.subplots(2)
    draw_growth(above, presets.mel_icon(), "mel_icon")
    draw_growth(below, presets.karras2018(), "karras2018")
    figure.savefig(out / "growth.png")


if __name__ == "__main__":
    main()
