"""Agreement with the numbers of three public programs, for weights and inputs that anyone can make again.

- image_generator_2, the Mel Icon article's own program: the whole of `mel_icon`;
- pytorch_GAN_zoo's PGAN: the generator of `karras2018`;
- pro-gan-pth 3.4: the discriminator of `karras2018`, and the loss.

Where those programs have another constant than the official one, it is folded into the weights. The numbers come from
a folder beside the repository; a dozen of them stand here and are checked anywhere.
"""

import copy
import json
import math
from collections.abc import Callable, Container
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from progan import wgan_generator_loss, wgan_gp_loss
from progan.networks.discriminator import ProgressiveDiscriminator
from progan.networks.generator import ProgressiveGenerator
from progan.presets import karras2018, mel_icon

FOLDER = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "parity"
needs_folder = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"there are no numbers to agree with at {FOLDER}")
both_types = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])

Place = Callable[[str, int], tuple[str, float]]  # (their name, fan-in) -> (our name, what is folded into it)
Shapes = list[tuple[str, tuple[int, ...]]]


# Their weights, under our names.


def mel_icon_generator(name: str, fan_in: int) -> tuple[str, float]:
    """Take blocks.L.layers.I.layers.2.weight and toRGBs.L.weight."""
    room, level, *rest = name.split(".")
    if room == "toRGBs":
        return f"to_rgb.{level}.{rest[-1]}", 1.0
    is_second = int(rest[1]) >= 2
    return f"blocks.{level}.{'second' if is_second else 'first'}.layer.{rest[-1]}", 1.0


def mel_icon_discriminator(name: str, fan_in: int) -> tuple[str, float]:
    """Take blocks.L.layers.I.layers.2.weight, blocks.0.layers.5.weight and fromRGBs.L.weight."""
    room, level, *rest = name.split(".")
    if room == "fromRGBs":
        return f"from_rgb.{level}.{rest[-1]}", 1.0
    parts = {"1": "conv.layer", "3": "dense.layer", "5": "score"}
    if level != "0":
        parts = {"0": "first.layer", "2": "second.layer"}
    return f"blocks.{level}.{parts[rest[1]]}.{rest[-1]}", 1.0


def gan_zoo_generator(name: str, fan_in: int) -> tuple[str, float]:
    """Take names as scaleLayers.L.I.module.weight; the constant sqrt(2 / fan_in) multiplies biases too."""
    room, *rest, kind = name.split(".")
    if room == "formatLayer":
        ours, gain = "blocks.0.first.layer.0", 4.0  # gain sqrt(2); officially sqrt(2) / 4
    elif room == "toRGBLayers":
        ours, gain = f"to_rgb.{rest[0]}", math.sqrt(2)  # gain sqrt(2); officially 1
    elif room == "groupScale0":
        ours, gain = "blocks.0.second.layer", 1.0
    else:
        ours, gain = f"blocks.{int(rest[0]) + 1}.{('first', 'second')[int(rest[1])]}.layer", 1.0
    return f"{ours}.{kind}", math.sqrt(2 / fan_in) if kind == "bias" else gain


def pro_gan_pth_discriminator(name: str, fan_in: int) -> tuple[str, float]:
    """Take layers.I.conv_J.weight and from_rgb.I.0.weight, finest first."""
    room, index, part, kind = name.split(".")
    level = 3 - int(index)
    if room == "from_rgb":
        return f"from_rgb.{level}.{kind}", 1.0
    parts = {"conv_1": "first.layer", "conv_2": "second.layer"}
    if level == 0:
        parts = {"conv_1": "conv.layer", "conv_2": "dense.layer", "conv_3": "score"}
    is_score = part == "conv_3" and kind == "weight"
    return f"blocks.{level}.{parts[part]}.{kind}", math.sqrt(2) if is_score else 1.0  # officially gain 1


def load(network: nn.Module, tag: int, shapes: Shapes, place: Place, *, scaled: bool) -> dict[str, tuple[str, float]]:
    """Give a network the keyed weights; return our name and what was folded in, by their name."""
    ours, placed = dict(network.named_parameters()), {}
    fan_ins = {name.rpartition(".")[0]: math.prod(shape[1:]) for name, shape in shapes if name.endswith("weight")}
    for index, (name, shape) in enumerate(shapes):
        layer, _, kind = name.rpartition(".")
        value = np.random.default_rng([2018, tag, index]).standard_normal(shape, dtype=np.float32)
        value *= np.float32(0.1 if kind == "bias" else 1 / math.sqrt(fan_ins[layer]) if scaled else 1.0)
        placed[name] = place(name, fan_ins[layer])
        parameter = ours.pop(placed[name][0])
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(value).reshape(parameter.shape) * placed[name][1])
    assert not ours, f"these got no weights: {sorted(ours)}"
    return placed


