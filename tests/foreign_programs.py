"""Checkpoints in the layouts of three other programs, and what those programs make of them.

Each program is a pair of functions from a state dict to images and scores, written in plain torch from the facts that
docs/import.md and the importers state, in float64. They share nothing with progan.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
WIDTHS = (6, 5, 4)  # of three levels, no two alike


def draw(shapes: dict[str, tuple[int, ...]], seed: int, *, scaled: bool) -> State:
    """Weights N(0, 1), or N(0, 1 / fan_in), and biases N(0, 0.01), by the names and shapes of the weights."""
    stream, state = torch.Generator().manual_seed(seed), {}
    for name, shape in shapes.items():
        scale = 1 / math.sqrt(math.prod(shape[1:])) if scaled else 1.0
        state[f"{name}.weight"] = torch.randn(shape, generator=stream) * scale
        out = shape[1] if name == "layers.0.conv_1" and shape[2:] == (4, 4) else shape[0]  # a transposed convolution
        state[f"{name}.bias"] = 0.1 * torch.randn(out, generator=stream)
    return state


def up(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def fade(old: Tensor, new: Tensor, alpha: float) -> Tensor:
    return (1 - alpha) * old + alpha * new


def inside(x: Tensor) -> Tensor:
    """PixelNorm with its epsilon under the root."""
    return x / torch.sqrt((x * x).mean(1, keepdim=True) + 1e-8)


def with_statistic(x: Tensor, groups: list[list[int]], *, unbiased: bool) -> Tensor:
    extra = x.new_zeros(len(x), 1, *x.shape[2:])
    for members in groups:
        variance = ((x[members] - x[members].mean(0)) ** 2).sum(0) / (len(members) - unbiased)
        extra[members] = torch.sqrt(variance + 1e-8).mean()
    return torch.cat([x, extra], 1)


class Net:
    """A state dict in float64, of which layers are called by name."""

    def __init__(self, state: State) -> None:
        self.state = {name: tensor.double() for name, tensor in state.items()}

    def parts(self, name: str) -> tuple[Tensor, Tensor]:
        return self.state[f"{name}.weight"], self.state[f"{name}.bias"]


# image_generator_2


def ig2_shapes() -> tuple[dict, dict]:
    generator, discriminator, widths = {}, {}, (2 * WIDTHS[0], *WIDTHS)
    for level in range(3):
        coarse, fine, after = widths[level], widths[level + 1], level > 0
        generator[f"blocks.{level}.layers.{0 + after}.layers.2"] = (fine, coarse if level else 7, 3, 3)
        generator[f"blocks.{level}.layers.{2 + after}.layers.2"] = (fine, fine, 3, 3)
        generator[f"toRGBs.{level}"] = (3, fine, 1, 1)
        discriminator[f"fromRGBs.{level}"] = (fine, 3, 1, 1)
        if level:
            discriminator[f"blocks.{level}.layers.0.layers.2"] = (coarse, fine, 3, 3)
            discriminator[f"blocks.{level}.layers.2.layers.2"] = (coarse, coarse, 3, 3)
    discriminator["blocks.0.layers.1.layers.2"] = (8, WIDTHS[0] + 1, 3, 3)
    discriminator["blocks.0.layers.3.layers.2"] = (8, 8, 4, 4)
    discriminator["blocks.0.layers.5"] = (1, 8, 1, 1)
    return generator, discriminator


class Ig2(Net):
    def unit(self, x: Tensor, name: str, *, pad: bool = True) -> Tensor:
        x = x * math.sqrt(2 / x.shape[1])
        x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect") if pad else x, *self.parts(name))
        return F.leaky_relu(x / (torch.sqrt((x * x).mean(1, keepdim=True)) + 1e-7), 0.2)

    def images(self, z: Tensor, level: int, alpha: float | None) -> Tensor:
        x = old = z
        for index in range(level + 1):
            old = x
            x = up(x) if index else x
            x = self.unit(x, f"blocks.{index}.layers.{0 + (index > 0)}.layers.2")
            x = self.unit(x, f"blocks.{index}.layers.{2 + (index > 0)}.layers.2")
        image = F.conv2d(x, *self.parts(f"toRGBs.{level}"))
        if alpha is not None:
            image = fade(F.conv2d(up(old), *self.parts(f"toRGBs.{level - 1}")), image, alpha)
        return torch.sigmoid(image)

    def scores(self, images: Tensor, level: int, alpha: float | None) -> Tensor:
        x = F.conv2d(images, *self.parts(f"fromRGBs.{level}"))
        for index in range(level, 0, -1):
            x = self.unit(x, f"blocks.{index}.layers.0.layers.2")
            x = F.avg_pool2d(self.unit(x, f"blocks.{index}.layers.2.layers.2"), 2)
            if index == level and alpha is not None:
                x = fade(F.conv2d(F.avg_pool2d(images, 2), *self.parts(f"fromRGBs.{level - 1}")), x, alpha)
        x = with_statistic(x, [list(range(len(x)))], unbiased=True)
        x = self.unit(self.unit(x, "blocks.0.layers.1.layers.2"), "blocks.0.layers.3.layers.2", pad=False)
        return F.conv2d(x, *self.parts("blocks.0.layers.5")).flatten()


# pro-gan-pth


def pth_shapes() -> tuple[dict, dict]:
    generator, discriminator = {}, {}
    for level, fine in enumerate(WIDTHS):
        coarse, index = WIDTHS[max(level - 1, 0)], 2 - level
        generator[f"layers.{level}.conv_1"] = (fine, coarse, 3, 3) if level else (7, fine, 4, 4)
        generator[f"layers.{level}.conv_2"] = (fine, fine, 3, 3)
        generator[f"rgb_converters.{level}"] = (3, fine, 1, 1)
        discriminator[f"from_rgb.{index}.0"] = (fine, 3, 1, 1)
        discriminator[f"layers.{index}.conv_1"] = (fine, fine, 3, 3) if level else (fine, fine + 1, 3, 3)
        discriminator[f"layers.{index}.conv_2"] = (coarse, fine, 3, 3) if level else (fine, fine, 4, 4)
    discriminator["layers.2.conv_3"] = (1, WIDTHS[0], 1, 1)
    return generator, discriminator


class Pth(Net):
    equalized = True

    def conv(self, x: Tensor, name: str, padding: int = 0, *, transposed: bool = False) -> Tensor:
        weight, bias = self.parts(name)
        fan_in = len(weight) if transposed else math.prod(weight.shape[1:])
        weight = weight * math.sqrt(2 / fan_in) if self.equalized else weight
        return F.conv_transpose2d(x, weight, bias) if transposed else F.conv2d(x, weight, bias, padding=padding)

    def images(self, z: Tensor, level: int, alpha: float | None) -> Tensor:
        x = inside(z)[:, :, None, None]
        x = old = F.leaky_relu(self.conv(x, "layers.0.conv_1", transposed=True), 0.2)
        x = inside(F.leaky_relu(self.conv(x, "layers.0.conv_2", 1), 0.2))
        for index in range(1, level + 1):
            old = x
            x = inside(F.leaky_relu(self.conv(up(x), f"layers.{index}.conv_1", 1), 0.2))
            x = inside(F.leaky_relu(self.conv(x, f"layers.{index}.conv_2", 1), 0.2))
        image = self.conv(x, f"rgb_converters.{level}")
        return image if alpha is None else fade(up(self.conv(old, f"rgb_converters.{level - 1}")), image, alpha)

    def scores(self, images: Tensor, level: int, alpha: float | None) -> Tensor:
        x = F.leaky_relu(self.conv(images, f"from_rgb.{2 - level}.0"), 0.2)
        for index in range(level, 0, -1):
            x = F.leaky_relu(self.conv(x, f"layers.{2 - index}.conv_1", 1), 0.2)
            x = F.avg_pool2d(F.leaky_relu(self.conv(x, f"layers.{2 - index}.conv_2", 1), 0.2), 2)
            if index == level and alpha is not None:
                old = F.leaky_relu(self.conv(F.avg_pool2d(images, 2), f"from_rgb.{3 - level}.0"), 0.2)
                x = fade(old, x, alpha)
        groups = len(x) // 4
        x = with_statistic(x, [list(range(group, len(x), groups)) for group in range(groups)], unbiased=False)
        x = F.leaky_relu(self.conv(x, "layers.2.conv_1", 1), 0.2)
        return self.conv(F.leaky_relu(self.conv(x, "layers.2.conv_2"), 0.2), "layers.2.conv_3").flatten()


class PlainPth(Pth):
    equalized = False


# pytorch_GAN_zoo


def zoo_shapes() -> tuple[dict, dict]:
    generator = {"formatLayer.module": (16 * WIDTHS[0], 7), "groupScale0.0.module": (WIDTHS[0], WIDTHS[0], 3, 3)}
    discriminator = {
        "groupScaleZero.0.module": (WIDTHS[0], WIDTHS[0] + 1, 3, 3),
        "groupScaleZero.1.module": (WIDTHS[0], 16 * WIDTHS[0]),
        "decisionLayer.module": (1, WIDTHS[0]),
    }
    for level, fine in enumerate(WIDTHS):
        generator[f"toRGBLayers.{level}.module"] = (3, fine, 1, 1)
        discriminator[f"fromRGBLayers.{level}.module"] = (fine, 3, 1, 1)
        if level:
            coarse, name = WIDTHS[level - 1], f"scaleLayers.{level - 1}"
            generator |= {f"{name}.0.module": (fine, coarse, 3, 3), f"{name}.1.module": (fine, fine, 3, 3)}
            discriminator |= {f"{name}.0.module": (fine, fine, 3, 3), f"{name}.1.module": (coarse, fine, 3, 3)}
    return generator, discriminator


class Zoo(Net):
    def layer(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.parts(f"{name}.module")
        product = F.linear if weight.ndim == 2 else lambda x, w, b: F.conv2d(x, w, b, padding=w.shape[-1] // 2)
        return math.sqrt(2 / math.prod(weight.shape[1:])) * product(x, weight, bias)

    def images(self, z: Tensor, level: int, alpha: float | None) -> Tensor:
        x = F.leaky_relu(self.layer(inside(z), "formatLayer").reshape(len(z), -1, 4, 4), 0.2)
        x = old = inside(F.leaky_relu(self.layer(inside(x), "groupScale0.0"), 0.2))
        for index in range(level):
            old = x
            x = inside(F.leaky_relu(self.layer(up(x), f"scaleLayers.{index}.0"), 0.2))
            x = inside(F.leaky_relu(self.layer(x, f"scaleLayers.{index}.1"), 0.2))
        image = self.layer(x, f"toRGBLayers.{level}")
        return image if alpha is None else fade(up(self.layer(old, f"toRGBLayers.{level - 1}")), image, alpha)

    def scores(self, images: Tensor, level: int, alpha: float | None) -> Tensor:
        x = F.leaky_relu(self.layer(images, f"fromRGBLayers.{level}"), 0.2)
        for index in range(level, 0, -1):
            x = F.leaky_relu(self.layer(x, f"scaleLayers.{index - 1}.0"), 0.2)
            x = F.avg_pool2d(F.leaky_relu(self.layer(x, f"scaleLayers.{index - 1}.1"), 0.2), 2)
            if index == level and alpha is not None:
                old = F.leaky_relu(self.layer(F.avg_pool2d(images, 2), f"fromRGBLayers.{level - 1}"), 0.2)
                x = fade(old, x, alpha)
        x = with_statistic(x, [list(range(i, i + 4)) for i in range(0, len(x), 4)], unbiased=True)
        x = F.leaky_relu(self.layer(x, "groupScaleZero.0"), 0.2)
        return self.layer(F.leaky_relu(self.layer(x.flatten(1), "groupScaleZero.1"), 0.2), "decisionLayer").flatten()


# Their files.


@dataclass
class Checkpoint:
    """A file in a program's layout, with what the program makes of it."""

    path: Path
    discriminator_path: Path | None
    shown: Net  # the generator to sample from: the average where there is one
    generator: Net | None  # the other one, where there are two
    discriminator: Net


