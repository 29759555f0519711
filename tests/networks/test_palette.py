"""The layer whose pixels are mixtures of a palette's colours, and the generators that end with it."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from progan import Architecture, GrownGenerator, ProgressiveGenerator, TruncatedGenerator, load_generator
from progan.export import save_generator
from progan.networks import drawing as drawing_module
from progan.networks.drawing import Drawing, drawing_of, drawn_weights
from progan.networks.palette import Palette
from progan.ops.sparsemax import sparsemax

SMALL = Architecture((8, 6, 5), latent_shape=(7,), modulation=True, palette=4)


def seeded(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def generator_of(architecture: Architecture = SMALL) -> ProgressiveGenerator:
    generator = ProgressiveGenerator(architecture).double()
    generator.initialize(3)
    return generator


@pytest.mark.parametrize("image_range", [(-1.0, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("image_channels", [1, 3, 4])
def test_pixels_are_mixtures_of_colours_that_a_dense_layer_makes_of_the_latent(image_range, image_channels):
    architecture = replace(SMALL, image_range=image_range, image_channels=image_channels)
    layer = generator_of(architecture).to_rgb[2]
    x, latent = seeded(2, 5, 3, 6), seeded(2, 7)
    dense = latent @ layer.colours.weight.T * 0.2 / 7**0.5 + layer.colours.bias
    low, high = image_range
    of_pixels = 3 / 5**0.5 * torch.einsum("kc,bchw->bkhw", layer.weights.weight[:, :, 0, 0], x)
    of_pixels = of_pixels + layer.weights.bias[:, None, None]
    shares = {-1: 1, 0: 2, 1: 1}
    for image, maps, colours in zip(layer(x, latent), of_pixels, dense.view(2, 4, image_channels), strict=True):
        for row in range(3):
            for column in range(6):
                around = [
                    shares[down] * shares[right] * maps[:, min(max(row + down, 0), 2), min(max(column + right, 0), 5)]
                    for down in shares
                    for right in shares
                ]
                logits = sum(around) / 16
                ordered = sorted(logits.tolist(), reverse=True)
                counts = [k for k in range(1, 5) if 1 + k * ordered[k - 1] > sum(ordered[:k])]
                threshold = (sum(ordered[: counts[-1]]) - 1) / counts[-1]
                mixed = sum(max(logit - threshold, 0) * colour for logit, colour in zip(logits, colours, strict=True))
                assert_close(image[:, row, column], (low + high) / 2 + (high - low) / 2 * mixed)


@pytest.mark.parametrize("layers", [1, 2])
def test_colours_may_be_a_function_of_the_latent_that_is_not_linear(layers):
    layer = generator_of(replace(SMALL, palette_layers=layers)).to_rgb[2]
    with torch.no_grad():
        layer.weights.bias[1] = 100  # one colour is left
    x, latent = seeded(5, 5, 2, 2), seeded(5, 7)
    hidden = latent
    for each in layer.hidden:
        hidden = hidden @ each.weight.T * (2 / 7) ** 0.5 + each.bias
        hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
    colours = hidden @ layer.colours.weight.T * 0.2 / 7**0.5 + layer.colours.bias
    assert len(layer.hidden) == layers
    assert_close(layer(x, latent)[:, :, 0, 0], colours.view(5, 4, 3)[:, 1])


def test_a_palette_without_layers_is_that_of_earlier_files():
    names = {name for name, _ in generator_of().to_rgb[2].named_parameters()}
    assert names == {"weights.weight", "weights.bias", "colours.weight", "colours.bias"}
    deeper = dict(generator_of(replace(SMALL, palette_layers=1)).named_parameters())
    for name, parameter in generator_of().named_parameters():
        assert torch.equal(parameter, deeper[name]), name


def test_generators_end_with_it_at_each_level():
    generator, z = generator_of(), seeded(3, 7)
    latent = z / (z.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    for level in range(3):
        assert_close(generator(z, level), generator.to_rgb[level](generator.features(z, level), latent))
    below = torch.nn.functional.interpolate(generator(z, 1), scale_factor=2)
    assert_close(generator(z, 2, 0.25), 0.75 * below + 0.25 * generator(z, 2))


def test_where_one_colour_is_left_the_image_is_flat_to_the_bit():
    layer, latent = generator_of().to_rgb[2].float(), seeded(1, 7).float()
    with torch.no_grad():
        layer.weights.bias[2] = 100
    noisy = layer(seeded(1, 5, 8, 8).float(), latent)
    assert torch.equal(noisy, noisy[:, :, :1, :1].expand_as(noisy))
    assert_close(noisy[0, :, 0, 0], layer.colours(latent).view(4, 3)[2])


def test_what_is_drawn_is_sharper_than_what_is_trained(tmp_path):
    sharp = replace(SMALL, sharpness=3.0)
    generator, z = generator_of(sharp), seeded(3, 7)
    trained, drawn = generator(z, 2), generator(z, 2, drawing=drawing_of(sharp))
    layer, soft = generator.to_rgb[2], generator_of(sharp).to_rgb[2]
    with torch.no_grad():
        for each in soft.weights.parameters():
            each *= 3
    features, (latent,) = generator.features(z, 2), generator.modulating(z)
    assert_close(drawn, soft(features, latent))
    assert_close(drawn, layer(features, latent, Drawing(3.0)))
    assert not torch.equal(drawn, trained)
    grown = GrownGenerator(generator, 2)
    assert_close(grown(z), drawn)
    assert_close(TruncatedGenerator(grown, 1.0)(z), drawn)
    assert_close(GrownGenerator(generator_of(), 2)(z), trained)
    save_generator(GrownGenerator(generator.float(), 2), tmp_path / "sharp.safetensors")
    assert_close(load_generator(tmp_path / "sharp.safetensors")(z.float()), drawn.float(), rtol=0, atol=1e-4)


def interpolated(row: list[float], place: float) -> float:
    """Interpolate by cubic convolution between the numbers of a row, whose ends are repeated (Keys 1981, eq. 15)."""
    total = 0.0
    for index in range(-3, len(row) + 3):
        s = abs(place - index)
        if s < 1:
            weight = 1.5 * s**3 - 2.5 * s**2 + 1
        elif s < 2:
            weight = -0.5 * s**3 + 2.5 * s**2 - 4 * s + 2
        else:
            weight = 0.0
        total += weight * row[min(max(index, 0), len(row) - 1)]
    return total


@pytest.mark.parametrize("drawing", [Drawing(2.0, 2, 1), Drawing(1.0, 3, 1), Drawing(1.5, 1, 2), Drawing(3.0, 2, 3)])
def test_a_pixel_has_the_mean_weights_at_points_within_it(drawing):
    logits = 2 * seeded(1, 3, 4, 5)
    sharpness, points, scale = drawing
    found = drawn_weights(logits, drawing)
    assert found.shape == (1, 3, 4 * scale, 5 * scale)
    places = [(index + 0.5) / (points * scale) - 0.5 for index in range(5 * points * scale)]
    for row in range(4 * scale):
        for column in range(5 * scale):
            at_points = []
            for y in places[points * row : points * (row + 1)]:
                for x in places[points * column : points * (column + 1)]:
                    values = [
                        interpolated([interpolated(line, x) for line in colour], y) for colour in logits[0].tolist()
                    ]
                    at_points.append(sparsemax(sharpness * torch.tensor(values, dtype=torch.float64)[None]))
            assert_close(found[0, :, row, column], torch.cat(at_points).mean(dim=0))


def test_interpolation_reproduces_parabolas_inside():
    x = torch.arange(8, dtype=torch.float64).expand(1, 1, 8, 8)
    moved = drawing_module._interpolated(drawing_module._interpolated(x**2, 0.3, 3), -0.4, 2)
    assert_close(moved[..., 2:-2], ((x + 0.3) ** 2)[..., 2:-2])


def test_supersampling_smooths_contours_and_leaves_flat_areas_flat():
    """A slanted contour between two colours: one point leaves steps, several leave shares of pixels' areas."""
    place = torch.arange(16.0)[None, :] - 0.3 * torch.arange(16.0)[:, None] - 5.2
    logits = torch.stack([place, -place])[None]
    areas = torch.stack([(place + shift).clamp(-0.5, 0.5) + 0.5 for shift in torch.linspace(-0.13, 0.13, 9)]).mean(
        dim=0
    )
    errors = [
        (drawn_weights(logits, Drawing(100.0, points))[0, 0] - areas)[2:-2, 2:-2].abs().max().item()
        for points in (1, 2, 4)
    ]
    assert errors[0] > 0.4
    assert errors[1] < 0.3
    assert errors[2] < 0.15
    smooth = drawn_weights(logits, Drawing(100.0, 4))[0, 0]
    assert torch.equal(smooth[place.abs() > 2], (place > 0).float()[place.abs() > 2])


