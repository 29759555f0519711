"""Draw the MiniBatchStd number for groups of four icons: all different, two pairs, and all equal."""

from __future__ import annotations

from collections.abc import Sequence

from chart import new_chart
from command_line import parse
from draw_icons import draw_icons

from progan import MiniBatchStd

GROUPS = {"four icons": (0, 1, 2, 3), "two, twice each": (0, 1, 0, 1), "one, four times": (0, 0, 0, 0)}
SIZE = 32  # pixels


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    out = parse(__doc__, arguments).out
    icons = draw_icons(4, size=SIZE) / 255
    figure = new_chart(height=5)
    grid = figure.subplots(len(GROUPS), 4)
    for row, (name, chosen) in zip(grid, GROUPS.items(), strict=True):
        group = icons[list(chosen)]
        number = MiniBatchStd(group_size=4)(group)[0, -1, 0, 0].item()
        row[0].set_title(f"{name}: {number:.3f}", loc="left")
        for axes, icon in zip(row, group, strict=True):
            axes.imshow(icon.permute(1, 2, 0).numpy(), interpolation="nearest")
            axes.axis("off")
    figure.savefig(out / "minibatch_std.png")


if __name__ == "__main__":
    main()
