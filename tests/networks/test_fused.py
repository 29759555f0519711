"""The fused paths are the networks' own functions, faster: and the training step takes them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from conftest import small_recipe, with_patches
from torch import Tensor, nn
from torch.testing import assert_close

from progan import EmaGenerator, Growth, presets, wgan_gp_loss
from progan.networks import fused
from progan.networks.blocks import ConvUnit
from progan.networks.layers import EqualizedConv2d
from progan.ops import dispatch
from progan.ops.dispatch import REFERENCE, force, record
from progan.training.state import TrainingState
from progan.training.step import Draws, TrainingStep

both = pytest.mark.parametrize("preset", [presets.mel_icon, presets.karras2018, presets.few_images, with_patches])
cpus = pytest.mark.parametrize("cpu", ["avx512", "avx2", "other"])
growths = pytest.mark.parametrize(("level", "alpha"), [(0, None), (1, 0.5), (3, 0.5), (3, None)])


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    """Of a batch of 8, at most 3 images at a time at 32 px, of 4 channels in float64."""
    monkeypatch.setattr(fused, "PART_BYTES", 3 * 4 * 32 * 32 * 8)


def pair(preset):
    recipe = preset(32, channels=(16, 8, 4, 4))
    generator, discriminator = (network.double() for network in recipe.build())
    torch.manual_seed(0)
    z = torch.randn(8, *recipe.architecture.latent_shape, dtype=torch.float64)
    return generator, discriminator, z


def of_level(level: int, batch: int = 8) -> Tensor:
    torch.manual_seed(level)
    return torch.rand(batch, 3, 4 << level, 4 << level, dtype=torch.float64)


@both
@cpus
@growths
def test_they_are_the_plain_networks(preset, cpu, level, alpha, monkeypatch):
    """Images, scores, and the gradients of a penalty, all in plain torch."""
    monkeypatch.setattr(dispatch, "cpu_kind", lambda: cpu)
    generator, discriminator, z = pair(preset)
    images = of_level(level)
    mix = torch.linspace(0, 1, 8, dtype=torch.float64)
    parameters = list(discriminator.in_use(level, alpha).values())

    def results(make, judge):
        made = make(z)
        total = wgan_gp_loss(judge, images, made.detach(), mix=mix).total
        return made, judge(images), *torch.autograd.grad(total, parameters)

    with force(REFERENCE):
        plain = results(lambda z: generator(z, level, alpha), lambda x: discriminator(x, level, alpha))
    with fused.cached_weights(level, alpha, generator, discriminator):
        ours = results(
            lambda z: fused.generate(generator, z, level, alpha), lambda x: fused.score(discriminator, x, level, alpha)
        )
    assert_close(ours, plain, rtol=1e-9, atol=1e-12)
    separate = fused.scores(discriminator, images, level, alpha)
    assert_close(separate, discriminator(images, level, alpha, separate=True), rtol=1e-9, atol=1e-12)
    assert len(separate) == 1 + len(discriminator.to_patch_scores.weights(level, alpha))


def test_batches_are_taken_in_parts_from_the_first_large_level_on():
    """8 images of 16 and 32 px in parts of 3, 3 and 2; those of 4 and 8 px whole; with a block of one's own all are."""
    generator, discriminator, z = pair(presets.mel_icon)
    images = of_level(3)
    sizes: dict[str, list[int]] = {}
    for network in (generator, discriminator):
        for name, module in network.named_modules():
            if name.endswith("second"):
                where = f"{network._role} {name}"
                module.register_forward_hook(lambda _, x, y, name=where: sizes.setdefault(name, []).append(len(x[0])))
    fused.score(discriminator, fused.generate(generator, z, 3, None), 3, None)
    assert sizes == {
        "generator blocks.0.second": [8],
        "generator blocks.1.second": [8],
        "generator blocks.2.second": [3, 3, 2],
        "generator blocks.3.second": [3, 3, 2],
        "discriminator blocks.3.second": [3, 3, 2],
        "discriminator blocks.2.second": [3, 3, 2],
        "discriminator blocks.1.second": [8],
    }
    sizes.clear()
    discriminator.block_name = "of_mine"
    fused.score(discriminator, images, 3, None)
    assert set(map(tuple, sizes.values())) == {(8,)}


@both
def test_no_latents_give_no_images(preset):
    generator, _, z = pair(preset)
    for level in range(4):
        assert fused.generate(generator, z[:0], level, None).shape == (0, 3, 4 << level, 4 << level)


@pytest.mark.parametrize("image", ["network", "block", "unit", "layer"])
@pytest.mark.parametrize("when", ["forward_pre", "forward"])
@both
def test_hooks_are_called_and_change_nothing_else(preset, when, image):
    """Two layers work as one where nobody looks; a hook sees each of them."""
    generator, discriminator, z = pair(preset)
    images, called = of_level(3), set[nn.Module]()
    for network, function, x in ((generator, fused.generate, z), (discriminator, fused.score, images)):
        expected = function(network, x, 3, 0.5)
        in_use = {name.rpartition(".")[0] for name in network.in_use(3, 0.5)}
        kinds = {"network": type(network), "block": type(network.blocks[1]), "unit": ConvUnit, "layer": EqualizedConv2d}
        hooked = {
            module
            for name, module in network.named_modules()
            if isinstance(module, kinds[image]) and any(user.startswith(name) for user in in_use)
        }
        for module in hooked:
            getattr(module, f"register_{when}_hook")(lambda module, *_: called.add(module))
        assert_close(function(network, x, 3, 0.5), expected)
        assert hooked
        assert called >= hooked