# Their shapes follow from ours, so that the numbers below need no folder; another test holds them to the JSON.


def units(sizes: list[tuple[str, int, int, int]]) -> Shapes:
    """Return the shapes of convolutions (name, out, in, kernel), each with its bias."""
    shapes: Shapes = []
    for name, out, in_, kernel in sizes:
        shapes += [(f"{name}.weight", (out, in_, kernel, kernel)), (f"{name}.bias", (out,))]
    return shapes


def mel_icon_shapes() -> tuple[Shapes, Shapes]:
    widths = [512, 256, 128, 64, 32, 16, 8, 4]
    generator, discriminator = [], []
    for level in range(7):
        first, second = (0, 2) if level == 0 else (1, 3)
        coarse, fine = widths[level], widths[level + 1]
        generator.append((f"blocks.{level}.layers.{first}.layers.2", fine, coarse, 3))
        generator.append((f"blocks.{level}.layers.{second}.layers.2", fine, fine, 3))
        if level:
            discriminator.append((f"blocks.{level}.layers.0.layers.2", coarse, fine, 3))
            discriminator.append((f"blocks.{level}.layers.2.layers.2", coarse, coarse, 3))
    head = [("1.layers.2", 512, 257, 3), ("3.layers.2", 512, 512, 4), ("5", 1, 512, 1)]
    head = [(f"blocks.0.layers.{name}", *sizes) for name, *sizes in head]
    to_rgb = [(f"toRGBs.{level}", 3, widths[level + 1], 1) for level in range(7)]
    from_rgb = [(f"fromRGBs.{level}", widths[level + 1], 3, 1) for level in range(7)]
    return units(generator + to_rgb), units(from_rgb + head + discriminator)


def gan_zoo_shapes() -> Shapes:
    scales = [(128, 128), (64, 128), (32, 64)]
    blocks = [
        (f"scaleLayers.{i}.{j}.module", scale[0], scale[1 - j], 3) for i, scale in enumerate(scales) for j in (0, 1)
    ]
    to_rgb = [(f"toRGBLayers.{level}.module", 3, width, 1) for level, width in enumerate((128, 128, 64, 32))]
    dense: Shapes = [("formatLayer.module.weight", (2048, 512)), ("formatLayer.module.bias", (2048,))]
    return units(blocks + to_rgb) + dense + units([("groupScale0.0.module", 128, 128, 3)])


def pro_gan_pth_shapes() -> Shapes:
    blocks = [(f"layers.{index}.conv_{part}", 512, 512, 3) for index in range(3) for part in (1, 2)]
    head = [("layers.3.conv_1", 512, 513, 3), ("layers.3.conv_2", 512, 512, 4), ("layers.3.conv_3", 1, 512, 1)]
    return units(blocks + head + [(f"from_rgb.{index}.0", 512, 3, 1) for index in range(4)])


# Networks with their weights. Each is built once; a copy serves float64.


@lru_cache(maxsize=1)
def mel_icon_pair() -> tuple[ProgressiveGenerator, ProgressiveDiscriminator, dict, dict]:
    recipe, shapes = mel_icon(), mel_icon_shapes()
    generator, discriminator = ProgressiveGenerator(recipe.architecture), ProgressiveDiscriminator(recipe.architecture)
    placed = load(generator, 0, shapes[0], mel_icon_generator, scaled=True)
    return generator, discriminator, placed, load(discriminator, 1, shapes[1], mel_icon_discriminator, scaled=True)


@lru_cache(maxsize=1)
def karras_generator() -> ProgressiveGenerator:
    generator = ProgressiveGenerator(karras2018(32, channels=(128, 128, 64, 32)).architecture)
    load(generator, 4, gan_zoo_shapes(), gan_zoo_generator, scaled=False)
    return generator


@lru_cache(maxsize=1)
def karras_discriminator() -> tuple[ProgressiveDiscriminator, dict]:
    discriminator = ProgressiveDiscriminator(karras2018(32, channels=(512,) * 4).architecture)
    return discriminator, load(discriminator, 3, pro_gan_pth_shapes(), pro_gan_pth_discriminator, scaled=False)


@pytest.fixture(scope="module", autouse=True)
def _let_go():
    yield
    for cached in (mel_icon_pair, karras_generator, karras_discriminator):
        cached.cache_clear()


