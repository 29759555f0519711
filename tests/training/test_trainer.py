"""The trainer and its run directory: what it takes and refuses, what it writes, divergence, owners."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Noisy, OwnBlock, contents, small_recipe
from torch.utils.data import IterableDataset

import progan
from progan import (
    Callback,
    CheckpointError,
    DivergenceError,
    Ema,
    ImageFolder,
    ProgressiveDiscriminator,
    ProgressiveGenerator,
    Recipe,
    Schedule,
    Stage,
    Trainer,
    load_generator,
    presets,
)
from progan.networks.blocks import GeneratorBlock
from progan.render import read_png
from progan.runtime.device import precision_scope
from progan.storage.files import owned
from progan.training.callbacks import crosses

pytestmark = pytest.mark.usefixtures("short_plans")

INTERVALS = {"log_every": 8, "save_every": 24, "preview_every": 20}


def make(recipe, run_dir=None, **keywords) -> Trainer:
    return Trainer.from_recipe(
        recipe, seed=3, run_dir=run_dir, device="cpu", progress=False, **{**INTERVALS, **keywords}
    )


def test_from_run_goes_on(recipe, images, tmp_path):
    make(recipe, tmp_path / "run").fit(images, until=40)
    trainer = Trainer.from_run(tmp_path / "run", device="cpu", progress=False)
    assert (trainer.images_seen, trainer.seed, trainer.recipe) == (40, 3, recipe)
    trainer.fit(images)
    assert trainer.images_seen >= recipe.schedule.total_images
    whole = make(recipe, tmp_path / "whole")
    whole.fit(images)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_notes_stay_however_a_run_goes_on(recipe, images, tmp_path):
    def noted(run):
        return json.loads((tmp_path / run / "config.json").read_text()).get("notes")

    make(recipe, tmp_path / "run", notes={"data": "icons"}).fit(images, until=16)
    Trainer.from_run(tmp_path / "run", device="cpu", progress=False).fit(images, until=32)
    Trainer.from_run(tmp_path / "run", device="cpu", progress=False).fit(images, until=40)
    assert noted("run") == {"data": "icons"}
    make(recipe, tmp_path / "run").fit(images, until=48)
    assert noted("run") == {"data": "icons"}
    newest = sorted((tmp_path / "run/checkpoints").iterdir())[-1]
    for source, fork in ((tmp_path / "run", "first"), (newest, "second")):
        Trainer.from_run(source, run_dir=tmp_path / fork, device="cpu", progress=False).fit(images, until=56)
        assert noted(fork) == {"data": "icons"}
    make(recipe, tmp_path / "run", notes={"data": "others"}).fit(images, until=56)
    assert noted("run") == {"data": "others"}
    make(recipe, tmp_path / "run", overwrite=True).fit(images, until=16)
    assert noted("run") is None


def test_a_finished_run_is_left_alone(recipe, images, tmp_path):
    make(recipe, tmp_path / "run").fit(images)
    before = contents(tmp_path / "run")
    trainer = make(recipe, tmp_path / "run")
    assert trainer.images_seen >= recipe.schedule.total_images
    trainer.fit(images)
    assert contents(tmp_path / "run") == before


def test_metrics_lines_tell_all(recipe, images, tmp_path):
    make(recipe, tmp_path / "run").fit(images, until=48)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert set(lines[0]) == {
        *("images_seen", "stage", "level", "alpha", "learning_rate", "generator_loss", "critic_loss"),
        *("wasserstein", "penalty", "drift", "step_s", "elapsed_s"),
    }
    assert [(line["stage"], line["level"], line["alpha"]) for line in lines] == [
        *[(0, 0, None)] * 4,
        (1, 1, 0.1),
        (1, 1, 0.5),
    ]


def test_run_directory_is_complete_without_pillow_and_tqdm(tmp_path):
    program = """
import sys
sys.modules["PIL"] = sys.modules["tqdm"] = None  # as if they were not installed
import torch
from progan import ImageFolder, Stage, Recipe, Trainer, load_generator, presets
recipe = presets.mel_icon(8, channels=(8, 4))
recipe = Recipe(recipe.architecture, (Stage(0, 0, 16), Stage(1, 16, 8)), recipe.training)
Trainer.from_recipe(recipe, run_dir="run", device="cpu", log_every=10).fit(torch.rand(9, 3, 8, 8))
assert load_generator("run").sample(2).shape == (2, 3, 8, 8)
try:
    ImageFolder(".", 8)
except ImportError as error:
    assert str(error).endswith('pip install "progan[images]"'), error
else:
    raise SystemExit("ImageFolder did without Pillow")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    written = {
        path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*") if path.is_file()
    }
    assert written == {
        *("config.json", "progress.png", "report.html", "metrics.jsonl"),
        *("samples/000000016.png", "samples/000000040.png"),
        *("samples/level_0.png", "samples/level_1.png"),
        *("checkpoints/000000040/manifest.json", "checkpoints/000000040/tensors.safetensors"),
    }
    assert "stage 2/2  8x8" in done.stderr


