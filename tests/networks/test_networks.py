"""The networks: growth is seamless to the bit, what is not in use gets no gradient, and refusals say what to do."""

import math
import re

import pytest
import torch
from conftest import with_patches
from torch import nn
from torch.testing import assert_close

from progan import GrownGenerator, Trainer
from progan.losses.wgan_gp import wgan_gp_loss
from progan.networks.architecture import Architecture
from progan.networks.discriminator import ProgressiveDiscriminator
from progan.networks.generator import ProgressiveGenerator
from progan.ops.resampling import downsample, upsample
from progan.presets import few_images, karras2018, mel_icon

WIDTHS = (16, 12, 8)
PRESETS = {"mel_icon": mel_icon, "karras2018": karras2018, "few_images": few_images, "patches": with_patches}
presets = pytest.mark.parametrize("preset", PRESETS)
growths = pytest.mark.parametrize(("level", "alpha"), [(0, None), (1, 0.5), (1, None), (2, 0.5), (2, None)])
SMALL = Architecture(WIDTHS, latent_shape=(8,))


@pytest.fixture(autouse=True)
def _one_thread():
    # Bits are promised for one number of threads.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def recipe(preset, widths=WIDTHS):
    return PRESETS[preset](4 << (len(widths) - 1), channels=widths)


def pair(preset, dtype=torch.float32):
    return [network.to(dtype) for network in recipe(preset).build()]


