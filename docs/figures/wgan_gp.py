"""Plot a run's critic: its distance estimate during training, and its gradient norms before and after training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from chart import BLUE, GREY, ORANGE, new_chart
from command_line import parse
from draw_icons import draw_icons
from matplotlib.axes import Axes
from torch import Tensor

from progan import ProgressiveDiscriminator, Trainer

BATCH = 8
IMAGES = 128  # interpolated, for the gradient norms


def gradient_norms(discriminator: ProgressiveDiscriminator, mixed: Tensor) -> Tensor:
    """Return the norm of the critic's gradient at each image: (N, C, H, W) -> (N,)."""
    norms = []
    for batch in torch.split(mixed, BATCH):
        batch = batch.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(discriminator(batch).sum(), batch)
        norms.append(torch.linalg.vector_norm(gradient.flatten(1), dim=1))
    return torch.cat(norms)


def draw_distance(axes: Axes, run_dir: Path) -> None:
    """Plot E[critic(real)] - E[critic(fake)] over the run, with a vertical line where a level begins."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    counts = [line["images_seen"] / 1000 for line in lines]
    axes.plot(counts, [-line["wasserstein"] for line in lines], color=BLUE, linewidth=0.8)
    for before, after in pairwise(lines):
        if after["level"] != before["level"]:
            axes.axvline(after["images_seen"] / 1000, color=GREY, linewidth=0.8, linestyle="--")
    axes.set_xlabel("real images, thousands")
    axes.set_title("critic: real minus fake")


def draw_norms(axes: Axes, trainer: Trainer, icons: Tensor) -> None:
    """Plot histograms of gradient norms at random interpolations of icons and samples, before and after training."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.rand(len(icons), 1, 1, 1, generator=generator)
    mixed = torch.lerp(trainer.grown().sample(len(icons), seed=0), icons, mix)
    _, untrained = trainer.recipe.build(seed=trainer.seed)
    for name, color, discriminator in (("untrained", BLUE, untrained), ("trained", ORANGE, trainer.discriminator)):
        axes.hist(gradient_norms(discriminator, mixed).tolist(), bins=20, color=color, label=name)
    axes.axvline(1, color=GREY, linewidth=0.8, linestyle="--")
    axes.set_xlabel("gradient norm")
    axes.set_title(f"at {len(icons)} interpolated images")
    axes.legend()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    options = parse(__doc__, arguments)
    trainer = Trainer.from_run(options.run_dir, device="cpu", progress=False)
    size = trainer.grown().sample(1).shape[-1]
    figure = new_chart(height=6)
    above, below = figure.subplots(2)
    draw_distance(above, options.run_dir)
    draw_norms(below, trainer, draw_icons(IMAGES, size=size) / 255)
    figure.savefig(options.out / "wgan_gp.png")


if __name__ == "__main__":
    main()