@pytest.mark.parametrize("drawing", [Drawing(4.0, 2), Drawing(8.0, 2, 4), Drawing(2.0, 1, 3), Drawing(2.0, 3, 2)])
def test_an_exported_program_draws_the_same_in_few_operations(drawing):
    class Drawn(torch.nn.Module):
        def forward(self, logits):
            return drawn_weights(logits, drawing)

    logits = seeded(2, 4, 6, 5)
    program = torch.export.export(Drawn(), (logits,), strict=False)
    assert torch.equal(program.module()(logits), drawn_weights(logits, drawing))
    assert len(program.graph.nodes) < 1500, "each point has a sparsemax of its own"


def test_generators_draw_larger(tmp_path):
    smooth = replace(SMALL, sharpness=2.0, supersampling=2)
    generator, z = generator_of(smooth), seeded(3, 7)
    grown = GrownGenerator(generator, 2)
    assert_close(grown(z), generator(z, 2, drawing=Drawing(2.0, 2)))
    larger = grown.enlarged(3)
    assert (grown.image_size, larger.image_size) == ((16, 16), (48, 48))
    assert larger(z).shape == (3, 3, 48, 48)
    assert_close(larger(z), generator(z, 2, drawing=Drawing(6.0, 2, 3)))
    assert_close(TruncatedGenerator(larger, 1.0)(z), larger(z))
    assert torch.equal(grown.enlarged(1)(z), grown(z))
    assert larger.enlarged(2).drawing == Drawing(12.0, 2, 6)
    at_points = generator(z, 2, drawing=Drawing(2.0, 1, 2))
    assert_close(torch.nn.functional.avg_pool2d(at_points, 2), grown(z))
    fading = GrownGenerator(generator, 2, alpha=0.25)
    below = torch.nn.functional.interpolate(GrownGenerator(generator, 1).enlarged(3)(z), scale_factor=2)
    assert_close(fading.enlarged(3)(z), 0.75 * below + 0.25 * larger(z))
    save_generator(GrownGenerator(generator.float(), 2), tmp_path / "smooth.safetensors")
    loaded = load_generator(tmp_path / "smooth.safetensors")
    assert loaded.drawing == Drawing(2.0, 2)
    assert_close(loaded.enlarged(3)(z.float()), larger.float()(z.float()), rtol=0, atol=1e-4)
    plain = GrownGenerator(ProgressiveGenerator(replace(SMALL, palette=0)), 2)
    with pytest.raises(ValueError, match=r"generator has no palette, which .* so its images cannot be drawn larger"):
        plain.enlarged(2)
    assert plain.enlarged(1).image_size == (16, 16)
    with pytest.raises(ValueError, match="scale must be at least 1, got 0"):
        grown.enlarged(0)