def seeded(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def latents(generator, batch=4, dtype=torch.float32):
    return seeded(batch, *generator.architecture.latent_shape, dtype=dtype)


def images(architecture, level, batch=4, dtype=torch.float32, seed=0):
    return seeded(batch, architecture.image_channels, *architecture.size(level), dtype=dtype, seed=seed)


def identical(actual, expected):
    assert_close(actual, expected, rtol=0, atol=0)


# Growth


@presets
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", [0.0, torch.tensor(0.0)], ids=["float", "tensor"])
@torch.no_grad()
def test_growth_is_seamless_to_the_bit(preset, dtype, alpha):
    generator, discriminator = pair(preset, dtype)
    z = latents(generator, dtype=dtype)
    for level in (0, 1):
        identical(generator(z, level + 1, alpha), upsample(generator(z, level)))
        x = images(discriminator.architecture, level, dtype=dtype)
        identical(discriminator(upsample(x), level + 1, alpha), discriminator(x, level))


@presets
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", [1.0, torch.tensor(1.0)], ids=["float", "tensor"])
@torch.no_grad()
def test_the_end_of_a_fade_is_seamless_to_the_bit(preset, dtype, alpha):
    generator, discriminator = pair(preset, dtype)
    for level in (1, 2):
        z, x = latents(generator, dtype=dtype), images(discriminator.architecture, level, dtype=dtype)
        identical(generator(z, level, alpha), generator(z, level))
        identical(discriminator(x, level, alpha), discriminator(x, level))


def test_modulation_multiplies_each_feature_map_by_what_a_dense_layer_makes_of_the_latent():
    architecture = Architecture((8, 6), latent_shape=(5,), modulation=True)
    generator = ProgressiveGenerator(architecture).double()
    generator.initialize(3)
    block, z = generator.blocks[1], latents(generator, 3, torch.float64)
    latent = z / (z.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    dense = latent @ block.modulation.weight.T * 0.5 / 5**0.5 + block.modulation.bias
    x = block.first(upsample(generator.blocks[0](z)))
    x = torch.stack([maps * (1 + a)[:, None, None] for maps, a in zip(x, dense[:, :6], strict=True)])
    x = block.second(x)
    x = torch.stack([maps * (1 + a)[:, None, None] for maps, a in zip(x, dense[:, 6:], strict=True)])
    assert_close(generator(z, 1), generator.to_rgb[1](x))
    assert_close(generator.features(z, 1), x)
    features = generator.features(z, 0)
    assert_close(generator.images_of(features, 0, 1, 0.5, *generator.modulating(z)), generator(z, 1, 0.5))


def test_patches_are_scored_by_a_1x1_convolution_of_the_features_two_levels_below():
    discriminator = ProgressiveDiscriminator(Architecture((5, 6, 7, 8), patch_scores=True)).double()
    discriminator.initialize(3)
    x = images(discriminator.architecture, 3, dtype=torch.float64)

    def of_patches(features, level):
        layer = discriminator.to_patch_scores[level]
        maps = torch.einsum("bchw,c->bhw", features, layer.weight[0, :, 0, 0]) / features.shape[1] ** 0.5
        return maps.flatten(1) + layer.bias

    def rgb(level):
        return torch.nn.functional.leaky_relu(discriminator.from_rgb[level](downsample(x, 8 >> level)), 0.2)

    fine = discriminator.blocks[2](discriminator.blocks[3](rgb(3)))
    (whole, one), (patches, weight) = discriminator(x, separate=True)
    assert (whole.shape, patches.shape, one, weight) == ((4,), (4, 64), 1, 1)
    assert_close(patches, of_patches(fine, 1))
    assert_close(discriminator(x), whole + patches.sum(dim=1) / 8)
    # While the level fades in, the patches of the level below are scored too.
    faded = 0.75 * rgb(2) + 0.25 * discriminator.blocks[3](rgb(3))
    fine = discriminator.blocks[2](faded)
    (whole, _), (old, of_old), (new, of_new) = discriminator(x, 3, 0.25, separate=True)
    assert (of_old, of_new) == (0.75, 0.25)
    assert_close(new, of_patches(fine, 1))
    assert_close(old, of_patches(discriminator.blocks[1](fine), 0))
    assert_close(discriminator(x, 3, 0.25), whole + 0.75 * old.sum(dim=1) / 4 + 0.25 * new.sum(dim=1) / 8)
    # There are none of images so small, and without the setting.
    assert len(discriminator(x[:, :, :8, :8], separate=True)) == 1
    assert len(ProgressiveDiscriminator(SMALL)(images(SMALL, 2), separate=True)) == 1


@pytest.mark.parametrize("latent_shape", [(5,), (5, 4, 4)])
def test_without_a_norm_after_the_first_layer(latent_shape):
    architecture = Architecture(WIDTHS, latent_shape, norm_first_layer=False)
    stem = ProgressiveGenerator(architecture).blocks[0].double()
    z = seeded(4, *latent_shape, dtype=torch.float64)
    normalized = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    first = torch.where((x := stem.first.layer(normalized)) > 0, x, 0.2 * x)
    second = torch.where((x := stem.second.layer(first)) > 0, x, 0.2 * x)
    assert_close(stem(z), second / (second.square().mean(1, keepdim=True) + 1e-8).sqrt())


def test_modulation_needs_a_vector_latent():
    text = "modulation needs a vector latent, such as (128,), got latent_shape=(8, 4, 4)"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Architecture((8, 8), latent_shape=(8, 4, 4), modulation=True)


@presets
@torch.no_grad()
def test_halfway_lies_halfway(preset):
    generator, _ = pair(preset, torch.float64)
    z = latents(generator, dtype=torch.float64)
    old, new, between = upsample(generator(z, 1)), generator(z, 2), generator(z, 2, 0.25)
    if generator.architecture.output == "sigmoid":  # which comes after the fade
        old, new, between = old.logit(), new.logit(), between.logit()
    assert_close(between, 0.75 * old + 0.25 * new)


@presets
@growths
def test_in_use_is_what_gets_a_gradient(preset, level, alpha):
    generator, discriminator = pair(preset)
    generator(latents(generator), level, alpha).square().sum().backward()
    discriminator(images(discriminator.architecture, level), level, alpha).square().sum().backward()
    for network in (generator, discriminator):
        with_gradient = {name for name, p in network.named_parameters() if p.grad is not None}
        assert set(network.in_use(level, alpha)) == with_gradient
        assert with_gradient < dict(network.named_parameters()).keys() or (level, alpha) == (2, None)
        for name, parameter in network.in_use(level, alpha).items():
            assert parameter is network.get_parameter(name)


def test_in_use_by_name():
    generator = ProgressiveGenerator(SMALL)
    rooms = {name.rsplit(".", 1)[0] for name in generator.in_use(1)}
    assert rooms == {
        "blocks.0.first.layer.0",
        "blocks.0.second.layer",
        "blocks.1.first.layer",
        "blocks.1.second.layer",
        "to_rgb.1",
    }
    assert generator.in_use(1, 0.5).keys() - generator.in_use(1).keys() == {"to_rgb.0.weight", "to_rgb.0.bias"}


def test_in_use_does_not_take_level_10_for_level_1():
    generator = ProgressiveGenerator(Architecture((2,) * 11, latent_shape=(2,)))
    assert not any(name.startswith(("blocks.10.", "to_rgb.10.")) for name in generator.in_use(1, 0.5))


def test_the_old_branch_is_not_computed_once_grown():
    generator, discriminator = ProgressiveGenerator(SMALL), ProgressiveDiscriminator(SMALL)

    def refuse(*_):
        raise AssertionError("the old branch was computed")

    generator.to_rgb[1].register_forward_hook(refuse)
    discriminator.from_rgb[1].register_forward_hook(refuse)
    discriminator(generator(seeded(4, 8), 2), 2)


# Shapes


@pytest.mark.parametrize("image_channels", [1, 3, 4])
@pytest.mark.parametrize(
    ("base_size", "latent_shape"), [((4, 4), (8,)), ((6, 4), (512,)), ((6, 4), (16, 6, 4)), ((3, 5), (8,))]
)
@torch.no_grad()
def test_shapes(image_channels, base_size, latent_shape):
    architecture = Architecture(WIDTHS, latent_shape, image_channels=image_channels, base_size=base_size)
    generator, discriminator = ProgressiveGenerator(architecture), ProgressiveDiscriminator(architecture)
    z = seeded(2, *latent_shape)
    for level, alpha in ((0, None), (1, 0.5), (2, None)):
        made = generator(z, level, alpha)
        assert made.shape == (2, image_channels, base_size[0] * 2**level, base_size[1] * 2**level)
        assert discriminator(made, level, alpha).shape == (2,)
        identical(discriminator(made, None, alpha), discriminator(made, level, alpha))
        if level:
            identical(generator(z, level, 0.0), upsample(generator(z, level - 1)))
    identical(generator(z), generator(z, 2))


@torch.no_grad()
def test_output_ranges():
    z = latents(pair("mel_icon")[0])
    made = pair("mel_icon")[0](z)
    assert 0 < made.min() < made.max() < 1
    made = pair("karras2018")[0](seeded(64, 512))
    assert made.min() < -1  # linear, with nothing after it
    assert made.max() > 1


def test_parameter_counts():
    def count(architecture):
        networks = ProgressiveGenerator(architecture), ProgressiveDiscriminator(architecture)
        return [sum(parameter.numel() for parameter in network.parameters()) for network in networks]

    assert count(mel_icon().architecture) == [2_361_713, 6_562_497]
    assert count(karras2018(256).architecture) == pytest.approx([23.0e6, 23.0e6], rel=0.01)


@presets
@torch.no_grad()
def test_two_batches_in_one_pass(preset):
    discriminator = pair(preset, torch.float64)[1]
    x = images(discriminator.architecture, 2, batch=16, dtype=torch.float64)
    expected = torch.cat([discriminator(half) for half in x.chunk(2)])
    assert_close(discriminator(x, batches=2), expected)
    assert (discriminator(x) - expected).abs().max() > 1e-6


@presets
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_types_give_float32_scores(preset, dtype):
    wide = [network(inputs) for network, inputs in with_inputs(preset)]
    half = [network.to(dtype)(inputs.to(dtype)) for network, inputs in with_inputs(preset)]
    assert [tensor.dtype for tensor in half] == [dtype, torch.float32]
    for ours, expected in zip(half, wide, strict=True):
        errors, most = (ours.float() - expected).abs(), expected.abs().max()
        # Where two colours of a palette meet, their weights change fast.
        of_palette = preset in ("few_images", "patches") and errors.ndim == 4
        assert errors.mean() < 0.03 * most
        assert errors.max() <= (0.4 if of_palette else 0.05) * most


def with_inputs(preset):
    generator, discriminator = pair(preset)
    return (generator, latents(generator)), (discriminator, images(discriminator.architecture, 2))


# Refusals


FIVE_LEVELS = Architecture((4,) * 5, latent_shape=(8,))


@pytest.mark.parametrize(
    ("error", "level", "alpha", "text"),
    [
        (ValueError, 5, None, "the networks have levels 0 to 4 (5 widths in channels), got level 5"),
        (ValueError, -1, None, "the networks have levels 0 to 4 (5 widths in channels), got level -1"),
        (TypeError, True, None, "level must be an int, got True"),
        (TypeError, 1.0, None, "level must be an int, got 1.0"),
        (ValueError, 1, 1.5, "alpha is the weight of the newest level, in [0, 1], got 1.5; None means fully grown"),
        (ValueError, 1, -0.1, "alpha is the weight of the newest level, in [0, 1], got -0.1; None means fully grown"),
        (ValueError, 0, 0.5, "level 0 has no level below to fade from; pass alpha=None"),
        (ValueError, 0, torch.tensor(0.5), "level 0 has no level below to fade from; pass alpha=None"),
    ],
)
def test_growth_refusals(error, level, alpha, text):
    generator, discriminator = ProgressiveGenerator(FIVE_LEVELS), ProgressiveDiscriminator(FIVE_LEVELS)
    side = 4 if level == 0 else 8
    for call in (
        lambda: generator(seeded(1, 8), level, alpha),
        lambda: discriminator(seeded(1, 3, side, side), level, alpha),
        lambda: generator.in_use(level, alpha),
        lambda: discriminator.in_use(level, alpha),
    ):
        with pytest.raises(error, match=f"^{re.escape(text)}$"):
            call()


@pytest.mark.parametrize(
    ("architecture", "shape", "text"),
    [
        (FIVE_LEVELS, (2, 9), "z must be (B, 8), got (2, 9)"),
        (FIVE_LEVELS, (8,), "z must be (B, 8), got (8,)"),
        (Architecture((4,), (8, 4, 4)), (2, 8, 8, 8), "z must be (B, 8, 4, 4), got (2, 8, 8, 8)"),
    ],
)
def test_latent_refusals(architecture, shape, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        ProgressiveGenerator(architecture)(seeded(*shape))


@pytest.mark.parametrize(
    ("shape", "level", "text"),
    [
        (
            (2, 3, 64, 64),
            3,
            "images at level 3 must be 32x32, got 64x64; pass level=4 or resize with progan.match_level",
        ),
        ((2, 3, 24, 24), 3, "images at level 3 must be 32x32, got 24x24; resize with progan.match_level"),
        (
            (2, 3, 24, 24),
            None,
            "images of 24x24 fit no level; the networks take 4x4, 8x8, 16x16, 32x32, 64x64 (height x width)",
        ),
        ((2, 1, 8, 8), None, "images must be (B, 3, height, width), got (2, 1, 8, 8)"),
        ((3, 8, 8), 1, "images must be (B, 3, height, width), got (3, 8, 8)"),
    ],
)
def test_image_refusals(shape, level, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        ProgressiveDiscriminator(FIVE_LEVELS)(seeded(*shape), level)


def test_a_batch_that_does_not_fit_the_groups_is_refused():
    with pytest.raises(ValueError, match="a batch of 6 images cannot be split into MiniBatchStd groups of 4"):
        ProgressiveDiscriminator(FIVE_LEVELS)(seeded(6, 3, 8, 8))


# Blocks of one's own


def plain_up(architecture, level):
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(*architecture.channels[level - 1 : level + 1], 1))


class PlainDown(nn.Module):
    def __init__(self, architecture, level):
        super().__init__()
        self.conv = nn.Conv2d(architecture.channels[level], architecture.channels[level - 1], 1)

    def forward(self, x):
        return downsample(self.conv(x))


def not_up(architecture, level):
    return nn.Conv2d(*architecture.channels[level - 1 : level + 1], 1)


@torch.no_grad()
def test_own_blocks():
    generator, discriminator = (
        ProgressiveGenerator(SMALL, block=plain_up),
        ProgressiveDiscriminator(SMALL, block=PlainDown),
    )
    z = seeded(4, 8)
    for level, alpha in ((0, None), (1, 0.5), (2, 0.5), (2, None)):
        assert discriminator(generator(z, level, alpha), level, alpha).shape == (4,)
    identical(generator(z, 2, 0.0), upsample(generator(z, 1)))


def test_own_block_of_the_wrong_shape_is_refused_by_name():
    generator, discriminator = (
        ProgressiveGenerator(SMALL, block=not_up),
        ProgressiveDiscriminator(SMALL, block=lambda *_: nn.Identity()),
    )
    text = f"block 1 of the generator must return (B, 12, 8, 8), got (2, 12, 4, 4); correct {__name__}.not_up"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        generator(seeded(2, 8))
    text = f"block 2 of the discriminator must return (B, 12, 8, 8), got (2, 8, 16, 16); correct {__name__}.test_own"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        discriminator(seeded(2, 3, 16, 16))


def test_own_blocks_start_reproducibly():
    def start(seed, noise):
        torch.manual_seed(noise)
        network = ProgressiveDiscriminator(SMALL, block=PlainDown)
        state = torch.get_rng_state()
        network.initialize(seed)
        assert torch.equal(torch.get_rng_state(), state)
        return network.state_dict()

    same, other = (start(5, noise=1), start(5, noise=2)), start(6, noise=1)
    identical(*same)
    for kind in ("weight", "bias"):
        assert not torch.equal(same[0][f"blocks.1.conv.{kind}"], other[f"blocks.1.conv.{kind}"])
    assert not torch.equal(same[0]["blocks.1.conv.weight"], same[0]["blocks.2.conv.weight"][:8, :8])


# Initial weights


@presets
def test_a_seed_gives_the_same_bits(preset):
    torch.manual_seed(1)
    first = recipe(preset).build(seed=5)
    torch.manual_seed(2)
    for network, same, other in zip(first, recipe(preset).build(seed=5), recipe(preset).build(seed=6), strict=True):
        identical(same.state_dict(), network.state_dict())
        for (name, ours), theirs in zip(network.named_parameters(), other.parameters(), strict=True):
            assert torch.equal(ours, theirs) == (not ours.any()), name  # zeros are alike


@presets
def test_levels_start_alike_however_many_lie_above(preset):
    for small, large in zip(
        recipe(preset, (16, 12, 8, 6)).build(), recipe(preset, (16, 12, 8, 6, 4)).build(), strict=True
    ):
        large = large.state_dict()
        for name, parameter in small.state_dict().items():
            identical(parameter, large[name])


@presets
def test_no_two_parameters_start_alike(preset):
    starts = [p.flatten()[:3].tolist() for network in recipe(preset).build() for p in network.parameters() if p.any()]
    assert len({tuple(start) for start in starts}) == len(starts)


@presets
def test_building_leaves_the_random_state_alone(preset):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    recipe(preset).build(seed=3)
    assert torch.equal(torch.get_rng_state(), state)


def test_initial_values():
    generator, discriminator = recipe("karras2018", (64, 48)).build()
    assert_close(generator.blocks[1].first.layer.weight.std().item(), 1.0, rtol=0.02, atol=0)
    assert not any(parameter.any() for name, parameter in generator.named_parameters() if name.endswith("bias"))
    generator, discriminator = recipe("mel_icon", (64, 48)).build()
    assert_close(generator.blocks[1].first.layer.weight.std().item(), math.sqrt(2 / (64 * 9)), rtol=0.02, atol=0)
    bound = 1 / math.sqrt(3)
    assert_close(discriminator.from_rgb[0].weight.std().item(), bound / math.sqrt(3), rtol=0.15, atol=0)
    assert discriminator.from_rgb[0].weight.abs().max() <= bound


@pytest.mark.parametrize("preset", [mel_icon, karras2018])
def test_no_latents_give_no_images_and_no_images_cannot_be_scored(preset):
    recipe = preset(32, channels=(16, 8, 8, 8))
    generator, discriminator = recipe.build()
    for level in range(4):
        size = 4 << level
        assert generator(torch.zeros(0, *recipe.architecture.latent_shape), level).shape == (0, 3, size, size)
        with pytest.raises(ValueError, match="there is no image to compare"):
            discriminator(torch.zeros(0, 3, size, size), level)


def test_a_parameter_that_two_layers_share_is_in_use_where_either_is():
    generator, _ = mel_icon(16, channels=(8, 8, 8)).build()
    generator.to_rgb[2] = generator.to_rgb[1]
    for level in (1, 2):
        assert sum(parameter is generator.to_rgb[1].weight for parameter in generator.in_use(level).values()) == 1
    both = list(generator.in_use(2, 0.5).values())
    assert len({id(parameter) for parameter in both}) == len(both)


@pytest.mark.parametrize("alpha", [None, 0.5])
@presets
def test_compiled_whole_they_are_the_same_to_the_second_derivative(preset, alpha):
    """By a compiler that takes torch's operations as they are; others know of no second derivative, and say so."""
    torch.manual_seed(0)
    recipe = PRESETS[preset](32, channels=(16, 8, 8, 8))
    generator, discriminator = (network.double() for network in recipe.build())
    z = torch.randn(4, *recipe.architecture.latent_shape, dtype=torch.float64)
    real, fake = torch.rand(2, 4, 3, 32, 32, dtype=torch.float64)
    mix = torch.rand(4, dtype=torch.float64)
    parameters = list(discriminator.in_use(3, alpha).values())

    def gradients(network):
        loss = wgan_gp_loss(lambda images: network(images, 3, alpha), real, fake, mix=mix).total
        return torch.autograd.grad(loss, parameters)

    compiled = [torch.compile(each, backend="eager", fullgraph=True) for each in (generator, discriminator)]
    try:
        assert_close(compiled[0](z, 3, alpha), generator(z, 3, alpha))
        assert_close(GrownGenerator(compiled[0], 3, alpha).images(z), GrownGenerator(generator, 3, alpha).images(z))
        with pytest.raises(TypeError, match=r"got an OptimizedModule; pass the network before torch.compile"):
            Trainer(*compiled, recipe.schedule, device="cpu")
        assert_close(gradients(compiled[1]), gradients(discriminator), rtol=1e-9, atol=1e-12)
    finally:
        torch.compiler.reset()