class Louder(EqualizedConv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 4, 3, padding=1), Louder(4, 4, 3)], ids=["torch's", "derived"])
def test_layers_of_ones_own_are_used(layer):
    generator, discriminator, z = pair(presets.mel_icon)
    generator.blocks[3].first.layer = layer
    discriminator.blocks[3].first.layer = layer
    discriminator.from_rgb[2] = nn.Conv2d(3, 4, 1)
    images = of_level(3)
    for network in (generator.double(), discriminator.double()):
        network.double()
    assert_close(fused.generate(generator, z, 3, None), generator(z, 3))
    assert_close(fused.score(discriminator, images, 3, 0.5), discriminator(images, 3, 0.5))


def test_an_activation_of_ones_own_after_from_rgb_is_used():
    _, discriminator, _ = pair(presets.mel_icon)
    before = fused.score(discriminator, of_level(2), 2, None)
    discriminator.rgb_activation = nn.Tanh()
    after = fused.score(discriminator, of_level(2), 2, None)
    assert_close(after, discriminator(of_level(2), 2))
    assert not torch.allclose(before, after)


def test_other_modules_are_called_as_they_are():
    class Other(nn.Module):
        def forward(self, x, level, alpha, batches=1):
            return x, level, alpha, batches

    assert fused.generate(Other(), 1, 2, 0.5) == (1, 2, 0.5, 1)
    assert fused.score(Other(), 1, 2, 0.5, 3) == (1, 2, 0.5, 3)


# What a step of 128 px takes; of other sizes some of it.
ALWAYS = {
    *("batch in_parts", "convolution batched_product", "convolution bilinear", "interleaving slices"),
    *("linear deferred_gradient", "pixel_norm short_derivatives", "projected_convolution joined_kernels"),
    *("reflection slices", "resampling slices", "upsampled_convolution four_kernels"),
}
BY_CPU = {
    ("avx512", "fp32"): {
        *("convolution_by_input channels_last", "matrix_product onednn"),
    },
    ("avx512", "bf16"): {
        "convolution_by_input channels_last",
        *("convolution_by_weight channels_last", "convolution_by_weight gradient_as_kernel"),
    },
    ("avx2", "fp32"): {
        *("convolution patches_product", "convolution_by_weight gradient_as_kernel", "matrix_product onednn"),
    },
    ("other", "fp32"): {"convolution patches_product", "convolution_by_weight gradient_as_kernel"},
}


@pytest.mark.parametrize(("cpu", "precision"), BY_CPU)
def test_a_step_takes_every_fast_path(cpu, precision, monkeypatch):
    if dispatch.cpu_kind() == "other" and cpu != "other":
        pytest.skip("this CPU lacks what it would use")
    monkeypatch.setattr(dispatch, "cpu_kind", lambda: cpu)
    monkeypatch.setattr(fused, "PART_BYTES", 3 * 8 * 128 * 128 * 4)
    recipe = presets.mel_icon(128, channels=(256, 8, 8, 8, 8, 8))
    recipe = replace(recipe, training=replace(recipe.training, precision=precision))
    generator, discriminator = recipe.build()
    state = TrainingState(generator, discriminator, EmaGenerator(generator, 0.99), recipe.training.adam)
    step = TrainingStep(state, recipe.training)
    draws = Draws.at(0, 4, recipe.architecture.latent_shape, 0, recipe.training)
    with record() as used:
        step(of_level(5, 4).float(), draws, Growth(0, 5, 0.5, 1e-3, 4), 0)
    counts = Counter(f"{operation} {path}" for operation, path in used)
    assert {path for path in counts if not path.endswith(REFERENCE)} == ALWAYS | BY_CPU[cpu, precision]
    # Nothing is upsampled and convolved apart but from 4 px to 8 px, once in each update.
    assert counts["upsampled_convolution reference"] == 2
    # The generator's images, twice, level by level: 8 to 64 px whole, 128 px in 2 parts.
    in_parts = 2 if precision == "fp32" else 1
    assert counts["upsampled_convolution four_kernels"] == 2 * (3 + in_parts)
    # Scores of 8 images, those that the penalty is of, the generator's.
    assert counts["projected_convolution joined_kernels"] == 3 + 2 + 2
    assert counts["parameters reference"] == 4, "one look for each network of each scope"


@both
@pytest.mark.parametrize("avx512", [False, True])
def test_the_gradients_of_a_critic_are_those_of_weights_used_one_by_one(preset, avx512, monkeypatch):
    monkeypatch.setattr(dispatch, "cpu_kind", lambda: "avx512" if avx512 else "avx2")
    recipe = small_recipe(preset)
    _, discriminator = recipe.build()
    discriminator.double()
    level = recipe.architecture.top_level
    torch.manual_seed(0)
    real, fake = torch.rand(2, 8, 3, *recipe.architecture.size(level), dtype=torch.float64)
    mix = torch.rand(8, dtype=torch.float64)
    parameters = list(discriminator.in_use(level, 0.5).values())

    def gradients() -> tuple[Tensor, ...]:
        loss = wgan_gp_loss(lambda images: discriminator(images, level, 0.5), real, fake, mix=mix)
        return torch.autograd.grad(loss.total, parameters)

    one_by_one = gradients()
    with fused.cached_weights(level, 0.5, discriminator):
        assert_close(gradients(), one_by_one, rtol=1e-10, atol=1e-12)