def as_type(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    return network if dtype == torch.float32 else copy.deepcopy(network).to(dtype)


# What is compared, and how closely.


class Numbers:
    """Hold one program's numbers, as tensors of one dtype."""

    def __init__(self, program: str, dtype: torch.dtype) -> None:
        self.facts = json.loads((FOLDER / f"{program}.json").read_text())
        self._arrays = np.load(FOLDER / f"{program}.npz")
        self._dtype = dtype

    def __call__(self, name: str) -> Tensor:
        return torch.from_numpy(self._arrays[name]).to(self._dtype)

    def cases(self, at_least: int) -> list[tuple[str, int, float | None]]:
        """Return (key, level, alpha); level 0 has nothing to fade from."""
        cases = [
            (case.get("key", f"res{case.get('res')}"), case["level"], case["alpha"] if case["level"] else None)
            for case in self.facts["cases"]
        ]
        assert len(cases) >= at_least
        return cases


def assert_agrees(ours: Tensor, theirs: Tensor, name: str, *, scale: float | None = None) -> None:
    """Compare to within 1e-4 of the largest number, or of a scale."""
    scale = theirs.abs().max().item() if scale is None else scale
    assert_close(ours, theirs.to(ours.dtype), rtol=0, atol=1e-4 * scale, msg=lambda message: f"{name}: {message}")


def assert_norms_agree(
    network: nn.Module, theirs: dict[str, float | None], placed: dict[str, tuple[str, float]]
) -> None:
    """Compare the norm of every gradient but those of parameters that something was folded into."""
    parameters = dict(network.named_parameters())
    largest = max(norm for norm in theirs.values() if norm is not None)
    assert set(theirs) == set(placed)
    for name, norm in theirs.items():
        gradient = parameters[placed[name][0]].grad
        if norm is None:
            assert gradient is None, name
        elif placed[name][1] == 1.0:
            ours = torch.linalg.vector_norm(gradient.double())
            assert_agrees(ours, torch.tensor(norm), name, scale=max(norm, 1e-2 * largest))


def assert_loss_agrees(loss: tuple[Tensor, ...], numbers: Numbers) -> None:
    """Compare total, Wasserstein part, penalty and drift, on the scale of the scores at least."""
    scores = max(numbers(f"loss_scores_{which}").abs().mean().item() for which in ("real", "fake"))
    for name, ours, theirs in zip(("total", "wasserstein", "penalty", "drift"), loss, numbers("loss_D"), strict=True):
        assert_agrees(ours, theirs, name, scale=max(theirs.abs().item(), scores))


def assert_scores_agree(discriminator: nn.Module, numbers: Numbers, levels: Container[int]) -> None:
    cases = [case for case in numbers.cases(5) if case[1] in levels]
    assert cases
    for key, level, alpha in cases:
        with torch.no_grad():
            assert_agrees(discriminator(numbers(f"{key}_x"), level, alpha), numbers(f"{key}_D"), key)


# The article's program.


@needs_folder
@both_types
def test_mel_icon_images(dtype):
    numbers = Numbers("image_generator_2", dtype)
    generator = as_type(mel_icon_pair()[0], dtype)
    z = numbers("z").reshape(-1, 512, 4, 4)
    for key, level, alpha in numbers.cases(10):
        # From 128 px on, only the first image was kept, and only every third row and column.
        few = level >= 5
        with torch.no_grad():
            images = generator(z[:1] if few else z, level, alpha)
        assert_agrees(images[..., ::3, ::3] if few else images, numbers(f"{key}_G"), key)


@needs_folder
@both_types
def test_mel_icon_scores(dtype):
    numbers = Numbers("image_generator_2", dtype)
    assert_scores_agree(as_type(mel_icon_pair()[1], dtype), numbers, range(7))


@needs_folder
@both_types
def test_mel_icon_losses_and_every_gradient(dtype):
    numbers = Numbers("image_generator_2", dtype)
    generator, discriminator = (as_type(network, dtype) for network in mel_icon_pair()[:2])
    placed = mel_icon_pair()[2:]
    level, alpha = numbers.facts["loss_case"]["level"], numbers.facts["loss_case"]["alpha"]
    real, mix = numbers("loss_real"), numbers("loss_mix").flatten()

    def critic(images: Tensor) -> Tensor:
        return discriminator(images, level, alpha)

    fake = generator(numbers("loss_z").reshape(-1, 512, 4, 4), level, alpha)
    loss = wgan_generator_loss(critic(fake))
    assert_agrees(loss, numbers("loss_G"), "generator")
    loss.backward()
    assert_norms_agree(generator, numbers.facts["gradnorm_G"], placed[0])

    discriminator.zero_grad()
    loss = wgan_gp_loss(critic, real, fake, mix=mix)
    assert_loss_agrees(loss, numbers)
    loss.total.backward()
    assert_norms_agree(discriminator, numbers.facts["gradnorm_D"], placed[1])
    generator.zero_grad()
    discriminator.zero_grad()


# The official program, by way of two others.


@needs_folder
@both_types
def test_karras_images(dtype):
    numbers = Numbers("pytorch_gan_zoo", dtype)
    generator = as_type(karras_generator(), dtype)
    for key, level, alpha in numbers.cases(6):
        with torch.no_grad():
            assert_agrees(generator(numbers("z"), level, alpha), numbers(f"{key}_G"), key)


@needs_folder
@pytest.mark.parametrize(
    ("dtype", "levels"),
    [
        (torch.float32, range(4)),
        (torch.float64, range(2)),
        pytest.param(torch.float64, range(2, 4), marks=pytest.mark.slow),  # 512 channels at 32 px
    ],
)
def test_karras_scores(dtype, levels):
    numbers = Numbers("pro_gan_pth", dtype)
    assert_scores_agree(as_type(karras_discriminator()[0], dtype), numbers, levels)


@needs_folder
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)])
def test_karras_losses_and_the_critics_gradients(dtype):
    numbers = Numbers("pro_gan_pth", dtype)
    discriminator, placed = as_type(karras_discriminator()[0], dtype), karras_discriminator()[1]
    alpha = numbers.facts["loss_case"]["alpha"]

    def critic(images: Tensor) -> Tensor:
        return discriminator(images, 2, alpha)

    fake = numbers("loss_fake")
    loss = wgan_gp_loss(critic, numbers("loss_real"), fake, mix=numbers("loss_mix").flatten())
    assert_loss_agrees(loss, numbers)
    loss.total.backward()
    assert_norms_agree(discriminator, numbers.facts["gradnorm_D"], placed)
    discriminator.zero_grad()
    with torch.no_grad():
        assert_agrees(wgan_generator_loss(critic(fake)), numbers("loss_G"), "generator")


