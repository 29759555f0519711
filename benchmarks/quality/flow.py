"""Train a small flow-matching U-Net as a control of few_images at equal time, judge it, and add a row to the log.

python benchmarks/quality/flow.py --data icons/ --resolution 32 --minutes 6 --seed 0 --threads 1

Rectified flow (Liu et al. 2022; Lipman et al. 2022): x_t = (1 - t) noise + t image, the network predicts
image - noise at (x_t, t) with a mean squared error, and sampling follows dx/dt from noise at t = 0 to an image at
t = 1. Minutes are those that the process has the processor, for training alone: with one thread, what a quiet machine
takes, whatever runs beside it. The run directory is named after data, resolution, minutes and seed; the same command
resumes a run that broke off. The row has the measures of run.py's rows, and the seconds that its samples took.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import run
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from progan import ImageFolder

ABOUT = "Control: rectified flow with a small U-Net, in bf16, 50 Euler steps; minutes of the processor."
WIDTHS = (32, 64, 96, 128)  # channels of each level, fine first; each has half the side of the one before
BATCH, RATE = 8, 2e-3
STEPS = 50  # of sampling
EVERY_S = 20.0  # between two checkpoints


class Block(nn.Module):
    """A residual block of two convolutions, (B, inputs, H, W) to (B, outputs, H, W), scaled and shifted by the time."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm_in, self.norm_out = nn.GroupNorm(8, inputs), nn.GroupNorm(8, outputs)
        self.conv_in, self.conv_out = conv(inputs, outputs), zero(conv(outputs, outputs))
        self.time = zero(nn.Linear(WIDTHS[-1], 2 * outputs))
        self.skip = conv(inputs, outputs, side=1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
        y = self.conv_in(F.silu(self.norm_in(x)))
        y = self.conv_out(F.silu(self.norm_out(y) * (1 + scale) + shift))
        out: Tensor = self.skip(x) + y
        return out


class Attention(nn.Module):
    """Self-attention between the positions of (B, C, H, W), with heads of 32 channels, added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.qkv, self.out = nn.Linear(width, 3 * width), zero(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens = self.qkv(self.norm(x).flatten(2).transpose(1, 2)).view(b, h * w, 3, c // 32, 32)
        y = F.scaled_dot_product_attention(*tokens.permute(2, 0, 3, 1, 4)).transpose(1, 2).reshape(b, h * w, c)
        change: Tensor = self.out(y).transpose(1, 2).view(b, c, h, w)
        return x + change


class UNet(nn.Module):
    """The velocity at (x, t): x (B, C, H, W), t (B,) in [0, 1]; one block per level on the way down and up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        top = WIDTHS[-1]
        self.time = nn.Sequential(nn.Linear(64, top), nn.SiLU(), nn.Linear(top, top), nn.SiLU())
        self.first = conv(channels, WIDTHS[0])
        self.down = nn.ModuleList(Block(*each) for each in itertools.pairwise((WIDTHS[0], *WIDTHS)))
        self.middle = nn.ModuleList([Attention(top), Block(top, top)])
        below = itertools.pairwise((*WIDTHS, top))
        self.up = nn.ModuleList(Block(width + deeper, width) for width, deeper in below)
        self.last = nn.Sequential(nn.GroupNorm(8, WIDTHS[0]), nn.SiLU(), zero(conv(WIDTHS[0], channels)))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = t[:, None] * torch.logspace(0, 3, 32)
        time = self.time(torch.cat([angles.cos(), angles.sin()], dim=1))
        x = self.first(x.contiguous(memory_format=torch.channels_last))
        skips = []
        for level, block in enumerate(self.down):
            x = block(F.avg_pool2d(x, 2) if level else x, time)
            skips.append(x)
        x = self.middle[1](self.middle[0](x), time)
        for level in reversed(range(len(self.up))):
            x = self.up[level](torch.cat([x, skips[level]], dim=1), time)
            x = F.interpolate(x, scale_factor=2.0) if level else x
        velocity: Tensor = self.last(x).float()
        return velocity


def conv(inputs: int, outputs: int, side: int = 3) -> nn.Conv2d:
    """Return a convolution that keeps height and width."""
    return nn.Conv2d(inputs, outputs, side, padding=side // 2)


def zero(layer: Any) -> Any:
    """Set a layer's weights to zero, so that at first it adds nothing."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Flow:
    """A training that resumes from its file; the draws of a step depend on the seed and the step's number only."""

    def __init__(self, images: Tensor, minutes: float, seed: int, path: Path) -> None:
        torch.manual_seed(seed)
        self.images, self.whole_s, self.seed, self.path = images, 60 * minutes, seed, path
        self.network = UNet(images.shape[1]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = copy.deepcopy(self.network).requires_grad_(False)
        self.adam = torch.optim.Adam(self.network.parameters(), betas=(0.9, 0.99))
        self.steps, self.seconds = 0, 0.0
        if path.is_file():
            self._load()

    def train(self) -> None:
        """Train until the time is over."""
        saved = self.seconds
        while self.seconds < self.whole_s:
            begin = time.process_time()
            self._step()
            self.seconds += time.process_time() - begin
            if self.seconds - saved > EVERY_S or self.seconds >= self.whole_s:
                saved = self.seconds
                self._save()

    def _step(self) -> None:
        """Take one step; the rate rises over 100 steps, and falls to 0 over the last 40 % of the time."""
        draws = torch.Generator().manual_seed((self.seed << 32) + self.steps)
        real = self.images[torch.randint(len(self.images), (BATCH,), generator=draws)] / 127.5 - 1
        noise = torch.randn(real.shape, generator=draws)
        t = torch.randn(BATCH, generator=draws).sigmoid()  # logit-normal, as by Esser et al. 2024
        left = 1 - self.seconds / self.whole_s
        self.adam.param_groups[0]["lr"] = RATE * min(1, (self.steps + 1) / 100, left / 0.4)
        with torch.autocast("cpu", torch.bfloat16):
            velocity = self.network(noise.lerp(real, t[:, None, None, None]), t)
        self.adam.zero_grad()
        F.mse_loss(velocity, real - noise).backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        self.steps += 1
        decay = 0.5 ** (1 / (0.05 * self.steps))  # a half-life of 5 % of the steps so far
        torch._foreach_lerp_(
            list(self.ema.parameters()), [each.detach() for each in self.network.parameters()], 1 - decay
        )

    @torch.no_grad()
    def sample(self, n: int, *, seed: int = 0) -> Tensor:
        """Return n images, (n, C, H, W) in [0, 1], by Euler's method."""
        x = torch.randn(n, *self.images.shape[1:], generator=torch.Generator().manual_seed(seed))
        with torch.autocast("cpu", torch.bfloat16):
            for t in torch.arange(STEPS) / STEPS:
                x = torch.cat([part + self.ema(part, t.expand(len(part))) / STEPS for part in x.chunk(-(-n // 64))])
        return x.add(1).div(2).clamp(0, 1)

    def _save(self) -> None:
        state = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        state |= {f"ema.{name}": value for name, value in self.ema.state_dict().items()}
        for index, moments in self.adam.state_dict()["state"].items():
            state |= {f"adam.{index}.{name}": value for name, value in moments.items()}
        state |= {"steps": torch.tensor(self.steps), "seconds": torch.tensor(self.seconds, dtype=torch.float64)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".new")
        save_file({name: value.contiguous() for name, value in state.items()}, beside)
        beside.replace(self.path)

    def _load(self) -> None:
        state = load_file(self.path)
        self.steps, self.seconds = int(state["steps"]), float(state["seconds"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            part, _, rest = name.partition(".")
            if part == "adam":
                index, _, kind = rest.partition(".")
                moments.setdefault(int(index), {})[kind] = value
            elif rest:
                getattr(self, part).get_parameter(rest).data.copy_(value)
        self.adam.load_state_dict({"state": moments, "param_groups": self.adam.state_dict()["param_groups"]})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the control."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    run.add_options(parser)
    parser.add_argument("--minutes", type=float, default=6, help="minutes of the processor to train")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    images = ImageFolder(options.data, options.resolution)
    run_dir = options.out / f"flow-{options.data.name}-{options.resolution}px-{options.minutes:g}min-seed{options.seed}"
    flow = Flow(images.images, options.minutes, options.seed, run_dir / "state.safetensors")
    flow.train()
    begin = time.process_time()
    samples = flow.sample(run.SAMPLES)
    more = {"sampling_s": round(time.process_time() - begin, 1)}
    run.report_row("flow", ABOUT, samples, images, run_dir, options, flow.steps * BATCH, flow.seconds / 60, **more)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