def test_another_run_is_refused_by_name(recipe, images, tmp_path):
    make(recipe, tmp_path / "run").fit(images, until=8)
    other = replace(recipe, training=replace(recipe.training, ema=Ema(0.9)))
    with pytest.raises(ValueError, match=r"another run; differing .*recipe.training.ema.decay 0.995 -> 0.9"):
        make(other, tmp_path / "run")
    with pytest.raises(ValueError, match=r"differing .*seed 3 -> 4"):
        Trainer.from_recipe(recipe, seed=4, run_dir=tmp_path / "run", device="cpu", progress=False)
    with pytest.raises(ValueError, match=r"not that of the run .*content"):
        make(recipe, tmp_path / "run").fit(255 - images)


def test_a_run_of_an_earlier_version_goes_on(recipe, images, tmp_path, monkeypatch):
    """It records fewer settings, and did what the defaults of later ones do."""
    to_json = Recipe.to_json
    later = {"palette", "palette_layers", "sharpness", "reconstruction", "other_half_lives", "balance_classes"}
    later |= {"generator_factor"}
    with monkeypatch.context() as earlier:
        earlier.setattr(Recipe, "to_json", lambda self: _without(to_json(self), later))
        make(recipe, tmp_path / "run").fit(images, until=8)
    assert not any(name in (tmp_path / "run" / "config.json").read_text() for name in later)
    resumed = make(recipe, tmp_path / "run")
    assert resumed.images_seen == 8
    resumed.fit(images)
    make(recipe, tmp_path / "whole").fit(images)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    other = replace(recipe, architecture=replace(recipe.architecture, sharpness=2.0))
    with pytest.raises(ValueError, match=r"differing \(there -> here\): recipe\.architecture\.sharpness 1\.0 -> 2\.0"):
        make(other, tmp_path / "run")


def _without(settings, names):
    if not isinstance(settings, dict):
        return settings
    return {name: _without(value, names) for name, value in settings.items() if name not in names}


def test_settings_that_may_change(recipe, images, tmp_path):
    make(recipe, tmp_path / "run").fit(images, until=8)
    trainer = make(recipe, tmp_path / "run", log_every=3, save_every=5, keep=1, callbacks=[Callback()])
    trainer.fit(images, until=24)
    moved = tmp_path / "moved"
    (tmp_path / "run").rename(moved)
    assert make(recipe, moved).images_seen == 24


def test_other_threads_are_warned_of(recipe, images, tmp_path):
    make(recipe, tmp_path / "run").fit(images, until=8)
    torch.set_num_threads(2)
    try:
        with pytest.warns(UserWarning, match="was made in another environment .*threads 1 -> 2"):
            make(recipe, tmp_path / "run")
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("target", "value", "said"),
    [
        ("progan.training.identity.__version__", "99", f"progan '{progan.__version__}' -> '99'"),
        ("torch.backends.cpu.get_cpu_capability", lambda: "ABACUS", r"cpu_capability '\w+' -> 'ABACUS'"),
    ],
)
def test_other_kernels_are_warned_of(target, value, said, recipe, images, tmp_path, monkeypatch):
    make(recipe, tmp_path / "run").fit(images, until=8)
    monkeypatch.setattr(target, value)
    with pytest.warns(UserWarning, match=f"was made in another environment .*{said}"):
        make(recipe, tmp_path / "run")


@pytest.mark.parametrize("preset", [presets.mel_icon, presets.karras2018])
def test_a_longer_schedule_goes_on_as_if_it_had_been_so(preset, images, tmp_path):
    """Also where Adam starts anew at the new level: the shorter schedule ended there without a reset."""
    long = small_recipe(preset)
    short = replace(long, stages=(long.stages[0], replace(long.stages[1], hold_images=9)))
    make(short, tmp_path / "run").fit(images)
    make(long, tmp_path / "run").fit(images)
    make(long, tmp_path / "whole").fit(images)
    newest = sorted((tmp_path / "whole/checkpoints").iterdir())[-1].name
    tensors = [tmp_path / run / "checkpoints" / newest / "tensors.safetensors" for run in ("run", "whole")]
    assert tensors[0].read_bytes() == tensors[1].read_bytes()
    changed = replace(long, stages=(replace(long.stages[0], learning_rate=1e-4), *long.stages[1:]))
    with pytest.raises(ValueError, match=r"stages\[0\].learning_rate 0.001 -> 0.0001"):
        make(changed, tmp_path / "run")