def test_the_first_images_have_flat_areas_edges_and_as_many_contrasts_as_others():
    images = generator_of(replace(SMALL, channels=(32, 32, 32), latent_shape=(64,), palette=12))(seeded(64, 64), 2)
    plain = generator_of(replace(SMALL, channels=(32, 32, 32), latent_shape=(64,), palette=0))(seeded(64, 64), 2)
    assert images.shape == (64, 3, 16, 16)
    assert 0.5 < images.std() / plain.std() < 1


def test_colours_are_mixed_in_float32():
    layer, x, latent = Palette(SMALL, 5), seeded(2, 5, 4, 4).float(), seeded(2, 7).float()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(x, latent)
    assert mixed.dtype == torch.float32
    assert not torch.equal(mixed, mixed.bfloat16().float())
    assert_close(mixed, layer(x, latent), rtol=0, atol=0.05)
    half = layer.bfloat16()
    assert half(x.bfloat16(), latent.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("error", "settings", "message"),
    [
        (ValueError, {"palette": 1}, "a palette has 2 to 64 colours, got palette=1; 0 is none"),
        (ValueError, {"palette": 65}, "a palette has 2 to 64 colours, got palette=65; 0 is none"),
        (ValueError, {"palette": -1}, "Architecture.palette must be at least 0, got -1"),
        (TypeError, {"palette": True}, "Architecture.palette must be an int"),
        (ValueError, {"sharpness": 0.0}, "sharpness must be above 0, got 0.0; 1 draws as in training"),
        (TypeError, {"sharpness": "high"}, "Architecture.sharpness must be a number"),
        (ValueError, {"supersampling": 0}, "Architecture.supersampling must be at least 1, got 0"),
        (ValueError, {"supersampling": 9}, "supersampling must be at most 8, got 9"),
        (TypeError, {"supersampling": 1.5}, "Architecture.supersampling must be an int"),
        (ValueError, {"modulation": False}, "pass modulation=True and output='linear', got False and 'linear'"),
        (
            ValueError,
            {"output": "sigmoid", "image_range": (0, 1)},
            "pass modulation=True and output='linear', got True and 'sigmoid'",
        ),
    ],
)
def test_settings_that_make_no_palette(error, settings, message):
    with pytest.raises(error, match=message.replace("(", r"\(")):
        replace(SMALL, **settings)
