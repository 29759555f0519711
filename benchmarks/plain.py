"""The baseline: the Mel Icon article's networks and training loop, written in the most obvious way.

Nothing here is tuned, nothing is made slow, and nothing of progan is used. The parameters are in the order of the
article's program, so that both can load the same weights; a test compares the numbers with that program's.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2  # slope of the LeakyReLU below 0
WIDTHS = (512, 256, 128, 64, 32, 16, 8, 4)  # channels of the latent, then of the levels, coarsest first


class PixelNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / (torch.sqrt(torch.mean(x**2, dim=1, keepdim=True)) + 1e-7)


class Unit(nn.Module):
    """A layer that scales the input, pads, convolves, normalises and activates."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, padding: int = 1) -> None:
        super().__init__()
        self.scale = math.sqrt(2 / in_channels)
        self.pad = nn.ReflectionPad2d(padding)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size)
        nn.init.kaiming_normal_(self.conv.weight)
        self.norm = PixelNorm()
        self.activation = nn.LeakyReLU(SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(self.pad(x * self.scale))))


class MiniBatchStd(nn.Module):
    epsilon = 0.0  # progan has 1e-8 here

    def forward(self, x: Tensor) -> Tensor:
        std = torch.sqrt(torch.var(x, dim=0) + self.epsilon).mean()
        return torch.cat([x, std.expand(len(x), 1, *x.shape[2:])], dim=1)


class Generator(nn.Module):
    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        self.to_rgb = nn.ModuleList()
        for level in range(len(widths) - 1):
            coarse, fine = widths[level], widths[level + 1]
            units = [Unit(coarse, fine), Unit(fine, fine)]
            self.blocks.append(nn.Sequential(*([nn.Upsample(scale_factor=2)] if level else []), *units))
            self.to_rgb.append(nn.Conv2d(fine, 3, 1))

    def forward(self, z: Tensor, level: int, alpha: float | None) -> Tensor:
        x = z
        for block in self.blocks[:level]:
            x = block(x)
        new = self.to_rgb[level](self.blocks[level](x))
        if alpha is not None:
            old = self.to_rgb[level - 1](F.interpolate(x, scale_factor=2))
            new = (1 - alpha) * old + alpha * new
        return torch.sigmoid(new)


class Discriminator(nn.Module):
    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.from_rgb = nn.ModuleList(nn.Conv2d(3, width, 1) for width in widths[1:])
        head = 2 * widths[1]
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(
                    MiniBatchStd(),
                    Unit(widths[1] + 1, head),
                    Unit(head, head, kernel_size=4, padding=0),
                    nn.Flatten(),
                    nn.Linear(head, 1),
                )
            ]
        )
        for level in range(1, len(widths) - 1):
            fine, coarse = widths[level + 1], widths[level]
            self.blocks.append(nn.Sequential(Unit(fine, coarse), Unit(coarse, coarse), nn.AvgPool2d(2)))

    def forward(self, images: Tensor, level: int, alpha: float | None) -> Tensor:
        x = self.from_rgb[level](images)
        if level:
            x = self.blocks[level](x)
        if alpha is not None:
            old = self.from_rgb[level - 1](F.avg_pool2d(images, 2))
            x = (1 - alpha) * old + alpha * x
        for block in reversed(self.blocks[1:level]):
            x = block(x)
        return self.blocks[0](x).flatten()


class Loop:
    """The training loop of both networks, one step at a time."""

    def __init__(
        self, generator: Generator, discriminator: Discriminator, ema: Generator | None = None, rate: float = 5e-4
    ) -> None:
        self.generator, self.discriminator = generator, discriminator
        self.ema = ema or copy.deepcopy(generator)
        self.adam_generator = torch.optim.Adam(generator.parameters(), lr=rate, betas=(0.0, 0.99))
        self.adam_discriminator = torch.optim.Adam(discriminator.parameters(), lr=rate, betas=(0.0, 0.99))
        self.steps = 0

    def step(
        self, real: Tensor, z_generator: Tensor, z_critic: Tensor, mix: Tensor, level: int, alpha: float | None
    ) -> tuple[float, float]:
        """Update the generator, the average and the discriminator; return both losses.

        Args:
            real: Real images, (B, 3, H, W).
            z_generator: Latents of the generator's update, (B, 512, 4, 4).
            z_critic: Latents of the discriminator's update, (B, 512, 4, 4).
            mix: Weight of the real images in the penalty's interpolation, (B,).
            level: Level of the step.
            alpha: Weight of the newest level; None = fully grown.
        """
        self.adam_generator.zero_grad()
        loss_generator = self.loss_generator(z_generator, level, alpha)
        loss_generator.backward()
        self.adam_generator.step()

        decay = min(1 - 1 / (self.steps + 1), 0.995)
        with torch.no_grad():
            for mine, new in zip(self.ema.parameters(), self.generator.parameters(), strict=True):
                mine.lerp_(new, 1 - decay)
        self.steps += 1

        self.adam_discriminator.zero_grad()
        loss_discriminator = self.loss_discriminator(real, z_critic, mix, level, alpha)
        loss_discriminator.backward()
        self.adam_discriminator.step()
        return loss_generator.item(), loss_discriminator.item()

    def loss_generator(self, z: Tensor, level: int, alpha: float | None) -> Tensor:
        return -self.discriminator(self.generator(z, level, alpha), level, alpha).mean()

    def loss_discriminator(self, real: Tensor, z: Tensor, mix: Tensor, level: int, alpha: float | None) -> Tensor:
        fake = self.generator(z, level, alpha)
        real_scores = self.discriminator(real, level, alpha)
        fake_scores = self.discriminator(fake, level, alpha)
        mix = mix.reshape(-1, 1, 1, 1)
        mixed = (mix * real + (1 - mix) * fake).detach().requires_grad_()
        scores = self.discriminator(mixed, level, alpha)
        (gradient,) = torch.autograd.grad(scores.sum(), mixed, create_graph=True)
        penalty = ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
        drift = (real_scores**2).mean()
        return fake_scores.mean() - real_scores.mean() + 10 * penalty + 0.001 * drift