def test_strangers_are_not_taken_for_a_run(recipe, tmp_path):
    (tmp_path / "metrics.jsonl").write_text("mine")
    with pytest.raises(ValueError, match=r"holds metrics.jsonl but no valid config.json of progan; pass another"):
        make(recipe, tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.json").write_text('{"mine": 1}')
    with pytest.raises(ValueError, match=r"holds config.json but no valid config.json of progan"):
        make(recipe, tmp_path / "other")
    with pytest.raises(NotADirectoryError, match=r"metrics.jsonl is a file; pass another"):
        make(recipe, tmp_path / "metrics.jsonl")
    with pytest.raises(CheckpointError, match="holds no progan run"):
        Trainer.from_run(tmp_path)


def test_overwrite_removes_a_run_and_nothing_else(recipe, images, tmp_path):
    run = tmp_path / "run"
    make(recipe, run).fit(images)
    (run / "notes.txt").write_text("mine")
    (run / "samples/favourite.png").write_text("mine")
    (run / "samples/1st favourite.png").write_text("mine")
    before = contents(run)
    trainer = make(replace(recipe, training=replace(recipe.training, ema=Ema(0.5))), run, overwrite=True)
    with pytest.raises(ValueError, match="images of floats must be in"):
        trainer.fit(torch.full((4, 3, 16, 16), 2.0))
    assert contents(run) == before, "settings and data are checked before anything is removed"
    trainer.fit(images, until=8)
    assert {name for name in contents(run) if not name.startswith("checkpoints/")} == {
        *("config.json", "metrics.jsonl", "notes.txt", "samples/favourite.png", "samples/1st favourite.png")
    }
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["000000008"]


def test_a_removal_that_was_killed_can_be_begun_again(recipe, images, tmp_path, hooked):
    run = tmp_path / "run"
    make(recipe, run).fit(images, until=24)
    whole = tmp_path / "whole"
    shutil.copytree(run, whole)
    left: list[str] = []  # operations until it is killed

    def hook(operation, path):
        if operation in ("unlink", "rmdir") and path.name != ".owner" and left and left.pop() == "killed":
            raise SystemExit  # stands for kill -9

    hooked(hook)
    for number in range(100):
        shutil.rmtree(run)
        shutil.copytree(whole, run)
        left[:] = ["killed", *["done"] * number]
        try:
            make(recipe, run, overwrite=True).fit(images, until=8)
        except SystemExit:
            make(recipe, run, overwrite=True).fit(images, until=8)
        assert [path.name for path in (run / "checkpoints").iterdir()] == ["000000008"]
        if left:
            break
    assert 5 < number < 99


def test_overwrite_refuses_a_folder_of_someone_else(recipe, images, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="nothing was removed"):
        make(recipe, tmp_path, overwrite=True).fit(images)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_dir_that_another_trainer_wrote_to_is_refused(recipe, images, tmp_path):
    run = tmp_path / "run"
    first, second = make(recipe, run), make(replace(recipe, training=replace(recipe.training, ema=Ema(0.5))), run)
    first.fit(images, until=24)
    before = contents(run)
    for begin in (second.check, second.fit):
        with pytest.raises(ValueError, match=r"run has changed since this trainer was made .* Make a new trainer"):
            begin(images)
    assert contents(run) == before
    second.step(torch.rand(8, 3, 4, 4))
    with pytest.raises(ValueError, match="has changed"):
        second.save()
    assert contents(run) == before
    shutil.rmtree(run)
    first.fit(images, until=32)
    assert make(recipe, run).images_seen == 32, "one that a person emptied is begun again"


def test_check_refuses_what_fit_would_and_writes_nothing(recipe, images, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="nothing was removed"):
        make(recipe, tmp_path, overwrite=True).check(images)
    trainer = make(recipe, tmp_path / "run")
    trainer.check(images)
    with pytest.raises(ValueError, match="images must be"):
        trainer.check(images[:, :, :12])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_preview_that_cannot_be_written_is_warned_of(recipe, images, tmp_path, monkeypatch):
    def full(path, image):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("progan.training.callbacks.previews.write_png", full)
    with pytest.warns(UserWarning, match=r"no preview at 24 images; training continues: .*No space left"):
        make(recipe, tmp_path / "run").fit(images, until=24)
    assert make(recipe, tmp_path / "run").images_seen == 24


def test_networks_in_another_memory_format_resume_exactly(recipe, images, tmp_path):
    def trainer(run_dir):
        made = make(recipe, run_dir)
        made.generator.to(memory_format=torch.channels_last)
        made.discriminator.to(memory_format=torch.channels_last)
        return made

    whole = trainer(tmp_path / "whole")
    whole.fit(images, until=72)
    trainer(tmp_path / "run").fit(images, until=48)
    pair = Recipe.build(recipe, seed=3)
    for network in pair:
        network.to(memory_format=torch.channels_last)
    resumed = Trainer(
        *pair, recipe.schedule, recipe.training, seed=3, run_dir=tmp_path / "run", device="cpu", progress=False
    )
    assert resumed.images_seen == 48
    resumed.fit(images, until=72)
    for name, tensor in whole.state_dict()["tensors"].items():
        assert torch.equal(resumed.state_dict()["tensors"][name], tensor), name


def test_gradients_left_over_move_nothing_that_is_not_in_use(recipe, images):
    generator, discriminator = recipe.build()
    for network in (generator, discriminator):
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
    trainer = Trainer(generator, discriminator, recipe.schedule, recipe.training, device="cpu", progress=False)
    before = {name: p.clone() for name, p in generator.named_parameters()}
    trainer.fit(images, until=8)
    in_use = generator.in_use(0)
    assert all(torch.equal(p, before[name]) for name, p in generator.named_parameters() if name not in in_use)


def test_frozen_networks_are_refused_and_frozen_layers_stay(recipe, images, tmp_path):
    make(recipe, tmp_path / "run").fit(images, until=8)
    loaded = load_generator(tmp_path / "run").generator
    _, discriminator = recipe.build()
    with pytest.raises(ValueError, match=r"the generator is frozen, .* call generator.requires_grad_\(True\)"):
        Trainer(loaded, discriminator, recipe.schedule, recipe.training, device="cpu", progress=False)
    loaded.requires_grad_(True)
    loaded.blocks.requires_grad_(False)
    before = {name: p.clone() for name, p in loaded.named_parameters()}
    Trainer(loaded, discriminator, recipe.schedule, recipe.training, device="cpu", progress=False).fit(images, until=40)
    moved = {name for name, p in loaded.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert all(name.startswith("to_rgb") for name in moved)


def test_a_surrounding_autocast_changes_nothing(images):
    """In fp32, and where a precision of one's own is asked for."""
    for precision in ("fp32", "bf16"):
        recipe = small_recipe()
        recipe = replace(recipe, training=replace(recipe.training, precision=precision))
        states = []
        for around in (nullcontext(), torch.autocast("cpu", torch.bfloat16)):
            with around:
                trainer = Trainer.from_recipe(recipe, device="cpu", progress=False)
                trainer.fit(images, until=80)
            states.append(trainer.state_dict()["tensors"])
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(one, states[1][name]) for name, one in states[0].items())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_where_no_gradients_are_taken_training_is_refused_before_anything_is_written(recipe, images, mode, tmp_path):
    trainer = make(recipe, tmp_path / "run")
    with mode(), pytest.raises(RuntimeError, match=r"fit trains by gradients; call it outside torch.no_grad\(\)"):
        trainer.fit(images)
    assert not (tmp_path / "run").exists()
    with mode(), pytest.raises(RuntimeError, match=r"a step trains by gradients; call it outside torch.no_grad\(\)"):
        trainer.step(torch.zeros(8, 3, 4, 4))
    assert trainer.images_seen == 0


def test_weights_that_were_replaced_would_not_train_and_are_refused(recipe, images, tmp_path):
    trainer = make(recipe, tmp_path / "run")
    state = {name: tensor.clone() for name, tensor in trainer.generator.state_dict().items()}
    trainer.generator.load_state_dict(state)
    trainer.fit(images, until=8)
    trainer.generator.load_state_dict(state, assign=True)
    with pytest.raises(ValueError, match=r"ProgressiveGenerator has gained parameters .*, such as blocks\.0"):
        trainer.fit(images, until=16)


def test_until_is_a_count(recipe, images):
    with pytest.raises(TypeError, match="until must be an int, got '8'"):
        make(recipe).fit(images, until="8")


def test_planning_leaves_random_states_alone(recipe):
    class Dropping(GeneratorBlock):
        def forward(self, x):
            return torch.dropout(super().forward(x), 0.5, train=True)

    generator = ProgressiveGenerator(recipe.architecture, block=Dropping)
    trainer = Trainer(generator, recipe.build()[1], recipe.schedule, recipe.training, device="cpu", progress=False)
    before = torch.get_rng_state()
    trainer.plan(printed=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_networks_made_under_inference_mode_are_refused(recipe):
    with (
        torch.inference_mode(),
        pytest.raises(ValueError, match=r"the generator was made under torch.inference_mode\(\)"),
    ):
        Trainer.from_recipe(recipe, device="cpu", progress=False)


def test_a_float64_run_is_rebuilt_as_such(recipe, images, tmp_path):
    generator, discriminator = (network.double() for network in recipe.build())
    Trainer(
        *(generator, discriminator, recipe.schedule, recipe.training),
        run_dir=tmp_path / "run",
        device="cpu",
        progress=False,
    ).fit(images, until=8)
    trainer = Trainer.from_run(tmp_path / "run", device="cpu", progress=False)
    assert trainer.generator.to_rgb[0].weight.dtype == torch.float64
    trainer.fit(images, until=16)


def test_a_run_stays_where_it_was_begun(recipe, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = make(recipe, "run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    trainer.fit(images, until=8)
    assert (tmp_path / "run/config.json").exists()
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_what_cudnn_may_do_is_set_and_put_back(precision, recipe):
    matmul = torch.backends.cuda.matmul
    new = hasattr(matmul, "fp32_precision")

    def value():
        return matmul.fp32_precision if new else matmul.allow_tf32

    earlier = value()
    try:
        for there in ("tf32", "ieee") if new else (True, False):
            if new:
                matmul.fp32_precision = there
            else:
                matmul.allow_tf32 = there
            assert torch.backends.cudnn.deterministic is False
            with precision_scope(torch.device("cuda"), precision):
                assert torch.backends.cudnn.deterministic is True
                assert value() == ((precision if precision == "tf32" else "ieee") if new else precision == "tf32")
            assert value() == there
            assert torch.backends.cudnn.deterministic is False
    finally:
        if new:
            matmul.fp32_precision = earlier
        else:
            matmul.allow_tf32 = earlier


@pytest.mark.parametrize("where", ["loss", "weights"])
def test_divergence_stops_the_run_and_keeps_the_last_checkpoint(where, recipe, images, tmp_path):
    class Spoil(Callback):
        def on_step(self, run, metrics):
            if metrics.images_seen == 40:
                network = run.discriminator if where == "loss" else run.generator
                name = "blocks.0.dense.layer.bias" if where == "loss" else "to_rgb.2.bias"
                dict(network.named_parameters())[name].data.fill_(float("nan"))

    trainer = make(recipe, tmp_path / "run", callbacks=[Spoil()])
    expected = {
        "loss": r"generator_loss is not finite, in stage 1 \(level 1\), after 40 real images; .* checkpoints are kept",
        "weights": r"generator's to_rgb.2.bias is not finite, in stage 1 \(level 1\), after 48 real images",
    }
    with pytest.raises(DivergenceError, match=expected[where]):
        trainer.fit(images)
    assert make(recipe, tmp_path / "run").images_seen == 24
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert all(np.isfinite(json.loads(line)["critic_loss"]) for line in lines)


HOLDING = """
import sys
from pathlib import Path
from progan.storage.files import owned
with owned(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_run_directory_has_one_owner_at_a_time(recipe, images, tmp_path):
    run = tmp_path / "run"
    make(recipe, run).fit(images, until=16)
    before = contents(run)
    command = [sys.executable, "-c", HOLDING, str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        owner = rf"run is being written to by process {other.pid} on .*; wait for its end, or pass another"
        for attempt in (lambda: make(recipe, run).fit(images), make(recipe, run).save):
            with pytest.raises(BlockingIOError, match=owner):
                attempt()
        assert contents(run).keys() - before.keys() == {".owner"}
        other.kill()  # the owner is gone, and what it left is taken over
        other.wait()
    assert (run / ".owner").exists()
    make(recipe, run).fit(images, until=24)
    assert not (run / ".owner").exists()
    with owned(run), pytest.raises(BlockingIOError, match="is being written to by this process"):
        make(recipe, run).fit(images)
    with owned(run):
        pass


def test_a_folder_of_an_owner_only_is_free(recipe, images, tmp_path):
    (tmp_path / ".owner").write_text("process 1 on a machine that has gone")
    make(recipe, tmp_path, overwrite=True).fit(images, until=8)
    assert make(recipe, tmp_path).images_seen == 8


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_set_with_random_transforms_resumes_exactly(recipe, images, tmp_path, workers):
    make(recipe, tmp_path / "run", workers=workers).fit(Noisy(images), until=24)
    make(recipe, tmp_path / "run", workers=workers).fit(Noisy(images), until=40)
    whole = make(recipe)
    whole.fit(Noisy(images), until=40)
    part = Trainer.from_run(tmp_path / "run", device="cpu", progress=False)
    for name, tensor in whole.state_dict()["tensors"].items():
        assert torch.equal(part.state_dict()["tensors"][name], tensor), name


def test_another_data_set_is_refused_by_its_first_item(recipe, images, tmp_path):
    make(recipe, tmp_path / "run").fit(Noisy(images), until=8)
    with pytest.raises(ValueError, match=r"not that of the run .*content"):
        make(recipe, tmp_path / "run").fit(Noisy(255 - images))
    with pytest.raises(ValueError, match=r"not that of the run .*kind 'dataset' -> 'images'"):
        make(recipe, tmp_path / "run").fit(images)


@pytest.mark.parametrize("image_channels", [1, 3, 4])
def test_tall_pictures_of_any_channels_from_a_folder_to_new_ones(image_channels, recipe, tmp_path):
    image = pytest.importorskip("PIL.Image", reason="a folder is read with Pillow")
    (tmp_path / "pictures").mkdir()
    for index in range(5):
        picture = image.new({1: "L", 3: "RGB", 4: "RGBA"}[image_channels], (50, 70), (40 * index,) * image_channels)
        picture.save(tmp_path / "pictures" / f"{index}.png")
    shape = replace(recipe.architecture, image_channels=image_channels, base_size=(6, 4), latent_shape=(5, 6, 4))
    recipe = replace(recipe, architecture=shape)
    data = ImageFolder(tmp_path / "pictures", (24, 16), image_channels)
    make(recipe, tmp_path / "run").fit(data, until=60)
    make(recipe, tmp_path / "run").fit(data)
    made = load_generator(tmp_path / "run").sample(3)
    assert made.shape == (3, image_channels, 24, 16)
    with image.open(tmp_path / "run" / "progress.png") as strip:
        assert strip.mode == {1: "L", 3: "RGB", 4: "RGBA"}[image_channels]
    assert read_png(tmp_path / "run" / "progress.png").shape == (image_channels, 3 * 192, 8 * 128)


def test_callbacks_see_every_event_in_order(recipe, images, tmp_path):
    events = []

    class Record(Callback):
        def on_start(self, run):
            events.append(("start", run.images_seen))

        def on_step(self, run, metrics):
            assert run.images_seen == metrics.images_seen
            events.append(("step", metrics.images_seen))

        def on_stage_end(self, run, growth):
            events.append(("stage end", growth.stage))

        def on_save(self, run, path):
            assert (path / "manifest.json").exists()
            events.append(("save", int(path.name)))

        def on_end(self, run):
            events.append(("end", run.images_seen))

    make(recipe, tmp_path / "run", callbacks=[Record()], save_every=32).fit(images, until=48)
    steps = [("step", 8), ("step", 16), ("step", 24), ("step", 32), ("stage end", 0), ("save", 32)]
    assert events == [("start", 0), *steps, ("step", 40), ("step", 48), ("save", 48), ("end", 48)]


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(3, 16, 16)


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (Stream(), TypeError, "IterableDataset has no positions"),
        (torch.zeros(0, 3, 16, 16), ValueError, "the data set is empty"),
        ([], ValueError, "the data set is empty"),
        (torch.zeros(4, 3, 8, 8), ValueError, r"goes up to level 2, 16x16; images must be that or .*, got 8x8"),
        (torch.zeros(4, 3, 24, 24), ValueError, "got 24x24"),
        (torch.zeros(4, 3, 16, 32), ValueError, "got 16x32"),
        (torch.zeros(4, 1, 16, 16), ValueError, r"take 3 channels .*, the images have 1; .*image_channels=1"),
        (torch.zeros(3, 16, 16), ValueError, r"one tensor \(N, C, H, W\)"),
        (torch.zeros(4, 3, 16, 16, dtype=torch.int64), TypeError, "must be uint8"),
        (torch.full((4, 3, 16, 16), -1.0), ValueError, "values from -1 to -1"),
        (torch.full((4, 3, 16, 16), float("nan")), ValueError, "values from nan"),
        (["a.png"], TypeError, r"item 0 must be an image tensor \(C, H, W\), .* got str"),
        (["a.png"], TypeError, "convert it in the data set"),
        (3, TypeError, "must be a tensor or a map-style data set, got int"),
    ],
)
def test_data_that_does_not_fit_is_refused_before_anything_is_written(data, error, text, recipe, tmp_path):
    with pytest.raises(error, match=text):
        make(recipe, tmp_path / "run").fit(data)
    assert not (tmp_path / "run").exists()


def test_items_must_be_alike_and_the_one_that_is_not_is_named(recipe):
    items = [torch.zeros(3, 16, 16), *[torch.zeros(3, 32, 32)] * 3]
    with pytest.raises(ValueError, match=r"all items must be alike: the first is \(3, (16|32), .* item [0-3] \(3, "):
        make(recipe).fit(items)
    items = [torch.zeros(3, 16, 16), torch.zeros(3, 16, 16), torch.full((3, 16, 16), 2.0)]
    with pytest.raises(ValueError, match=r"item 2: images of floats must be in \[0, 1\], got values from 2 to 2"):
        make(recipe).fit(items)


def test_a_set_smaller_than_a_batch_trains(recipe):
    trainer = make(recipe)
    trainer.fit(torch.rand(3, 3, 32, 32), until=16)  # larger by a power of two will do
    assert trainer.images_seen == 16


def test_parts_that_do_not_fit_are_refused(recipe, tmp_path):
    generator, discriminator = recipe.build()
    other = replace(recipe, architecture=replace(recipe.architecture, image_channels=1))
    with pytest.raises(ValueError, match="one architecture; differing: image_channels 1 -> 3"):
        Trainer(other.build()[0], discriminator, recipe.schedule, device="cpu")
    with pytest.raises(ValueError, match="stage 0 is at level 3, but the networks have levels 0 to 2"):
        Trainer(generator, discriminator, Schedule([Stage(3, 0, 100)]), device="cpu")
    with pytest.raises(ValueError, match="stage 0: a batch of 12 images cannot be split into MiniBatchStd groups of 8"):
        Trainer(generator, discriminator, Schedule([Stage(0, 0, 100, 12)]), device="cpu")
    with pytest.raises(ValueError, match="precision tf32 requires CUDA, got device cpu"):
        Trainer(generator, discriminator, recipe.schedule, replace(recipe.training, precision="tf32"), device="cpu")
    with pytest.raises(ValueError, match="save_every must be an int of at least 1, got 0"):
        make(recipe, save_every=0)
    with pytest.raises(ValueError, match="no run_dir to save to"):
        make(recipe).save()
    with pytest.raises(ValueError, match=r"one dtype, got torch.float32, torch.float64; convert both alike"):
        Trainer(generator, recipe.build()[1].double(), recipe.schedule, device="cpu")
    with pytest.raises(TypeError, match="seed must be an int, got '1'"):
        Trainer(generator, discriminator, recipe.schedule, device="cpu", seed="1")
    assert Trainer(generator, discriminator, recipe.schedule, device="cpu", seed=np.int64(3)).seed == 3
    with pytest.raises(TypeError, match="unexpected keyword"):
        make(recipe, sede=1)


def test_state_dict_round_trip_is_all_or_nothing(recipe, images):
    trainer, fresh = make(recipe), make(recipe)
    trainer.fit(images, until=40)
    state = trainer.state_dict()
    fresh.load_state_dict(state)
    assert fresh.images_seen == 40
    for one in (trainer, fresh):
        one.fit(images)
    for name, tensor in trainer.state_dict()["tensors"].items():
        assert torch.equal(fresh.state_dict()["tensors"][name], tensor), name
    name = "adam_generator/exp_avg/to_rgb.0.bias"
    broken = {
        r"lacks 1 tensors, such as generator/to_rgb.0.bias": {"generator/to_rgb.0.bias": None},
        r"not known here, such as generator/x": {"generator/x": torch.zeros(1)},
        r"must be \(3,\) of torch.float32, got \(4,\)": {"generator/to_rgb.0.bias": torch.zeros(4)},
        r"got \(3,\) of torch.float64": {"ema/to_rgb.0.bias": torch.zeros(3, dtype=torch.float64)},
        r"in part only": {name: None},
        r"exp_avg/to_rgb.0.bias must be \(3,\)": {name: torch.zeros(2)},
        r"adam_generator/exp_avg/x, which is not known": {"adam_generator/exp_avg/x": torch.zeros(2)},
    }
    untouched = {name: tensor.clone() for name, tensor in fresh.state_dict()["tensors"].items()}
    for text, change in broken.items():
        tensors = {n: t for n, t in {**state["tensors"], **change}.items() if t is not None}
        with pytest.raises(CheckpointError, match=text):
            fresh.load_state_dict({"images_seen": 8, "tensors": tensors})
    for bad in ({}, {"images_seen": -1, "tensors": {}}, {"images_seen": "8", "tensors": {}}):
        with pytest.raises(CheckpointError):
            fresh.load_state_dict(bad)
    assert all(torch.equal(fresh.state_dict()["tensors"][n], t) for n, t in untouched.items())


class Dropping(OwnBlock):
    """A block that draws from torch's global random state."""

    def forward(self, x):
        return torch.nn.functional.dropout(super().forward(x), 0.1, training=self.training)


def test_blocks_that_draw_resume_exactly_and_are_quiet_when_sampled(recipe, images, tmp_path):
    def trainer(run_dir):
        pair = ProgressiveGenerator(recipe.architecture, block=Dropping), ProgressiveDiscriminator(recipe.architecture)
        for network in pair:
            network.initialize(3)
        return Trainer(*pair, recipe.schedule, recipe.training, seed=3, run_dir=run_dir, device="cpu", progress=False)

    whole = trainer(None)
    state = torch.get_rng_state()
    whole.fit(images, until=60)
    assert torch.equal(torch.get_rng_state(), state)
    trainer(tmp_path / "run").fit(images, until=48)
    resumed = trainer(tmp_path / "run")
    assert resumed.images_seen == 48
    resumed.fit(images, until=60)
    for name, tensor in whole.state_dict()["tensors"].items():
        assert torch.equal(resumed.state_dict()["tensors"][name], tensor), name
    assert torch.equal(whole.grown().sample(2), whole.grown().sample(2))


def test_a_block_of_the_script_itself_is_known_elsewhere(recipe, images, tmp_path):
    """There it is __main__'s, here it is a module's."""
    generator = ProgressiveGenerator(recipe.architecture, block=OwnBlock)
    generator.block_name = "__main__.OwnBlock"
    _, discriminator = recipe.build()
    Trainer(
        *(generator, discriminator, recipe.schedule, recipe.training),
        run_dir=tmp_path / "run",
        device="cpu",
        progress=False,
    ).fit(images, until=8)
    assert load_generator(tmp_path / "run", block=OwnBlock).level == 0


def test_a_checkpoint_asks_for_the_block_it_was_made_with(recipe, images, tmp_path):
    generator = ProgressiveGenerator(recipe.architecture, block=OwnBlock)
    discriminator = ProgressiveDiscriminator(recipe.architecture)
    run = tmp_path / "run"
    Trainer(generator, discriminator, recipe.schedule, recipe.training, run_dir=run, device="cpu", progress=False).fit(
        images, until=40
    )
    name = rf"{OwnBlock.__module__}.OwnBlock"
    with pytest.raises(CheckpointError, match=rf"was made with {name}, got the built-in block; pass block=OwnBlock"):
        load_generator(run)
    with pytest.raises(CheckpointError, match=r"pass generator_block=OwnBlock"):
        Trainer.from_run(run)
    with pytest.raises(ValueError, match=rf"blocks.generator '{name}' -> None"):
        Trainer.from_recipe(recipe, run_dir=run, device="cpu")
    assert load_generator(run, block=OwnBlock).sample(2).shape == (2, 3, 8, 8)
    trainer = Trainer.from_run(run, generator_block=OwnBlock, device="cpu", progress=False)
    assert trainer.images_seen == 40
    with pytest.raises(CheckpointError, match=r"leave discriminator_block out"):
        Trainer.from_run(run, generator_block=OwnBlock, discriminator_block=OwnBlock)


def test_every_level_of_the_whole_mel_icon_schedule_steps():
    """The article's networks, 256x256 included: constructed, then stepped at the start of each kind of stage."""
    recipe = presets.mel_icon()
    trainer = Trainer.from_recipe(recipe, device="cpu", progress=False)
    tensors = trainer.state_dict()["tensors"]
    generator = torch.Generator().manual_seed(0)
    for stage, start in zip(recipe.stages[:-1], recipe.schedule.starts, strict=False):  # the last two are of one kind
        trainer.load_state_dict({"images_seen": start, "tensors": tensors})
        side = 4 << stage.level
        for _ in range(2 if stage.level < 4 else 1):
            metrics = trainer.step(torch.rand(stage.batch_size, 3, side, side, generator=generator))
            assert all(loss.isfinite() for loss in metrics.losses.values())
        assert metrics.growth.level == stage.level


def test_a_longer_stage_is_in_the_plan_for_longer(recipe):
    plan = make(recipe).plan()
    assert all(seconds > 0 for seconds in plan.stage_s)
    assert plan.total_s == pytest.approx(sum(plan.stage_s))
    trainer = make(recipe)
    trainer.load_state_dict({**trainer.state_dict(), "images_seen": 64})
    plan = trainer.plan()
    assert plan.image_s[:2] == (None, None)
    assert plan.stage_s[0] == 0 < plan.stage_s[2]


def test_crosses():
    assert [crosses(10, n, n + 8) for n in (0, 8, 16, 24)] == [False, True, True, True]


@pytest.mark.parametrize(("machine", "capability"), [("x86_64", "AVX2"), ("x86_64", "AVX512"), ("aarch64", "DEFAULT")])
def test_bf16_is_warned_of_where_the_cpu_is_slow_at_it(recipe, monkeypatch, machine, capability):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    half = replace(recipe, training=replace(recipe.training, precision="bf16"))
    if capability == "AVX2":
        with pytest.warns(UserWarning, match=r"bf16 is many times slower than fp32 on this CPU \(AVX2\); use fp32"):
            make(half)
    else:
        make(half)
    make(recipe)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_cuda_trains_and_resumes(recipe, images, tmp_path, precision):
    recipe = Recipe(recipe.architecture, recipe.stages, replace(recipe.training, precision=precision))
    flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    for until in (40, None):
        trainer = Trainer.from_recipe(recipe, run_dir=tmp_path / "run", device="cuda", progress=False)
        trainer.fit(images, until=until)
    assert trainer.images_seen >= recipe.schedule.total_images
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == flags
    assert load_generator(tmp_path / "run", "cuda").sample(2).device.type == "cuda"


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda config: config.pop("seed"), "does not describe a run: it lacks 'seed'"),
        (lambda config: config["recipe"].pop("stages"), "lacks its list of stages"),
        (
            lambda config: config["recipe"]["training"]["objective"].update(name="os.system"),
            "is of the class 'os.system', which is not progan's",
        ),
        (lambda config: config["recipe"]["architecture"].update(channels=[0]), "must be ints of at least 1"),
        (lambda config: config["recipe"].update(extra=1), "a recipe has no extra"),
        (lambda config: config.update(version=99), "version 99 of the format, this progan reads 1; update progan"),
        (lambda config: config.update(dtype="int8"), "dtype must be one of float32, .* got 'int8'"),
    ],
)
def test_a_config_that_does_not_describe_a_run_is_refused(spoil, text, recipe, images, tmp_path):
    make(recipe, tmp_path).fit(images, until=8)
    config = json.loads((tmp_path / "config.json").read_text())
    spoil(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=text):
        Trainer.from_run(tmp_path)