def write_ig2(folder: Path) -> Checkpoint:
    generator, discriminator = (draw(shapes, seed, scaled=True) for seed, shapes in enumerate(ig2_shapes()))
    torch.save(generator, folder / "generator_trained_model_cpu.pth")
    torch.save(discriminator, folder / "discriminator.pth")
    paths = folder / "generator_trained_model_cpu.pth", folder / "discriminator.pth"
    return Checkpoint(*paths, Ig2(generator), None, Ig2(discriminator))


def write_pth(folder: Path, *, equalized: bool = True) -> Checkpoint:
    shapes = dict(zip(("generator", "discriminator"), pth_shapes(), strict=True))
    shapes["shadow_generator"] = shapes["generator"]
    conf = {"depth": 4, "num_channels": 3, "latent_size": 7, "use_eql": equalized}
    states = {key: draw(each, seed, scaled=not equalized) for seed, (key, each) in enumerate(shapes.items())}
    contents = {key: {"conf": conf, "state_dict": state} for key, state in states.items()}
    optimizer = {
        "state": {0: {"step": 3, "exp_avg": torch.zeros(2)}},
        "param_groups": [{"lr": 3e-3, "betas": (0, 0.99)}],
    }
    torch.save({**contents, "gen_optim": optimizer}, folder / "depth_4_epoch_1.bin")
    kind = Pth if equalized else PlainPth
    nets = (kind(states[key]) for key in ("shadow_generator", "generator", "discriminator"))
    return Checkpoint(folder / "depth_4_epoch_1.bin", None, *nets)


def write_plain_pth(folder: Path) -> Checkpoint:
    return write_pth(folder, equalized=False)


def zoo_contents() -> dict[str, State]:
    shapes = dict(zip(("netG", "netD"), zoo_shapes(), strict=True))
    shapes["avgG"] = shapes["netG"]
    return {key: draw(each, seed, scaled=False) for seed, (key, each) in enumerate(shapes.items())}


def write_zoo(folder: Path) -> Checkpoint:
    """In the layout before torch 1.6, as its checkpoints are; with names as of nn.DataParallel."""
    contents = zoo_contents()
    nets = [Zoo(contents[key]) for key in ("avgG", "netG", "netD")]
    contents["netG"] = {f"module.{name}": tensor for name, tensor in contents["netG"].items()}
    torch.save(contents, folder / "celeba_s2_i100.pt", _use_new_zipfile_serialization=False)
    return Checkpoint(folder / "celeba_s2_i100.pt", None, *nets)


WRITE: dict[str, Callable[[Path], Checkpoint]] = {
    "image_generator_2": write_ig2,
    "pro_gan_pth": write_pth,
    "pro_gan_pth, plain": write_plain_pth,
    "pytorch_gan_zoo": write_zoo,
}
