"""A generator in one file: the same images, what it says of itself, and what is refused."""

from __future__ import annotations

import errno
import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import EACH_FAULT, small_recipe
from running import make, program

from progan import GrownGenerator, Judge, Recipe, Trainer, TruncatedGenerator, export, load_generator, presets
from progan.networks.blocks import GeneratorBlock
from progan.runs.generator_file import GeneratorRecord
from progan.schedule import Stage

KINDS = {
    "mel_icon": {},
    "karras2018": {"preset": presets.karras2018},
    "few_images": {"preset": presets.few_images},
    "grey": {"image_channels": 1},
    "RGBA": {"image_channels": 4},
    "3:2": {"base_size": (6, 4), "latent_shape": (5, 6, 4)},
    "classes": {"preset": presets.few_images, "classes": 3},
    "classes and an image of noise": {"classes": 3},
}


class Block(GeneratorBlock):
    """A block of one's own."""


def recipe_of(preset=presets.mel_icon, **settings) -> Recipe:
    recipe = small_recipe(preset)
    return replace(recipe, architecture=replace(recipe.architecture, **settings))


def grown_of(level: int = 2, **settings) -> GrownGenerator:
    return GrownGenerator(recipe_of(**settings).build(seed=3)[0], level)


def header_of(path) -> dict:
    data = path.read_bytes()
    return json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])


