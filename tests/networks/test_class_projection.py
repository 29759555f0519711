"""Networks with classes: the embedding in the generator, the projection in the discriminator."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import small_recipe
from torch.autograd import gradcheck, gradgradcheck

from progan import Architecture, EqualizedEmbedding, ProgressiveDiscriminator, ProgressiveGenerator, presets
from progan.networks.fused import cached_weights, generate, score

LABELS = torch.tensor([2, 0, 1, 2])
PRESETS = pytest.mark.parametrize("preset", [presets.mel_icon, presets.karras2018])


def networks(preset=presets.karras2018, classes=3, dtype=torch.float64):
    recipe = small_recipe(preset)
    architecture = replace(recipe.architecture, classes=classes, class_embedding=6 if classes else 128)
    return tuple(network.to(dtype) for network in replace(recipe, architecture=architecture).build(seed=1))


def latents(generator, n=4):
    rng = torch.Generator().manual_seed(0)
    return torch.randn(n, *generator.architecture.latent_shape, generator=rng, dtype=torch.float64)


def seen_by(module, call):
    """What a module is given and returns in a call, as arrays."""
    found = []
    handle = module.register_forward_hook(lambda _, given, result: found.append((given[0], result)))
    result = call()
    handle.remove()
    return found[0][0].detach().numpy(), found[0][1].detach().numpy(), result.detach().numpy()


def test_an_embedding_is_a_dense_layer_of_one_hot_labels():
    embedding = EqualizedEmbedding(3, 5, gain=2.0, fan_in=7).double()
    one_hot = np.eye(3)[LABELS.numpy()]
    expected = one_hot @ embedding.weight.detach().numpy() * 2 / math.sqrt(7)
    np.testing.assert_allclose(embedding(LABELS).detach().numpy(), expected, rtol=1e-12)


def test_an_embedding_begins_as_it_should():
    torch.manual_seed(0)
    assert EqualizedEmbedding(100, 100).weight.std().item() == pytest.approx(1, abs=0.03)
    plain = EqualizedEmbedding(100, 100, fan_in=4, equalized=False)
    assert plain.constant == 1
    assert plain.weight.abs().max().item() == pytest.approx(0.5, abs=0.001)


@PRESETS
def test_the_embedding_joins_the_latent_after_its_normalisation(preset):
    generator, _ = networks(preset)
    stem, z = generator.blocks[0], latents(generator)
    given, _, _ = seen_by(stem.first.layer, lambda: generator(z, 1, labels=LABELS))
    y = stem.embedding.weight.detach().numpy()[LABELS.numpy()]
    x = z.numpy()
    if generator.architecture.normalize_latent:
        y, x = (each / np.sqrt((each**2).mean(1, keepdims=True) + 1e-8) for each in (y, x))
    if x.ndim == 4:  # as channels that are the same at each pixel
        y = np.tile(y[:, :, None, None], (1, 1, 4, 4))
    np.testing.assert_allclose(given, np.concatenate([x, y], axis=1), rtol=1e-10)


@PRESETS
def test_the_projection_is_added_to_the_score(preset):
    """score(x, y) = linear(x) + <embedding(y), x> / sqrt(n), Miyato and Koyama 2018, equation 3."""
    _, discriminator = networks(preset)
    head, images = discriminator.blocks[0], torch.rand(4, 3, 16, 16, dtype=torch.float64)
    x, linear, scores = seen_by(head.score, lambda: discriminator(images, labels=LABELS))
    table = head.embedding.weight.detach().numpy()
    constant = 1 / math.sqrt(x.shape[1]) if discriminator.architecture.equalized_ends else 1.0
    expected = [linear[i, 0] + constant * table[label] @ x[i] for i, label in enumerate(LABELS.tolist())]
    np.testing.assert_allclose(scores, expected, rtol=1e-10)


@PRESETS
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_fast_paths_are_the_networks(preset, alpha):
    generator, discriminator = networks(preset)
    z = latents(generator)
    with cached_weights(2, alpha, generator, discriminator):
        images = generate(generator, z, 2, alpha, LABELS)
        scores = score(discriminator, torch.cat([images, images]), 2, alpha, 2, LABELS.repeat(2))
    torch.testing.assert_close(images, generator(z, 2, alpha, LABELS))
    expected = discriminator(torch.cat([images, images]), 2, alpha, LABELS.repeat(2), batches=2)
    torch.testing.assert_close(scores, expected)


def test_modulation_takes_the_class_too():
    """Blocks above level 0 are given the latent with the embedding, as the first layer is."""
    architecture = replace(small_recipe(presets.karras2018).architecture, classes=3, class_embedding=6, modulation=True)
    generator = ProgressiveGenerator(architecture).double()
    z = latents(generator)
    given, _, images = seen_by(generator.blocks[2].modulation, lambda: generator(z, 2, labels=LABELS))
    x, y = z.numpy(), generator.blocks[0].embedding.weight.detach().numpy()[LABELS.numpy()]
    expected = [each / np.sqrt((each**2).mean(1, keepdims=True) + 1e-8) for each in (x, y)]
    np.testing.assert_allclose(given, np.concatenate(expected, axis=1), rtol=1e-10)
    np.testing.assert_allclose(generate(generator, z, 2, None, LABELS).detach().numpy(), images, rtol=1e-10)


def test_gradients():
    generator, discriminator = networks()
    images = generator(latents(generator, 2), 0, labels=LABELS[:2]).detach().requires_grad_(True)
    table = discriminator.blocks[0].embedding.weight

    def scores(images, weight):
        named = {"blocks.0.embedding.weight": weight}
        return torch.func.functional_call(discriminator, named, (images, 0, None, LABELS[:2]))

    assert gradcheck(scores, (images, table))
    assert gradgradcheck(scores, (images, table))

    def made(weight):
        named = {"blocks.0.embedding.weight": weight}
        return torch.func.functional_call(generator, named, (latents(generator, 2), 0, None, LABELS[:2])).sum((2, 3))

    assert gradcheck(made, (generator.blocks[0].embedding.weight,))


def test_the_embeddings_are_in_use_at_every_level():
    for network in networks():
        for level in range(3):
            assert "blocks.0.embedding.weight" in network.in_use(level)


@PRESETS
def test_without_classes_nothing_is_new(preset):
    """The same parameters and initial weights, but those of the layers that a class enters."""
    plain, conditional = networks(preset, classes=0), networks(preset)
    for ours, theirs in zip(plain, conditional, strict=True):
        assert not [name for name, _ in ours.named_parameters() if "embedding" in name]
        there = dict(theirs.named_parameters())
        assert [name for name, _ in theirs.named_parameters() if name not in dict(ours.named_parameters())] == [
            "blocks.0.embedding.weight"
        ]
        for name, parameter in ours.named_parameters():
            if not (ours is plain[0] and name.startswith("blocks.0.first")):  # the layer that the embedding enters
                assert torch.equal(parameter, there[name])


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (None, ValueError, "the networks have 3 classes; pass labels=, each 0 to 2"),
        (
            torch.tensor([0, 1, 2, 3]),
            ValueError,
            "labels must be 0 to 2, since the networks have 3 classes, got 0",
        ),
        (torch.tensor([0, -1, 2, 0]), ValueError, "got -1 to 2"),
        (torch.tensor([0, 1]), ValueError, r"labels must be \(4,\), one for each image, got \(2,\)"),
        (torch.tensor([0.0, 1, 2, 0]), TypeError, "labels must be int64, got torch.float32"),
        ([0, 1, 2, 0], TypeError, "labels must be a tensor, got a list"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, error, message):
    generator, discriminator = networks()
    with pytest.raises(error, match=message):
        generator(latents(generator), 0, labels=labels)
    with pytest.raises(error, match=message):
        discriminator(torch.zeros(4, 3, 4, 4, dtype=torch.float64), labels=labels)


def test_labels_for_networks_without_classes_are_refused():
    generator, _ = networks(classes=0)
    with pytest.raises(ValueError, match="the networks have no classes, and labels were passed"):
        generator(latents(generator), 0, labels=LABELS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": -1}, "Architecture.classes must be at least 0, got -1"),
        ({"classes": 1001}, "Architecture.classes must be at most 1,000, got 1001"),
        ({"class_embedding": 0}, "Architecture.class_embedding must be at least 1"),
    ],
)
def test_settings_that_are_no_classes(settings, message):
    with pytest.raises(ValueError, match=message):
        Architecture((8, 4), **settings)


def test_networks_with_classes_are_compiled_whole():
    generator = ProgressiveGenerator(Architecture((8, 4), latent_shape=(5,), classes=3))
    discriminator = ProgressiveDiscriminator(Architecture((8, 4), latent_shape=(5,), classes=3))
    z = torch.randn(4, 5)
    whole = torch.compile(lambda z, labels: generator(z, 1, None, labels), backend="eager", fullgraph=True)
    judge = torch.compile(lambda x, labels: discriminator(x, 1, None, labels), backend="eager", fullgraph=True)
    images = whole(z, LABELS).detach()
    torch.testing.assert_close(images, generator(z, 1, None, LABELS))
    torch.testing.assert_close(judge(images, LABELS), discriminator(images, 1, None, LABELS))
