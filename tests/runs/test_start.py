"""A new run that starts from the weights of another one, and a run that continues from an older checkpoint."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import OwnBlock, contents, same, small_recipe

from progan import (
    CheckpointError,
    Ema,
    ProgressiveDiscriminator,
    ProgressiveGenerator,
    Recipe,
    Stage,
    Start,
    Trainer,
    load_generator,
    presets,
)
from progan.runs.checkpoint import checkpoints, read_manifest, read_tensors
from progan.storage.files import write_file
from progan.storage.tensor_file import header_of
from progan.training.loop import TrainingLoop

EVERY = {"log_every": 48, "save_every": 8, "preview_every": 10_000, "keep": 99}


def make(recipe, run_dir=None, **keywords) -> Trainer:
    return Trainer.from_recipe(
        recipe, seed=3, run_dir=run_dir, device="cpu", **{"progress": False, **EVERY, **keywords}
    )


def at_top(recipe: Recipe, images: int = 40, rate: float = 5e-4) -> Recipe:
    """Train on at full size, more slowly."""
    top = recipe.architecture.top_level
    return replace(recipe, stages=(Stage(top, 0, images, learning_rate=rate),))


def smaller(recipe: Recipe) -> Recipe:
    """The same without its top level."""
    architecture = replace(recipe.architecture, channels=recipe.architecture.channels[:-1])
    return Recipe(architecture, recipe.stages[:-1], recipe.training)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Finished runs by the name of their preset, and one of 8 px."""
    images = torch.randint(0, 256, (21, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    folder = tmp_path_factory.mktemp("sources")
    for preset in ("mel_icon", "karras2018"):
        make(small_recipe(getattr(presets, preset)), folder / preset, keep_every=24, keep=3).fit(images)
    make(smaller(small_recipe()), folder / "8px", keep=2).fit(images)
    return folder


@pytest.fixture
def old(sources, tmp_path) -> Path:
    """A finished run of the small mel_icon recipe, to be spoiled."""
    return Path(shutil.copytree(sources / "mel_icon", tmp_path / "old"))


def state(trainer: Trainer, role: str) -> dict[str, torch.Tensor]:
    tensors = trainer.state_dict()["tensors"]
    return {name.removeprefix(f"{role}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{role}/")}


def write(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """Write a file as other programs do, with a word of metadata."""
    header = header_of({name: (t.dtype, tuple(t.shape)) for name, t in tensors.items()}, {"format": "pt"})
    write_file(path, [header, *(t.contiguous().view(-1).view(torch.uint8).numpy().tobytes() for t in tensors.values())])
    return path


def write_generator(old: Path, path: Path, prefix: str = "", dtype=torch.float32) -> Path:
    tensors = read_tensors(checkpoints(old)[-1], "ema/")
    return write(path, {f"{prefix}{name}": tensor.to(dtype) for name, tensor in tensors.items()})


# Fine-tuning


@pytest.mark.parametrize("preset", ["mel_icon", "karras2018"])
def test_fine_tuning_begins_with_the_networks_and_the_average(preset, sources, images, tmp_path):
    recipe = at_top(small_recipe(getattr(presets, preset)))
    trainer = make(recipe, tmp_path / "new", start=sources / preset)
    newest = checkpoints(sources / preset)[-1]
    for role in ("generator", "discriminator", "ema"):
        assert same(state(trainer, role), read_tensors(newest, f"{role}/")), role
    assert not any(name.startswith("adam_") for name in trainer.state_dict()["tensors"])
    assert (trainer.images_seen, trainer.growth.level) == (0, 2)
    digest = read_manifest(newest)["tensors_sha256"]
    expected = Start(str(sources / preset), 96, 2, digest, ("generator", "discriminator", "ema"))
    assert trainer.start == expected
    averaged = {name: tensor.clone() for name, tensor in state(trainer, "ema").items()}
    trainer.fit(images, until=8)
    decay = recipe.training.ema.decay
    assert not trainer.ema.warm_up, "its first step would forget the average"
    for name, tensor in state(trainer, "generator").items():
        torch.testing.assert_close(state(trainer, "ema")[name], torch.lerp(averaged[name], tensor, 1 - decay))
    for record in (
        json.loads((tmp_path / "new/config.json").read_text()),
        read_manifest(checkpoints(tmp_path / "new")[-1]),
    ):
        assert Start.from_json(record["start"]) == expected


def test_an_older_checkpoint_and_its_file_are_the_same_start(sources, images, tmp_path):
    folder = sources / "mel_icon/checkpoints/000000048"
    recipe = replace(small_recipe(), stages=(Stage(1, 0, 40), Stage(2, 20, 20)))
    one = make(recipe, tmp_path / "new", start=folder)
    assert (one.start.images_seen, one.start.level) == (48, 1)
    one.fit(images, until=8)
    other = make(recipe, tmp_path / "new", start=folder / "tensors.safetensors")
    assert (other.images_seen, other.start) == (8, one.start)


def test_a_start_at_4x4_is_noticed(sources):
    text = r"it had grown to level 2, and this schedule begins at level 0; to go on from there, pass stages that begin"
    with pytest.warns(UserWarning, match=text):
        make(small_recipe(), start=sources / "mel_icon")


def test_a_start_that_had_grown_further_is_noticed(sources):
    text = r"it had grown to level 2, and this architecture ends at level 1; the levels above are not used"
    with pytest.warns(UserWarning, match=text):
        make(at_top(smaller(small_recipe())), start=sources / "mel_icon")


def test_the_weights_take_the_dtype_of_the_run(sources):
    recipe = at_top(small_recipe())
    networks = (network.double() for network in recipe.build())
    trainer = Trainer(
        *networks, recipe.schedule, recipe.training, device="cpu", progress=False, start=sources / "mel_icon"
    )
    theirs = read_tensors(checkpoints(sources / "mel_icon")[-1], "ema/")
    assert all(torch.equal(tensor, theirs[name].double()) for name, tensor in state(trainer, "ema").items())


# Another size


def test_a_grown_run_keeps_the_levels_that_it_has(sources, images, tmp_path):
    recipe = replace(small_recipe(), stages=(Stage(2, 24, 16), Stage(2, 0, 8)))
    trainer = make(recipe, tmp_path / "new", start=sources / "8px")
    theirs = read_tensors(checkpoints(sources / "8px")[-1])
    fresh = dict(zip(("generator", "discriminator"), (n.state_dict() for n in recipe.build(seed=3)), strict=True))
    fresh["ema"] = fresh["generator"]
    for role in ("generator", "discriminator", "ema"):
        for name, tensor in state(trainer, role).items():
            assert torch.equal(tensor, theirs.get(f"{role}/{name}", fresh[role][name])), f"{role}/{name}"
    z = torch.randn(2, 5, 4, 4)
    before = load_generator(sources / "8px").generator
    seamless = trainer.ema(z, 2, 0.0), torch.nn.functional.interpolate(before(z, 1), scale_factor=2.0)
    torch.testing.assert_close(*seamless)
    trainer.fit(images)
    assert trainer.images_seen == recipe.schedule.total_images
    assert load_generator(tmp_path / "new").level == 2
    assert (tmp_path / "new/progress.png").exists()


def test_widths_that_differ_are_named(sources):
    recipe = at_top(small_recipe())
    wider = replace(recipe, architecture=replace(recipe.architecture, channels=(8, 6, 5)))
    text = (
        r"not taken as it is: these parts do not fit, and keep their initial weights: generator blocks.2.first.layer."
        r"weight is \(4, 6, 3, 3\) there, \(5, 6, 3, 3\) here; generator to_rgb.2.weight .*; discriminator blocks.2"
    )
    with pytest.warns(UserWarning, match=text):
        trainer = make(wider, start=sources / "mel_icon")
    theirs = read_tensors(checkpoints(sources / "mel_icon")[-1], "generator/")
    fresh = wider.build(seed=3)[0].state_dict()
    for name, tensor in state(trainer, "generator").items():
        fits = not name.startswith(("blocks.2", "to_rgb.2"))
        assert torch.equal(tensor, (theirs if fits else fresh)[name]), "a part is taken whole or not at all"


def test_another_architecture_of_the_same_shapes_is_said(sources):
    recipe = at_top(small_recipe())
    other = replace(recipe, architecture=replace(recipe.architecture, padding="zeros", minibatch_std_group=4))
    with pytest.warns(UserWarning, match=r"in this architecture, which differs in padding 'reflect' -> 'zeros'$"):
        make(other, start=sources / "mel_icon")


def test_blocks_of_ones_own_are_taken_by_their_name(sources, images, tmp_path):
    recipe = at_top(small_recipe())

    def own(start, run_dir=None, block=OwnBlock):
        pair = ProgressiveGenerator(recipe.architecture, block=block), ProgressiveDiscriminator(recipe.architecture)
        for network in pair:
            network.initialize(5)
        return Trainer(
            *pair, recipe.schedule, recipe.training, device="cpu", progress=False, run_dir=run_dir, start=start
        )

    with pytest.warns(UserWarning, match=r"generator blocks.1 is made of the built-in block there, of .*OwnBlock here"):
        first = own(sources / "mel_icon", tmp_path / "first")
    first.fit(images, until=8)
    second = own(tmp_path / "first")
    assert same(state(second, "generator"), state(first, "generator"))


# What is taken from a file


@pytest.mark.parametrize(
    ("prefix", "averaged"), [("", False), ("generator/", False), ("module.", False), ("ema/", True)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_file_of_a_generator(prefix, averaged, dtype, old, images, tmp_path):
    path = write_generator(old, tmp_path / "generator.safetensors", prefix, dtype)
    recipe = at_top(small_recipe())
    with pytest.warns(UserWarning, match="it has no discriminator; initial weights stay there"):
        trainer = make(recipe, start=path)
    theirs = read_tensors(checkpoints(old)[-1], "ema/")
    assert same(state(trainer, "generator"), theirs)
    assert same(state(trainer, "ema"), theirs)
    assert same(state(trainer, "discriminator"), recipe.build(seed=3)[1].state_dict())
    assert trainer.ema.warm_up == (not averaged)
    assert (trainer.start.images_seen, trainer.start.level) == (None, None)
    trainer.fit(images, until=8)


def test_what_cannot_be_started_from(old, recipe, images, tmp_path):
    recipe = at_top(recipe)
    tensors = read_tensors(checkpoints(old)[-1], "ema/")
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "empty").mkdir()
    name = next(iter(tensors))
    write(tmp_path / "nan.safetensors", {**tensors, name: torch.full_like(tensors[name], torch.nan)})
    write(tmp_path / "ints.safetensors", {name: torch.zeros(t.shape, dtype=torch.int32) for name, t in tensors.items()})
    write(tmp_path / "other.safetensors", {"weight": torch.zeros(3)})
    write(tmp_path / "critic.safetensors", {"discriminator/x": torch.zeros(3)})
    (tmp_path / "damaged.safetensors").write_bytes((tmp_path / "nan.safetensors").read_bytes()[:-1])
    for path, text in {
        "nowhere": "cannot start from .*nowhere: nothing is there; pass a run directory, the folder of a checkpoint or",
        "a.txt": "cannot start from .*a.txt: got another file; pass a run directory",
        "empty": "empty is not a checkpoint, nor a run with one",
        "nan.safetensors": f"{name} has values that are not finite in torch.float32; start from an earlier checkpoint",
        "ints.safetensors": "nothing in .* fits the generator: differing: generator .* is of torch.int32 there",
        "other.safetensors": "nothing in .* fits the generator: it has none of the generator's tensors. A start must",
        "critic.safetensors": "nothing in .* fits the generator: it has none of the generator's tensors",
        "damaged.safetensors": "is damaged: ",
    }.items():
        generator, discriminator = recipe.build()
        before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
        with pytest.raises(CheckpointError, match=text):
            Trainer(generator, discriminator, recipe.schedule, device="cpu", progress=False, start=tmp_path / path)
        assert same(generator.state_dict(), before)
    narrow = replace(recipe.architecture, channels=(7, 5, 3))
    with pytest.raises(
        CheckpointError, match=r"nothing in .* fits the generator: differing: generator blocks.0.*and 2 m"
    ):
        make(replace(recipe, architecture=narrow), tmp_path / "new", start=old)
    with pytest.raises(TypeError, match=r"start must be a path, a str or an os.PathLike of str, got 3"):
        make(recipe, start=3)
    for start in (old, checkpoints(old)[-1]):
        for keywords in ({}, {"overwrite": True}):
            with pytest.raises(
                ValueError, match=r"is in run_dir .*old, which is for the new run; pass another run_dir"
            ):
                make(recipe, old, start=start, **keywords)
    assert not (tmp_path / "new").exists()
    beside = make(recipe, tmp_path, start=old)  # a run directory above another one
    assert beside.start is not None


# The same program again


def test_a_started_run_resumes_to_the_bit_without_its_source(old, images, tmp_path):
    recipe = at_top(small_recipe())
    make(recipe, tmp_path / "whole", start=old).fit(images)
    make(recipe, tmp_path / "new", start=old).fit(images, until=0)  # no step, and all that is needed
    shutil.rmtree(old)
    for until in (8, 24, 40):
        make(recipe, tmp_path / "new", start=old).fit(images, until=until)
    assert contents(tmp_path / "new") == contents(tmp_path / "whole")
    again = Trainer.from_run(tmp_path / "new", device="cpu", progress=False)
    assert again.start.images_seen == 96


def test_a_run_killed_before_its_first_step_needs_no_source(old, images, tmp_path, monkeypatch):
    recipe = at_top(small_recipe())
    monkeypatch.setattr(TrainingLoop, "_train", lambda *_: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        make(recipe, tmp_path / "new", start=old).fit(images)
    shutil.rmtree(old)
    assert [path.name for path in checkpoints(tmp_path / "new")] == ["000000000"]
    assert same(
        state(make(recipe, tmp_path / "new", start=old), "ema"),
        read_tensors(tmp_path / "new/checkpoints/000000000", "ema/"),
    )


def test_a_run_without_a_checkpoint_starts_again_from_the_same(old, images, tmp_path):
    recipe = at_top(small_recipe())
    make(recipe, tmp_path / "new", start=old).fit(images, until=0)
    first = read_tensors(tmp_path / "new/checkpoints/000000000", "ema/")
    shutil.rmtree(tmp_path / "new/checkpoints")
    with pytest.raises(CheckpointError, match=r"has no checkpoint yet of a run that starts from .*old; make the train"):
        Trainer.from_run(tmp_path / "new", device="cpu", progress=False)  # no path from a file is opened
    shutil.copytree(old, tmp_path / "moved")
    for source in (old, tmp_path / "moved"):
        assert same(state(make(recipe, tmp_path / "new", start=source), "ema"), first)
    shutil.rmtree(checkpoints(old)[-1])
    with pytest.raises(ValueError, match=r"holds another run; differing .*start.sha256"):
        make(recipe, tmp_path / "new", start=old)
    shutil.rmtree(old)
    with pytest.raises(CheckpointError, match=r"cannot start from .*old: nothing is there"):
        make(recipe, tmp_path / "new", start=old)


def test_a_start_is_known_by_its_contents(old, images, tmp_path, monkeypatch):
    recipe = at_top(small_recipe())
    new = tmp_path / "new"
    make(recipe, new, start=old).fit(images, until=8)
    resumed = lambda start, **keywords: make(recipe, new, start=start, **keywords).images_seen  # noqa: E731
    monkeypatch.chdir(tmp_path)
    moved = old.rename(tmp_path / "moved")
    assert resumed(moved) == 8
    assert resumed("moved/checkpoints/000000096") == 8
    assert resumed(old) == 8, "gone"
    assert resumed("old") == 8, "gone, by a relative path"
    other = {
        moved / "checkpoints/000000088": r"start.path '.*old' -> '.*moved/checkpoints/000000088'; start.sha256 '",
        "nowhere": r"start.path '.*old' -> 'nowhere'; start.sha256 '\w+' -> 'unknown'",
        None: r"start '.*old' -> None",
    }
    for start, text in other.items():
        with pytest.raises(ValueError, match=f"holds another run; differing \\(there -> here\\): {text}"):
            resumed(start)
    make(small_recipe(), moved.parent / "plain").fit(images, until=8)
    with pytest.raises(ValueError, match=r"there -> here\): start None -> '.*moved'"):
        make(small_recipe(), moved.parent / "plain", start=moved)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resumed(moved, overwrite=True) == 0


def test_a_source_that_trains_on_is_the_same_start_and_another_one_in_its_place_is_not(images, tmp_path):
    recipe, new, old = small_recipe(), tmp_path / "new", tmp_path / "old"
    make(recipe, old, keep=1).fit(images, until=48)
    begun = replace(recipe, stages=(Stage(1, 0, 40),))
    make(begun, new, start=old).fit(images, until=8)
    make(recipe, old, keep=1).fit(images, until=64)
    assert make(begun, new, start=old).images_seen == 8
    make(recipe, old, keep=1, overwrite=True).fit(images, until=32)
    with pytest.raises(ValueError, match=r"start.sha256"):
        make(begun, new, start=old)


def test_a_start_at_home_is_known_by_its_text_when_it_is_gone(old, images, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    recipe = at_top(small_recipe())
    make(recipe, tmp_path / "new", start="~/old").fit(images, until=8)
    with pytest.raises(ValueError, match=r"start ~/old is in run_dir"):
        make(recipe, "~/old", start="~/old")
    shutil.rmtree(old)
    assert make(recipe, tmp_path / "new", start="~/old").images_seen == 8


def test_planning_a_recipe_does_not_read_the_start(recipe, monkeypatch):
    from progan.training.planning import Plan

    monkeypatch.setattr(Trainer, "plan", lambda self, printed: Plan((1.0,) * 3, (10.0,) * 3))
    assert Trainer.recipe_for_hours(recipe, 0.01, start="nowhere", device="cpu").stages


def test_a_generator_loaded_after_a_start_has_its_average_anew(sources, images):
    recipe = at_top(small_recipe())
    trainer = make(recipe, start=sources / "mel_icon")
    trainer.generator.load_state_dict(recipe.build(seed=9)[0].state_dict())
    trainer.fit(images, until=8)
    assert trainer.ema.warm_up
    assert same(state(trainer, "ema"), state(trainer, "generator")), "the first step of a warm-up"


# Older checkpoints


def test_an_older_checkpoint_is_looked_at_without_a_run_directory(old, images):
    before = contents(old)
    trainer = Trainer.from_run(old / "checkpoints/000000048", device="cpu", progress=False)
    assert (trainer.images_seen, trainer.run_dir, trainer.seed) == (48, None, 3)
    assert trainer.grown().level == 1
    whole = load_generator(old / "checkpoints/000000048").sample(2)
    assert torch.equal(trainer.grown().sample(2), whole)
    trainer.fit(images)
    final = read_tensors(checkpoints(old)[-1])
    assert same(trainer.state_dict()["tensors"], final)
    assert contents(old) == before


def test_an_older_checkpoint_alone(old, tmp_path):
    shutil.copytree(old / "checkpoints/000000048", tmp_path / "copy")
    trainer = Trainer.from_run(tmp_path / "copy", device="cpu", progress=False)
    assert (trainer.images_seen, trainer.recipe) == (48, small_recipe())


def test_a_run_continues_from_an_older_checkpoint_in_a_directory_of_its_own(old, images, tmp_path):
    before, folder, fork = contents(old), old / "checkpoints/000000048", tmp_path / "fork"
    quiet = {"device": "cpu", "progress": False}
    with pytest.raises(ValueError, match=r"old is where the checkpoint lies, .* or continue from the newest one with"):
        Trainer.from_run(folder, run_dir=old, **quiet)
    trainer = Trainer.from_run(folder, run_dir=fork, **quiet)
    assert (trainer.images_seen, trainer.run_dir) == (48, fork)
    assert not fork.exists()
    trainer.fit(images, until=64)
    assert [path.name for path in checkpoints(fork)] == ["000000048", "000000056", "000000064"], (
        "its intervals are the run's"
    )
    for again in (
        Trainer.from_run(folder, run_dir=fork, **quiet),
        Trainer.from_run(fork, **quiet),
        make(small_recipe(), fork),
    ):
        assert again.images_seen == 64
    with pytest.raises(ValueError, match=r"holds another run; differing .*fork.images_seen 48 -> 88"):
        Trainer.from_run(old / "checkpoints/000000088", run_dir=fork, **quiet)
    make(small_recipe(), fork).fit(images)
    assert same(read_tensors(checkpoints(fork)[-1]), read_tensors(checkpoints(old)[-1]))
    assert contents(old) == before
    shutil.rmtree(fork / "checkpoints")
    for door in (lambda: Trainer.from_run(fork, **quiet), lambda: make(small_recipe(), fork)):
        with pytest.raises(CheckpointError, match=r"no checkpoint yet of a run that continues from .*000000048; make"):
            door()
    assert Trainer.from_run(folder, run_dir=fork, **quiet).images_seen == 48


def test_a_whole_run_continues_elsewhere_too(old, images, tmp_path):
    make(small_recipe(), tmp_path / "half").fit(images, until=40)
    trainer = Trainer.from_run(tmp_path / "half", run_dir=tmp_path / "fork", device="cpu", progress=False)
    trainer.fit(images)
    assert same(trainer.state_dict()["tensors"], read_tensors(checkpoints(old)[-1]))
    assert checkpoints(tmp_path / "half")[-1].name == "000000040"
    assert Trainer.from_run(tmp_path / "half", run_dir=tmp_path / "half", device="cpu", progress=False).run_dir
    shutil.rmtree(tmp_path / "half/checkpoints")
    with pytest.raises(CheckpointError, match="has no checkpoint yet that a run in"):
        Trainer.from_run(tmp_path / "half", run_dir=tmp_path / "other", device="cpu", progress=False)


# Crafted records


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("path", 3, "path of a start must be a text"),
        ("path", "x" * 5000, "path of a start must be a text"),
        ("images_seen", -1, "images_seen of a start must be an int"),
        ("images_seen", True, "images_seen of a start must be an int"),
        ("level", "1", "level of a start must be an int"),
        ("sha256", "A" * 64, "sha256 of a start must be 64"),
        ("taken", ["os.system"], "a start can have taken generator"),
        ("taken", [["generator"]], "a start can have taken generator"),
        ("taken", "generator", "a start can have taken generator"),
        ("more", 1, "a start must have path, images_seen"),
    ],
)
def test_a_crafted_record_of_a_start_is_refused(name, value, text):
    sound = Start("old", 8, 1, "0" * 64, ("generator",)).to_json()
    assert Start.from_json(json.loads(json.dumps(sound))) == Start("old", 8, 1, "0" * 64, ("generator",))
    with pytest.raises(ValueError, match=re.escape(text)):
        Start.from_json({**sound, name: value})
    with pytest.raises(ValueError, match="a start must have path"):
        Start.from_json([sound])


def test_a_path_in_a_config_is_not_opened(old, images, tmp_path, monkeypatch):
    make(at_top(small_recipe()), tmp_path / "new", start=old).fit(images, until=8)
    opened = []
    own = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *rest, **keywords: (opened.append(path), own(path, *rest, **keywords))[1]
    )
    Trainer.from_run(tmp_path / "new", device="cpu", progress=False)
    assert opened
    assert not [path for path in opened if path.is_relative_to(old)]


# Stages and classes


def test_stages_that_do_not_go_on_from_the_source_are_noticed(sources):
    recipe = small_recipe()
    for start, stages, text in (
        ("8px", recipe.starting_at(2).stages, r"it has no level 2 \(16x16\); initial weights stay there"),
        (
            "8px",
            recipe.starting_at(2).stages,
            r"to level 1, and level 2 begins without a fade, .*starting_at\(2, fade=Tr",
        ),
        (
            "mel_icon",
            recipe.stages[2:],
            r"to level 2, and this schedule fades that level in again; pass recipe.starting_at",
        ),
        ("mel_icon", recipe.stages[1:], r"begins at level 1; .*, such as those of recipe.starting_at\(2\)"),
    ):
        with pytest.warns(UserWarning, match=text):
            make(replace(recipe, stages=stages), start=sources / start)


def test_a_larger_size_is_the_grown_generator_enlarged_and_then_fades_in(sources, images, tmp_path):
    recipe = small_recipe().starting_at(2, fade=True)
    trainer = make(recipe, tmp_path / "new", start=sources / "8px")
    assert trainer.growth.alpha == 0.0
    small, large = load_generator(sources / "8px").sample(3), trainer.ema(trainer.grown().latents(range(3)), 2, 0.0)
    low, high = recipe.architecture.image_range
    torch.testing.assert_close((large - low) / (high - low), torch.nn.functional.interpolate(small, scale_factor=2.0))
    trainer.fit(images)
    assert trainer.growth.alpha is None
    assert trainer.grown().level == 2


@pytest.mark.parametrize("preset", ["mel_icon", "few_images"])
def test_the_average_of_the_source_outlives_the_first_steps_and_a_resume(preset, images, tmp_path):
    recipe = small_recipe(getattr(presets, preset), ema=Ema(0.5, batch=80, ramp_up=0.05))
    make(recipe, tmp_path / "old").fit(images)
    tuned = recipe.starting_at(2)
    expected = read_tensors(checkpoints(tmp_path / "old")[-1], "ema/")
    weight = 1 - 0.5 ** (8 / 80)
    before = read_tensors(checkpoints(tmp_path / "old")[-1], "generator/")
    for until in (8, 16, 24):
        trainer = make(tuned, tmp_path / "new", start=tmp_path / "old")
        trainer.fit(images, until=until)
        after = state(trainer, "generator")
        averaged = after if recipe.training.order == "generator_first" else before
        expected = {name: torch.lerp(tensor, averaged[name], weight) for name, tensor in expected.items()}
        before = {name: tensor.clone() for name, tensor in after.items()}
        torch.testing.assert_close(state(trainer, "ema"), expected)


class Labelled(torch.utils.data.Dataset):
    """The images, in classes of some names."""

    def __init__(self, images, classes):
        self.images, self.classes = images, classes

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], index % len(self.classes)


def test_vectors_of_classes_are_taken_by_number_and_other_names_are_said(images, tmp_path):
    recipe = small_recipe(presets.karras2018).with_classes(2)
    make(recipe, tmp_path / "old").fit(Labelled(images, ("cats", "dogs")))
    tuned = recipe.starting_at(2)
    trainer = make(tuned, tmp_path / "new", start=tmp_path / "old")
    theirs = read_tensors(checkpoints(tmp_path / "old")[-1], "generator/")
    assert same(state(trainer, "generator"), theirs)
    text = r"the classes 'apes', 'cats' begin with what the start had learned of 'cats', 'dogs', in this order"
    with pytest.warns(UserWarning, match=text):
        trainer.check(Labelled(images, ("apes", "cats")))
    trainer.fit(Labelled(images, ("apes", "cats")), until=8)  # said once
    assert trainer.grown().classes.names == ("apes", "cats")
    make(tuned, tmp_path / "same", start=tmp_path / "old").fit(Labelled(images, ("cats", "dogs")), until=8)
    make(tuned, tmp_path / "new", start=tmp_path / "old").fit(Labelled(images, ("apes", "cats")), until=16)


def test_another_number_of_classes_keeps_all_but_their_vectors(sources, images, tmp_path):
    recipe = small_recipe(presets.karras2018)
    make(recipe.with_classes(2), tmp_path / "old").fit(Labelled(images, ("cats", "dogs")))
    theirs = read_tensors(checkpoints(tmp_path / "old")[-1])
    three = recipe.with_classes(3).starting_at(2)
    text = (
        r"keep their initial weights: generator blocks.0.embedding.weight is \(2, \d+\) there, \(3, \d+\) here; discrim"
    )
    with pytest.warns(UserWarning, match=text):
        trainer = make(three, start=tmp_path / "old")
    fresh = dict(zip(("generator", "discriminator"), three.build(seed=3), strict=True))
    for role, network in fresh.items():
        initial = network.state_dict()
        for name, tensor in state(trainer, role).items():
            kept = "embedding" in name
            assert torch.equal(tensor, initial[name] if kept else theirs[f"{role}/{name}"]), f"{role}/{name}"
    trainer.fit(Labelled(images, ("apes", "cats", "dogs")), until=8)
    with pytest.warns(
        UserWarning, match=r"it has no generator blocks.0.embedding, discriminator blocks.0.embedding; init"
    ):
        make(three, start=sources / "karras2018")