def record_of(path) -> dict:
    return json.loads(header_of(path)["__metadata__"]["progan"])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with two classes that was judged, at the end of its schedule."""
    folder = tmp_path_factory.mktemp("secret_folder") / "run"
    recipe = recipe_of(presets.few_images, classes=2)
    data = [(image, index % 3 // 2) for index, image in enumerate(torch.rand(24, 3, 16, 16))]
    judge = Judge(16, measures={"age": lambda judged: 100.0 - judged.images_seen % 48}, leading="age", n=4)
    make(recipe, folder, callbacks=[judge], held_out=0.25, save_every=32, keep=9).fit(Named(data))
    return folder


class Named(list):
    classes = ("cats", "dogs")


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_images_are_the_same_to_the_bit(kind, level, tmp_path):
    grown = grown_of(level, **KINDS[kind])
    path = export.save_generator(grown, tmp_path / "icons.safetensors")
    loaded = load_generator(path)
    assert torch.equal(loaded.sample(5, seed=2), grown.sample(5, seed=2))
    assert (loaded.level, loaded.alpha) == (level, None)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    again = export.save_generator(path, tmp_path / "again.safetensors")
    assert again.read_bytes() == path.read_bytes()


def test_a_file_of_larger_images(tmp_path):
    grown = grown_of(preset=presets.few_images, supersampling=2)
    path = export.save_generator(grown.enlarged(2), tmp_path / "icons.safetensors", enlarge=3)
    loaded = load_generator(path)
    assert loaded.image_size == export.describe(path).image_size == (96, 96)
    assert torch.equal(loaded.sample(2), grown.enlarged(6).sample(2))
    assert "96x96 (width x height)" in export.model_card(path)
    larger = load_generator(export.save_generator(path, tmp_path / "larger.safetensors", enlarge=2))
    assert larger.drawing == grown.enlarged(12).drawing
    with pytest.raises(ValueError, match="images are drawn at most 16 times as large as the level's, got 18 times"):
        export.save_generator(path, tmp_path / "more.safetensors", enlarge=3)
    with pytest.raises(ValueError, match="enlarge must be at least 1, got 0"):
        export.save_generator(path, tmp_path / "more.safetensors", enlarge=0)
    with pytest.raises(ValueError, match="the generator has no palette"):
        export.save_generator(grown_of(), tmp_path / "more.safetensors", enlarge=2)
    assert not (tmp_path / "more.safetensors").exists()


def test_a_file_of_an_earlier_version_has_no_scale(tmp_path):
    record = export.describe(grown_of()).to_json()
    assert record.pop("scale") == 1
    assert GeneratorRecord.from_json(json.loads(json.dumps(record))).scale == 1


def test_the_safetensors_library_reads_what_is_in_use_and_nothing_else(tmp_path):
    grown = grown_of(1)
    path = export.save_generator(grown, tmp_path / "icons.safetensors")
    found = safetensors.torch.load_file(path)
    assert found.keys() == grown.generator.in_use(1).keys()
    assert {name.split(".")[1] for name in found if name.startswith("to_rgb")} == {"1"}
    for name, tensor in found.items():
        assert torch.equal(tensor, grown.generator.state_dict()[name])
    with safetensors.safe_open(path, "pt") as file:
        assert list(file.metadata()) == ["progan"]


def test_the_article_s_generator_takes_less_than_10_mb(tmp_path):
    grown = GrownGenerator(presets.mel_icon().build()[0], 6)
    path = export.save_generator(grown, tmp_path / "icons.safetensors")
    assert 9_000_000 < path.stat().st_size < 10_000_000
    half = export.save_generator(grown, tmp_path / "half.safetensors", precision="fp16")
    assert half.stat().st_size < 5_000_000


def test_fp16_rounds_the_weights_only(tmp_path):
    grown = grown_of()
    path = export.save_generator(grown, tmp_path / "icons.safetensors", precision="fp16")
    loaded = load_generator(path)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    for name, tensor in loaded.generator.state_dict().items():
        assert torch.equal(tensor, grown.generator.state_dict()[name].half().float())
    difference = (loaded.sample(5) - grown.sample(5)).abs().max()
    assert 0 < difference < 1e-2
    assert export.describe(path).precision == "fp16"


def test_a_run_s_file_says_what_is_known_of_it(run, tmp_path):
    path = export.save_generator(run, tmp_path / "icons.safetensors", licence="CC0-1.0", note="Drawn by hand.")
    loaded, own = load_generator(path), load_generator(run)
    assert torch.equal(loaded.sample(6), own.sample(6))
    assert torch.equal(loaded.sample(2, label="dogs"), own.sample(2, label="dogs"))
    assert loaded.classes == own.classes
    record = export.describe(path)
    assert record == export.describe(path.as_posix())
    assert (record.images_seen, record.data) == (96, {"images": 18, "held_out": 6})
    assert (record.licence, record.note) == ("CC0-1.0", "Drawn by hand.")
    assert record.trained_s is not None
    assert record.classes.names == ("cats", "dogs")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    newest = [row for row in rows if "measures" in row][-1]
    assert record.judgement["images_seen"] == newest["images_seen"]
    assert record.judgement["measures"] == newest["measures"]
    assert Recipe.from_json(record.recipe) == recipe_of(presets.few_images, classes=2)
    assert "secret_folder" not in path.read_bytes().decode(errors="replace")
    assert "content" not in record_of(path)["data"]
    assert export.describe(run) == replace(record, licence=None, note=None)


def test_of_an_older_checkpoint_only_what_was_known_then(run):
    older = sorted((run / "checkpoints").iterdir())[0]
    record = export.describe(older)
    assert record.images_seen == int(older.name) < 96
    assert record.judgement is None or record.judgement["images_seen"] <= record.images_seen


def test_the_best_checkpoint_of_a_run(run, tmp_path):
    path = export.save_generator(run, tmp_path / "icons.safetensors", best=True)
    assert torch.equal(load_generator(path).sample(2), load_generator(run, best=True).sample(2))
    with pytest.raises(ValueError, match="best=True chooses among the checkpoints of a run"):
        export.save_generator(path, tmp_path / "again.safetensors", best=True)


def test_a_fade_is_refused(images, tmp_path):
    make(recipe_of(), tmp_path / "run").fit(images, until=40)
    with pytest.raises(ValueError, match=r"level 1 is still fading in \(alpha 0.5\).* train on until the fade ends"):
        export.save_generator(tmp_path / "run", tmp_path / "icons.safetensors")
    grown = load_generator(tmp_path / "run")
    below = GrownGenerator(grown.generator, 0)  # the remedy that the error names
    export.save_generator(below, tmp_path / "icons.safetensors")
    assert load_generator(tmp_path / "icons.safetensors").sample(1).shape == (1, 3, 4, 4)


def test_other_levels_are_not_in_the_file(tmp_path):
    path = export.save_generator(grown_of(2), tmp_path / "icons.safetensors")
    generator = load_generator(path).generator
    z = torch.zeros(1, 5, 4, 4)
    assert generator(z).shape == (1, 3, 16, 16)
    with pytest.raises(ValueError, match="makes images of level 2 only"):
        generator(z, 1)
    with pytest.raises(ValueError, match="makes images of level 2 only"):
        generator(z, 2, 0.5)


def test_a_file_is_a_start_of_another_run(images, tmp_path):
    path = export.save_generator(grown_of(2), tmp_path / "icons.safetensors")
    with pytest.warns(UserWarning, match=r"it has no generator to_rgb|it has no level"):
        trainer = Trainer.from_recipe(recipe_of(), start=path, device="cpu", progress=False)
    assert torch.equal(
        trainer.generator.blocks[0].first.layer.weight, grown_of(2).generator.blocks[0].first.layer.weight
    )


def test_what_a_file_cannot_hold_is_refused(images, tmp_path):
    target = tmp_path / "icons.safetensors"
    recipe = recipe_of()
    own = GrownGenerator(type(recipe.build()[0])(recipe.architecture, block=Block), 2)
    with pytest.raises(ValueError, match=r"blocks of a class of your own, .*Block, and a file holds numbers, not code"):
        export.save_generator(own, target)
    with pytest.raises(ValueError, match="a TruncatedGenerator does more than a file can hold"):
        export.save_generator(TruncatedGenerator(grown_of(), n=8), target)
    hooked = grown_of()
    hooked.generator.blocks[1].register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"blocks\.1 of the generator has hooks"):
        export.save_generator(hooked, target)
    replaced = grown_of()
    replaced.generator.to_rgb[2] = torch.nn.Conv2d(4, 3, 1)
    with pytest.raises(ValueError, match=r"to_rgb\.2 of the generator is a Conv2d"):
        export.save_generator(replaced, target)
    large = grown_of()
    large.generator.blocks[0].second.layer.bias.data[0] = 1e5
    with pytest.raises(ValueError, match=r"not finite in float16; use precision='fp32'"):
        export.save_generator(large, target, precision="fp16")
    large.generator.blocks[0].second.layer.bias.data[0] = np.nan
    with pytest.raises(ValueError, match="not finite in float32; export an earlier checkpoint"):
        export.save_generator(large, target)
    for source, message in (
        (recipe.build()[0], r"pass GrownGenerator\(generator, level\)"),
        (make(recipe), r"pass its run_dir, or what its grown\(\) returns"),
        (5, "source must be a GrownGenerator"),
    ):
        with pytest.raises(TypeError, match=message):
            export.save_generator(source, target)
    for keywords, message in (
        ({"path": tmp_path / "icons.pt"}, r"ends in \.safetensors"),
        ({"path": tmp_path}, r"ends in \.safetensors"),
        ({"precision": "bf16"}, "precision must be one of fp32, fp16, got 'bf16'"),
        ({"licence": ""}, "licence must be a text of 1 to"),
        ({"note": "x" * 20_001}, "note must be a text of 1 to"),
    ):
        with pytest.raises(ValueError, match=message):
            export.save_generator(grown_of(), **{"path": target, **keywords})
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_blocks_of_its_own_is_refused_before_they_are_asked_for(images, tmp_path):
    recipe = recipe_of()
    networks = [type(network)(recipe.architecture, block=None) for network in recipe.build()]
    networks[0] = type(networks[0])(recipe.architecture, block=Block)
    trainer = Trainer(
        *networks, recipe.schedule, recipe.training, run_dir=tmp_path / "run", device="cpu", progress=False
    )
    trainer.fit(images, until=8)
    with pytest.raises(ValueError, match="blocks of a class of your own"):
        export.save_generator(tmp_path / "run", tmp_path / "icons.safetensors")


def test_a_checkpoint_is_not_written_over(run, tmp_path):
    tensors = max((run / "checkpoints").iterdir()) / "tensors.safetensors"
    before = tensors.read_bytes()
    with pytest.raises(ValueError, match="is part of a checkpoint, which would be lost; pass another path"):
        export.save_generator(run, tensors)
    assert tensors.read_bytes() == before


def test_a_file_takes_no_block_and_has_no_best(tmp_path):
    path = export.save_generator(grown_of(), tmp_path / "icons.safetensors")
    with pytest.raises(ValueError, match="holds one generator, of built-in blocks; leave out block"):
        load_generator(path, block=Block)
    with pytest.raises(ValueError, match="leave out best"):
        load_generator(path, best=True)
    with pytest.raises(ValueError, match="leave out average"):
        load_generator(path, average="ema_1")


@EACH_FAULT
def test_nothing_is_half_written(number, tmp_path, hooked):
    path = export.save_generator(grown_of(1), tmp_path / "icons.safetensors")
    before, operations, fails_at = path.read_bytes(), [], None

    def hook(operation, _):
        operations.append(operation)
        if len(operations) - 1 == fails_at and (operation, number) != ("fsync", errno.EACCES):
            raise OSError(number, "broken", str(path))

    hooked(hook)
    export.save_generator(grown_of(2), path)
    for k in range(len(operations)):
        fails_at = k
        path.write_bytes(before)
        operations.clear()
        try:
            export.save_generator(grown_of(2), path)
        except OSError:
            if path.read_bytes() != before:
                load_generator(path)  # the folder's sync failed, after the file was in place
        assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_it_loads_in_two_lines_without_what_trains(run, tmp_path):
    path = export.save_generator(run, tmp_path / "icons.safetensors")
    done = program(
        "import sys; from progan.runs.generator import load_generator; "
        "images = load_generator(sys.argv[1]).sample(2); "
        "print(tuple(images.shape), 'progan.export' in sys.modules)",
        str(path),
    )
    assert done.stdout.split("\n")[0] == "(2, 3, 16, 16) False"


def test_the_schedule_s_end_is_not_needed(images, tmp_path):
    recipe = Recipe(recipe_of().architecture, (Stage(0, 0, 32, 8, 1e-3),))
    make(recipe, tmp_path / "run").fit(images, until=16)
    path = export.save_generator(tmp_path / "run", tmp_path / "icons.safetensors")
    assert export.describe(path).images_seen == 16
    assert export.describe(path).architecture.channels == (8,)
