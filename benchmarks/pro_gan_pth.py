"""pro-gan-pth 3.4 from PyPI, on current torch: `pip install --no-deps pro-gan-pth==3.4`.

It runs with these external fixes: its imports of torchvision and tensorboard, which a step does not need, find empty
modules; its optimizers get floats as betas; and its transposed convolution, which calls a function that torch has
changed since, gets a forward with the same mathematics.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
import types
from collections.abc import Callable

import torch
from torch import Tensor


def installed() -> bool:
    return importlib.util.find_spec("pro_gan_pytorch") is not None


def make_step(level: int, levels: int, z: Tensor, real: Tensor) -> Callable[[], object]:
    """Return a step of pro-gan-pth's networks, in the order of its loop: discriminator, generator average, generator.

    As in its loop, the networks have all levels from the start, and the average covers the whole generator.

    Args:
        level: Level of the step; 0 = 4x4.
        levels: Number of levels of the networks.
        z: Latents, (B, 512).
        real: Real images at the size of the level, (B, 3, H, W).
    """
    _let_import()
    from pro_gan_pytorch import custom_layers
    from pro_gan_pytorch.gan import ProGAN
    from pro_gan_pytorch.losses import WganGP
    from pro_gan_pytorch.networks import Discriminator, Generator

    def forward(self: custom_layers.EqualizedConvTranspose2d, x: Tensor) -> Tensor:
        return torch.conv_transpose2d(x, self.weight * self.scale, self.bias, self.stride, self.padding)

    custom_layers.EqualizedConvTranspose2d.forward = forward
    depth, depths = level + 2, levels + 1
    with contextlib.redirect_stdout(io.StringIO()):  # it prints both networks
        gan = ProGAN(Generator(depths), Discriminator(depths), device=z.device)
    gan.depth = depth  # otherwise it would downsample real images from the size of the last level
    loss = WganGP()
    adams = [
        torch.optim.Adam(network.parameters(), lr=0.003, betas=(0.0, 0.99), eps=1e-8) for network in (gan.gen, gan.dis)
    ]
    alpha = 0.5 if level else 1.0

    def step() -> None:
        gan.optimize_discriminator(loss, adams[1], z, real, depth, alpha)
        custom_layers.update_average(gan.gen_shadow, gan.gen, beta=0.999)
        gan.optimize_generator(loss, adams[0], z, real, depth, alpha)

    return step


def _let_import() -> None:
    """Provide empty modules for missing imports."""
    for name, wanted in (
        ("torch.utils.tensorboard", ["SummaryWriter"]),
        ("torchvision", []),
        ("torchvision.utils", ["save_image"]),
        ("torchvision.transforms", ["Compose", "RandomHorizontalFlip", "Resize", "ToTensor"]),
    ):
        try:
            importlib.import_module(name)
        except ImportError:
            module = types.ModuleType(name)
            for each in wanted:
                setattr(module, each, lambda *_, **__: None)
            sys.modules[name] = module
