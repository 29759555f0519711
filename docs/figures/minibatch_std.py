"""Draw what MiniBatchStd tells: its number for groups of four icons that are different, alike in pairs, and equal."""

from __future__ import annotations

from collections.abc import Sequence

from command_line import parse
from draw_icons import draw_icons
from matplotlib.figure import Figure

from progan import MiniBatchStd

GROUPS = {"four icons": (0, 1, 2, 3), "two, twice each": (0, 1, 0, 1), "one, four times": (0, 0, 0, 0)}
SIZE = 32  # pixels


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    out = parse(__doc__, arguments).out
    icons = draw_icons(4, size=SIZE) / 255
    figure = Figure(figsize=(6, 4.4), layout="constrained")
    for row, (name, chosen) in enumerate(GROUPS.items()):
        group = icons[list(chosen)]
        number = MiniBatchStd(group_size=4)(group)[0, -1, 0, 0].item()
        for column, icon in enumerate(group):
            axes = figure.add_subplot(len(GROUPS), 5, 5 * row + column + 1)
            axes.imshow(icon.permute(1, 2, 0).numpy(), interpolation="nearest")
            axes.axis("off")
        axes = figure.add_subplot(len(GROUPS), 5, 5 * row + 5)
        axes.text(0, 0.5, f"{name}:\n{number:.3f}", fontsize=10, va="center")
        axes.axis("off")
    figure.savefig(out / "minibatch_std.png", dpi=80)


if __name__ == "__main__":
    main()