@needs_folder
@pytest.mark.parametrize(
    ("program", "network", "shapes"),
    [
        ("image_generator_2", "G", mel_icon_shapes()[0]),
        ("image_generator_2", "D", mel_icon_shapes()[1]),
        ("pytorch_gan_zoo", "G", gan_zoo_shapes()),
        ("pro_gan_pth", "D", pro_gan_pth_shapes()),
    ],
)
def test_the_weights_are_theirs(program, network, shapes):
    theirs = json.loads((FOLDER / f"{program}.json").read_text())[network]
    assert [(name, tuple(shape)) for name, shape in theirs] == shapes


# A dozen of these numbers, to be checked anywhere: what each program gave at 8 px, level 1 fading in. The inputs of a
# program come from one stream, default_rng([2018, tag]): z first, then the images of every case, coarse first.


@both_types
def test_a_dozen_numbers_of_the_articles_program(dtype):
    stream = np.random.default_rng([2018, 99])
    z = stream.standard_normal((2, 512, 4, 4), dtype=np.float32)
    x = [stream.random((4, 3, size, size), dtype=np.float32) for size in (4, 4, 8)][-1]
    z, x = (torch.from_numpy(array).to(dtype) for array in (z, x))
    generator, discriminator = (as_type(network, dtype) for network in mel_icon_pair()[:2])
    with torch.no_grad():
        images, scores = generator(z, 1, 0.3), discriminator(x, 1, 0.3)
    pixels = torch.stack([images[0, 0, 0, 0], images[0, 1, 3, 4], images[1, 2, 7, 7]])
    assert_agrees(pixels, torch.tensor([0.49731034, 0.55267036, 0.35483706]), "pixels")
    assert_agrees(scores, torch.tensor([-0.12421283, -0.17249694, -0.15977445, -0.1749967]), "scores")


@both_types
def test_a_dozen_numbers_of_gan_zoo(dtype):
    z = np.random.default_rng([2018, 97]).standard_normal((2, 512), dtype=np.float32)
    with torch.no_grad():
        images = as_type(karras_generator(), dtype)(torch.from_numpy(z).to(dtype), 1, 0.25)
    pixels = torch.stack([images[0, 0, 0, 0], images[0, 1, 3, 4], images[1, 2, 7, 7]])
    assert_agrees(pixels, torch.tensor([-1.1897854, -1.1367781, 1.2369317]), "pixels")


@both_types
def test_a_dozen_numbers_of_pro_gan_pth(dtype):
    stream = np.random.default_rng([2018, 98])
    stream.standard_normal((2, 512), dtype=np.float32)
    x = [stream.standard_normal((8, 3, size, size), dtype=np.float32) / 2 for size in (4, 8)][-1]
    with torch.no_grad():
        scores = as_type(karras_discriminator()[0], dtype)(torch.from_numpy(x).to(dtype), 1, 0.3)
    theirs = [0.29894125, 0.19312583, 0.5249059, 0.10672039, 0.161363, 0.27547342, 0.2840358, 0.47605518]
    assert_agrees(scores, torch.tensor(theirs), "scores")
